package logs

import (
	"sync"
	"time"
)

const (
	flushDelay  = 100 * time.Millisecond // a line waits no longer than this, and than the disk
	flushBytes  = 64 << 10               // a fuller buffer is written at once
	maxBuffer   = 4 << 20                // of one log; while it is written, another of that size fills
	maxBuffers  = 64 << 20               // of all logs
	firstBuffer = 1 << 10
	maxShift    = time.Second
)

const (
	slowDisk   = "the disk did not keep up"
	fullMemory = "the buffers of all logs are full"
)

// A Log takes the lines of one function. Its methods may be called concurrently.
type Log struct {
	logs *Logs
	disk disk // what is in files

	mu        sync.Mutex // guards the fields below; held for memory only, never for a file
	buf       []byte     // encoded lines
	spare     []byte     // an empty buffer, while lines come fast
	dropped   int        // lines that came after those in buf and found no room
	reason    string     // why they were dropped
	last      time.Time  // of the line before
	timer     *time.Timer
	armed     bool // the timer will flush
	urgent    bool // and at once
	followers map[*follower]struct{}
	ended     bool // deleted, or closed: it keeps nothing
}

// Line adds a line. It does not block and does not keep text. Lines are in the
// order of the calls, and a line that was stamped before the one ahead of it, as
// happens between threads, gets that one's time.
func (l *Log) Line(at time.Time, version, request string, text []byte) {
	size := textLen(text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if d := l.last.Sub(at); d > 0 && d < maxShift { // over that, the clock was set back
		at = l.last
	}
	l.last = at
	l.arm(false)
	if l.dropped == 0 && l.room(entryLen(version, request, size)) {
		l.buf = appendEntry(l.buf, at, version, request, text, size)
		if len(l.buf) >= flushBytes {
			l.arm(true)
		}
	} else {
		l.dropped++ // and so is what follows until the next flush, or the mark would not be in its place
		l.arm(true)
	}
	if len(l.followers) > 0 {
		e := Entry{Time: at.UTC().Truncate(time.Microsecond), Version: version, Request: request, Text: string(text)}
		for f := range l.followers {
			f.offer(e)
		}
	}
}

// room makes room for n bytes in the buffer, or reports that there is none.
func (l *Log) room(n int) bool {
	if cap(l.buf)-len(l.buf) >= n {
		return true
	}
	if len(l.buf)+n > maxBuffer {
		l.reason = slowDisk
		return false
	}
	size := min(maxBuffer, max(firstBuffer, 2*cap(l.buf), len(l.buf)+n))
	if more := int64(size - cap(l.buf)); l.logs.memory.Add(more) > maxBuffers {
		l.logs.memory.Add(-more)
		l.reason = fullMemory
		return false
	}
	l.buf = append(make([]byte, 0, size), l.buf...)
	return true
}

// arm sees that a flush comes.
func (l *Log) arm(urgent bool) {
	if l.armed && (l.urgent || !urgent) {
		return
	}
	delay := flushDelay
	if urgent {
		delay = 0
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(delay, l.flush)
	} else {
		l.timer.Reset(delay)
	}
	l.armed, l.urgent = true, urgent
}

// flush writes what is buffered.
func (l *Log) flush() {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	l.flushLocked(nil)
}

// flushLocked writes what is buffered; disk.mu is held. A follower that is given
// hears of every line after those that are in files when it returns.
func (l *Log) flushLocked(f *follower) {
	b, dropped, urgent := l.take(f)
	wait := l.disk.write(b, dropped)

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		l.logs.memory.Add(-int64(cap(b)))
		return
	}
	if urgent || wait {
		// To try again what could not be written, or to give the buffers back if no
		// more lines come.
		l.arm(false)
	}
	if urgent && l.spare == nil && cap(b) <= maxBuffer {
		l.spare = b[:0]
		return
	}
	l.logs.memory.Add(-int64(cap(b)))
	if len(l.buf) == 0 {
		l.logs.memory.Add(-int64(cap(l.buf)))
		l.buf = nil
	}
}

// take empties the buffer and starts a follower at that point.
func (l *Log) take(f *follower) (b []byte, dropped int, urgent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, dropped, urgent = l.buf, l.dropped, l.urgent
	if dropped > 0 {
		b = appendDrop(b, l.last, dropped, l.reason)
		l.logs.memory.Add(int64(cap(b) - cap(l.buf))) // the mark may have made it grow
	}
	l.buf, l.spare, l.dropped = l.spare, nil, 0
	l.armed, l.urgent = false, false
	switch {
	case f == nil:
	case l.ended:
		f.end()
	case l.followers == nil:
		l.followers = map[*follower]struct{}{f: {}}
	default:
		l.followers[f] = struct{}{}
	}
	return b, dropped, urgent
}

func (l *Log) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// end makes the log keep nothing from now on.
func (l *Log) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.logs.memory.Add(-int64(cap(l.buf) + cap(l.spare)))
	l.buf, l.spare, l.dropped = nil, nil, 0
	for f := range l.followers {
		f.end()
	}
	l.followers = nil
}

// close writes what is buffered, and ends the log.
func (l *Log) close() {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	l.flushLocked(nil)
	l.end()
}

// delete removes the log's files, and ends it.
func (l *Log) delete() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	if err := l.disk.removeAll(); err != nil {
		return err
	}
	l.end()
	return nil
}
