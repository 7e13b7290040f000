package netns

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
)

// A door is a socket inside at which the platform listens. It is made once, as the
// namespace has to be entered for that, and shut until somebody listens; listeners on it
// come and go.
type door struct {
	socket *net.TCPListener

	mu   sync.Mutex // guards what follows
	open bool
	last *listener
}

// openDoor must be called in the namespace.
func openDoor(port int) (*door, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false) // needless here, and its sockets cannot be emptied
	l, err := c.Listen(context.Background(), "tcp4", net.JoinHostPort(platform, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	d := &door{socket: l.(*net.TCPListener), open: true}
	return d, d.set(false)
}

// set opens the door, so that connections wait to be accepted, or shuts it: then whoever
// connects is refused, and every connection ends that nobody has accepted. A socket that is
// shut twice has none any more that could be read from.
func (d *door) set(open bool) error {
	if open == d.open {
		return nil
	}
	raw, err := d.socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if open {
			failed = unix.Listen(int(fd), unix.SOMAXCONN)
		} else {
			failed = unix.Shutdown(int(fd), unix.SHUT_RD)
		}
	})
	if err = errors.Join(err, failed); err == nil {
		d.open = open
	}
	return err
}

func (d *door) listen() (net.Listener, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		if !d.last.isClosed() {
			return nil, lambent.Errorf(lambent.Exists, "netns.Listen", "the sandbox has a listener already")
		}
		d.last.accepting.Wait()
	}
	if err := d.socket.SetDeadline(time.Time{}); err != nil {
		return nil, lambent.Errorf(lambent.Unavailable, "netns.Listen", "the network is closed: %w", err)
	}
	if err := d.set(true); err != nil {
		return nil, lambent.Errorf(lambent.Internal, "netns.Listen", "%w", err)
	}
	d.last = &listener{door: d, conns: map[*conn]struct{}{}}
	return d.last, nil
}

// reset ends every connection: those accepted, those that wait, and those that
// are being made, whose requests the next listener would take for its own
// function's. The socket stays: shut down it drops all it has.
func (d *door) reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		d.last.Close()
		d.last = nil
	}
	return d.set(false)
}

func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		d.last.Close()
	}
	d.socket.Close()
}

// A listener is one sandbox's use of a door.
type listener struct {
	door      *door
	accepting sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[*conn]struct{}
	closed bool
}

func (l *listener) Addr() net.Addr { return l.door.socket.Addr() }

// SyscallConn is the socket's, for whoever hands it to another process.
func (l *listener) SyscallConn() (syscall.RawConn, error) { return l.door.socket.SyscallConn() }

func (l *listener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *listener) Accept() (net.Conn, error) {
	if !l.enter() {
		return nil, net.ErrClosed
	}
	defer l.accepting.Done()
	tcp, err := l.door.socket.AcceptTCP()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		if err == nil {
			abort(tcp)
		}
		return nil, net.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: tcp, listener: l}
	l.conns[c] = struct{}{}
	return c, nil
}

func (l *listener) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.accepting.Add(1)
	}
	return !l.closed
}

// Close returns when no Accept is under way, so that none can take a connection
// of the next listener.
func (l *listener) Close() error {
	err := l.shut()
	l.accepting.Wait()
	return err
}

func (l *listener) shut() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	for c := range l.conns {
		abort(c.TCPConn)
	}
	l.conns = nil
	return l.door.socket.SetDeadline(time.Unix(1, 0)) // wakes every Accept
}

// abort closes a connection with nothing to follow: no last words, which would
// keep it in the namespace for a minute.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

// A conn is known to its listener for as long as it is open.
type conn struct {
	*net.TCPConn
	listener *listener
}

func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c)
	c.listener.mu.Unlock()
	return c.TCPConn.Close()
}
