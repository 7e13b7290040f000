package trigger

import (
	"errors"
	"time"

	"lambent"
	"lambent/store"
)

// maxWaiting is how many invocations of a lane may wait for an instance at a time.
// It has dispatch see that more are wanted, and so start more, without filling its
// queue, where those who are waited for stand; how many run, dispatch alone says.
const maxWaiting = 16

// Pauses of a lane that was refused.
const firstPause, lastPause = 100 * time.Millisecond, 30 * time.Second

// A lane is what is under way of one function, or of a trigger whose events are in order.
// It exists while there is something.
type lane struct {
	name    string
	ordered bool          // one attempt is under way at a time, and what failed is tried again before the rest
	suspect int           // so many items in front have failed together, and which of them it was is not known; of an ordered lane
	window  *time.Timer   // ends the time in which more may join them; nil: there is none
	waiting int           // attempts that have begun, and have no instance yet
	running int           // attempts that are not over
	pause   time.Duration // that it is in, or, if none has begun, that was the last one since it was taken in; 0: none
	resume  *time.Timer   // ends the pause; nil: there is none
	refusal string        // why it was refused last
}

// look hands out what comes due, until Close.
func (b *Broker) look() {
	for {
		name, err := b.cfg.Queue.Next(b.ctx)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.fill(b.lane(name))
		b.mu.Unlock()
	}
}

// lane returns the lane of a name. The caller holds b.mu.
func (b *Broker) lane(name string) *lane {
	l := b.lanes[name]
	if l == nil {
		l = &lane{name: name, ordered: triggerOf(name) != ""}
		b.lanes[name] = l
	}
	return l
}

// fill has as many attempts begin as may wait for an instance. The caller holds b.mu.
func (b *Broker) fill(l *lane) {
	switch n := maxWaiting - l.waiting; {
	case l.resume != nil || b.ctx.Err() != nil:
	case l.ordered:
		b.gather(l)
	case n > 0:
		for _, w := range b.cfg.Queue.Take(l.name, n) {
			b.begin(l, w)
		}
	}
	if l.running == 0 && l.resume == nil && l.window == nil {
		delete(b.lanes, l.name)
	}
}

// gather has the next attempt of an ordered lane begin, unless one is under way or more
// may come in time. The caller holds b.mu.
func (b *Broker) gather(l *lane) {
	if l.running > 0 {
		return
	}
	batch := b.batchOf(l.name)
	if l.suspect > 0 { // half of them, and so on, until it is one
		batch.Size = min(batch.Size, max(1, l.suspect/2))
	}
	if s := b.cfg.Queue.LaneStats(l.name); s.Waiting > 0 && s.Waiting < batch.Size {
		if left := time.Until(s.OldestDue.Add(batch.Window)); left > 0 {
			if l.window == nil {
				l.window = time.AfterFunc(left, func() {
					b.mu.Lock()
					defer b.mu.Unlock()
					l.window = nil
					b.fill(l)
				})
			}
			return
		}
	}
	if l.window != nil && l.window.Stop() {
		l.window = nil
	}
	if works := b.cfg.Queue.Take(l.name, batch.Size); len(works) > 0 {
		b.begin(l, works...)
	}
}

// begin begins an attempt. The caller holds b.mu.
func (b *Broker) begin(l *lane, works ...*store.Work) {
	l.waiting++
	l.running++
	b.running.Go(func() { b.attempt(l, works) })
}

// wait counts n more as waiting, which they do though they have run.
func (b *Broker) wait(l *lane, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.waiting += n; n < 0 {
		b.fill(l)
	}
}

// started tells that one of those that waited has an instance: another may wait.
func (b *Broker) started(l *lane) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.waiting--
	l.pause = 0
	b.fill(l)
}

// ended tells that an attempt is over. ran says that it had an instance.
func (b *Broker) ended(l *lane, ran bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ran {
		l.waiting--
	}
	l.running--
	b.fill(l)
}

// refused leaves a lane alone for a while that there was no place for: longer each time,
// until something is taken in.
func (b *Broker) refused(l *lane, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.refusal = err.Error()
	if l.resume == nil {
		l.pause = min(max(2*l.pause, firstPause, retryAfter(err)), lastPause)
		b.rest(l, l.pause)
	}
}

// rest leaves a lane alone for so long. The caller holds b.mu.
func (b *Broker) rest(l *lane, pause time.Duration) {
	if l.resume != nil || b.ctx.Err() != nil {
		return
	}
	l.resume = time.AfterFunc(pause, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		l.resume = nil
		b.fill(l)
	})
}

// suspect says how many items in front of a lane have failed together.
func (b *Broker) suspect(l *lane, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l.suspect = n
}

// passed tells that the first item of an ordered lane is done with.
func (b *Broker) passed(l *lane) {
	if l.ordered {
		b.mu.Lock()
		defer b.mu.Unlock()
		l.suspect = max(0, l.suspect-1)
	}
}

// refusal is why a lane was refused last.
func (b *Broker) refusal(l *lane) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return l.refusal
}

func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// passes reports whether an error of the platform is about the moment, and not about
// the work: then no attempt is counted.
func passes(err error) bool {
	switch lambent.KindOf(err) {
	case lambent.Throttled, lambent.Unavailable, lambent.NoSpace, lambent.Canceled, lambent.Internal:
		return true
	}
	return false
}
