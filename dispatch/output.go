package dispatch

import (
	"bytes"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	maxLogLine  = 64 << 10  // a longer line is cut into several
	maxDrain    = 256 << 10 // more than a pipe holds: a drain ends though the code writes on
	logTailSize = 4 << 10   // AWS: the last 4 KB
)

var readBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// An output carries what a sandbox writes to its log, line by line, and knows
// which request it belongs to. A goroutine waits for it; drain reads what is in
// the pipe at that moment on the caller's goroutine, so that everything that the
// code wrote before it answered is with its request.
type output struct {
	file    *os.File // nil: nothing comes out
	raw     syscall.RawConn
	log     Log
	version string

	mu      sync.Mutex
	request string // that is running, or ""
	line    []byte // begun and not ended
	tail    []byte // the end of the request's log
	keep    bool   // the tail is wanted
}

func newOutput(f *os.File, log Log, version string) *output {
	o := &output{file: f, log: log, version: version}
	if f == nil {
		return o
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		o.file = nil
		return o
	}
	o.raw = raw
	go func() {
		// Read calls back whenever the pipe can be read, until told that it is over.
		_ = raw.Read(func(fd uintptr) bool { return !o.read(int(fd), 1<<62) })
		o.mu.Lock()
		o.flushLineLocked(time.Now())
		o.mu.Unlock()
		f.Close()
	}()
	return o
}

// read takes what the pipe holds, up to limit bytes, and reports whether there
// may be more later.
func (o *output) read(fd, limit int) bool {
	buf := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buf)
	o.mu.Lock()
	defer o.mu.Unlock()
	for limit > 0 {
		n, err := syscall.Read(fd, *buf)
		switch {
		case n > 0:
			limit -= n
			o.splitLocked((*buf)[:n])
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return true
		default:
			return false
		}
	}
	return true
}

// splitLocked cuts what came into lines.
func (o *output) splitLocked(b []byte) {
	now := time.Now()
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if len(o.line)+len(line) > maxLogLine {
			line, rest, whole = b[:maxLogLine-len(o.line)], b[maxLogLine-len(o.line):], true
		}
		switch {
		case !whole:
			o.line = append(o.line, line...)
		case len(o.line) > 0:
			o.line = append(o.line, line...)
			o.flushLineLocked(now)
		default:
			o.emitLocked(now, line)
		}
		b = rest
	}
}

func (o *output) flushLineLocked(now time.Time) {
	if len(o.line) > 0 {
		o.emitLocked(now, o.line)
		o.line = o.line[:0]
		if cap(o.line) > 4<<10 {
			o.line = nil
		}
	}
}

func (o *output) emitLocked(now time.Time, line []byte) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	o.log.Line(now, o.version, o.request, line)
	if o.keep {
		o.tail = append(append(o.tail, line...), '\n')
		if len(o.tail) > 4*logTailSize {
			o.tail = append(o.tail[:0], o.tail[len(o.tail)-logTailSize:]...)
		}
	}
}

// begin makes what follows the request's, after what came before.
func (o *output) begin(request string, keepTail bool, line []byte) {
	o.drain()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.flushLineLocked(now)
	o.request, o.keep, o.tail = request, keepTail, o.tail[:0]
	o.emitLocked(now, line)
}

// end takes the rest of the request's output, adds the closing lines, and returns
// the tail if it was asked for.
func (o *output) end(lines ...[]byte) []byte {
	o.drain()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.flushLineLocked(now)
	for _, l := range lines {
		o.emitLocked(now, l)
	}
	o.request = ""
	if !o.keep {
		return nil
	}
	return bytes.Clone(o.tail[max(0, len(o.tail)-logTailSize):])
}

// drain takes what is in the pipe now.
func (o *output) drain() {
	if o.file != nil {
		_ = o.raw.Control(func(fd uintptr) { o.read(int(fd), maxDrain) })
	}
}

// close ends the reading. What processes of the sandbox wrote before their end
// has been read, since the pipe ends with them; the deadline is for a descriptor
// that escaped.
func (o *output) close() {
	if o.file != nil {
		_ = o.file.SetReadDeadline(time.Now().Add(time.Second))
	}
}
