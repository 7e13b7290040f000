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
	"strconv"
	"strings"
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
// chunks, and neither an upgrade, nor an expectation, nor trailers.
type Server struct {
	// Handler answers. It must not keep a request, or anything of it, after it has
	// returned. Its ResponseWriter has what http.ResponseController asks for, but
	// cannot be hijacked. It may panic with http.ErrAbortHandler.
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
	conns   sync.WaitGroup
	mu      sync.Mutex
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
	until time.Time // the deadline for reading; zero: none

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
	if now := time.Now(); c.until.Sub(now) < d-d/8 || c.until.Sub(now) > d {
		c.deadline(now.Add(d))
	}
}

func (c *serverConn) deadline(t time.Time) {
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
	c.s.Rest(&replayed{Conn: c.nc, sent: sent})
}

// A replayed connection reads first what was sent before it was handed over.
type replayed struct {
	net.Conn
	sent []byte
}

func (r *replayed) Read(p []byte) (int, error) {
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
func (r *replayed) CloseWrite() error { return closeWrite(r.Conn) }

func closeWrite(nc net.Conn) error {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// read makes the http.Request of a head, and reports whether it is plain.
func (c *serverConn) read() bool {
	head := string(c.c.head) // one string, that all others are parts of
	line, fields, _ := strings.Cut(head, "\n")
	method, line, _ := strings.Cut(strings.TrimSuffix(line, "\r"), " ")
	target, version, _ := strings.Cut(line, " ")
	if version != "HTTP/1.1" || !isToken(method) || method == http.MethodConnect || target[0] != '/' {
		return false
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	c.url = *u
	clear(c.header)
	if len(c.head.headers) > cap(c.values) {
		c.values = make([]string, 0, 2*len(c.head.headers))
	}
	c.values = c.values[:0]
	host, hosts, framed := "", 0, 0
	for fields != "" {
		line, fields, _ = strings.Cut(fields, "\n")
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !isToken(name) || !consists(value, inValue) {
			return false
		}
		name = http.CanonicalHeaderKey(name)
		switch name {
		case "Host":
			host = value
			hosts++
			continue
		case "Content-Length", "Transfer-Encoding":
			if framed++; framed > 1 {
				return false
			}
			if name == "Transfer-Encoding" {
				continue
			}
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") && !strings.EqualFold(value, "close") {
				return false
			}
		case "Expect", "Upgrade", "Trailer", "Te":
			return false
		}
		if had := c.header[name]; had != nil {
			c.header[name] = append(had, value)
			continue
		}
		n := len(c.values)
		c.values = append(c.values, value)
		c.header[name] = c.values[n : n+1 : n+1]
	}
	if hosts != 1 || host == "" || !consists(host, inHost) {
		return false
	}
	c.body = serverBody{c: c, left: c.head.ContentLength}
	c.base = http.Request{
		Method: method, URL: &c.url, Proto: version, ProtoMajor: 1, ProtoMinor: 1, Header: c.header,
		Body: &c.body, ContentLength: c.head.ContentLength, Host: host, RemoteAddr: c.remote, RequestURI: target,
		Close: !c.c.KeepAlive(),
	}
	if c.head.ContentLength == 0 {
		c.base.Body = http.NoBody
	}
	c.caller = &caller{c: c} // nothing else of a request may be found in use when the next one comes
	c.req = c.base.WithContext(c.caller)
	return true
}

// The kinds of characters (RFC 9110, 5.6.2 and 5.5; RFC 3986, 3.2.2).
const (
	inToken = 1 << iota
	inValue
	inHost
)

var kinds = func() (t [256]uint8) {
	for c := range len(t) {
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= inValue
		}
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' {
			t[c] |= inToken | inHost
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= inToken
	}
	for _, c := range "-._~:[]%" {
		t[c] |= inHost
	}
	return t
}()

func consists(s string, of uint8) bool {
	for i := range len(s) {
		if kinds[s[i]]&of == 0 {
			return false
		}
	}
	return true
}

func isToken(s string) bool { return s != "" && consists(s, inToken) }

// A serverBody is a request's body. It is on the connection: it ends with the request.
type serverBody struct {
	c    *serverConn
	left int64 // as announced, and not read yet; -1: in chunks
	done bool
}

// Read implements io.Reader.
func (b *serverBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	if b.c.c.r.Buffered() == 0 {
		b.c.within(b.c.s.BodyTimeout)
	}
	n, err := b.c.c.body.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	b.done = err == io.EOF || b.left == 0
	return n, err
}

// Close implements io.Closer.
func (b *serverBody) Close() error { return nil }

// read reports whether nothing is left of the body on the connection.
func (b *serverBody) read() bool { return b.done || b.left == 0 }

// linger is how long what a client sends that nobody wants is read.
const linger = 500 * time.Millisecond

// skip reads over a rest of the body that has been sent, most likely.
func (b *serverBody) skip() {
	const most = 256 << 10
	if b.read() || b.left > most {
		return
	}
	b.c.deadline(time.Now().Add(linger))
	_, _ = io.CopyN(io.Discard, b, most)
}

// answer has the handler answer the request, and reports whether the connection
// serves another.
func (c *serverConn) answer() (again bool) {
	c.w.reset()
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

// A caller is a request's context, which ends when its client has gone. To see
// that somebody has to read from the connection, and so it is only seen from a
// while after the first Done on, and of a request whose body has been read.
type caller struct {
	c *serverConn

	mu     sync.Mutex
	done   chan struct{} // closed when the client has gone; nil: nobody has asked
	timer  *time.Timer   // begins to watch
	seen   chan struct{} // closed when watching has ended; nil: it was not begun
	gone   bool
	leaves bool
}

// watchAfter is how long somebody waits for the client to go before it is watched:
// most waits are shorter, and a timer costs a fifth of watching.
const watchAfter = 20 * time.Millisecond

var _ context.Context = (*caller)(nil)

// Deadline implements context.Context.
func (*caller) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (*caller) Value(any) any { return nil }

// Err implements context.Context.
func (r *caller) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return context.Canceled
	}
	return nil
}

// Done implements context.Context.
func (r *caller) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.leaves {
			r.goneLocked()
		} else if r.c.body.read() {
			r.timer = time.AfterFunc(watchAfter, r.watch)
		}
	}
	return r.done
}

// watch waits for the client to go, to send its next request, or for leave.
func (r *caller) watch() {
	r.mu.Lock()
	if r.leaves {
		r.mu.Unlock()
		return
	}
	r.seen = make(chan struct{})
	defer close(r.seen)
	r.c.deadline(time.Time{})
	r.mu.Unlock()
	_, err := r.c.c.r.Peek(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !r.leaves {
		r.goneLocked()
	}
}

func (r *caller) goneLocked() {
	if !r.gone {
		r.gone = true
		close(r.done)
	}
}

// leave ends the context, as the handler has returned.
func (r *caller) leave() {
	r.mu.Lock()
	r.leaves = true
	if r.timer != nil {
		r.timer.Stop()
	}
	seen := r.seen
	r.mu.Unlock()
	if seen != nil {
		r.c.deadline(time.Unix(1, 0))
		<-seen
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done != nil {
		r.goneLocked()
	}
}

var _ interface {
	http.ResponseWriter
	FlushError() error
	SetReadDeadline(time.Time) error
} = (*answer)(nil)

const (
	gather   = 16 << 10 // bytes of an answer that are put together before they are written
	keepIdle = 4 << 10  // bytes of buffer that a connection keeps for its next answer
)

// An answer is a request's ResponseWriter.
type answer struct {
	c      *serverConn
	header http.Header
	status int     // 0: not said
	length int64   // that the handler announced; -1: none
	body   []byte  // of an answer that may be short enough to have a length
	pooled *[]byte // that body is in
	sent   bool    // the head is queued, or written
	chunks bool
	mute   bool // there is no body
	last   bool // the connection ends with it
	err    error
}

var bodyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, gather); return &b }}

func (w *answer) reset() {
	clear(w.header)
	*w = answer{c: w.c, header: w.header, length: -1}
}

// Header implements http.ResponseWriter.
func (w *answer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *answer) WriteHeader(status int) {
	if w.status != 0 || status < 200 {
		return // ours says nothing ahead of its answers
	}
	w.status = status
	w.mute = w.c.req.Method == http.MethodHead || w.bodiless()
	if l := w.header["Content-Length"]; len(l) == 1 {
		if n, ok := parseLength(l[0]); ok {
			w.length = n
		} else {
			delete(w.header, "Content-Length")
		}
	}
}

// bodiless reports whether the status leaves no room for a body (RFC 9110, 15.3.5
// and 15.4.5).
func (w *answer) bodiless() bool {
	return w.status == http.StatusNoContent || w.status == http.StatusNotModified
}

// oneLine keeps a value from becoming more than one header.
var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

func parseLength(s string) (n int64, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || n > 1<<50 {
			return 0, false
		}
		n = 10*n + int64(s[i]-'0')
	}
	return n, s != ""
}

// Write implements http.ResponseWriter.
func (w *answer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case w.mute:
		return len(b), nil
	case w.length >= 0:
		if w.length < int64(len(b)) {
			return 0, http.ErrContentLength
		}
		w.length -= int64(len(b))
		w.begin()
	case w.sent: // in chunks
	case len(w.body)+len(b) <= gather: // it may be all
		if w.pooled == nil {
			w.pooled = bodyBuffers.Get().(*[]byte)
			w.body = (*w.pooled)[:0]
		}
		w.body = append(w.body, b...)
		return len(b), nil
	default:
		w.begin()
	}
	w.write(b)
	if w.err != nil {
		return 0, w.err
	}
	return len(b), nil
}

// begin queues the head, once.
func (w *answer) begin() {
	if w.sent {
		return
	}
	w.sent = true
	out := w.c.c.out
	out.Begin(w.status)
	w.chunks = w.length < 0 && !w.bodiless()
	w.c.body.skip()
	w.last = w.last || w.c.req.Close || !w.c.body.read() || w.c.s.closing.Load()
	for name, values := range w.header {
		if name == "Connection" {
			w.last = w.last || len(values) > 0 && strings.EqualFold(values[0], "close")
			continue
		}
		if !isToken(name) || name == "Transfer-Encoding" || name == "Date" ||
			name == "Content-Length" && w.bodiless() || name == "Content-Type" && w.status == http.StatusNotModified {
			continue
		}
		for _, v := range values {
			if !consists(v, inValue) {
				v = oneLine.Replace(v)
			}
			out.Header(name, v)
		}
	}
	out.Header("Date", date())
	if w.last {
		out.Header("Connection", "close")
	}
	if w.chunks {
		out.Header("Transfer-Encoding", "chunked")
		w.chunks = !w.mute
	}
	out.buf = append(out.buf, "\r\n"...)
	if w.pooled != nil {
		w.write(w.body)
		bodyBuffers.Put(w.pooled)
		w.body, w.pooled = nil, nil
	}
}

// write queues a part of the body, or writes it with what is queued.
func (w *answer) write(b []byte) {
	if len(b) == 0 || w.err != nil {
		return
	}
	out := w.c.c.out
	if w.chunks {
		out.buf = appendHex(out.buf, len(b))
	}
	if len(out.buf)+len(b) <= gather {
		out.buf = append(out.buf, b...)
	} else {
		n := max(0, min(len(b), gather-len(out.buf))) // the head does not go alone
		out.buf = append(out.buf, b[:n]...)
		if w.err = out.Flush(); w.err == nil && n < len(b) {
			_, w.err = out.nc.Write(b[n:])
		}
	}
	if w.chunks {
		out.buf = append(out.buf, "\r\n"...)
	}
}

func appendHex(b []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 0
	for n>>shift > 15 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&15])
	}
	return append(b, "\r\n"...)
}

// FlushError writes what is queued: see http.ResponseController.
func (w *answer) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.begin()
	if w.err == nil {
		w.err = w.c.c.Flush()
	}
	return w.err
}

// end writes the rest of the answer.
func (w *answer) end() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.sent && w.length < 0 && !w.mute {
		w.length = int64(len(w.body))
		w.header["Content-Length"] = []string{strconv.Itoa(len(w.body))}
	}
	missing := w.length > 0 && !w.mute && w.pooled == nil
	w.begin()
	if w.chunks {
		w.c.c.out.buf = append(w.c.c.out.buf, "0\r\n\r\n"...)
	}
	if w.err == nil {
		w.err = w.c.c.Flush()
	}
	if missing && w.err == nil {
		w.err = io.ErrUnexpectedEOF // the client must not take what it has for the whole
	}
	if out := w.c.c.out; cap(out.buf) > keepIdle {
		out.buf = nil
	}
	return w.err
}

// SetReadDeadline is for the rest of the request's body: see http.ResponseController.
func (w *answer) SetReadDeadline(t time.Time) error {
	w.c.deadline(t)
	return nil
}

// A stamp is the Date of one second.
type stamp struct {
	second int64
	text   string
}

var lastStamp atomic.Pointer[stamp]

// date is the current time as HTTP writes it.
func date() string {
	now := time.Now()
	if s := lastStamp.Load(); s != nil && s.second == now.Unix() {
		return s.text
	}
	s := &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastStamp.Store(s)
	return s.text
}
