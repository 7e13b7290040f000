package dispatch

import (
	"context"
	"time"

	"lambent"
)

// Three limits bound an invocation, each kept in one place: the caller's, while it
// waits or its instance starts (pool.acquire); that of an init, which after an overrun
// is repeated once under the function's own (pool.launch); and the function's own,
// while it runs (attempt.run). Which one fired and where the time went is said by
// the error where that is ours, and by the log where the words are the cloud's.

// A split is where the time of an invocation went.
type split struct{ queue, place, init, run time.Duration }

func splitOf(u *lambent.Usage) split {
	us := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	return split{us(u.QueueUS), us(u.PlaceUS), us(u.InitUS), us(u.RunUS)}
}

// String returns "queue 0.02 ms, place 1.30 ms, init 98.10 ms, run 0.00 ms".
func (s split) String() string {
	b := make([]byte, 0, 80)
	for i, step := range []struct {
		name string
		took time.Duration
	}{{"queue", s.queue}, {"place", s.place}, {"init", s.init}, {"run", s.run}} {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendMS(append(append(b, step.name...), ' '), step.took.Microseconds())
	}
	return string(b)
}

// sooner returns the earlier of a deadline, which may be the zero time, and ctx's.
func sooner(ctx context.Context, deadline time.Time) time.Time {
	if d, ok := ctx.Deadline(); ok && (deadline.IsZero() || d.Before(deadline)) {
		return d
	}
	return deadline
}

// A launch is a start under way.
type launch struct {
	begun  time.Time
	placed time.Time // since then it is the code that takes its time; zero: not yet
}

// waitedLocked tells where the time of an invocation went that has waited since then:
// of the starts under way, the first counts.
func (p *pool) waitedLocked(since time.Time) (s split) {
	now := time.Now()
	var first *launch
	for l := range p.launches {
		if first == nil || l.begun.Before(first.begun) {
			first = l
		}
	}
	if first == nil {
		s.queue = now.Sub(since)
		return s
	}
	from := first.begun
	if from.Before(since) {
		from = since
	}
	s.queue = from.Sub(since)
	if s.place = now.Sub(from); !first.placed.IsZero() {
		s.init = min(s.place, now.Sub(first.placed))
		s.place -= s.init
	}
	return s
}

// tooLate is what a caller gets whose deadline has passed before its call could begin.
// Nothing of the call has run: it may be made again.
func (p *pool) tooLate(since, deadline time.Time) error {
	p.mu.Lock()
	w := p.waitedLocked(since)
	p.mu.Unlock()
	e := lambent.Errorf(lambent.Throttled, "dispatch", "%s could not begin before its caller's deadline, %v after it came: %v",
		p.rev.Name, deadline.Sub(since).Round(time.Millisecond), w)
	e.RetryAfter = time.Second
	return e
}

// limitLine says where the time of a call went that its function's timeout ended. It
// stands beside REPORT, whose form is AWS's.
func limitLine(u *lambent.Usage) []byte {
	b := append(append(make([]byte, 0, 192), "LIMIT RequestId: "...), u.ID...)
	return append(append(b, "\tthe function's timeout: "...), splitOf(u).String()...)
}

// initReport is how AWS tells of an init that overran, once as an init of its own
// and, repeated, as a part of an invocation.
func initReport(took time.Duration, phase string) []byte {
	b := appendMS(append(make([]byte, 0, 96), "INIT_REPORT Init Duration: "...), took.Microseconds())
	return append(append(append(b, "\tPhase: "...), phase...), "\tStatus: timeout"...)
}
