package names

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"lambent"
)

const (
	maxQueries = 32   // of one sandbox at a time
	queryRate  = 500  // of one sandbox in a second, and at once
	maxKnown   = 1024 // addresses that were opened for one sandbox, to be remembered
)

// A Server is the relay's face in one sandbox.
type Server struct {
	relay     *Relay
	datagrams socket
	streams   socket
	names     map[string]bool // of the network, whose addresses are opened
	others    bool            // other names may be asked for
	open      func(name string, addresses []netip.Addr) error
	complaint sync.Once

	opening sync.Mutex // guards opened, and is held over a call of open
	opened  map[opening]bool

	mu       sync.Mutex // guards what follows, and the use of the sockets
	closed   bool
	conns    map[*conn]struct{}
	busy     int // queries and connections under way
	tokens   float64
	counted  time.Time // when tokens was right
	sleeping bool      // nothing is read: too much is under way
}

// An opening is an address that a name has led to, and that was opened.
type opening struct {
	name    string
	address netip.Addr
}

func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relay.mu.Lock()
	s.relay.servers[s.datagrams.fd], s.relay.servers[s.streams.fd] = s, s
	s.relay.mu.Unlock()
	return errors.Join(s.relay.poll(unix.EPOLL_CTL_ADD, s.datagrams), s.relay.poll(unix.EPOLL_CTL_ADD, s.streams))
}

// Close ends connections. When it returns, nothing more is read from the sockets
// nor written to them.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	for _, so := range []socket{s.datagrams, s.streams} {
		// It does not go by itself when the socket is closed, if others have it too.
		_ = s.relay.poll(unix.EPOLL_CTL_DEL, so)
		s.relay.mu.Lock()
		if s.relay.servers[so.fd] == s {
			delete(s.relay.servers, so.fd)
		}
		s.relay.mu.Unlock()
	}
	for c := range s.conns {
		_ = c.SetLinger(0) // no last words, which would keep it in the namespace
		c.TCPConn.Close()
	}
	s.conns = nil
}

// await tells the relay to wait for more on a socket.
func (s *Server) await(so socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		_ = s.relay.poll(unix.EPOLL_CTL_MOD, so) // which fails where the relay is closed
	}
}

// receive takes queries, as many as are allowed, and has them answered.
func (s *Server) receive(buffer []byte) {
	for s.begin() {
		n, from, err := s.read(buffer)
		if err != nil { // there is none left
			s.end(1)
			s.await(s.datagrams)
			return
		}
		query := slices.Clone(buffer[:n])
		go func() {
			defer s.end(0)
			if answer := s.answer("udp", query); answer != nil {
				s.send(answer, from)
			}
		}()
	}
}

// use calls f with a socket's descriptor, unless the Server is closed.
func (s *Server) use(so socket, f func(fd int) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	var failed error
	err := so.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

func (s *Server) read(b []byte) (n int, from *unix.SockaddrInet4, err error) {
	err = s.use(s.datagrams, func(fd int) error {
		m, a, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		n, from = m, nil
		if in4, ok := a.(*unix.SockaddrInet4); ok {
			from = in4
		}
		return err
	})
	return n, from, err
}

func (s *Server) send(answer []byte, to *unix.SockaddrInet4) {
	if to != nil {
		_ = s.use(s.datagrams, func(fd int) error { return unix.Sendto(fd, answer, unix.MSG_DONTWAIT, to) })
	}
}

// begin counts a query, unless the sandbox has too many; then nothing is read or
// accepted until that is over, and the sandbox's own sockets fill.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.tokens = min(queryRate, s.tokens+now.Sub(s.counted).Seconds()*queryRate)
	s.counted = now
	switch {
	case s.busy >= maxQueries:
		s.sleeping = true
		return false
	case s.tokens < 1:
		time.AfterFunc(time.Second/10, s.wake)
		return false
	}
	s.busy++
	s.tokens--
	return true
}

// end undoes begin, and gives back the token of a query that was none.
func (s *Server) end(tokens float64) {
	s.mu.Lock()
	wake := s.sleeping
	s.busy--
	s.tokens += tokens
	s.sleeping = false
	s.mu.Unlock()
	if wake {
		s.wake()
	}
}

// wake reads on.
func (s *Server) wake() {
	s.await(s.datagrams)
	s.await(s.streams)
}

// A conn is a connection that its Server knows of as long as it is open.
type conn struct {
	*net.TCPConn
	server *Server
}

func (c *conn) Close() error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	delete(c.server.conns, c)
	return c.TCPConn.Close()
}

// accept takes a connection, which counts as its first query, and serves it.
func (s *Server) accept() {
	if !s.begin() {
		return
	}
	c, err := s.take()
	switch {
	case err == nil:
		go c.serve()
	case errors.Is(err, unix.EAGAIN): // there is none
		s.end(1)
	default: // reset, or no descriptor to spare
		s.end(0)
		time.AfterFunc(time.Second/10, func() { s.await(s.streams) })
		return
	}
	s.await(s.streams)
}

func (s *Server) take() (c *conn, err error) {
	err = s.use(s.streams, func(listener int) error {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "names")
		defer f.Close() // FileConn has a duplicate
		tcp, err := net.FileConn(f)
		if err != nil {
			return err
		}
		c = &conn{tcp.(*net.TCPConn), s}
		s.conns[c] = struct{}{}
		return nil
	})
	return c, err
}

func (c *conn) serve() {
	defer c.Close() // which the Server's does too
	for {
		_ = c.SetDeadline(time.Now().Add(answerFor))
		query, err := readMessage(c, maxMessage)
		var answer []byte
		if err == nil {
			answer = c.server.answer("tcp", query)
		}
		c.server.end(0)
		if answer == nil || writeMessage(c, answer) != nil || !c.server.begin() {
			return
		}
	}
}

// answer returns what to say to a query, or nil for nothing at all.
func (s *Server) answer(network string, query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := questionOf(query)
	switch {
	case err != nil:
		return say(h, nil, dnsmessage.RCodeFormatError)
	case h.OpCode != 0:
		return say(h, &q, dnsmessage.RCodeNotImplemented)
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if !s.names[name] && !s.others {
		return say(h, &q, dnsmessage.RCodeRefused)
	}
	answer, err := s.relay.upstream.ask(network, query)
	if err != nil {
		return say(h, &q, dnsmessage.RCodeServerFailure)
	}
	if !s.names[name] || answer[2]&truncated != 0 { // which is to be asked for again, over TCP
		return answer
	}
	found, err := leadsTo(answer, q.Name)
	if err != nil {
		return say(h, &q, dnsmessage.RCodeServerFailure)
	}
	if err := s.openAll(name, found); err != nil {
		if !lambent.Is(err, lambent.Unavailable) { // the sandbox is gone
			s.complaint.Do(func() { // functions can ask often
				s.relay.log.Warn("a name of a function's network policy is not opened", "name", name, "error", err)
			})
		}
		if lambent.Is(err, lambent.Forbidden) {
			return say(h, &q, dnsmessage.RCodeRefused)
		}
		return say(h, &q, dnsmessage.RCodeServerFailure)
	}
	return answer
}

// openAll has the addresses opened that a name leads to. What is open stays so, and
// is not asked for again: functions look the same names up, over and over.
func (s *Server) openAll(name string, addresses []netip.Addr) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	known := func(a netip.Addr) bool { return s.opened[opening{name, a}] }
	if !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !known(a) }) {
		return nil
	}
	if err := s.open(name, addresses); err != nil {
		return err
	}
	for _, a := range addresses {
		if len(s.opened) < maxKnown {
			s.opened[opening{name, a}] = true
		}
	}
	return nil
}
