package http1

import (
	"net"
	"net/http"
	"strconv"
	"sync"
)

const (
	coalesce   = 16 << 10 // an answer's body up to this is copied behind its head
	keepWriter = 64 << 10 // bytes of buffer that a writer may keep for its next use
)

// A Writer gathers answers, or a request, and writes them together. It is used by one
// goroutine at a time.
type Writer struct {
	nc     net.Conn
	buf    []byte
	chunks bool // what Write is given goes in chunks
}

var writers = sync.Pool{New: func() any { return new(Writer) }}

func newWriter(nc net.Conn) *Writer {
	w := writers.Get().(*Writer)
	w.nc = nc
	return w
}

// Recycle ends the use of a writer that was handed over.
func (w *Writer) Recycle() {
	w.nc, w.buf, w.chunks = nil, w.buf[:0], false
	if cap(w.buf) <= keepWriter {
		writers.Put(w)
	}
}

// Begin queues an answer's status line. Then come Header calls, then Body.
func (w *Writer) Begin(status int) {
	w.buf = append(w.buf, "HTTP/1.1 "...)
	w.buf = strconv.AppendInt(w.buf, int64(status), 10)
	w.buf = append(w.buf, ' ')
	w.buf = append(w.buf, http.StatusText(status)...)
	w.buf = append(w.buf, "\r\n"...)
}

// Header queues one header. A value with a line break in it is left out: nothing
// a caller says may become another header.
func (w *Writer) Header(name, value string) {
	for i := range len(value) {
		if value[i] == '\r' || value[i] == '\n' || value[i] == 0 {
			return
		}
	}
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, ": "...)
	w.buf = append(w.buf, value...)
	w.buf = append(w.buf, "\r\n"...)
}

// Body ends the head and queues a body. A large one is written at once, together
// with whatever was queued, and not copied.
func (w *Writer) Body(b []byte) error {
	w.buf = append(w.buf, "Content-Length: "...)
	w.buf = strconv.AppendInt(w.buf, int64(len(b)), 10)
	w.buf = append(w.buf, "\r\n\r\n"...)
	if len(b) <= coalesce {
		w.buf = append(w.buf, b...)
		return nil
	}
	parts := net.Buffers{w.buf, b}
	_, err := parts.WriteTo(w.nc)
	w.buf = w.buf[:0]
	return err
}

// End ends the head of a request without a body.
func (w *Writer) End() { w.buf = append(w.buf, "\r\n"...) }

// Stream ends the head of a request whose body is to come by Write, and writes it: n
// bytes, or, of -1, as many as there will be until EndStream.
func (w *Writer) Stream(n int64) error {
	if w.chunks = n < 0; w.chunks {
		w.buf = append(w.buf, "Transfer-Encoding: chunked\r\n\r\n"...)
	} else {
		w.buf = append(strconv.AppendInt(append(w.buf, "Content-Length: "...), n, 10), "\r\n\r\n"...)
	}
	return w.Flush()
}

var lineEnd = []byte("\r\n")

// Write implements io.Writer: it writes a part of the body that Stream has begun.
func (w *Writer) Write(b []byte) (int, error) {
	if !w.chunks || len(b) == 0 { // an empty chunk would be the last
		return w.nc.Write(b)
	}
	w.buf = appendHex(w.buf[:0], len(b))
	parts := net.Buffers{w.buf, b, lineEnd}
	if _, err := parts.WriteTo(w.nc); err != nil {
		return 0, err
	}
	return len(b), nil
}

// EndStream ends the body that Stream has begun. There is room for trailers behind
// chunks only.
func (w *Writer) EndStream(trailer map[string][]string) error {
	w.buf = w.buf[:0]
	if w.chunks {
		w.buf = append(w.buf, "0\r\n"...)
		for name, values := range trailer {
			for _, v := range values {
				w.Header(name, v)
			}
		}
		w.End()
	}
	return w.Flush()
}

// Flush writes what is queued.
func (w *Writer) Flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.nc.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}
