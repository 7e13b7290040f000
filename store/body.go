package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// cacheBytes bounds the bodies of frames that are kept in memory: the newest
// ones, whose items are most often taken at once, and what was read last.
const cacheBytes = 16 << 20

// A cache knows which frames have their body in memory.
type cache struct {
	bodies []cached // the first goes first
	bytes  int
	loads  map[uint64]*load
}

type cached struct {
	frame uint64
	bytes int
}

// A load is the reading of a body, by one for all who want it.
type load struct {
	done chan struct{}
	body []byte
	err  error
}

// Load reads the item. Its bytes are the caller's to keep. Kinds: Stale (what
// becomes of it was said meanwhile), Unavailable (closed), Canceled; NotFound if the
// engine has lost it, Internal if it cannot be read.
func (w *Work) Load(ctx context.Context) (Item, error) {
	const op = "store.Load"
	for {
		content, at, err := w.q.content(ctx, op, w)
		if errors.Is(err, jetstream.ErrMsgNotFound) && w.movedFrom(at) {
			continue
		}
		if err != nil && w.q.ctx.Err() != nil {
			return Item{}, errClosed(op)
		} else if err != nil {
			return Item{}, w.q.s.explain(op, fmt.Sprintf("frame %d", at.frame), err)
		}
		id, meta, payload, err := decodeContent(content)
		if err != nil {
			return Item{}, explain(op, "", fmt.Errorf("frame %d, item %d: %w", at.frame, at.slot, err))
		}
		it := Item{ID: id, Lane: w.Lane, NotBefore: w.Since, Attempt: w.Attempt}
		it.Meta, it.Payload = bytes.Clone(meta), bytes.Clone(payload)
		return it, nil
	}
}

// content returns an item's part of its frame's body.
func (q *Queue) content(ctx context.Context, op string, w *Work) ([]byte, ref, error) {
	q.mu.Lock()
	it := w.it
	at, off, end := it.ref, int(it.off), int(it.off+it.size)
	if it.takes != w.takes || it.state == finished {
		q.mu.Unlock()
		return nil, at, errStaleWork(op, w)
	}
	body := q.frame(at.frame).body
	q.mu.Unlock()
	if body == nil {
		var err error
		if body, err = q.loadBody(ctx, at.frame); err != nil {
			return nil, at, err
		}
	}
	if end > len(body) {
		return nil, at, errShort(at, len(body))
	}
	return body[off:end], at, nil
}

func errShort(at ref, bytes int) error {
	return fmt.Errorf("the queue's frame %d has %d bytes, and less than its index says up to item %d", at.frame, bytes, at.slot)
}

// movedFrom reports whether an item has left the place where it was looked for.
func (w *Work) movedFrom(at ref) bool {
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	return w.it.ref != at
}

// loadBody reads the body of a frame.
func (q *Queue) loadBody(ctx context.Context, frame uint64) ([]byte, error) {
	q.mu.Lock()
	l, ok := q.cache.loads[frame]
	if !ok {
		l = &load{done: make(chan struct{})}
		q.cache.loads[frame] = l
		go q.read(frame, l)
	}
	q.mu.Unlock()
	select {
	case <-l.done:
		return l.body, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *Queue) read(frame uint64, l *load) {
	ctx, cancel := context.WithTimeout(q.ctx, attemptTimeout)
	defer cancel()
	m, err := q.stream.GetMsg(ctx, frame)
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.cache.loads, frame)
	if l.err = err; err == nil {
		l.body = m.Data
		q.cacheBody(frame, m.Data)
	}
	close(l.done)
}

// cacheBody keeps a body with its frame, if items are still in it.
func (q *Queue) cacheBody(frame uint64, body []byte) {
	if len(body) == 0 || frame < q.first || q.frame(frame).items == nil {
		return
	}
	q.frame(frame).body = body
	q.cache.bodies = append(q.cache.bodies, cached{frame, len(body)})
	n := 0
	for q.cache.bytes += len(body); q.cache.bytes > cacheBytes; n++ {
		c := q.cache.bodies[n]
		q.cache.bytes -= c.bytes
		if c.frame >= q.first {
			q.frame(c.frame).body = nil
		}
	}
	q.cache.bodies = shift(q.cache.bodies, n)
}
