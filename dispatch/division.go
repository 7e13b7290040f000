package dispatch

import (
	"sync"
	"time"
)

// An instance that serves several invocations at a time is paid for once. What it
// uses while k are in flight is a kth each one's: processor sharing. A clock that
// runs at 1/k tells them apart without a list: an invocation's share is how far the
// clock went between its begin and its end (the virtual time of fair queueing:
// Demers, Keshav and Shenker 1989; Parekh and Gallager 1993).

// A division divides an instance's busy time and its processor time among the
// invocations that it serves.
type division struct {
	mu   sync.Mutex
	n    int           // in flight
	init time.Duration // the instance's, if one of those that overlap waited for it
	time clock
	cpu  clock
}

// A slice is an invocation's, between begin and end.
type slice struct{ time, cpu uint64 }

// begin counts an invocation in. stats returns the processor time used so far, in us.
func (s *division) begin(stats func() int64) (slice, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.n == 0 {
		s.time.start(sinceEpoch(now))
		s.init = 0
	} else {
		s.time.advance(sinceEpoch(now), s.n)
		s.cpu.advance(stats(), s.n)
	}
	s.n++
	return slice{s.time.v, s.cpu.v}, now
}

// end counts it out, and returns its shares in us and, of the last of those that overlap,
// for how long the instance was busy: with all of them, and with its init. used is the
// processor time used so far; it may be of a moment ago, or 0 if it could not be told.
// init is the instance's for the one that waited for it, and 0 for others. The shares of
// all that overlap add up to the time in which there was one, and what was not anybody's
// of the processor's is the next one's, as where there is one at a time.
func (s *division) end(of slice, used int64, init time.Duration) (shareUS, busyUS, cpuUS int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now = time.Now()
	s.time.advance(sinceEpoch(now), s.n)
	s.cpu.advance(used, s.n)
	s.n--
	s.init += init
	last := s.n == 0
	if last {
		busyUS = s.init.Microseconds() + (s.time.at-s.time.from)/int64(time.Microsecond)
	}
	return s.time.issue(of.time, last, int64(time.Microsecond), 1), busyUS, s.cpu.issue(of.cpu, last, 1, 0), now
}

// cancel counts out an invocation that has no record: others have its shares.
func (s *division) cancel(of slice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.time.advance(sinceEpoch(time.Now()), s.n)
	if s.n--; s.n > 0 {
		s.time.kept += int64(s.time.v - of.time)
		s.cpu.kept += int64(s.cpu.v - of.cpu)
	}
}

var epoch = time.Now()

func sinceEpoch(t time.Time) int64 { return int64(t.Sub(epoch)) }

// A clock advances by a kth of what is used while k share it. It may wrap: only
// differences count. Shares are issued in whole units, each with what rounding has
// kept from those before, so that what is issued is never a unit behind.
type clock struct {
	v      uint64 // in 2^-clockBits of what is used
	at     int64  // what was used when v was so much
	from   int64  // what was used when the first of those that overlap came
	issued int64  // units since then
	kept   int64  // of what is used, in 2^-clockBits: what rounding owes, or less than nothing
}

const clockBits = 20

// start begins with what was used until now left out.
func (c *clock) start(used int64) { c.at, c.from, c.issued, c.kept = used, used, 0, 0 }

func (c *clock) advance(used int64, k int) {
	if d := used - c.at; d > 0 {
		c.v += uint64(d) << clockBits / uint64(k)
		c.at = used
	}
}

// issue returns the share of one that came when the clock was at since, in units of
// so much each, and not less than least. The last of those that overlap has what is
// left.
func (c *clock) issue(since uint64, last bool, unit, least int64) (n int64) {
	if last {
		n = max(least, (c.at-c.from)/unit-c.issued)
		c.issued, c.kept, c.from = 0, 0, c.at
		return n
	}
	share := int64(c.v-since) + c.kept
	n = max(least, share/(unit<<clockBits))
	c.kept = share - n*unit<<clockBits
	c.issued += n
	return n
}
