package process

import (
	"net"
	"strconv"
	"sync"

	"lambent"
)

// The ports of 127.0.0.1 that code is given to listen on. They lie below those that
// systems give to connections, so that none of these takes one meanwhile.
const (
	firstPort = 20_000
	lastPort  = 31_999
)

// ports are those that sandboxes have. The zero value is ready for use.
type ports struct {
	mu    sync.Mutex // guards what follows
	taken map[int]bool
	next  int // to be looked at, from firstPort
}

// take returns a port that no sandbox has, and that nobody listens on. Another
// program of the machine may take it before its sandbox does: there is one network.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range lastPort - firstPort + 1 {
		port := firstPort + p.next
		p.next = (p.next + 1) % (lastPort - firstPort + 1)
		if p.taken[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		if p.taken == nil {
			p.taken = map[int]bool{}
		}
		p.taken[port] = true
		return port, nil
	}
	return 0, lambent.Errorf(lambent.Unavailable, "process.Port", "every port from %d to %d of 127.0.0.1 is taken", firstPort, lastPort)
}

func (p *ports) give(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.taken, port)
}
