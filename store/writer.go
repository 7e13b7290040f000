package store

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
	"unique"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// lazyFor is how long a change may wait for others, or for a call to go with.
const lazyFor = 10 * time.Millisecond

// A call is what is written in one frame or not at all: the items of an Add, or
// items that are moved. One with neither is decided when all before it is.
type call struct {
	items   []*item  // new ones, the writer's alone until they are in the index
	lanes   []string // of them
	moves   []move
	content []byte // of all
	index   int    // bytes of the frame's index that are enough
	mark    bool   // write a frame, be it empty, to carry the mark

	done chan struct{} // closed when it is decided
	err  error         // then: why it may not be on disk
}

// A move is an item whose content is written again, further on.
type move struct {
	it        *item
	from      ref
	off, size uint32 // in the call's content
}

// A change is what became of an item that is in the log.
type change struct {
	op      byte
	it      *item
	state   state
	since   int64
	attempt uint32
	note    unique.Handle[string]
}

// change has a record written, soon.
func (q *Queue) change(c change) {
	q.changes = append(q.changes, c)
	switch len(q.changes) {
	case 1:
		q.lazy.Reset(lazyFor)
	case ringBatch:
		q.urgent = true
		poke(q.kick)
	}
}

// hurry has what waits in changes written.
func (q *Queue) hurry() {
	q.mu.Lock()
	q.urgent = true
	q.mu.Unlock()
	poke(q.kick)
}

// A draft is a frame before it is in the log.
type draft struct {
	preamble
	sequence uint64
	next     uint64 // the number after its items
	records  []byte
	body     []byte
	slots    []slot
	finishes []finish
	calls    []*call
}

// A slot is an item that a frame brings.
type slot struct {
	it    *item
	off   uint32
	moved bool
}

// write is the goroutine that alone writes the log: a frame at a time, and while
// that is under way the next one gathers.
func (q *Queue) write() {
	defer close(q.written)
	var records []byte
	for {
		q.mu.Lock()
		d := q.gather(records)
		over := d == nil && q.closing
		q.mu.Unlock()
		switch {
		case over:
			return
		case d == nil:
			<-q.kick
			continue
		}
		if err := q.store(d); err != nil {
			q.fail(d, err)
			return
		}
		q.settle(d)
		records = d.records[:0]
	}
}

// gather makes the next frame of what there is to write, nil if it can wait.
func (q *Queue) gather(records []byte) *draft {
	if len(q.calls) == 0 && !q.urgent && !q.closing {
		return nil
	}
	d := &draft{records: records, sequence: q.last() + 1}
	d.at, d.mark, d.number, d.next = q.now(), q.mark, q.number, q.number
	_, _ = rand.Read(d.id[:]) // cannot fail
	n := 0
	for ; n < len(q.changes) && len(d.records) < maxIndex/4; n++ {
		d.addChange(&q.changes[n])
	}
	q.changes = shift(q.changes, n)
	q.urgent = len(q.changes) > 0

	index, body := len(d.records), 0
	for n = 0; n < len(q.calls); n++ {
		c := q.calls[n]
		if len(c.items)+len(c.moves) == 0 && len(q.changes) > 0 { // it is decided when all that was before it is
			break
		}
		if body > 0 && body+len(c.content) > softBody || index+c.index > maxIndex {
			break
		}
		index += c.index
		body += len(c.content)
	}
	d.calls = append(d.calls, q.calls[:n]...)
	q.calls = shift(q.calls, n)
	d.body = make([]byte, 0, body)
	mark := false
	for _, c := range d.calls {
		d.addCall(c)
		mark = mark || c.mark
	}
	switch {
	case len(d.records) > 0 || mark:
		return d
	case len(d.calls) == 0:
		return nil
	}
	q.settled(d) // what they were to move is gone
	d.decide(nil)
	return q.gather(records)
}

// shift removes the first n of a queue.
func shift[T any](s []T, n int) []T {
	clear(s[:n])
	if n == len(s) {
		return s[:0]
	}
	return s[n:]
}

func (d *draft) addChange(c *change) {
	r := record{op: c.op, at: c.it.ref, key: c.it.key, state: c.state, since: c.since, attempt: c.attempt, note: c.note}
	d.records = r.append(d.records, d.at)
	if c.op == opDone {
		d.finishes = append(d.finishes, finish{c.it.key, d.at, d.sequence})
	}
}

// addCall adds what a call brings, and of what it moves what is still there.
func (d *draft) addCall(c *call) {
	for _, it := range c.items {
		it.since, it.added, it.number = max(it.since, d.at), d.at, d.next
		d.next++
		it.ref, it.off = ref{d.sequence, uint16(len(d.slots))}, uint32(len(d.body))+it.off
		r := record{op: opAdd, lane: d.lane(it.lane), key: it.key, since: it.since, attempt: it.attempt, size: it.size}
		d.records = r.append(d.records, d.at)
		d.slots = append(d.slots, slot{it: it})
	}
	if len(c.moves) == 0 {
		d.body = append(d.body, c.content...)
	}
	room := len(d.records) + c.index
	for _, m := range c.moves {
		it := m.it
		if it.state == finished || it.ref != m.from || len(d.records)+moveBytes(it) > room {
			continue
		}
		r := record{
			op: opMove, lane: d.lane(it.lane), key: it.key, at: m.from, state: waiting, since: it.since, attempt: it.attempt,
			added: it.added, number: it.number, note: it.note, size: it.size,
		}
		if it.state == dead {
			r.state = dead
		}
		d.records = r.append(d.records, d.at)
		d.slots = append(d.slots, slot{it: it, off: uint32(len(d.body)), moved: true})
		d.body = append(d.body, c.content[m.off:m.off+it.size]...)
	}
}

// moveBytes bounds what the move of an item takes of an index.
func moveBytes(it *item) int { return recordBytes + len(it.lane.name) + len(it.note.Value()) }

// lane returns a lane's place among the frame's.
func (d *draft) lane(l *lane) int {
	if l.frame != d.sequence {
		l.frame, l.place = d.sequence, len(d.lanes)
		d.lanes = append(d.lanes, l.name)
	}
	return l.place
}

func (d *draft) decide(err error) {
	for _, c := range d.calls {
		c.err = err
		close(c.done)
	}
}

// header is the frame's index as the log has it.
func (d *draft) header() string {
	b := make([]byte, 0, len(d.records)+1<<10)
	return base64.StdEncoding.EncodeToString(append(d.preamble.append(b), d.records...))
}

// store appends a frame to the log. An answer that is not clear says nothing
// about whether it did: the same bytes are sent again, with the sequence number
// that they must get, until the engine has them or has something else there. The
// id in a frame tells which; nothing else is ever sent under it.
func (q *Queue) store(d *draft) error {
	m := nats.NewMsg(q.subject())
	m.Header.Set(indexHeader, d.header())
	m.Data = d.body
	began := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := q.checkHold()
		if err == nil {
			var sequence uint64
			sequence, err = q.s.try(q.ctx, m, jetstream.WithExpectLastSequence(d.sequence-1))
			if err == nil && sequence != d.sequence {
				return fmt.Errorf("the queue's frame %d was stored as %d", d.sequence, sequence)
			}
		}
		if isStale(err) {
			var there *jetstream.RawStreamMsg
			there, err = q.stream.GetMsg(q.ctx, d.sequence)
			if err == nil && there.Header.Get(indexHeader) != m.Header.Get(indexHeader) || errors.Is(err, jetstream.ErrMsgNotFound) {
				return fmt.Errorf("the queue's frame %d is not where this process left its log: another one writes it", d.sequence)
			}
		}
		if err == nil {
			return nil
		}
		q.mu.Lock()
		q.stuck = time.Since(began) > stuckAfter
		q.mu.Unlock()
		q.s.log.Warn("queue: a frame is not written yet, trying again", "frame", d.sequence, "err", err)
		select {
		case <-q.ctx.Done():
			return fmt.Errorf("given up with frame %d not written: %w", d.sequence, err)
		case <-time.After(pause):
		}
	}
}

// stuckAfter is how long the engine may take for a frame before new work is refused.
const stuckAfter = 2 * time.Second

// holdFree is how many bytes of the disk even a change must leave: an engine that
// once ran into its end does not write again before a restart.
const holdFree = 4 << 20

func (q *Queue) checkHold() error {
	free, _, err := q.space()
	if err == nil && free < holdFree {
		err = fmt.Errorf("%d MB are free on the disk", free>>20)
	}
	return err
}

// settle brings into the index what a frame has brought into the log.
func (q *Queue) settle(d *draft) {
	q.mu.Lock()
	q.at, q.number, q.stuck = d.at, d.next, false
	q.grow(frameBytes(len(d.records), d.lanes, len(d.body)), len(d.slots))
	q.cacheBody(d.sequence, d.body)
	for i, s := range d.slots {
		it := s.it
		switch {
		case !s.moved:
			it.lane.expect(-1)
			delete(q.coming, it.key)
			q.insert(it)
			q.wait(it)
		case it.state == finished: // its record comes after this frame, and says where it is now
			it.ref = ref{d.sequence, uint16(i)}
		default:
			q.vacate(it)
			it.ref, it.off = ref{d.sequence, uint16(i)}, s.off
			q.occupy(it)
		}
	}
	q.finishes = append(q.finishes, d.finishes...)
	q.settled(d)
	if q.wantsTrim() {
		poke(q.trimming)
	}
	q.mu.Unlock()
	d.decide(nil)
}

// settled takes a frame's calls from what waits to be written.
func (q *Queue) settled(d *draft) {
	for _, c := range d.calls {
		q.backlog -= int64(len(c.content))
	}
}

// grow adds a frame to the index, with as many slots.
func (q *Queue) grow(size int64, slots int) {
	f := frame{start: q.end, size: size}
	if slots > 0 {
		f.items = make([]*item, slots)
	}
	q.frames = append(q.frames, f)
	q.end += size
}

// frameBytes is about what a frame takes on disk.
func frameBytes(records int, lanes []string, body int) int64 {
	for _, name := range lanes {
		records += len(name) + 1
	}
	return int64(body + records*4/3 + 200)
}

// fail ends the queue: the frame in hand may be in the log, what follows is not.
func (q *Queue) fail(d *draft, err error) {
	q.s.log.Error("queue: no more is written", "err", err)
	q.mu.Lock()
	q.closing = true
	q.failed = lambent.Errorf(lambent.Unavailable, "store.Queue", "%w", err)
	calls := q.calls
	q.calls, q.changes = nil, nil
	q.mu.Unlock()
	d.decide(lambent.Errorf(lambent.Unavailable, "store.Queue", "the queue ended: whether the items were stored is not known: %w", err))
	(&draft{calls: calls}).decide(lambent.Errorf(lambent.Unavailable, "store.Queue", "the queue ended, and the items were not stored: %w", err))
}
