package store

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// trimBytes is how much the log must have to give back while there is work: two
// of the engine's files, which are what it can remove.
const trimBytes = 16 << 20

// low is the first frame that the log needs: for an item that is in it, or for the
// ids of finished ones.
func (q *Queue) low() uint64 {
	for q.lowest = max(q.lowest, q.first); q.lowest <= q.last() && q.frame(q.lowest).live == 0; q.lowest++ {
	}
	if len(q.finishes) > 0 {
		return min(q.lowest, q.finishes[0].frame)
	}
	return q.lowest
}

// forget drops the ids of items that finished long ago, in time or in the log.
func (q *Queue) forget() {
	until := time.Now().Add(-q.opts.Remember).UnixMilli()
	n := 0
	for ; n < len(q.finishes); n++ {
		f := &q.finishes[n]
		if f.at > until && q.end-q.startOf(f.frame) <= q.opts.RememberBytes && len(q.finishes)-n <= rememberIDs {
			break
		}
	}
	q.forgetFirst(n)
}

func (q *Queue) forgetFirst(n int) {
	for _, f := range q.finishes[:n] {
		delete(q.recent, f.key)
	}
	q.finishes = shift(q.finishes, n)
}

// reclaimable is how many bytes the log has before the first frame that it needs.
func (q *Queue) reclaimable() int64 { return q.startOf(q.low()) - q.startOf(q.first) }

// wantsMoves reports whether the log keeps more for items that are far apart than
// they are. What it keeps for the ids of finished ones does not count.
func (q *Queue) wantsMoves() bool {
	garbage := q.size() - q.live
	if len(q.finishes) > 0 {
		garbage -= q.end - q.startOf(q.finishes[0].frame)
	}
	return garbage > max(q.trimBytes, q.live)
}

// wantsTrim reports whether there is anything to do for trim.
func (q *Queue) wantsTrim() bool {
	q.forget()
	return q.reclaimable() > q.trimBytes || q.wantsMoves()
}

// trim is the goroutine that gives back disk.
func (q *Queue) trim() {
	tick := time.NewTicker(min(q.opts.Remember/8+time.Millisecond, 30*time.Second))
	defer tick.Stop()
	for {
		leisure := false
		select {
		case <-q.written:
			return
		case <-q.trimming:
		case <-tick.C:
			leisure = true
		}
		for again := true; again; {
			var err error
			if again, err = q.trimOnce(leisure); err != nil && q.ctx.Err() == nil {
				q.s.log.Warn("queue: its log was not trimmed", "err", err)
				break
			}
		}
	}
}

// trimOnce gives back the beginning of the log if that is much, and at leisure
// also if it is little; else it moves items forward from there if they keep too
// much. It says whether it did.
func (q *Queue) trimOnce(leisure bool) (did bool, err error) {
	q.mu.Lock()
	q.forget()
	much := q.trimBytes
	if leisure {
		much /= 256
	}
	switch {
	case q.closing:
		q.mu.Unlock()
		return false, nil
	case q.reclaimable() > much:
		q.mark = q.low()
		mark := q.mark
		q.mu.Unlock()
		return true, q.purge(mark)
	case q.wantsMoves():
		c := q.stragglers()
		q.mu.Unlock()
		return true, q.moveOn(c)
	}
	q.mu.Unlock()
	return false, nil
}

// purge has the engine remove the frames below the mark, after a frame that says
// so: removing files is not ordered with writing others, so that after a power
// cut some of them may be there again.
func (q *Queue) purge(mark uint64) error {
	if err := q.run(&call{mark: true}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(q.ctx, writeTimeout)
	defer cancel()
	if err := q.stream.Purge(ctx, jetstream.WithPurgeSequence(mark)); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance(mark)
	return nil
}

// advance drops the frames below a sequence number from the index.
func (q *Queue) advance(first uint64) {
	if first > q.first {
		q.frames = shift(q.frames, int(first-q.first))
		q.first = first
	}
}

// run has the writer write a call of ours.
func (q *Queue) run(c *call) error {
	const op = "store.trim"
	c.done = make(chan struct{})
	q.mu.Lock()
	if q.closing {
		q.mu.Unlock()
		return errClosed(op)
	}
	q.submit(c)
	q.mu.Unlock()
	return q.await(q.ctx, op, c)
}

// stragglers returns a call that moves the first items of the log, as many as go
// into a frame.
func (q *Queue) stragglers() *call {
	c, size := &call{}, 0
	for sequence := q.low(); sequence <= q.last(); sequence++ {
		for _, it := range q.frame(sequence).items {
			if it == nil {
				continue
			}
			size += int(it.size)
			if len(c.moves) > 0 && (size > softBody || c.index+moveBytes(it) > maxCallIndex) {
				return c
			}
			c.index += moveBytes(it)
			c.moves = append(c.moves, move{it: it, from: it.ref, off: it.off, size: it.size})
		}
	}
	return c
}

// moveOn writes the contents of items again, at the end of the log.
func (q *Queue) moveOn(c *call) error {
	var body []byte
	var frame uint64
	for i := range c.moves {
		m := &c.moves[i]
		if m.from.frame != frame {
			var err error
			if body, err = q.loadBody(q.ctx, m.from.frame); err != nil {
				return err
			}
			frame = m.from.frame
		}
		if int(m.off+m.size) > len(body) {
			return errShort(m.from, len(body))
		}
		off := len(c.content)
		c.content = append(c.content, body[m.off:m.off+m.size]...)
		m.off = uint32(off)
	}
	return q.run(c)
}
