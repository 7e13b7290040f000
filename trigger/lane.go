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

// A lane is what is under way of one function. It exists while there is something.
type lane struct {
	name    string
	waiting int           // taken, and not running yet
	running int           // taken, and not done with
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
		l = &lane{name: name}
		b.lanes[name] = l
	}
	return l
}

// fill takes as much of a lane as may wait for an instance. The caller holds b.mu.
func (b *Broker) fill(l *lane) {
	if n := maxWaiting - l.waiting; n > 0 && l.resume == nil && b.ctx.Err() == nil {
		for _, w := range b.cfg.Queue.Take(l.name, n) {
			l.waiting++
			l.running++
			b.running.Go(func() { b.attempt(l, w) })
		}
	}
	if l.running == 0 && l.resume == nil {
		delete(b.lanes, l.name)
	}
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

// refused gives back an item that there was no place for, and leaves its lane alone for
// a while: longer each time, until something is taken in.
func (b *Broker) refused(l *lane, w *store.Work, err error) {
	_ = w.Release() // the queue may be closed, and then it is as if it had not been taken
	b.mu.Lock()
	defer b.mu.Unlock()
	l.refusal = err.Error()
	if l.resume != nil || b.ctx.Err() != nil {
		return
	}
	l.pause = min(max(2*l.pause, firstPause, retryAfter(err)), lastPause)
	l.resume = time.AfterFunc(l.pause, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		l.resume = nil
		b.fill(l)
	})
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
