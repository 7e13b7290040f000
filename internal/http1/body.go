package http1

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// ErrTooLarge is returned by ReadBody for a body over its limit. The body is
// still to be read: the next Read does, up to a bound.
var ErrTooLarge = errors.New("http1: body over the limit")

// maxSkip bounds how much of a refused body is read over before the connection
// is given up, so that the client sees the refusal instead of a reset.
const maxSkip = 64 << 20

// body reads the current request's body.
type body struct {
	c        *Conn
	left     int64 // of the body, or of the current chunk; -1: the next chunk's size is to be read
	chunked  bool
	started  bool // past the first chunk-size line
	done     bool // past the trailers
	toEnd    bool // it ends with the connection
	alone    bool // another goroutine writes, whoever reads
	trailers []header
}

// Stream returns the current request's body. It is valid until the next Read.
func (c *Conn) Stream() io.Reader { return &c.body }

// Trailer returns the value of a trailer once the body has been read to its end.
func (c *Conn) Trailer(name string) []byte {
	for _, h := range c.body.trailers {
		if equalFold(h.name, name) {
			return h.value
		}
	}
	return nil
}

// trailer returns all of them by their canonical names.
func (b *body) trailer() map[string][]string {
	if len(b.trailers) == 0 {
		return nil
	}
	t := make(map[string][]string, len(b.trailers))
	for _, h := range b.trailers {
		name := http.CanonicalHeaderKey(string(h.name))
		t[name] = append(t[name], string(h.value))
	}
	return t
}

// ReadBody appends the whole body to buf, which may be nil, and returns it.
func (c *Conn) ReadBody(buf []byte, limit int) ([]byte, error) {
	if n := c.body.left; n > int64(limit) {
		return buf, ErrTooLarge
	} else if n > int64(cap(buf)-len(buf)) {
		buf = append(make([]byte, 0, len(buf)+int(n)), buf...)
	}
	for {
		if len(buf) == cap(buf) {
			if !c.body.chunked && c.body.left == 0 {
				return buf, nil
			}
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := c.body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			return buf, ErrTooLarge
		}
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if err := b.c.sayContinue(); err != nil {
		return 0, err
	}
	if b.chunked && b.left <= 0 && !b.done {
		if err := b.nextChunk(); err != nil {
			return 0, err
		}
	}
	if b.left == 0 || b.done {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.c.r.Buffered() == 0 && !b.alone {
		if err := b.c.Flush(); err != nil {
			return 0, err
		}
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.c.r.Read(p)
	b.left -= int64(n)
	if err == io.EOF && b.toEnd {
		b.left = 0
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// sayContinue lets a client go on that waits to be told so.
func (c *Conn) sayContinue() error {
	if !c.expect {
		return nil
	}
	c.expect = false
	c.out.buf = append(c.out.buf, "HTTP/1.1 100 Continue\r\n\r\n"...)
	return c.Flush()
}

// nextChunk reads a chunk-size line, and after the last chunk the trailers.
func (b *body) nextChunk() error {
	if b.started { // the line end behind the chunk before
		line, err := b.line()
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return errChunk
		}
	}
	b.started = true
	line, err := b.line()
	if err != nil {
		return err
	}
	size, _, _ := bytes.Cut(line, []byte(";")) // extensions are to be ignored
	size = bytes.TrimRight(size, " \t")
	n, err := strconv.ParseUint(string(size), 16, 63)
	if err != nil || len(size) > 16 {
		return errChunk
	}
	b.left = int64(n)
	if n > 0 {
		return nil
	}
	b.done = true
	for total := 0; ; {
		line, err := b.line()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			return nil
		}
		if total += len(line); total > maxHead {
			return errHeadSize
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(string(name)) {
			return errChunk
		}
		b.trailers = append(b.trailers, header{bytes.Clone(name), bytes.Clone(bytes.Trim(value, " \t"))})
	}
}

// line reads one line of the framing. Its result is valid until the next read.
// A trailer may be longer than the buffer: errors travel there.
func (b *body) line() ([]byte, error) {
	var long []byte
	for {
		part, err := b.c.r.ReadSlice('\n')
		if len(long)+len(part) > maxHead || err == nil && len(part) > maxLine {
			return nil, errChunk
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil && len(part) < b.c.r.Size():
			return nil, err
		case err != nil:
			long = append(long, part...)
			continue
		}
		if long != nil {
			part = append(long, part...)
		}
		line, whole := bytes.CutSuffix(part, []byte("\r\n"))
		if !whole { // who reads a bare line feed as an end, and who does not, would see different requests
			return nil, errChunk
		}
		return line, nil
	}
}

// skipBody reads over what is left of the current request's body.
func (c *Conn) skipBody() error {
	if c.body.c == nil || !c.body.chunked && c.body.left == 0 || c.body.done {
		return nil
	}
	if c.expect { // refused before it was sent: the client may or may not send it
		return io.EOF
	}
	n, err := io.CopyN(io.Discard, &c.body, maxSkip)
	if err == io.EOF {
		return nil
	}
	if err == nil && n == maxSkip {
		return ErrTooLarge
	}
	return err
}
