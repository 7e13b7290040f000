package bucket

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"lambent"
	"lambent/internal/sigv4"
)

// A body is what a client uploads, on its way to a gateway, which takes it for whole only
// when it is known to be what was signed: so the last byte is held back until then.
type body struct {
	in       io.ReadCloser
	trailing bool     // checksums come behind it
	names    []string // of those
	from     *http.Request

	held    [1]byte
	holding bool
	chunk   []byte // of a trailing one: what is yet to be read of what was made
	space   []byte
	ended   bool

	abort func()                 // has the gateway hear no more of the request
	wait  func()                 // is called before the client is waited for, while it is
	room  func(read int64) error // whether the disk has room for more, of what so much was read of; nil: that is not asked
	count int64

	reading sync.Mutex // held while the client's connection is read from; before mu

	mu     sync.Mutex // guards what follows
	err    error      // of the client
	closed bool       // the answer is through: the connection is another request's
}

// signedBody is the body of a verified request.
func signedBody(r *http.Request) (*body, error) {
	b := &body{in: r.Body, from: r}
	if b.in == nil {
		b.in = http.NoBody
	}
	for _, names := range r.Header["X-Amz-Trailer"] {
		for name := range strings.SplitSeq(names, ",") {
			b.names = append(b.names, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	b.trailing = len(b.names) > 0
	if b.trailing && r.ContentLength < 0 {
		return nil, lambent.Errorf(lambent.Invalid, "bucket", "x-amz-trailer is there, and x-amz-content-sha256 says nothing of trailers")
	}
	return b, nil
}

// payload is what a gateway is told of it.
func (*body) payload() string { return "STREAMING-UNSIGNED-PAYLOAD-TRAILER" }

// fail ends the upload with an error of the client's.
func (b *body) fail(err error) error {
	if err != nil && err != io.EOF {
		if _, ours := errors.AsType[*lambent.Error](err); !ours {
			e := lambent.Errorf(lambent.Invalid, "bucket", "the body has not come to its end: %w", err)
			if e.Reason = sigv4.ReasonIncompleteEnd; errors.Is(err, os.ErrDeadlineExceeded) {
				e.Reason = "RequestTimeout"
			}
			err = e
		}
		b.mu.Lock()
		b.err = err
		b.mu.Unlock()
		b.abort()
	}
	return err
}

// failed is what was wrong with it so far.
func (b *body) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// read reads what the client sends.
func (b *body) read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.wait()
	b.mu.Unlock()
	if b.room != nil {
		if err := b.room(b.count); err != nil {
			return 0, err
		}
	}
	n, err := b.in.Read(p)
	b.count += int64(n)
	return n, err
}

// end has nothing be read any more: when it returns, nobody reads. Who still does, since
// the answer came before the end of the body, is interrupted.
func (b *body) end(interrupt func()) {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	if !b.reading.TryLock() {
		interrupt()
		b.reading.Lock()
	}
	b.reading.Unlock()
}

// Close implements io.Closer.
func (b *body) Close() error { return nil } // the server's own

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.trailing {
		return b.readChunks(p)
	}
	if len(p) < 2 {
		return b.readOne(p)
	}
	at := 0
	if b.holding {
		p[0], at = b.held[0], 1
	}
	n, err := b.read(p[at:])
	n += at
	if err == io.EOF {
		b.holding = false
		return n, err
	}
	if n == 0 || err != nil {
		return 0, b.fail(err)
	}
	n--
	b.held[0], b.holding = p[n], true
	return n, nil
}

// readOne reads into the shortest of buffers.
func (b *body) readOne(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !b.holding {
		if n, err := b.read(b.held[:]); n == 0 || err != nil && err != io.EOF {
			return 0, b.fail(err)
		}
		b.holding = true
	}
	var next [1]byte
	n, err := b.read(next[:])
	switch {
	case n == 0 && err == nil:
		return 0, nil
	case n == 0 && err == io.EOF:
		p[0], b.holding = b.held[0], false
		return 1, io.EOF
	case err != nil && err != io.EOF:
		return 0, b.fail(err)
	}
	p[0], b.held = b.held[0], next
	return 1, nil
}

// readChunks reads it as AWS's unsigned chunks, with the trailers behind them.
func (b *body) readChunks(p []byte) (int, error) {
	if len(b.chunk) == 0 && !b.ended {
		if b.space == nil {
			b.space = make([]byte, bufferSize+32)
		}
		const room = 18 // for the length
		n := 0
		var err error
		for n < bufferSize && err == nil { // not io.ReadFull, whose error may be the client's too
			var more int
			more, err = b.read(b.space[room+n : room+bufferSize])
			n += more
		}
		if err != nil && err != io.EOF {
			return 0, b.fail(err)
		}
		if n > 0 {
			head := strconv.FormatInt(int64(n), 16) + "\r\n"
			start := room - len(head)
			copy(b.space[start:], head)
			copy(b.space[room+n:], "\r\n")
			b.chunk = b.space[start : room+n+2]
		}
		if err != nil { // all of it was read, and was what was signed
			b.ended = true
			end := "0\r\n"
			for _, name := range b.names {
				for _, value := range b.from.Trailer[http.CanonicalHeaderKey(name)] {
					end += fmt.Sprintf("%s:%s\r\n", name, value)
				}
			}
			b.chunk = append(b.chunk, end+"\r\n"...)
		}
	}
	n := copy(p, b.chunk)
	if b.chunk = b.chunk[n:]; len(b.chunk) == 0 && b.ended {
		return n, io.EOF
	}
	return n, nil
}
