package jail

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"

	"lambent"
	"lambent/internal/cgroup"
	"lambent/sandbox"
)

// Options configure the jail's side.
type Options struct {
	Limits lambent.Limits // what no function may be given more than
	Logger *slog.Logger   // nil: nowhere
}

// maxUnderWay bounds the requests that are served at a time: others wait.
const maxUnderWay = 64

// Serve is the jail: it opens a driver, says how that went, and serves requests
// from the other end until that is gone; then it closes the driver. It takes over
// the socket. The error is the driver's, unless the other end was told, or tells of a
// message that was none.
func Serve(socket *os.File, o Options, open func() (sandbox.Driver, error)) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := newBlockingLink(socket)
	if err != nil {
		return err
	}
	defer l.conn.Close()
	d, err := open()
	if err != nil {
		if l.send(hello{Version: version, Failed: failureOf(err)}) == nil {
			return nil // the other end says it
		}
		return err
	}
	j := &jail{Options: o, link: l, driver: sandbox.Guard(d), boxes: map[uint64]*held{}, slots: make(chan struct{}, maxUnderWay)}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	attend := func(f func()) error { f(); return nil }
	if a, ok := d.(attendant); ok {
		attend = a.Attend
	}
	err = j.serve(helloOf(d), attend)
	j.cancel()
	j.busy.Wait()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

// helloOf says what the other side is to know of a driver.
func helloOf(d sandbox.Driver) hello {
	h := hello{Version: version, Isolation: d.Isolation()}
	if known, ok := d.(interface {
		Meters() int
		Inside() sandbox.Paths
	}); ok {
		h.Meters, h.Inside = known.Meters(), known.Inside()
	}
	return h
}

// attendant is a driver that has threads on which what it is asked takes less.
type attendant interface{ Attend(func()) error }

// able is what the jail needs of a driver's sandboxes beyond the contract: they are
// measured by descriptors, and names are asked for at sockets that can be handed
// over, as others read them (package names).
type able interface {
	Meter() *cgroup.Meter
	Names() (datagrams, streams syscall.Conn)
	Open(name string, addresses []netip.Addr) error
	HandOver() (agent *os.File)
}

type jail struct {
	Options
	link   *link
	driver sandbox.Driver
	slots  chan struct{} // a token for each request under way
	ctx    context.Context
	cancel context.CancelFunc
	busy   sync.WaitGroup

	mu    sync.Mutex // guards boxes
	boxes map[uint64]*held
}

// A held sandbox is one that the other side knows by number.
type held struct {
	sandbox.Sandbox
	listeners []net.Listener // guarded by the jail's lock
}

// serve has as many readers as there are processors, each of which takes the next
// request that comes.
func (j *jail) serve(first hello, attend func(func()) error) error {
	if err := j.link.send(first); err != nil {
		return nil // nobody is there any more
	}
	ended := make(chan error)
	readers := max(2, runtime.NumCPU())
	for range readers {
		go func() {
			var read error
			err := attend(func() { read = j.read() })
			err = errors.Join(err, read)
			j.link.conn.(blocking).end(err != nil) // of the others, too
			ended <- err
		}()
	}
	var errs []error
	for range readers {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// read serves requests until the connection ends, or brings what is no request.
func (j *jail) read() error {
	buf := make([]byte, maxMessage)
	for {
		b, files, err := j.link.receive(buf)
		if err != nil {
			return nil
		}
		closeAll(files) // nobody has a reason to send any
		var r request
		if err := decode(b, &r); err != nil {
			return err
		}
		if j.quick(&r) {
			j.answer(&r)
			continue
		}
		j.slots <- struct{}{}
		j.busy.Go(func() {
			defer func() { <-j.slots }()
			j.answer(&r)
		})
	}
}

// quick reports whether a request takes a fraction of a millisecond and waits for
// nobody. Those that a call waits for are among them: their reader serves them itself.
func (j *jail) quick(r *request) bool {
	switch r.Op {
	case assign:
		return r.Task != nil && r.Task.Network.IsDefault() && r.Task.TmpMB <= j.Limits.MinTmpMB // a policy or a larger disk takes longer
	case thaw: // which waits for a freeze of the same sandbox, if one is under way: who asks for both waits first
		return true
	}
	return false
}

// answer serves one request.
func (j *jail) answer(r *request) {
	out := response{Number: r.Number}
	var files []syscall.Conn
	err := r.check(&j.Limits)
	if err == nil {
		if r.Op == park {
			j.park(r)
			return
		}
		files, err = j.do(r, &out)
	}
	out.Failed = failureOf(err)
	if err := j.link.send(out, files...); err != nil {
		j.Logger.Debug("an answer cannot be sent", "op", r.Op, "error", err)
	}
	if r.Op == dial { // the other side has it, and can have the last Close wait for whoever does not read (SO_LINGER)
		for _, f := range files {
			go f.(net.Conn).Close()
		}
	}
}

// park makes a sandbox and hands over what it is used by.
func (j *jail) park(r *request) {
	out := response{Number: r.Number}
	sb, err := j.driver.Park(j.ctx, *r.Runtime)
	if err != nil {
		out.Failed = failureOf(err)
		_ = j.link.send(out)
		return
	}
	h := &held{Sandbox: sb}
	j.mu.Lock()
	_, taken := j.boxes[r.Number]
	if !taken {
		j.boxes[r.Number] = h
	}
	j.mu.Unlock()
	var files []syscall.Conn
	var meter *cgroup.Meter
	if taken {
		err = lambent.Errorf(lambent.Invalid, "jail", "request %d was there before", r.Number)
	} else {
		files, meter, err = handover(sb)
	}
	if err == nil {
		out.ID = sb.ID()
		err = j.link.send(out, files...)
	} else {
		out.Failed = failureOf(err)
		_ = j.link.send(out)
	}
	// What the other side has is closed here, so that its ends are seen there. Of an
	// agent's connection the end is the other's: what a task's start has for it is
	// written here.
	sb.Output().Close()
	if meter != nil {
		meter.Close()
	}
	if err != nil {
		if !taken {
			j.forget(r.Number)
		}
		_ = sb.Destroy()
		return
	}
	j.busy.Go(func() {
		select {
		case <-sb.Done():
			exit := sb.Exit()
			_ = j.link.send(response{Sandbox: r.Number, Exit: &exit})
		case <-j.ctx.Done():
		}
	})
}

// handover returns the descriptors that a park is answered with. The meter among them
// is the other side's alone: the kernel has readers of what two have open wait for each
// other, for as long as the memory takes that one of them reads into.
func handover(sb sandbox.Sandbox) ([]syscall.Conn, *cgroup.Meter, error) {
	files := []syscall.Conn{sb.Output()}
	own, ok := sandbox.Unwrap(sb).(able)
	if !ok {
		return nil, nil, lambent.Errorf(lambent.Unsupported, "jail", "sandboxes of this driver have no descriptors to be measured by and asked for names")
	}
	meter, err := own.Meter().Reopen()
	if err != nil {
		return nil, nil, err
	}
	for _, f := range meter.Files() {
		files = append(files, f)
	}
	datagrams, streams := own.Names()
	files = append(files, datagrams, streams)
	if agent := own.HandOver(); agent != nil {
		files = append(files, agent)
	}
	return files, meter, nil
}

func (j *jail) forget(number uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.boxes, number)
}

// do serves what is asked of a sandbox.
func (j *jail) do(r *request, out *response) ([]syscall.Conn, error) {
	j.mu.Lock()
	h := j.boxes[r.Sandbox]
	j.mu.Unlock()
	if h == nil {
		return nil, lambent.Errorf(lambent.Unavailable, "jail", "there is no sandbox %d", r.Sandbox)
	}
	switch r.Op {
	case assign:
		return nil, h.Assign(j.ctx, *r.Task)
	case listen:
		l, err := h.Listen(r.Port)
		if err != nil {
			return nil, err
		}
		j.mu.Lock()
		h.listeners = append(h.listeners, l) // it stays open: closing it would end what the other side accepts
		j.mu.Unlock()
		return []syscall.Conn{l.(syscall.Conn)}, nil
	case dial:
		c, err := h.Dial(j.ctx, r.Port, r.Patience)
		if err != nil {
			return nil, err
		}
		return []syscall.Conn{c.(syscall.Conn)}, nil
	case open: // whatever else is being done to the sandbox
		return nil, sandbox.Unwrap(h.Sandbox).(able).Open(r.Name, r.LeadsTo)
	case settle:
		return nil, h.Sandbox.(sandbox.Settler).Settle() // Guard sees to it that all do
	case share:
		return nil, h.Sandbox.(sandbox.Sharer).Share(r.Part) // as above
	case terminate:
		return nil, h.Sandbox.(sandbox.Terminator).Terminate() // as above
	case freeze, thaw:
		f, ok := h.Sandbox.(sandbox.Freezer)
		if !ok {
			return nil, lambent.Errorf(lambent.Unsupported, "jail", "sandboxes of this driver do not freeze")
		}
		if r.Op == freeze {
			return nil, f.Freeze()
		}
		return nil, f.Thaw()
	case destroy:
		j.forget(r.Sandbox)
		return nil, h.Destroy()
	}
	return nil, lambent.Errorf(lambent.Invalid, "jail", "there is no operation %.20q", r.Op)
}
