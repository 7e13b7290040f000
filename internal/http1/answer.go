package http1

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var _ interface {
	http.ResponseWriter
	FlushError() error
	SetReadDeadline(time.Time) error
	EnableFullDuplex() error
} = (*answer)(nil)

const (
	gather     = 16 << 10 // bytes of an answer that are put together before they are written
	keepIdle   = 4 << 10  // bytes of buffer that a connection keeps for its next request, or answer
	keepFields = 32       // headers that it keeps room for
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
	duplex bool // the body is still being read, on another goroutine
	err    error
}

var bodyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, gather); return &b }}

func (w *answer) reset() {
	if len(w.header) > keepFields {
		w.header = make(http.Header, 8)
	}
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
	if !w.duplex {
		w.c.body.skip()
		w.last = w.last || !w.c.body.read()
	}
	w.last = w.last || w.c.req.Close || w.c.s.closing.Load()
	for name, values := range w.header {
		if name == "Connection" {
			w.last = w.last || len(values) > 0 && strings.EqualFold(values[0], "close")
			continue
		}
		if !isToken(name) || name == "Transfer-Encoding" || // which the names of trailers are not, with their prefix
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
	if _, said := w.header["Date"]; !said {
		out.Header("Date", date())
	}
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
	w.duplex = false // the handler has returned
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
		w.endChunks()
	}
	if w.err == nil {
		w.err = w.c.c.Flush()
	}
	w.last = w.last || !w.c.body.read()
	if missing && w.err == nil {
		w.err = io.ErrUnexpectedEOF // the client must not take what it has for the whole
	}
	if out := w.c.c.out; cap(out.buf) > keepIdle {
		out.buf = nil
	}
	return w.err
}

// endChunks queues the last chunk, and the trailers.
func (w *answer) endChunks() {
	out := w.c.c.out
	out.buf = append(out.buf, "0\r\n"...)
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && isToken(name) {
			for _, v := range values {
				out.Header(name, oneLine.Replace(v))
			}
		}
	}
	out.buf = append(out.buf, "\r\n"...)
}

// EnableFullDuplex lets the body be read on another goroutine while the answer is
// written: see http.ResponseController.
func (w *answer) EnableFullDuplex() error {
	w.duplex, w.c.c.body.alone = true, true
	return nil
}

// SetReadDeadline is for the rest of the request's body: see http.ResponseController.
func (w *answer) SetReadDeadline(t time.Time) error {
	w.c.body.end(t)
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
