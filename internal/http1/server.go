package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// A Server answers those requests of a port that are plain and that it is told to
// take, and hands every other to net/http, its connection included, from the first
// byte of it: net/http then serves that connection to its end. So what is rare,
// odd or hostile is judged by net/http alone, and what is frequent costs a fraction
// of it: strings, maps and buffers are a connection's and not a request's, one
// write carries an answer, deadlines are moved by the second and not by the call,
// and a client is only watched for having gone once somebody waits for that.
//
// Plain is HTTP/1.1 with one Host, a path as target, a body by length or in
// chunks, and neither an upgrade, nor an expectation, nor trailers that are announced.
type Server struct {
	// Handler answers. It must not keep a request, or anything of it, after it has
	// returned. Its ResponseWriter has what http.ResponseController asks for, and
	// trailers by http.TrailerPrefix, but cannot be hijacked. It may panic with
	// http.ErrAbortHandler.
	Handler http.Handler
	// Takes reports whether a request, whose body is not to be touched, is Handler's.
	Takes func(*http.Request) bool
	// Rest gets the connections that are net/http's.
	Rest func(net.Conn)

	HeadTimeout time.Duration // for a head, once its first byte has come, and for the first
	BodyTimeout time.Duration // without a byte of a body that is waited for
	IdleTimeout time.Duration // between requests
	ErrorLog    *log.Logger

	closing atomic.Bool
	conns   sync.WaitGroup // of open
	mu      sync.Mutex     // guards open
	open    map[*serverConn]struct{}
}

// What a connection is doing.
const (
	idle = iota
	active
	ended
)

// A serverConn is one connection, and all that its requests have in common.
type serverConn struct {
	s     *Server
	nc    net.Conn
	c     *Conn
	state atomic.Int32

	untilMu sync.Mutex // a body may be read, and given up, on other goroutines
	until   time.Time  // the deadline for reading; zero: none
	last    bool       // it is not to be moved any more for this request's body

	remote string
	head   Request
	base   http.Request // what req is a copy of, with its context
	req    *http.Request
	caller *caller // its context
	url    url.URL
	header http.Header
	values []string // that header's slices are of
	body   serverBody
	w      answer
}

// Serve accepts connections until l is closed, whose error it returns.
func (s *Server) Serve(l net.Listener) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() || isTemporary(err) {
				time.Sleep(5 * time.Millisecond) // no descriptors: some may be closed meanwhile
				continue
			}
			return err
		}
		c := &serverConn{s: s, nc: nc, c: NewConn(nc), remote: nc.RemoteAddr().String(), header: make(http.Header, 16)}
		c.w = answer{c: c, header: make(http.Header, 8)}
		c.w.reset()
		if !s.add(c) {
			nc.Close()
			continue
		}
		go c.serve()
	}
}

func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

func (s *Server) add(c *serverConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	if s.open == nil {
		s.open = map[*serverConn]struct{}{}
	}
	s.open[c] = struct{}{}
	s.conns.Add(1)
	return true
}

func (s *Server) remove(c *serverConn) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
	s.conns.Done()
}

// Shutdown closes the connections that have no request, and each other one after
// the answer that it waits for; it returns once none is left, or when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.each(func(c *serverConn) {
		if c.state.CompareAndSwap(idle, ended) {
			c.nc.Close()
		}
	})
	done := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes every connection.
func (s *Server) Close() {
	s.each(func(c *serverConn) { c.nc.Close() })
}

func (s *Server) each(do func(*serverConn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	for c := range s.open {
		do(c)
	}
}

// serve answers one request after the other.
func (c *serverConn) serve() {
	defer c.s.remove(c)
	wait := c.s.HeadTimeout
	for {
		c.within(wait)
		first, err := c.c.r.Peek(1)
		if err != nil {
			break
		}
		if !c.state.CompareAndSwap(idle, active) {
			return // Shutdown has closed it
		}
		if first[0] <= ' ' { // Read would be lenient
			c.c.head = c.c.head[:0]
			c.handOver()
			return
		}
		if !bytes.Contains(c.peek(), []byte("\r\n\r\n")) { // it has not come in one piece
			c.deadline(time.Now().Add(c.s.HeadTimeout))
		}
		if err := c.c.Read(&c.head); err != nil {
			if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
				break
			}
			c.handOver()
			return
		}
		if !c.read() || !c.s.Takes(c.req) {
			c.handOver()
			return
		}
		if !c.answer() {
			return
		}
		c.forget()
		c.state.Store(idle)
		if c.s.closing.Load() {
			break
		}
		wait = c.s.IdleTimeout
	}
	c.nc.Close()
}

// peek returns what has come.
func (c *serverConn) peek() []byte {
	b, _ := c.c.r.Peek(c.c.r.Buffered())
	return b
}

// within has reading end after d, or up to an eighth earlier: moving a deadline at
// each request would cost more than reading it.
func (c *serverConn) within(d time.Duration) {
	now := time.Now()
	c.untilMu.Lock()
	defer c.untilMu.Unlock()
	if left := c.until.Sub(now); !c.last && (left < d-d/8 || left > d) {
		c.deadlineLocked(now.Add(d))
	}
}

func (c *serverConn) deadline(t time.Time) {
	c.untilMu.Lock()
	defer c.untilMu.Unlock()
	c.deadlineLocked(t)
}

func (c *serverConn) deadlineLocked(t time.Time) {
	if !c.until.Equal(t) {
		c.until = t
		_ = c.nc.SetReadDeadline(t)
	}
}

// handOver gives the connection to net/http, as if nothing had been read of the
// current request.
func (c *serverConn) handOver() {
	c.deadline(time.Time{})
	sent := append(bytes.Clone(c.c.head), c.peek()...)
	c.s.Rest(&Rest{Conn: c.nc, sent: sent})
}

// The Rest of a connection reads first what was sent before it was handed over.
type Rest struct {
	net.Conn
	sent []byte
}

// Read implements net.Conn.
func (r *Rest) Read(p []byte) (int, error) {
	if len(r.sent) > 0 {
		n := copy(p, r.sent)
		r.sent = r.sent[n:]
		return n, nil
	}
	r.sent = nil
	return r.Conn.Read(p)
}

// CloseWrite is what net/http looks for, so that a client sees an answer before it
// sees the end.
func (r *Rest) CloseWrite() error { return closeWrite(r.Conn) }

func closeWrite(nc net.Conn) error {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// answer has the handler answer the request, and reports whether the connection
// serves another.
func (c *serverConn) answer() (again bool) {
	if !c.handle() {
		c.nc.Close()
		return false
	}
	err := c.w.end()
	if err == nil && !c.w.last {
		return true
	}
	if err == nil && !c.body.read() { // or the client finds the connection reset, and never sees the answer
		_ = closeWrite(c.nc)
		c.deadline(time.Now().Add(linger))
		_, _ = io.Copy(io.Discard, c.nc)
	}
	c.nc.Close()
	return false
}

// forget lets go of the answer, and of a request that was larger than most: an idle
// connection costs little, whatever it was used for.
func (c *serverConn) forget() {
	c.w.reset()
	c.c.body = body{}
	c.req.Trailer = nil
	c.untilMu.Lock()
	c.last = false
	c.untilMu.Unlock()
	if len(c.c.head) > keepIdle || len(c.head.headers) > keepFields {
		c.c.head, c.head, c.base, c.req, c.caller, c.url = nil, Request{}, http.Request{}, nil, nil, url.URL{}
		c.header, c.values = make(http.Header, 16), nil
	}
}

// handle calls the handler, and reports whether it returned.
func (c *serverConn) handle() (returned bool) {
	defer c.caller.leave()
	defer func() {
		if err := recover(); err != nil && err != http.ErrAbortHandler && c.s.ErrorLog != nil {
			c.s.ErrorLog.Printf("http1: panic serving %s: %v\n%s", c.remote, err, debug.Stack())
		}
	}()
	c.s.Handler.ServeHTTP(&c.w, c.req)
	return true
}
