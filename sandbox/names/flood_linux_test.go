package names_test

import (
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lambent/sandbox/names"
)

// A counting listener's socket is used once for each connection that is taken.
type counting struct {
	*net.TCPListener
	uses *atomic.Int64
}

type countingConn struct {
	syscall.RawConn
	uses *atomic.Int64
}

func (c counting) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPListener.SyscallConn()
	return countingConn{raw, c.uses}, err
}

func (c countingConn) Control(f func(uintptr)) error {
	c.uses.Add(1)
	return c.RawConn.Control(f)
}

// TestConnectionsWait: whoever makes more connections than queries are allowed waits
// in its own queue, and takes nobody's time.
func TestConnectionsWait(t *testing.T) {
	r := newResolver(t, nil)
	relay, err := names.Open(names.Options{ResolvConf: r.conf})
	must(t, err)
	defer relay.Close()
	u, l := sockets(t)
	var uses atomic.Int64
	s, err := relay.Serve(u, counting{l, &uses}, nil, nil)
	must(t, err)
	defer s.Close()
	var open []net.Conn
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		c, err := net.DialTimeout("tcp4", l.Addr().String(), 100*time.Millisecond)
		if err != nil {
			continue
		}
		if open = append(open, c); len(open) > 100 { // the relay ends those itself
			open[0].Close()
			open = open[1:]
		}
	}
	for _, c := range open {
		c.Close()
	}
	if n := uses.Load(); n > 1200 { // as many as at once, and in a second, and a few
		t.Errorf("%d connections were taken in a second", n)
	}
}
