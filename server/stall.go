package server

import (
	"net"
	"time"
)

// stallWrite bounds how much of an answer one deadline is for.
const stallWrite = 64 << 10

// A stallListener accepts connections whose writes fail once the client has taken
// nothing for too long. While an answer is being written its instance is not free,
// and a client that stops reading would hold it for ever.
type stallListener struct {
	net.Listener
	timeout time.Duration
}

func (l stallListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if t, ok := c.(*net.TCPConn); ok {
		return &stallConn{TCPConn: t, timeout: l.timeout}, err
	}
	return c, err
}

// A stallConn stays a TCP connection in all else: net/http closes its halves one
// by one.
type stallConn struct {
	*net.TCPConn
	timeout time.Duration
	until   time.Time // the deadline; moved only where it is an eighth too early, as that costs more than most writes
}

// SetWriteDeadline implements net.Conn. The next write has its own again: net/http
// takes the deadline back after each request.
func (c *stallConn) SetWriteDeadline(t time.Time) error {
	c.until = time.Time{}
	return c.TCPConn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn, in the same way: a connection that is taken over for
// another protocol has its deadlines taken back.
func (c *stallConn) SetDeadline(t time.Time) error {
	c.until = time.Time{}
	return c.TCPConn.SetDeadline(t)
}

// Write implements net.Conn.
func (c *stallConn) Write(b []byte) (n int, err error) {
	for {
		part := b[n:min(len(b), n+stallWrite)]
		if now := time.Now(); c.until.Sub(now) < c.timeout-c.timeout/8 {
			c.until = now.Add(c.timeout)
			if err := c.TCPConn.SetWriteDeadline(c.until); err != nil {
				return n, err
			}
		}
		m, err := c.TCPConn.Write(part)
		n += m
		if err != nil || n == len(b) {
			return n, err
		}
	}
}
