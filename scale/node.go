package scale

import "time"

type claimant interface{ claim() *Claim }

// A Node has the places for instances that the pools of one machine share: a number
// of them, and memory, which is never promised twice. Nobody asks it while instances
// that are there suffice. A pool that gets no place waits for one; places that come
// free go to those who wait, by [Fair], and idle instances give way to them, by
// [GreedyDual]. C is what the host keeps a pool in, which embeds [Claim]; it is a
// pointer.
//
// What follows is up to the host: after [Node.Admit] said no, [Node.Leave],
// [Node.Forget], and whenever an instance became idle, it gives places away while
// [Node.Grant] has one, and evicts while somebody waits then.
type Node[C claimant] struct {
	GreedyDual
	MaxInstances int // of all pools
	MemoryMB     int // that instances are promised together, at most; 0: no bound

	instances int // that exist or start, or for which a place is kept
	memoryMB  int // of those
	fair      Fair
	waiting   map[string]C // by their Pool
}

// A Claim is a pool's part of a [Node]: embed it in what the host keeps the pool in.
type Claim struct {
	Project, Pool string // Pool is this one's alone, on the node
	MemoryMB      int    // of an instance

	waits bool // on the list
	kept  bool // there is a place for it
}

func (c *Claim) claim() *Claim { return c }

// switchAfter is how much more than another who waits somebody has had before their
// place becomes that one's: as a switch is a cold start, each takes a while.
const switchAfter = 100 * time.Millisecond

// Holds reports whether an instance of so much memory has a place here, if only
// alone.
func (n *Node[C]) Holds(memoryMB int) bool { return n.MemoryMB == 0 || memoryMB <= n.MemoryMB }

// Waiting is how many pools wait for a place.
func (n *Node[C]) Waiting() int { return len(n.waiting) }

// Admit counts one more instance of a pool's and reports whether there is a place
// for it. If not, the pool waits for one, unless the instance is ahead of any
// invocation.
func (n *Node[C]) Admit(c C, ahead bool) bool {
	s := c.claim()
	switch {
	case s.kept:
		s.kept = false // counted when it was kept
		return true
	case len(n.waiting) == 0 && n.fits(s):
		n.count(s, 1)
		return true
	case ahead || s.waits:
		return false
	}
	s.waits = true
	if n.waiting == nil {
		n.waiting = map[string]C{}
	}
	n.waiting[s.Pool] = c
	n.fair.Wait(s.Project, s.Pool)
	return false
}

// Leave counts an instance off.
func (n *Node[C]) Leave(c C) { n.count(c.claim(), -1) }

// Forget takes a pool off the list for which nobody waits any more.
func (n *Node[C]) Forget(c C) {
	if s := c.claim(); s.waits {
		s.waits = false
		delete(n.waiting, s.Pool)
		n.fair.Leave(s.Project, s.Pool)
	}
}

// Grant takes the pool that is next off the list, and keeps a place for it, if there
// is one that is large enough. The pool is to be told by [Pool.Place], and after it
// Return called.
func (n *Node[C]) Grant() (c C, ok bool) {
	_, pool, ok := n.fair.Next()
	if !ok {
		return c, false
	}
	c = n.waiting[pool]
	s := c.claim()
	if !n.fits(s) {
		return c, false
	}
	n.fair.Charge(s.Project, s.Pool, s.worth(0), 1)
	n.Forget(c)
	s.kept = true
	n.count(s, 1)
	return c, true
}

// Return takes the place back that was kept for a pool, if it had no use for it.
func (n *Node[C]) Return(c C) {
	if s := c.claim(); s.kept {
		s.kept = false
		n.count(s, -1)
	}
}

// Yields charges a pool with what an invocation has used, and reports whether the
// instance is to give its place to another project's, or pool's, which has had less.
func (n *Node[C]) Yields(c C, ran time.Duration) bool {
	if len(n.waiting) == 0 {
		return false
	}
	s := c.claim()
	n.fair.Charge(s.Project, s.Pool, s.worth(ran), 1)
	return n.fair.Behind(s.Project, s.Pool, s.worth(switchAfter))
}

func (n *Node[C]) fits(s *Claim) bool {
	return n.instances < n.MaxInstances && (n.MemoryMB == 0 || n.memoryMB+s.MemoryMB <= n.MemoryMB)
}

func (n *Node[C]) count(s *Claim, by int) {
	n.instances += by
	n.memoryMB += by * s.MemoryMB
}

// worth is what so much time of an instance is, in GB-ms; of no time, that of a
// short invocation.
func (c *Claim) worth(ran time.Duration) float64 {
	return float64(c.MemoryMB) / 1024 * max(1, ran.Seconds()*1000)
}
