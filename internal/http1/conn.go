// Package http1 is HTTP/1.1 where each call is made of it. A
// [Conn] is one connection, for the Runtime API: it reads requests without allocating
// per header, gathers answers so that several leave in one write, and hands bodies
// over as they come. A tenth of net/http's CPU per request is what it is for. A
// [Client] is the other side, for functions that are web servers. A
// [Server] is the front of calls, which leaves to net/http what is not plain.
//
// A Conn speaks the part of RFC 9112 that clients of such an API use: Content-Length
// and chunked bodies with trailers, Expect: 100-continue, keep-alive. It has no
// routing, no deadlines of its own, no TLS, and answers only with a known length.
package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
)

const (
	maxHead = 64 << 10 // bytes of request line and headers
	maxLine = 16 << 10 // bytes of a chunk-size or trailer line
)

var (
	errHead     = errors.New("http1: malformed request head")
	errHeadSize = errors.New("http1: request head over 64 KB")
	errChunk    = errors.New("http1: malformed chunked body")
)

// A Conn is one connection. One goroutine reads requests from it and queues
// answers; HandOver lets another one answer.
type Conn struct {
	nc   net.Conn
	r    *bufio.Reader
	out  *Writer // answers that have not been written
	head []byte  // the current request's head; Request points into it

	body      body
	keepAlive bool
	expect    bool // the client waits for 100 Continue before it sends the body
}

// NewConn returns a Conn that reads from and writes to nc.
func NewConn(nc net.Conn) *Conn {
	return &Conn{nc: nc, r: bufio.NewReaderSize(nc, 4096), out: newWriter(nc)}
}

// Close closes the connection under it. It may be called at any time.
func (c *Conn) Close() error { return c.nc.Close() }

// Net returns the connection under it, for deadlines.
func (c *Conn) Net() net.Conn { return c.nc }

// A Request is a request's head. Its slices are valid until the next Read.
type Request struct {
	Method, Path  []byte // the path as sent, with a query if there is one
	ContentLength int64  // -1: chunked
	headers       []header
	buf           [24]header
}

type header struct{ name, value []byte }

// Header returns the first value of a header, or nil. Names match in any case.
func (r *Request) Header(name string) []byte {
	for i := range r.headers {
		if equalFold(r.headers[i].name, name) {
			return r.headers[i].value
		}
	}
	return nil
}

// Read reads the next request's head. What is left of the previous request's body
// is read over first, and answers that wait are flushed if it has to wait
// itself. io.EOF means that the client closed between requests.
func (c *Conn) Read(req *Request) error {
	if err := c.skipBody(); err != nil {
		return err
	}
	if err := c.readHead(); err != nil {
		return err
	}
	return c.parse(req)
}

// readHead gathers everything up to the empty line in c.head.
func (c *Conn) readHead() error {
	c.head = c.head[:0]
	for {
		if c.r.Buffered() == 0 {
			if err := c.Flush(); err != nil {
				return err
			}
		}
		line, err := c.r.ReadSlice('\n')
		c.head = append(c.head, line...) // whatever comes of it: a Server hands over what was read
		if len(c.head) > maxHead {
			return errHeadSize
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(c.head) == 0:
			return io.EOF
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		if string(c.head) == "\r\n" || string(c.head) == "\n" { // empty lines before a request are to be ignored (RFC 9112, 2.2)
			c.head = c.head[:0]
			continue
		}
		if bytes.HasSuffix(c.head, []byte("\n\r\n")) || bytes.HasSuffix(c.head, []byte("\n\n")) {
			return nil
		}
	}
}

func (c *Conn) parse(req *Request) error {
	line, rest := cutLine(c.head)
	method, line, ok1 := bytes.Cut(line, []byte(" "))
	path, version, ok2 := bytes.Cut(line, []byte(" "))
	if !ok1 || !ok2 || len(method) == 0 || len(path) == 0 || !bytes.HasPrefix(version, []byte("HTTP/1.")) {
		return errHead
	}
	req.Method, req.Path, req.ContentLength = method, path, 0
	req.headers = req.buf[:0]
	c.keepAlive, c.expect = !bytes.Equal(version, []byte("HTTP/1.0")), false
	hasLength, chunked := false, false
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 || bytes.ContainsAny(name, " \t") {
			return errHead
		}
		value = bytes.Trim(value, " \t")
		req.headers = append(req.headers, header{name, value})
		switch {
		case equalFold(name, "content-length"):
			n, err := strconv.ParseUint(string(value), 10, 63)
			if err != nil || hasLength && int64(n) != req.ContentLength {
				return errHead
			}
			hasLength, req.ContentLength = true, int64(n)
		case equalFold(name, "transfer-encoding"):
			if !equalFold(value, "chunked") {
				return errHead
			}
			chunked = true
		case equalFold(name, "connection"):
			if equalFold(value, "close") {
				c.keepAlive = false
			} else if equalFold(value, "keep-alive") {
				c.keepAlive = true
			}
		case equalFold(name, "expect"):
			c.expect = equalFold(value, "100-continue")
		}
	}
	if chunked {
		if hasLength { // the two together are how requests are smuggled
			return errHead
		}
		req.ContentLength = -1
	}
	c.body = body{c: c, left: req.ContentLength, chunked: chunked}
	return nil
}

// cutLine returns the first line of b without its end, and what follows.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, nil
	}
	return bytes.TrimSuffix(b[:i], []byte("\r")), b[i+1:]
}

// equalFold reports whether b is the ASCII string s, which has no letter outside
// ASCII, in any case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		x, y := b[i], s[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}

// KeepAlive reports whether the client wants to send another request.
func (c *Conn) KeepAlive() bool { return c.keepAlive }

// Answer returns the writer that answers are queued with, in the order of the
// requests. It is valid until HandOver.
func (c *Conn) Answer() *Writer { return c.out }

// Flush writes what is queued.
func (c *Conn) Flush() error { return c.out.Flush() }

// HandOver gives the writer away, with what is queued there, to whoever answers
// the request that was read last. The reading goroutine may go on to Read: a
// client that waits for its answer sends nothing that needs one.
func (c *Conn) HandOver() *Writer {
	w := c.out
	c.out = newWriter(c.nc)
	return w
}
