package http1

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"math"
	"net"
	"net/http"
	"strconv"
	"syscall"
)

var errResponse = errors.New("http1: malformed response head")

// A Client is the other side of a connection: it sends requests, one after the other,
// and receives the response to each. What is left of a response has to be read before
// the next request. Close may be called at any time.
type Client struct {
	c     *Conn
	reuse bool // the connection outlives the response
}

// A Response is a response's head. Its slices are valid until the next Receive.
type Response struct {
	Status        int
	ContentLength int64 // -1: not known
	headers       []header
	buf           [24]header
}

// NewClient returns a Client that writes to and reads from nc.
func NewClient(nc net.Conn) *Client { return &Client{c: NewConn(nc)} }

// Close closes the connection.
func (c *Client) Close() error { return c.c.Close() }

// Request begins a request, whose target is a path with a query if there is one.
// Then come Header calls, then [Writer.End] or [Writer.Body] and Flush, or
// [Writer.Stream]: on this goroutine or, so that a server may answer before it has
// read all, on another. The caller recycles the writer.
func (c *Client) Request(method, target string) *Writer {
	w := c.c.HandOver()
	w.buf = append(append(append(append(w.buf, method...), ' '), target...), " HTTP/1.1\r\n"...)
	return w
}

// Receive reads the head of the response to a request of that method. Interim
// responses (1xx) are read over, but for the one that switches protocols. io.EOF means
// that the connection ended before it.
func (c *Client) Receive(method string, r *Response) error {
	c.reuse = false
	for {
		if err := c.c.readHead(); err != nil {
			return err
		}
		if err := c.parse(method, r); err != nil {
			return err
		}
		if r.Status == http.StatusSwitchingProtocols {
			c.reuse = false
			return nil
		}
		if r.Status >= 200 {
			return nil
		}
	}
}

// parse reads the head, and how the body is framed (RFC 9112, 6.3).
func (c *Client) parse(method string, r *Response) error {
	line, rest := cutLine(c.c.head)
	version, line, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(line, []byte(" "))
	status, err := strconv.Atoi(string(code))
	if err != nil || len(code) != 3 || status < 100 || !bytes.HasPrefix(version, []byte("HTTP/1.")) {
		return errResponse
	}
	r.Status, r.ContentLength, r.headers = status, -1, r.buf[:0]
	old := bytes.Equal(version, []byte("HTTP/1.0"))
	reuse, chunked := !old, false
	for {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(string(name)) {
			return errResponse
		}
		value = bytes.Trim(value, " \t")
		r.headers = append(r.headers, header{name, value})
		switch {
		case equalFold(name, "content-length"):
			n, err := strconv.ParseUint(string(value), 10, 63)
			if err != nil || r.ContentLength >= 0 && r.ContentLength != int64(n) {
				return errResponse
			}
			r.ContentLength = int64(n)
		case equalFold(name, "transfer-encoding"):
			if !equalFold(value, "chunked") {
				return errResponse
			}
			chunked = true
		case equalFold(name, "connection"):
			for option := range bytes.SplitSeq(value, []byte(",")) {
				switch option = bytes.Trim(option, " \t"); {
				case equalFold(option, "close"):
					reuse = false
				case equalFold(option, "keep-alive"):
					reuse = true
				}
			}
		}
	}
	c.c.body = body{c: c.c, left: r.ContentLength, chunked: chunked}
	switch {
	case method == http.MethodHead, status < 200, status == http.StatusNoContent, status == http.StatusNotModified:
		c.c.body = body{c: c.c}
	case chunked && (old || r.ContentLength >= 0): // what it means depends on who reads it
		return errResponse
	case chunked:
	case r.ContentLength < 0:
		c.c.body.left, c.c.body.toEnd, reuse = math.MaxInt64, true, false
	}
	c.reuse = reuse
	return nil
}

// All returns the headers, in their order, names as they came.
func (r *Response) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for _, h := range r.headers {
			if !yield(h.name, h.value) {
				return
			}
		}
	}
}

// Body returns the body of the response whose head was received last.
func (c *Client) Body() io.Reader { return &c.c.body }

// Trailer returns what came behind the body, once that has been read to its end: names
// are canonical.
func (c *Client) Trailer() map[string][]string { return c.c.body.trailer() }

// Switch gives the connection up, after a response that switches protocols.
func (c *Client) Switch() *Rest {
	sent, _ := c.c.r.Peek(c.c.r.Buffered())
	return &Rest{Conn: c.c.nc, sent: bytes.Clone(sent)}
}

// Ended reports whether nothing is left of the body.
func (c *Client) Ended() bool { return c.c.body.done || c.c.body.left == 0 && !c.c.body.chunked }

// Waits reports whether the next Read of the body has to wait for the server.
func (c *Client) Waits() bool { return !c.Ended() && c.c.r.Buffered() == 0 }

// Reusable reports whether another request may be sent: the response was read to its
// end, nothing came behind it, and the server has not said that this was the last.
func (c *Client) Reusable() bool { return c.reuse && c.Ended() && c.c.r.Buffered() == 0 }

// Open reports whether the connection is as its last response left it: the server
// has neither closed it nor sent anything. It does not wait.
func (c *Client) Open() bool {
	sc, ok := c.c.nc.(syscall.Conn)
	if !ok {
		return true // nobody can tell
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, peeked = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return err == nil && (peeked == syscall.EAGAIN || peeked == syscall.EINTR)
}
