package replay

import (
	"context"
	"math"
	"time"

	"lambent/scale"
)

// A node is what functions share where memory or instances have a bound: the
// places, and one virtual time.
type node struct {
	scale.Node[*replayer]
	r      *Result
	now    time.Duration
	usedMB int  // of instances that are, or start
	free   bool // there may be a place for who waits
	idle   int  // instances that can be evicted
	idleMB int
	all    []*replayer
	spare  []*replayer // those that an instance can be evicted from

	// A tournament: the leaf len(all)+k is the kth of all, each node above has the one
	// of its two that something happens to first, and 1 is the root.
	next []time.Duration // of each of all: when that is
	tree []int
}

// together takes all functions through the day at once, for each contender.
func (d *day) together(ctx context.Context) []*Result {
	functions := make([]*Function, d.functions)
	for k := range functions {
		functions[k] = d.function(k)
	}
	results := d.results()
	each(ctx, len(results), func(take func() (k int, ok bool)) {
		for i, ok := take(); ok; i, ok = take() {
			d.share(ctx, functions, &d.contenders[i], results[i])
		}
	})
	return results
}

// share plays the day on one node.
func (d *day) share(ctx context.Context, functions []*Function, c *Contender, r *Result) {
	n := &node{r: r}
	n.MemoryMB, n.MaxInstances = d.MemoryMB, d.MaxInstances
	if n.MaxInstances == 0 {
		n.MaxInstances = math.MaxInt
	}
	for _, f := range functions {
		if !n.Holds(f.memoryMB()) {
			r.TooLarge++
			for _, m := range f.until(d.Minutes) {
				r.Refused += int64(m.N)
			}
			continue
		}
		s := &replayer{c: c, r: r, node: n, order: len(n.all)}
		s.begin(f, d.Minutes, d.Seed)
		n.all = append(n.all, s)
	}
	if len(n.all) == 0 {
		d.told.add(d.Minutes)
		return
	}
	n.schedule()
	end, minute := time.Duration(d.Minutes)*time.Minute, time.Minute
	for steps := 0; ; steps++ {
		s, at := n.first()
		for ; minute <= min(at, end); minute += time.Minute {
			d.told.add(1)
		}
		if at > end && r.Invocations == r.delays.n || at == scale.Never { // who is in line at midnight is served
			break
		}
		if steps%4096 == 0 && ctx.Err() != nil {
			return
		}
		n.step(s, at)
	}
	for _, s := range n.all {
		s.advance(end)
	}
}

// schedule makes the tournament.
func (n *node) schedule() {
	size := len(n.all)
	n.next, n.tree = make([]time.Duration, size), make([]int, 2*size)
	for k, s := range n.all {
		n.next[k], n.tree[size+k] = s.next(), k
	}
	for i := size - 1; i > 0; i-- {
		n.tree[i] = n.sooner(n.tree[2*i], n.tree[2*i+1])
	}
}

func (n *node) sooner(a, b int) int {
	if n.next[a] < n.next[b] || n.next[a] == n.next[b] && a < b {
		return a
	}
	return b
}

// first returns to whom something happens next, and when.
func (n *node) first() (*replayer, time.Duration) {
	k := n.tree[1]
	return n.all[k], n.next[k]
}

// step lets that happen, and what follows from it for others.
func (n *node) step(s *replayer, at time.Duration) {
	n.now = max(n.now, at)
	s.advance(n.now)
	if s.due() <= s.arrival {
		s.happen()
	} else {
		s.arrive()
	}
	n.note(s)
	if n.now >= n.Until() {
		n.free = true
	}
	for n.give(); n.Waiting() > 0 && n.Suffices(n.idle, n.idleMB); n.give() {
		n.evict()
	}
}

// give gives free places to who waits.
func (n *node) give() {
	for n.free {
		s, ok := n.Grant(n.now)
		if !ok {
			n.free = false
			return
		}
		s.advance(n.now)
		s.place()
		n.Return(s)
		n.note(s)
	}
}

// note takes over what has changed for a function.
func (n *node) note(s *replayer) {
	idle := s.pool.Spare()
	n.idle += idle - s.idle
	n.idleMB += (idle - s.idle) * s.MemoryMB
	s.idle = idle
	switch spare, last := idle > 0, len(n.spare); {
	case spare && s.spare == 0:
		n.spare = append(n.spare, s)
		s.spare = last + 1
	case !spare && s.spare > 0:
		other := n.spare[last-1]
		n.spare[s.spare-1] = other
		other.spare, s.spare = s.spare, 0
		n.spare = n.spare[:last-1]
	}
	if next := s.next(); next != n.next[s.order] {
		n.next[s.order] = next
		for i := (len(n.all) + s.order) / 2; i > 0; i /= 2 {
			n.tree[i] = n.sooner(n.tree[2*i], n.tree[2*i+1])
		}
	}
}

// admit asks for a place.
func (n *node) admit(s *replayer, ahead bool) bool {
	if !n.Admit(n.now, s, ahead) {
		n.free = true // what is too small for others may do
		return false
	}
	n.usedMB += s.MemoryMB
	n.r.PeakMB = max(n.r.PeakMB, n.usedMB)
	return true
}

// left tells that an instance is gone.
func (n *node) left(s *replayer) {
	n.usedMB -= s.MemoryMB
	n.Leave(s)
	n.free = true
}

// evict ends the idle instance that is worth least.
func (n *node) evict() {
	var least *replayer
	var priority float64
	for _, s := range n.spare {
		if p := n.Priority(s.pool.Standing()); least == nil || p < priority {
			least, priority = s, p
		}
	}
	least.advance(n.now)
	m, _ := least.pool.Evict()
	n.Evicted(n.now, priority)
	n.r.minute(n.now).Evicted++
	least.End(m)
	least.tidy()
	n.note(least)
}
