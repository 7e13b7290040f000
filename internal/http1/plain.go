package http1

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

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
			if c.header[name] != nil || !strings.EqualFold(value, "keep-alive") && !strings.EqualFold(value, "close") {
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
	err  error // that it ended with
}

// Read implements io.Reader.
func (b *serverBody) Read(p []byte) (int, error) {
	if b.err != nil { // behind a malformed chunk nothing is a chunk
		return 0, b.err
	}
	if b.left < 0 || b.c.c.r.Buffered() == 0 { // a chunk's end is there long before the next one
		b.c.within(b.c.s.BodyTimeout)
	}
	n, err := b.c.c.body.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if b.err = err; b.left == 0 {
		b.err = io.EOF
	}
	if b.err == io.EOF {
		b.c.req.Trailer = b.c.c.body.trailer()
		b.c.caller.watchable()
	}
	return n, err
}

// Close implements io.Closer.
func (b *serverBody) Close() error { return nil }

// read reports whether nothing is left of the body on the connection.
func (b *serverBody) read() bool { return b.left == 0 || b.err == io.EOF }

// end has the rest of the body come until t, or never.
func (b *serverBody) end(t time.Time) {
	b.c.untilMu.Lock()
	defer b.c.untilMu.Unlock()
	b.c.last = true
	b.c.deadlineLocked(t)
}

// linger is how long what a client sends that nobody wants is read.
const linger = 500 * time.Millisecond

// skip reads over a rest of the body that has been sent, most likely.
func (b *serverBody) skip() {
	const most = 256 << 10
	if b.read() || b.left > most {
		return
	}
	b.end(time.Now().Add(linger))
	_, _ = io.CopyN(io.Discard, b, most)
}
