package jail

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/cgroup"
	"lambent/sandbox"
)

var (
	_ sandbox.Driver     = (*Driver)(nil)
	_ sandbox.Sandbox    = (*box)(nil)
	_ sandbox.Freezer    = (*box)(nil)
	_ sandbox.Settler    = (*box)(nil)
	_ sandbox.Sharer     = (*box)(nil)
	_ sandbox.Terminator = (*box)(nil)
)

// A Driver has a jail make its sandboxes.
type Driver struct {
	link      *link
	isolation string
	meters    int
	inside    sandbox.Paths
	done      chan struct{} // closed when the jail is gone

	mu      sync.Mutex // guards what follows
	last    uint64
	waiting map[uint64]chan<- answer
	boxes   map[uint64]*box
	closed  bool
}

type answer struct {
	response
	files []*os.File
	err   error
}

// Open waits for the jail at the other end to open its driver. It takes over the
// socket. The error is the one that the jail's driver had.
func Open(socket *os.File) (*Driver, error) {
	l, err := newLink(socket)
	if err != nil {
		return nil, err
	}
	d := &Driver{link: l, done: make(chan struct{}), waiting: map[uint64]chan<- answer{}, boxes: map[uint64]*box{}}
	buf := make([]byte, maxMessage)
	b, files, err := l.receive(buf)
	closeAll(files)
	var h hello
	if err == nil {
		err = decode(b, &h)
	}
	if err == nil && h.Version != version {
		err = lambent.Errorf(lambent.Unsupported, "jail", "the jail speaks version %d, this program %d", h.Version, version)
	}
	if err == nil {
		err = h.Failed.error()
	}
	if err != nil {
		l.conn.Close()
		return nil, err
	}
	d.isolation, d.meters, d.inside = h.Isolation, h.Meters, h.Inside
	go d.listen(buf)
	return d, nil
}

// Await waits for what Open will find, and leaves it there: whether the jail's
// driver works.
func Await(socket *os.File) error {
	buf := make([]byte, maxMessage)
	var n int
	var err error
	for {
		n, _, err = unix.Recvfrom(int(socket.Fd()), buf, unix.MSG_PEEK)
		if err != unix.EINTR {
			break
		}
	}
	var h hello
	switch {
	case err != nil:
		return lambent.Errorf(lambent.Internal, "jail", "%w", err)
	case n == 0:
		return errGone
	}
	if err := decode(buf[:n], &h); err != nil {
		return err
	}
	return h.Failed.error()
}

// Isolation implements sandbox.Driver.
func (d *Driver) Isolation() string { return d.isolation }

// Done is closed when the jail is gone: nothing can run any more.
func (d *Driver) Done() <-chan struct{} { return d.done }

// listen hands what the jail says to whom it is for, until the jail is gone.
func (d *Driver) listen(buf []byte) {
	for {
		b, files, err := d.link.receive(buf)
		if err != nil {
			break
		}
		a := answer{files: files}
		if err := decode(b, &a.response); err != nil {
			closeAll(files)
			break
		}
		d.mu.Lock()
		to, ended := d.waiting[a.Number], d.boxes[a.Sandbox]
		delete(d.waiting, a.Number)
		d.mu.Unlock()
		switch {
		case a.Number != 0 && to != nil:
			a.err = a.Failed.error()
			to <- a
		case a.Number == 0 && ended != nil && a.Exit != nil:
			ended.end(*a.Exit)
		default:
			closeAll(files)
		}
	}
	d.link.conn.Close()
	d.mu.Lock()
	d.closed = true
	waiting, boxes := d.waiting, d.boxes
	d.waiting, d.boxes = nil, nil
	d.mu.Unlock()
	close(d.done)
	for _, to := range waiting {
		to <- answer{err: errGone}
	}
	for _, b := range boxes {
		b.end(sandbox.Exit{Signal: syscall.SIGKILL})
	}
}

var errGone = lambent.Errorf(lambent.Unavailable, "jail", "what makes the sandboxes is gone")

// ask sends a request and waits for its answer. made, if given, is the box that
// a park makes: it is known before the answer, as its end may be told right after.
func (d *Driver) ask(r request, made *box) (answer, error) {
	to := make(chan answer, 1)
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return answer{}, errGone
	}
	d.last++
	r.Number = d.last
	d.waiting[r.Number] = to
	if made != nil {
		made.number = r.Number
		d.boxes[r.Number] = made
	}
	d.mu.Unlock()
	if err := d.link.send(r); err != nil {
		d.mu.Lock()
		delete(d.waiting, r.Number)
		d.mu.Unlock()
		return answer{}, err
	}
	a := <-to
	return a, a.err
}

// Park implements sandbox.Driver.
func (d *Driver) Park(ctx context.Context, rt lambent.Runtime) (sandbox.Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := &box{driver: d, done: make(chan struct{})}
	a, err := d.ask(request{Op: park, Runtime: &rt}, b)
	if err == nil {
		err = b.take(a)
	}
	if err != nil {
		_ = b.Destroy() // of what the jail has made, if it has
		if b.output != nil {
			b.output.Close()
		}
		return nil, err
	}
	return b, nil
}

func (d *Driver) forget(number uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.boxes, number)
}

// Close implements sandbox.Driver: the jail destroys every sandbox and ends.
func (d *Driver) Close() error {
	err := d.link.conn.CloseWrite()
	select {
	case <-d.done:
		return nil
	case <-time.After(30 * time.Second):
		d.link.conn.Close()
		return errors.Join(err, lambent.Errorf(lambent.Internal, "jail.Close", "the jail does not end"))
	}
}

// A box is a sandbox that the jail holds.
type box struct {
	driver *Driver
	number uint64
	id     string
	output *os.File
	agent  net.Conn
	meter  *cgroup.Meter
	names  []*os.File // datagrams, streams
	done   chan struct{}
	exit   sandbox.Exit // written before done is closed
	ended  sync.Once
	gone   sync.Once

	mu        sync.Mutex // guards what follows
	listeners []net.Listener
	closed    bool // the meter is
	cpuUS     int64
	peak      int64
}

// take takes over what the jail hands over.
func (b *box) take(a answer) (err error) {
	if len(a.files) < 6 || len(a.files) > 7 || a.ID == "" {
		closeAll(a.files)
		return lambent.Errorf(lambent.Internal, "jail.Park", "%d descriptors came", len(a.files))
	}
	b.id = a.ID
	b.output = a.files[0] // non-blocking, as the jail's was
	if b.meter, err = cgroup.NewMeter(b.driver.meters, a.files[1:4]); err != nil {
		closeAll(a.files[1:])
		return err
	}
	b.names = a.files[4:6]
	if len(a.files) == 7 {
		defer a.files[6].Close()
		b.agent, err = net.FileConn(a.files[6])
	}
	return err
}

func (b *box) ID() string            { return b.id }
func (b *box) Agent() net.Conn       { return b.agent }
func (b *box) Output() *os.File      { return b.output }
func (b *box) Done() <-chan struct{} { return b.done }
func (b *box) Exit() sandbox.Exit    { return b.exit }

func (b *box) end(e sandbox.Exit) {
	b.ended.Do(func() {
		b.exit = e
		close(b.done)
	})
}

func (b *box) ask(r request) (answer, error) {
	r.Sandbox = b.number
	return b.driver.ask(r, nil)
}

// Assign implements sandbox.Sandbox.
func (b *box) Assign(_ context.Context, t sandbox.Task) error {
	_, err := b.ask(request{Op: assign, Task: &t})
	return err
}

// Paths implements sandbox.Sandbox.
func (b *box) Paths(t sandbox.Task) sandbox.Paths { return b.driver.inside.For(t) }

// Settle implements sandbox.Settler.
func (b *box) Settle() error {
	_, err := b.ask(request{Op: settle})
	return err
}

// Share implements sandbox.Sharer.
func (b *box) Share(part float64) error {
	_, err := b.ask(request{Op: share, Part: part})
	return err
}

// Terminate implements sandbox.Terminator.
func (b *box) Terminate() error {
	_, err := b.ask(request{Op: terminate})
	return err
}

// Listen implements sandbox.Sandbox.
func (b *box) Listen(port int) (net.Listener, error) {
	f, err := b.one(request{Op: listen, Port: port})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "jail.Listen", "%w", err)
	}
	b.mu.Lock()
	b.listeners = append(b.listeners, l)
	b.mu.Unlock()
	return l, nil
}

// Dial implements sandbox.Sandbox.
func (b *box) Dial(_ context.Context, port int, patience time.Duration) (net.Conn, error) {
	f, err := b.one(request{Op: dial, Port: port, Patience: patience})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileConn(f)
}

// Names returns the sockets inside at which the code asks for names. They are
// valid until Destroy.
func (b *box) Names() (datagrams, streams syscall.Conn) { return b.names[0], b.names[1] }

// Open lets the code connect to addresses that a name of its network policy leads
// to: what of that may be, the jail says.
func (b *box) Open(name string, addresses []netip.Addr) error {
	_, err := b.ask(request{Op: open, Name: name, LeadsTo: addresses})
	return err
}

// one asks for one descriptor.
func (b *box) one(r request) (*os.File, error) {
	a, err := b.ask(r)
	if err == nil && len(a.files) != 1 {
		err = lambent.Errorf(lambent.Internal, "jail", "%q brings %d descriptors", r.Op, len(a.files))
	}
	if err != nil {
		closeAll(a.files)
		return nil, err
	}
	return a.files[0], nil
}

// Freeze implements sandbox.Freezer.
func (b *box) Freeze() error {
	_, err := b.ask(request{Op: freeze})
	return err
}

// Thaw implements sandbox.Freezer.
func (b *box) Thaw() error {
	_, err := b.ask(request{Op: thaw})
	return err
}

// Stats implements sandbox.Sandbox. It does not ask the jail.
func (b *box) Stats() (cpuUS, peakBytes int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		var errPeak error
		b.cpuUS, err = b.meter.CPU()
		b.peak, errPeak = b.meter.PeakMemory()
		err = errors.Join(err, errPeak)
	}
	return b.cpuUS, b.peak, err
}

// OOMKilled implements sandbox.Witness. It does not ask the jail.
func (b *box) OOMKilled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false // Exit says what it says
	}
	kills, err := b.meter.OOMKills()
	return err == nil && kills > 0
}

// Destroy implements sandbox.Sandbox.
func (b *box) Destroy() (err error) {
	b.gone.Do(func() {
		// First, so that nothing of the slot's next sandbox is accepted or read.
		b.mu.Lock()
		for _, l := range b.listeners {
			l.Close()
		}
		b.mu.Unlock()
		closeAll(b.names)
		if b.agent != nil {
			b.agent.Close()
		}
		_, err = b.ask(request{Op: destroy})
		if lambent.Is(err, lambent.Unavailable) { // the jail is gone, and all that it held
			err = nil
		}
		b.driver.forget(b.number)
		if b.meter != nil {
			_, _, _ = b.Stats() // what is asked for later
			b.mu.Lock()
			b.closed = true
			b.meter.Close()
			b.mu.Unlock()
		}
		if err == nil {
			b.end(sandbox.Exit{Signal: syscall.SIGKILL}) // unless the jail has said how
		}
	})
	return err
}
