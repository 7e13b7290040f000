package names

import (
	"cmp"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"lambent"
)

// A Relay passes the name queries of all sandboxes on. One descriptor tells of all
// their sockets that have something to read: a sandbox that asks nothing costs no
// goroutine. Its methods may be called concurrently.
type Relay struct {
	upstream upstream
	log      *slog.Logger
	ready    *os.File // epoll
	done     chan struct{}

	mu      sync.Mutex // guards servers; after a Server's mu
	servers map[int32]*Server
}

// Open starts a relay.
func Open(o Options) (*Relay, error) {
	const op = "names.Open"
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Go waits for it as for any other
		unix.Close(fd)
		return nil, lambent.Errorf(lambent.Internal, op, "epoll: %w", err)
	}
	r := &Relay{
		upstream: upstream{path: cmp.Or(o.ResolvConf, "/etc/resolv.conf")}, log: o.Logger,
		ready: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), servers: map[int32]*Server{},
	}
	go r.watch()
	return r, nil
}

// Close ends every Server.
func (r *Relay) Close() error {
	for _, s := range r.all() {
		s.Close()
	}
	err := r.ready.Close()
	<-r.done
	return err
}

func (r *Relay) all() (list []*Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.servers {
		list = append(list, s)
	}
	return list
}

func (r *Relay) server(fd int32) *Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.servers[fd]
}

// watch lets servers read what has come. What it is told may be of a server that
// has ended meanwhile, and the number another's by now: that one finds nothing.
func (r *Relay) watch() {
	defer close(r.done)
	raw, err := r.ready.SyscallConn()
	if err != nil {
		return
	}
	events, buffer := make([]unix.EpollEvent, 64), make([]byte, maxMessage)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			switch s := r.server(e.Fd); {
			case s == nil:
			case e.Fd == s.datagrams.fd:
				s.receive(buffer)
			default:
				s.accept()
			}
		}
	}
}

// Serve answers, from now on, what comes to the sockets of one sandbox, which stay
// the caller's and must be valid until the Server is closed. Where the network does
// not open the internet, names that it does not have are refused; and open is called,
// never twice at a time, for addresses that a name of the network leads to before
// they are told.
func (r *Relay) Serve(datagrams, streams syscall.Conn, network lambent.Network, open func(name string, addresses []netip.Addr) error) (*Server, error) {
	const op = "names.Serve"
	destinations, err := network.Destinations()
	if err != nil {
		return nil, err
	}
	s := &Server{
		relay: r, open: open, tokens: queryRate, conns: map[*conn]struct{}{},
		names: map[string]bool{}, opened: map[opening]bool{}, others: network.Internet(),
	}
	for _, d := range destinations {
		if d.Host != "" {
			s.names[d.Host] = true
		}
	}
	for _, to := range []struct {
		socket *socket
		from   syscall.Conn
	}{{&s.datagrams, datagrams}, {&s.streams, streams}} {
		if *to.socket, err = socketOf(to.from); err != nil {
			return nil, lambent.Errorf(lambent.Internal, op, "a socket for names: %w", err)
		}
	}
	if err := s.start(); err != nil {
		s.Close()
		return nil, lambent.Errorf(lambent.Internal, op, "a socket for names: %w", err)
	}
	return s, nil
}

// A socket is somebody's, who keeps it open.
type socket struct {
	syscall.RawConn
	fd int32
}

func socketOf(c syscall.Conn) (s socket, err error) {
	if s.RawConn, err = c.SyscallConn(); err != nil {
		return s, err
	}
	err = s.Control(func(fd uintptr) { s.fd = int32(fd) })
	return s, err
}

// poll changes what the relay waits for.
func (r *Relay) poll(op int, s socket) error {
	ready, err := r.ready.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = ready.Control(func(epoll uintptr) {
		e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: s.fd}
		failed = unix.EpollCtl(int(epoll), op, int(s.fd), &e)
	})
	if err == nil {
		err = failed
	}
	return err
}
