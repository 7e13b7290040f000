package queue

import (
	"slices"
	"time"
)

// An expiry removes messages that are too old, by one timer for each queue that has any:
// set for the time when the oldest one may be. It looks at the first messages of a lane,
// those that are due longest; one that comes behind a younger one goes when it is received,
// or that one does.
type expiry struct {
	timer *time.Timer
	set   bool
}

// from has the queue looked at when what is sent now is too old. The caller holds mu.
func (e *expiry) from(q *queue, sent time.Time) {
	if !e.set && !q.gone {
		e.at(q, sent.Add(q.retention()))
	}
}

func (e *expiry) at(q *queue, t time.Time) {
	e.set = true
	if e.timer == nil {
		e.timer = time.AfterFunc(time.Until(t), q.expire)
		return
	}
	e.timer.Reset(time.Until(t))
}

func (e *expiry) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

// retention is how old messages grow. The caller holds mu.
func (q *queue) retention() time.Duration { return time.Duration(q.rec.RetentionS) * time.Second }

// expire removes what is too old, and has the queue looked at again.
func (q *queue) expire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expiry.set = false
	if q.gone || q.qs.ctx.Err() != nil {
		return
	}
	const batch = 64
	tooOld := time.Now().Add(-q.retention())
	var next time.Time
	for _, lane := range q.qs.lanesOf(&q.rec) {
		for more := true; more; {
			all := q.qs.cfg.Log.Take(lane, batch)
			more = len(all) == batch
			for i, w := range all {
				if w.Added.Before(tooOld) {
					_ = w.Done() // closed: then another time
					continue
				}
				if next.IsZero() || w.Added.Before(next) {
					next = w.Added
				}
				for _, w := range slices.Backward(all[i:]) {
					_ = w.Release()
				}
				q.found(lane) // it may have been looked for meanwhile
				more = false
				break
			}
		}
	}
	n := 0
	for _, lane := range q.qs.lanesOf(&q.rec) {
		s := q.qs.cfg.Log.LaneStats(lane)
		n += s.Waiting + s.Running + s.Delayed
	}
	switch {
	case !next.IsZero():
		q.expiry.at(q, next.Add(q.retention()))
	case n > 0: // received or delayed: those that are given back are looked at again
		q.expiry.at(q, time.Now().Add(q.retention()))
	}
}
