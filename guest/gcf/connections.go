package gcf

import (
	"context"
	"time"

	"lambent/guest"
	"lambent/internal/http1"
)

// maxIdle is how old a connection may be that is used again. Servers close those that
// nobody uses: Node.js after 5 s, gunicorn after 2 s. One that was frozen meanwhile
// does it when it wakes, with a request in the connection already. A new one costs
// 0.2 ms, and nothing is frozen sooner than this.
const maxIdle = time.Second

// A kept connection is open and not in use.
type kept struct {
	*http1.Client
	since time.Time
}

// take returns a connection for one exchange: the one that was used last, or a new
// one. used reports which. Without one the code cannot have seen anything: the error
// is guest.ErrNotDelivered or ctx's.
func (in *instance) take(ctx context.Context) (c *http1.Client, used bool, err error) {
	if c := in.takeKept(); c != nil {
		return c, true, nil
	}
	nc, err := in.sandbox.Dial(ctx, in.port, 0)
	if err != nil {
		in.fail()
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		return nil, false, guest.ErrNotDelivered
	}
	c = http1.NewClient(nc)
	in.mu.Lock()
	ended := in.ended
	if !ended {
		in.inUse[c] = struct{}{}
	}
	in.mu.Unlock()
	if ended {
		c.Close()
		return nil, false, guest.ErrNotDelivered
	}
	return c, false, nil
}

// takeKept returns the connection that was used last, if it can be used again. Those
// that cannot are closed.
func (in *instance) takeKept() (c *http1.Client) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.idle) > 0 {
		last := in.idle[len(in.idle)-1]
		in.idle = in.idle[:len(in.idle)-1]
		if time.Since(last.since) < maxIdle && last.Open() {
			in.inUse[last.Client] = struct{}{}
			return last.Client
		}
		last.Close()
	}
	return nil
}

// keep puts a connection aside for the next exchange, and closes those that were put
// aside too long ago.
func (in *instance) keep(c *http1.Client) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.inUse, c)
	if in.ended {
		c.Close()
		return
	}
	now, old := time.Now(), 0
	for old < len(in.idle) && now.Sub(in.idle[old].since) >= maxIdle {
		in.idle[old].Close()
		old++
	}
	in.idle = append(append(in.idle[:0], in.idle[old:]...), kept{c, now})
}

// drop closes a connection that has been used.
func (in *instance) drop(c *http1.Client) {
	c.Close()
	in.mu.Lock()
	delete(in.inUse, c)
	in.mu.Unlock()
}
