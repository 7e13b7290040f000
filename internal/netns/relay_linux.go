package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

const (
	headerLength = 12
	truncated    = 2    // in a header's third byte
	maxMessage   = 4096 // over UDP
	maxQueries   = 32   // of one sandbox at a time
	queryRate    = 500  // of one sandbox in a second, and at once
)

// A relay answers the name queries of all sandboxes. Its sockets are inside, and
// one descriptor tells of all that have something to read: a sandbox that asks
// nothing costs its sockets and no goroutine.
type relay struct {
	nets     *Nets
	upstream upstream
	ready    *os.File // epoll
	done     chan struct{}
}

func (n *Nets) startRelay(resolvConf string) (*relay, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Go waits for it as for any other
		unix.Close(fd)
		return nil, err
	}
	r := &relay{nets: n, upstream: upstream{path: resolvConf}, ready: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	go r.serve()
	return r, nil
}

func (r *relay) close() {
	r.ready.Close()
	<-r.done
}

// Which of a sandbox's sockets has something.
const (
	datagrams = iota
	streams
)

func (r *relay) serve() {
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
			if s := r.nets.nameServer(int(e.Fd)); s == nil {
				continue
			} else if e.Pad == datagrams {
				s.receive(buffer)
			} else {
				go s.accept()
			}
		}
	}
}

func (n *Nets) nameServer(slot int) *nameServer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if net := n.open[slot]; net != nil {
		return net.names.Load()
	}
	return nil
}

// A nameServer is the relay's face in one sandbox.
type nameServer struct {
	relay *relay
	net   *Net
	udp   *net.UDPConn
	tcp   *door

	mu       sync.Mutex // guards what follows
	streams  net.Listener
	era      int // counts sandboxes: who asked in one is not answered in the next
	busy     int // queries and connections under way
	tokens   float64
	counted  time.Time // when tokens was right
	sleeping bool      // nothing is read: too much is under way
}

// openNames must be called in the namespace.
func (r *relay) openNames(n *Net) (*nameServer, error) {
	s := &nameServer{relay: r, net: n, tokens: queryRate}
	var err error
	if s.tcp, err = openDoor("53"); err != nil {
		return nil, err
	}
	var c net.ListenConfig
	udp, err := c.ListenPacket(context.Background(), "udp4", platform+":53")
	if err == nil {
		s.udp = udp.(*net.UDPConn)
		err = s.udp.SetReadBuffer(64 << 10)
	}
	if err == nil {
		s.streams, err = s.tcp.listen()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// watch tells the relay of the next thing to read.
func (s *nameServer) watch(op int, which int32) {
	var conn syscall.Conn = s.udp
	if which == streams {
		conn = s.tcp.socket
	}
	socket, err := conn.SyscallConn()
	if err != nil {
		return
	}
	ready, err := s.relay.ready.SyscallConn()
	if err != nil {
		return
	}
	_ = ready.Control(func(epoll uintptr) { // what is closed has nothing more to tell
		_ = socket.Control(func(fd uintptr) {
			e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(s.net.slot), Pad: which}
			_ = unix.EpollCtl(int(epoll), op, int(fd), &e)
		})
	})
}

func (s *nameServer) start() {
	s.watch(unix.EPOLL_CTL_ADD, datagrams)
	s.watch(unix.EPOLL_CTL_ADD, streams)
}

// receive takes queries, as many as are allowed, and has them answered.
func (s *nameServer) receive(buffer []byte) {
	for s.begin() {
		era := s.now()
		n, from, err := s.read(buffer)
		if err != nil { // there is none left
			s.end(1)
			s.watch(unix.EPOLL_CTL_MOD, datagrams)
			return
		}
		query := slices.Clone(buffer[:n])
		go func() {
			defer s.end(0)
			if answer := s.answer("udp", query); answer != nil {
				s.send(answer, from, era)
			}
		}()
	}
}

func (s *nameServer) read(b []byte) (n int, from netip.AddrPort, err error) {
	raw, err := s.udp.SyscallConn()
	if err != nil {
		return 0, from, err
	}
	failed := raw.Control(func(fd uintptr) {
		var a unix.Sockaddr
		n, a, err = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
		if in4, ok := a.(*unix.SockaddrInet4); ok {
			from = netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port))
		}
	})
	return n, from, errors.Join(failed, err)
}

// begin counts a query, unless the sandbox has too many; then nothing is read
// until that is over, and the sandbox's own socket fills.
func (s *nameServer) begin() bool {
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
		time.AfterFunc(time.Second/10, func() { s.watch(unix.EPOLL_CTL_MOD, datagrams) })
		return false
	}
	s.busy++
	s.tokens--
	return true
}

// end undoes begin, and gives back the token of a query that was none.
func (s *nameServer) end(tokens float64) {
	s.mu.Lock()
	wake := s.sleeping
	s.busy--
	s.tokens += tokens
	s.sleeping = false
	s.mu.Unlock()
	if wake {
		s.watch(unix.EPOLL_CTL_MOD, datagrams)
	}
}

func (s *nameServer) send(answer []byte, to netip.AddrPort, era int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if era == s.era {
		_, _ = s.udp.WriteToUDPAddrPort(answer, to)
	}
}

func (s *nameServer) now() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.era
}

// accept serves one connection, which somebody has made or is about to.
func (s *nameServer) accept() {
	s.mu.Lock()
	l := s.streams
	s.mu.Unlock()
	c, err := l.Accept()
	if err != nil { // reset, or no descriptor to spare
		time.AfterFunc(time.Second/10, func() { s.watch(unix.EPOLL_CTL_MOD, streams) })
		return
	}
	s.watch(unix.EPOLL_CTL_MOD, streams)
	defer c.Close() // which reset does too
	for s.begin() {
		_ = c.SetDeadline(time.Now().Add(answerFor))
		query, err := readMessage(c, maxMessage)
		var answer []byte
		if err == nil {
			answer = s.answer("tcp", query)
		}
		s.end(0)
		if answer == nil || writeMessage(c, answer) != nil {
			return
		}
	}
}

// reset forgets what the sandbox asked.
func (s *nameServer) reset() error {
	s.mu.Lock()
	s.era++
	s.mu.Unlock()
	if err := s.tcp.reset(); err != nil {
		return err
	}
	l, err := s.tcp.listen()
	s.mu.Lock()
	s.streams = l
	s.mu.Unlock()
	for b := make([]byte, 1); err == nil; {
		if _, _, none := s.read(b); none != nil {
			break
		}
	}
	return err
}

func (s *nameServer) close() {
	if s.udp != nil {
		s.udp.Close()
	}
	s.tcp.close()
}

// answer returns what to say to a query, or nil for nothing at all.
func (s *nameServer) answer(network string, query []byte) []byte {
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
	policy := s.net.current()
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if policy != nil && policy.names[name] == nil {
		return say(h, &q, dnsmessage.RCodeRefused)
	}
	answer, err := s.relay.upstream.ask(network, query)
	if err != nil {
		return say(h, &q, dnsmessage.RCodeServerFailure)
	}
	if policy == nil || answer[2]&truncated != 0 { // which is to be asked for again, over TCP
		return answer
	}
	found, err := leadsTo(answer, q.Name)
	if err != nil {
		return say(h, &q, dnsmessage.RCodeServerFailure)
	}
	allowed := byName(found)
	if len(found) > 0 && len(allowed) == 0 {
		s.complain(policy, name, fmt.Errorf("it leads to %v, which is not for names", found))
		return say(h, &q, dnsmessage.RCodeRefused)
	}
	if err := s.net.open(policy, name, allowed); err != nil {
		s.complain(policy, name, err)
		return say(h, &q, dnsmessage.RCodeServerFailure)
	}
	return answer
}

// complain tells the operator, once: functions can ask often.
func (s *nameServer) complain(p *policy, name string, err error) {
	p.complaint.Do(func() {
		s.relay.nets.log.Warn("a name of a function's network policy is not opened", "name", name, "error", err)
	})
}

// questionOf returns the question of a message, which must have one.
func questionOf(message []byte) (dnsmessage.Question, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil {
		return dnsmessage.Question{}, err
	}
	q, err := p.Question()
	if err != nil {
		return q, err
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return q, errors.New("several questions")
	}
	return q, nil
}

// say makes an answer without content.
func say(h dnsmessage.Header, q *dnsmessage.Question, code dnsmessage.RCode) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode,
		RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code}}
	if q != nil {
		m.Questions = []dnsmessage.Question{*q}
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return b
}

// leadsTo returns the addresses that an answer gives for a name, through all the
// other names that it says this one stands for.
func leadsTo(answer []byte, name dnsmessage.Name) ([]netip.Addr, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(answer); err != nil {
		return nil, err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, err
	}
	records, err := p.AllAnswers()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	names := map[string]bool{strings.ToLower(name.String()): true}
	for range records { // each round knows the next name of a chain, in whatever order they stand
		before := len(names)
		for _, r := range records {
			if alias, ok := r.Body.(*dnsmessage.CNAMEResource); ok && names[strings.ToLower(r.Header.Name.String())] {
				names[strings.ToLower(alias.CNAME.String())] = true
			}
		}
		if len(names) == before {
			break
		}
	}
	for _, r := range records {
		if a, ok := r.Body.(*dnsmessage.AResource); ok && names[strings.ToLower(r.Header.Name.String())] {
			out = append(out, netip.AddrFrom4(a.A))
		}
	}
	return out, nil
}

// notByName are addresses that a policy may open by number only: whoever answers
// for a name must not choose them. The host's own the fence refuses.
var notByName = append(prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", addresses.String()), metadata...)

// metadata are addresses outside of 169.254.0.0/16 at which clouds tell machines
// their secrets: Alibaba's, Oracle's, and Azure's, which looks public.
var metadata = prefixes("100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32")

func byName(found []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range found {
		if !contains(notByName, a) {
			out = append(out, a)
		}
	}
	return out
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
