// Package intake bounds what bodies of requests take of the server's memory, all together,
// from when they are read until their calls have ended: calls that wait are bounded by
// number and by time, of which thousands of megabytes can be had.
//
// Nobody waits for memory, since who waits keeps what they have: who finds none is refused.
// One project has half of it at most, so that others' calls still get in. What is announced
// counts for nothing, only what has come: a request that sends nothing takes nothing away.
package intake

import (
	"io"
	"sync"
	"time"

	"lambent"
)

// A Room is so much memory. Its methods may be called concurrently, and those of one body
// beside those of another; nil is without a bound.
type Room struct {
	max int64

	mu   sync.Mutex // guards what follows
	held int64
	of   map[string]int64 // by project, of those that have any
}

// New returns room for so many bytes.
func New(bytes int64) *Room { return &Room{max: bytes, of: map[string]int64{}} }

const (
	small = 4 << 10  // what is no larger is not counted: a request takes more than that without a body
	step  = 64 << 10 // in which room is taken
)

// A Body is one request's, of which what was read is held, until Release.
type Body struct {
	io.ReadCloser
	room       *Room
	project    string
	read, held int64
}

// Body returns the body of a project's request, to be read in its place.
func (r *Room) Body(project string, body io.ReadCloser) Body {
	return Body{ReadCloser: body, room: r, project: project}
}

// Read implements io.Reader. Its error is the body's, or Throttled where there is no room
// for more.
func (b *Body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read += int64(n); b.read > max(small, b.held) && b.room != nil {
		more := (b.read - b.held + step - 1) / step * step
		if !b.room.take(b.project, more) {
			return n, b.room.full()
		}
		b.held += more
	}
	return n, err
}

// Release gives back what is held. What is read after that, to be thrown away, is not counted.
func (b *Body) Release() {
	if b.held > 0 {
		b.room.give(b.project, b.held)
	}
	b.held, b.room = 0, nil
}

func (r *Room) take(project string, bytes int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held+bytes > r.max || r.of[project]+bytes > r.max/2 {
		return false
	}
	r.held += bytes
	r.of[project] += bytes
	return true
}

func (r *Room) give(project string, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held -= bytes
	if r.of[project] -= bytes; r.of[project] == 0 {
		delete(r.of, project)
	}
}

func (r *Room) full() error {
	e := lambent.Errorf(lambent.Throttled, "intake", "the bodies of requests that are being served take all that this server has for them: %d MB, of which one project has half", r.max>>20)
	e.RetryAfter = time.Second
	return e
}
