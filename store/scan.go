package store

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// streamName is the name of the stream of a queue's log, and subject that of its messages.
// A log is the first of as many as a cluster will have, each with one writer.
func (q *Queue) streamName() string { return "QUEUE_" + cmp.Or(q.opts.Name, "0") }
func (q *Queue) subject() string    { return "queue." + cmp.Or(q.opts.Name, "0") }

// bind makes the stream, if it is not there.
func (q *Queue) bind(ctx context.Context) (err error) {
	q.stream, err = q.s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        q.streamName(),
		Subjects:    []string{q.subject()},
		Discard:     jetstream.DiscardNew,
		Storage:     jetstream.FileStorage,
		Replicas:    1,
		AllowDirect: true,
		Duplicates:  100 * time.Millisecond, // the least: frames tell themselves apart, and the engine reads those of this window when it starts
	})
	return err
}

// scanTimeout is how long the engine may take for the next frame of a rebuild.
const scanTimeout = 30 * time.Second

// rebuild reads the log's indexes, and makes of them the index in memory.
func (q *Queue) rebuild(ctx context.Context) error {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.first = info.State.LastSeq + 1
	if info.State.Msgs > 0 {
		q.first = info.State.FirstSeq
		if err := q.scan(ctx, info.State.LastSeq); err != nil {
			return err
		}
	}
	q.link()
	q.forget()
	return nil
}

// scan applies each frame up to the last.
func (q *Queue) scan(ctx context.Context, last uint64) error {
	js, err := q.s.engine.conn.JetStream() // the older client, whose consumers push
	if err != nil {
		return err
	}
	messages := make(chan *nats.Msg)
	over := make(chan struct{})
	defer close(over)
	sub, err := js.Subscribe("", func(m *nats.Msg) {
		select {
		case messages <- m:
		case <-over:
		}
	}, nats.OrderedConsumer(), nats.HeadersOnly(), nats.BindStream(q.streamName()))
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	var records []record
	began := time.Now()
	said := began
	idle := time.NewTimer(scanTimeout)
	defer idle.Stop()
	for q.last() < last {
		select {
		case m := <-messages:
			meta, err := m.Metadata()
			if err != nil {
				return err
			}
			if meta.Sequence.Stream <= q.last() {
				continue
			}
			if records, err = q.apply(meta.Sequence.Stream, m.Header.Get(indexHeader), records); err != nil {
				return fmt.Errorf("the queue's frame %d: %w", meta.Sequence.Stream, err)
			}
			if now := time.Now(); now.Sub(said) > time.Second {
				said = now
				idle.Reset(scanTimeout)
				q.s.log.Info("queue: reading the log", "frame", q.last(), "of", last, "items", len(q.items))
			}
		case <-idle.C:
			return errors.New("the engine does not go on reading the queue's log")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	lost := 0
	for i := range q.frames {
		if q.frames[i].size == 0 {
			lost++
		}
	}
	if lost > 0 {
		q.s.log.Error("queue: the engine has lost frames of the log, and items with them", "frames", lost)
	}
	q.s.log.Debug("queue: read", "frames", len(q.frames), "items", len(q.items), "lanes", len(q.lanes), "took", time.Since(began))
	return nil
}

// apply does to the index what a frame of the log says. It returns the memory of
// records for the next one.
func (q *Queue) apply(sequence uint64, header string, records []record) ([]record, error) {
	d := decodeFrame(header)
	records = records[:0]
	slots, body := 0, 0
	for r, ok := d.next(); ok; r, ok = d.next() {
		if r.op == opAdd || r.op == opMove {
			slots++
			body += int(r.size)
		}
		if r.at.frame >= sequence {
			d.fail("a place to come")
		}
		records = append(records, r)
	}
	if d.mark > sequence {
		d.fail("a mark to come")
	}
	if d.err != nil {
		return nil, d.err
	}
	for q.last()+1 < sequence {
		q.grow(0, 0)
	}
	q.grow(frameBytes(len(header)*3/4, nil, body), slots)
	q.at, q.number = d.at, max(q.number, d.number)
	q.newest = max(q.newest, d.at)
	at, off := ref{frame: sequence}, uint32(0)
	for i := range records {
		r := &records[i]
		it := q.itemAt(r.at)
		switch r.op {
		case opAdd, opMove:
			if r.op == opAdd || it == nil { // what was moved may have been trimmed since
				it = &item{key: r.key, lane: q.laneOf(d.lanes[r.lane]), added: r.added, number: r.number, size: r.size}
			} else {
				q.vacate(it)
			}
			it.ref, it.off = at, off
			switch old := q.items[it.key]; old {
			case it:
				q.occupy(it)
			case nil:
				q.insert(it)
			default: // only what finished is added again
				q.finish(old)
				delete(q.recent, it.key)
				q.insert(it)
			}
			q.become(it, r)
			at.slot++
			off += r.size
		case opSet:
			if it != nil {
				if it.state == dead && r.state == waiting {
					it.added = r.since
				}
				q.become(it, r)
			}
		case opDone:
			if it != nil {
				q.finish(it)
			}
			q.recent[r.key] = struct{}{}
			q.finishes = append(q.finishes, finish{r.key, d.at, sequence})
		}
	}
	if d.mark > q.mark {
		q.mark = d.mark
		q.disregard()
	}
	return records, nil
}

// become gives an item the state that a record says.
func (q *Queue) become(it *item, r *record) {
	q.count(it, r.state)
	it.since, it.attempt, it.note = r.since, r.attempt, r.note
}

// itemAt returns the item that is at a place in the log, nil if none is any more.
func (q *Queue) itemAt(at ref) *item {
	if at.frame < q.first || at.frame > q.last() {
		return nil
	}
	if items := q.frame(at.frame).items; int(at.slot) < len(items) {
		return items[at.slot]
	}
	return nil
}

// disregard drops what is below the mark. After a power cut the engine may have
// some of it again, and not what finished it.
func (q *Queue) disregard() {
	end := min(q.mark, q.last()+1)
	for sequence := q.first; sequence < end; sequence++ {
		for _, it := range q.frame(sequence).items {
			if it != nil {
				q.finish(it)
				delete(q.recent, it.key)
			}
		}
	}
	n := 0
	for n < len(q.finishes) && q.finishes[n].frame < end {
		n++
	}
	q.forgetFirst(n)
	q.advance(end)
}

// link puts the items that a scan has found into lists, in their order.
func (q *Queue) link() {
	var due, gone []*item
	now := max(q.now(), q.newest) // what came while the clock was ahead is due, too
	for i := range q.frames {
		for _, it := range q.frames[i].items {
			switch {
			case it == nil:
			case it.state == dead:
				gone = append(gone, it)
			case it.since > now:
				q.count(it, delayed)
				q.delays = append(q.delays, it)
			default:
				due = append(due, it)
			}
		}
	}
	heap.Init(&q.delays)
	slices.SortFunc(due, (*item).compare)
	for _, it := range due {
		it.lane.due.pushBack(it)
		q.signal(it.lane)
	}
	slices.SortFunc(gone, (*item).compare)
	for _, it := range gone {
		it.lane.dead.pushBack(it)
	}
	q.setAlarm()
}
