package http1

import (
	"context"
	"sync"
	"time"
)

// A caller is a request's context, which ends when its client has gone. To see
// that somebody has to read from the connection, and so it is only seen from a
// while after the first Done on, and of a request whose body has been read.
type caller struct {
	c *serverConn

	mu     sync.Mutex
	done   chan struct{} // closed when the client has gone; nil: nobody has asked
	timer  *time.Timer   // begins to watch; nil: it cannot be begun, or nobody has asked
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

// watchable tells that the request's body has been read.
func (r *caller) watchable() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done != nil && r.timer == nil && !r.leaves {
		r.timer = time.AfterFunc(watchAfter, r.watch)
	}
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
