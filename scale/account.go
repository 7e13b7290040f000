package scale

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Bounds are a function's, whatever revisions of it there are. A change is taken over
// with [Pool.Set] of each of its pools.
type Bounds struct {
	Max   int     // instances: the least of the function's maximum, its reserved concurrency and the node's; 0 stops the function
	Calls int     // invocations that run at a time (AWS: reserved concurrency); 0: no bound
	Queue int     // invocations that wait, at most
	Rate  float64 // starts per second (AWS: 1,000 instances each 10 s); 0: no bound
	Burst int     // starts at once, after a pause
}

// An Account is what the pools of one function have together: its bounds, the tokens of
// its starts, and the instances and invocations that these are about. Where it has as many
// as it may, a pool that needs another has idle instances of the others ended, and who has
// waited longest is first, whichever pool they wait for. One lock must be held around all
// of them. The zero value is ready.
type Account struct {
	Bounds
	tokens bucket
	pools  []member
}

// A member is a pool of an account.
type member interface {
	Stats() Stats
	Next() time.Duration
	waits() time.Duration          // since when the first in line waits, or Never
	rests() time.Duration          // since when the one is idle that has been for longest, or Never
	seek(now, again time.Duration) // looks whether there is an instance, or a place, for who is in line; for its minimum in a while
	endIdle()                      // ends the one that has been idle for longest
}

// Next is when one of the pools wants [Pool.Due] to be called, or Never.
func (a *Account) Next() time.Duration {
	next := Never
	for _, p := range a.pools {
		next = min(next, p.Next())
	}
	return next
}

// Rested is from when an account without pools says no more than a new one does.
func (a *Account) Rested() time.Duration {
	if a.Rate == 0 || !a.tokens.filled {
		return 0
	}
	return a.tokens.at + time.Duration(math.Ceil((float64(a.Burst)-a.tokens.tokens)/a.Rate*float64(time.Second)))
}

// instances is how many there are, or start.
func (a *Account) instances() (n int) {
	for _, p := range a.pools {
		s := p.Stats()
		n += s.Idle + s.Busy + s.Starting + s.Ending
	}
	return n
}

// used is how many instances serve, or have, and are about to be gone.
func (a *Account) used() (n int) {
	for _, p := range a.pools {
		s := p.Stats()
		n += s.Busy + s.Ending
	}
	return n
}

func (a *Account) ending() (n int) {
	for _, p := range a.pools {
		n += p.Stats().Ending
	}
	return n
}

// Waiting is how many invocations wait, for whichever pool.
func (a *Account) Waiting() (n int) {
	for _, p := range a.pools {
		n += p.Stats().Waiting
	}
	return n
}

func (a *Account) running() (n int) {
	for _, p := range a.pools {
		n += p.Stats().Running
	}
	return n
}

// runs reports whether one more invocation may run, where there is an instance for it.
func (a *Account) runs() bool { return a.Calls == 0 || a.running() < a.Calls }

// full reports whether what a pool has is what another can not have.
func (a *Account) full() bool { return a.instances() >= a.Max || !a.runs() }

// offer has the pools look for what is free, in the order in which they have waited: all,
// or all but the one that has just left it.
func (a *Account) offer(now, again time.Duration, but member) {
	if len(a.pools) == 1 && but != nil {
		return
	}
	order := a.pools
	if len(order) > 1 {
		order = slices.SortedStableFunc(slices.Values(order), func(p, q member) int { return cmp.Compare(p.waits(), q.waits()) })
	}
	for _, p := range order {
		if p != but {
			p.seek(now, again)
		}
	}
}

// behind reports whether others of the function are served before those in line for a
// pool: they have waited for longer by what a switch is worth, and nothing comes to them
// yet but what the pool leaves them.
func (a *Account) behind(p member) bool {
	if len(a.pools) == 1 || !a.full() || a.ending() > 0 {
		return false
	}
	since := p.waits()
	return slices.ContainsFunc(a.pools, func(q member) bool {
		return q != p && q.Stats().Starting == 0 && since-q.waits() > switchAfter
	})
}

// coming is how many places there are once the instances that end are gone.
func (a *Account) coming() int { return max(0, a.Max-a.instances()+a.ending()) }

// evict ends the instance that has been idle for longest, of another pool than the one
// that wants its place. It returns false if there is none, or if all of them together would
// make no place.
func (a *Account) evict(by member) bool {
	var from member
	idle := 0
	for _, p := range a.pools {
		if p == by || p.rests() == Never {
			continue
		}
		idle += p.Stats().Idle
		if from == nil || p.rests() < from.rests() {
			from = p
		}
	}
	if idle == 0 || a.instances()-a.ending()-idle >= a.Max {
		return false
	}
	from.endIdle()
	return true
}
