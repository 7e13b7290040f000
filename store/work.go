package store

import (
	"context"
	"strings"
	"time"
	"unique"

	"lambent"
)

// A Work is an item that was taken, or a dead one: who has it says what becomes
// of it, once. What it says holds at once, and is on disk within 10 ms or by
// Flush; a crash before that repeats the item.
type Work struct {
	Lane    string
	Attempt int       // as Add or the last Retry has said
	Added   time.Time // when the item was accepted, or, dead, lived again
	Since   time.Time // when it came due, or died
	Note    string    // the last Retry's or Kill's

	q     *Queue
	it    *item
	takes uint32
}

// Next waits for a lane that has due items, and returns its name. A lane is
// returned once for any number of items that came due: the caller takes as many
// as it can run. If it leaves some it comes back for them by itself, with Take
// when it can run more, or by Wake. Lanes are returned in the order in which they
// came due; several callers share them. Kinds: Canceled, Unavailable (closed).
func (q *Queue) Next(ctx context.Context) (string, error) {
	const op = "store.Next"
	for {
		if name, ok := q.nextSignal(); ok {
			return name, nil
		}
		select {
		case <-q.signalled:
		case <-ctx.Done():
			return "", explain(op, "", ctx.Err())
		case <-q.written:
			return "", errClosed(op)
		}
	}
}

func (q *Queue) nextSignal() (string, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.signals) > 0 && !q.closing {
		l := q.signals[0]
		q.signals = shift(q.signals, 1)
		l.signalled = false
		if l.due.head != nil {
			if len(q.signals) > 0 {
				poke(q.signalled) // for another caller
			}
			return l.name, true
		}
	}
	return "", false
}

// Wake has Next return a lane, after all others, if it has due items.
func (q *Queue) Wake(lane string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[lane]; l != nil {
		q.signal(l)
	}
}

// Take hands out up to n due items of a lane, in its order. It does not wait:
// fewer than n are all that there are.
func (q *Queue) Take(lane string, n int) (taken []*Work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[lane]
	if l == nil || q.closing {
		return nil
	}
	for it := l.due.head; it != nil && len(taken) < n; it = l.due.head {
		l.due.remove(it)
		q.count(it, running)
		it.takes++
		taken = append(taken, q.work(it))
	}
	return taken
}

// TakeID hands out the item of an id if it is due. Kind: NotFound.
func (q *Queue) TakeID(lane, id string) (*Work, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[keyOf(lane, id)]
	if it == nil || it.state != waiting || q.closing {
		return nil, lambent.Errorf(lambent.NotFound, "store.TakeID", "no item %s of %s is due", id, lane)
	}
	it.lane.due.remove(it)
	q.count(it, running)
	it.takes++
	return q.work(it), nil
}

// Delayed returns the items of a lane that are not due yet, in no order: to be loaded, since
// nobody has taken them.
func (q *Queue) Delayed(lane string) (all []*Work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[lane]; l == nil || l.n[delayed] == 0 {
		return nil
	}
	for _, it := range q.delays {
		if it.lane.name == lane {
			all = append(all, q.work(it))
		}
	}
	return all
}

// Dead returns the dead items of a lane, those that died first first.
func (q *Queue) Dead(lane string) (all []*Work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[lane]; l != nil {
		for it := l.dead.head; it != nil; it = it.next {
			all = append(all, q.work(it))
		}
	}
	return all
}

// FindDead returns the dead item of an id. Kind: NotFound.
func (q *Queue) FindDead(lane, id string) (*Work, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it := q.items[keyOf(lane, id)]; it != nil && it.state == dead {
		return q.work(it), nil
	}
	return nil, lambent.Errorf(lambent.NotFound, "store.FindDead", "no dead item %s is in %s", id, lane)
}

func (q *Queue) work(it *item) *Work {
	return &Work{
		Lane: it.lane.name, Attempt: int(it.attempt), Added: time.UnixMilli(it.added), Since: time.UnixMilli(it.since), Note: it.note.Value(),
		q: q, it: it, takes: it.takes,
	}
}

// Done finishes the item: it is gone, and its id remembered for a while. Kinds:
// Stale (its holder has said before what becomes of it), Unavailable (closed).
func (w *Work) Done() error {
	return w.become("store.Done", dead, func(q *Queue, it *item) {
		q.change(change{op: opDone, it: it})
		q.finish(it)
	})
}

// Retry has the item wait again, or a dead one live again, until notBefore (zero:
// it is due now, behind the others), with an attempt's number and a note on why. It
// is never refused for the lane's bound. Kinds: as of Done, and Invalid.
func (w *Work) Retry(notBefore time.Time, attempt int, note string) error {
	if err := checkDue("store.Retry", notBefore, attempt); err != nil {
		return err
	}
	return w.become("store.Retry", dead, func(q *Queue, it *item) {
		it.since, it.attempt, it.note = max(ceilMS(notBefore), q.now()), uint32(attempt), makeNote(note)
		if it.state == dead {
			it.added = it.since
		}
		q.changed(it, waiting)
		q.wait(it)
	})
}

// Kill has the item dead, with a note on why: it is kept, and counts for the
// queue's bounds and its lane's bytes, until Retry or Done. Kinds: as of Done.
func (w *Work) Kill(note string) error {
	tell := false
	err := w.become("store.Kill", dead, func(q *Queue, it *item) {
		it.since, it.note = q.now(), makeNote(note)
		q.changed(it, dead)
		q.count(it, dead)
		it.lane.dead.pushBack(it)
		tell = q.bury(it.lane)
	})
	if tell {
		w.q.s.log.Warn("queue: a lane has as many dead items as it may: those that died first are forgotten, one for each that dies", "lane", w.Lane, "items", w.q.opts.LaneDead, "bytes", w.q.opts.LaneDeadBytes)
	}
	return err
}

// tellEach is how often it is said of some lane that dead items are forgotten.
const tellEach = time.Minute

// bury forgets the dead items of a lane that died first, where it has more than it may. It
// reports whether that is to be told, which it is once of each lane.
func (q *Queue) bury(l *lane) (tell bool) {
	for l.n[dead] > q.opts.LaneDead || l.deadBytes > q.opts.LaneDeadBytes && l.n[dead] > 1 {
		it := l.dead.head
		l.dead.remove(it)
		it.takes++
		q.change(change{op: opDone, it: it})
		q.finish(it)
		q.buried++
		if !l.told && time.Since(q.told) > tellEach {
			q.told, l.told, tell = time.Now(), true, true
		}
	}
	return tell
}

// Release gives back an item that was not run: it is the first of its lane, which
// is not signalled for it. Nothing is written. Kinds: as of Done, Stale also for a
// dead one.
func (w *Work) Release() error {
	return w.become("store.Release", running, func(q *Queue, it *item) {
		q.count(it, waiting)
		it.lane.due.pushFront(it)
	})
}

// Repeat gives back an item that failed, with an attempt's number and a note on why. As
// after Release it is the first of its lane, which is not signalled for it. Kinds: as of
// Release, and Invalid.
func (w *Work) Repeat(attempt int, note string) error {
	if err := checkDue("store.Repeat", time.Time{}, attempt); err != nil {
		return err
	}
	return w.become("store.Repeat", running, func(q *Queue, it *item) {
		it.attempt, it.note = uint32(attempt), makeNote(note)
		q.changed(it, waiting)
		q.count(it, waiting)
		it.lane.due.pushFront(it)
	})
}

// changed has an item's new state written.
func (q *Queue) changed(it *item, to state) {
	q.change(change{op: opSet, it: it, state: to, since: it.since, attempt: it.attempt, note: it.note})
}

// become runs what its holder says becomes of an item that is running, or in the
// other state, unless it is too late.
func (w *Work) become(op string, or state, what func(*Queue, *item)) error {
	q, it := w.q, w.it
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closing:
		return errClosed(op)
	case it.takes != w.takes || it.state != running && it.state != or:
		return errStaleWork(op, w)
	case it.state == dead:
		it.lane.dead.remove(it)
	}
	it.takes++
	what(q, it)
	return nil
}

func errStaleWork(op string, w *Work) error {
	return lambent.Errorf(lambent.Stale, op, "what becomes of this item of %s was said before", w.Lane)
}

func makeNote(s string) unique.Handle[string] {
	return unique.Make(strings.ToValidUTF8(s[:min(len(s), MaxNoteBytes)], ""))
}
