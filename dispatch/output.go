package dispatch

import (
	"bytes"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	maxLogLine  = 64 << 10  // a longer line is cut into several
	maxDrain    = 256 << 10 // more than a pipe holds: a drain ends though the code writes on
	logTailSize = 4 << 10   // AWS: the last 4 KB
	earlySize   = 2 << 10   // of what code said that did not start

	// Of a processor's time reading has one part in readShare, and readBurst ahead: who
	// writes without end waits, and takes nothing from others whose calls wait for the server.
	readShare = 4
	readBurst = 20 * time.Millisecond
	readTurn  = 64 << 10         // bytes at a time
	readRest  = time.Millisecond // at the least, so that lines gather meanwhile
)

var readBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// An output carries what a sandbox writes to its log, line by line, and knows
// which request it belongs to. A goroutine waits for it; drain reads what is in
// the pipe at that moment on the caller's goroutine, so that everything that the
// code wrote before it answered is with its request.
//
// Where several are under way a line is the one's whose id it has in it, as the
// lines of loggers do; another is nobody's, for no pipe tells who wrote it.
type output struct {
	file    *os.File // nil: nothing comes out
	raw     syscall.RawConn
	log     Log
	version string

	mu    sync.Mutex
	line  []byte      // begun and not ended
	early []byte      // the end of what came before the first request
	begun bool        // that has come
	under []*underWay // a pointer beyond its length is of one that has ended, to be used again
}

// An underWay is a request that runs.
type underWay struct {
	request string
	tail    []byte // the end of its log
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
		spare, since := readBurst, time.Now() // what it may take, and as of when
		for open := true; open; {
			err := raw.Read(func(fd uintptr) bool { // called back whenever the pipe can be read
				var more bool
				begun := time.Now()
				more, open = o.read(int(fd), readTurn)
				now := time.Now()
				spare = min(readBurst, spare+begun.Sub(since)/readShare) - now.Sub(begun)
				since = now
				return more || spare < 0 || !open
			})
			if err != nil {
				break
			}
			if open && spare < 0 {
				time.Sleep(max(readRest, -spare*readShare))
			}
		}
		o.mu.Lock()
		o.flushLineLocked(time.Now())
		o.mu.Unlock()
		f.Close()
	}()
	return o
}

// read takes what the pipe holds, up to limit bytes, and reports whether that may be
// less than there is, and whether there may be more later.
func (o *output) read(fd, limit int) (more, open bool) {
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
			return false, true
		default:
			return false, false
		}
	}
	return true, true
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
			o.emitLocked(now, o.ownerLocked(line), line)
		}
		b = rest
	}
}

func (o *output) flushLineLocked(now time.Time) {
	if len(o.line) > 0 {
		o.emitLocked(now, o.ownerLocked(o.line), o.line)
		o.line = o.line[:0]
		if cap(o.line) > 4<<10 {
			o.line = nil
		}
	}
}

// ownerLocked returns whose a line is, or nil.
func (o *output) ownerLocked(line []byte) *underWay {
	if len(o.under) <= 1 {
		return o.underLocked(0)
	}
	for rest := line; ; {
		i := bytes.IndexByte(rest, '-')
		if i < 0 {
			return nil
		}
		if id := idAround(rest, i); id != nil {
			if i := o.indexLocked(string(id)); i >= 0 {
				return o.under[i]
			}
		}
		rest = rest[i+1:]
	}
}

// idAround returns the UUID whose first hyphen is b[i], or nil.
func idAround(b []byte, i int) []byte {
	if i < 8 || len(b) < i+28 || b[i+5] != '-' || b[i+10] != '-' || b[i+15] != '-' {
		return nil
	}
	return b[i-8 : i+28]
}

func (o *output) indexLocked(request string) int {
	return slices.IndexFunc(o.under, func(u *underWay) bool { return u.request == request })
}

func (o *output) underLocked(i int) *underWay {
	if i < 0 || i >= len(o.under) {
		return nil
	}
	return o.under[i]
}

// emitLocked passes a line on as the request's, or, where that is nil, nobody's.
func (o *output) emitLocked(now time.Time, u *underWay, line []byte) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if u == nil {
		o.log.Line(now, o.version, "", line)
		if !o.begun {
			o.early = append(append(o.early, line...), '\n')
			o.early = o.early[max(0, len(o.early)-earlySize):]
		}
		return
	}
	o.log.Line(now, o.version, u.request, line)
	if u.keep {
		u.tail = append(append(u.tail, line...), '\n')
		if len(u.tail) > 4*logTailSize {
			u.tail = append(u.tail[:0], u.tail[len(u.tail)-logTailSize:]...)
		}
	}
}

// begin makes what follows the request's, after what came before.
func (o *output) begin(request string, keepTail bool, line []byte) {
	o.drain()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.begun, o.early = true, nil
	n := len(o.under)
	if n == 0 { // else it may be the beginning of another's line
		o.flushLineLocked(now)
	}
	if n < cap(o.under) {
		o.under = o.under[:n+1]
	} else {
		o.under = append(o.under, nil)
	}
	if o.under[n] == nil {
		o.under[n] = new(underWay)
	}
	u := o.under[n]
	u.request, u.keep, u.tail = request, keepTail, u.tail[:0]
	o.emitLocked(now, u, line)
}

// end takes the rest of the request's output, adds the closing lines, and returns
// the tail if it was asked for.
func (o *output) end(request string, lines ...[]byte) []byte {
	o.drain()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if len(o.under) == 1 {
		o.flushLineLocked(now)
	}
	i := o.indexLocked(request)
	if i < 0 {
		return nil
	}
	u := o.under[i]
	for _, l := range lines {
		o.emitLocked(now, u, l)
	}
	last := len(o.under) - 1
	o.under[i], o.under[last] = o.under[last], u
	o.under = o.under[:last]
	if !u.keep {
		return nil
	}
	return bytes.Clone(u.tail[max(0, len(u.tail)-logTailSize):])
}

// drain takes what is in the pipe now.
func (o *output) drain() {
	if o.file != nil {
		_ = o.raw.Control(func(fd uintptr) { _, _ = o.read(int(fd), maxDrain) })
	}
}

// said returns the end of what came before the first request.
func (o *output) said() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.early) + string(o.line)
}

// close ends the reading. What processes of the sandbox wrote before their end
// has been read, since the pipe ends with them; the deadline is for a descriptor
// that escaped.
func (o *output) close() {
	if o.file != nil {
		_ = o.file.SetReadDeadline(time.Now().Add(time.Second))
	}
}
