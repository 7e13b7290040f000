package scale

import (
	"slices"
	"time"
)

type claimant interface{ claim() *Claim }

// A Node has the places for instances that the pools of one machine share: a number
// of them, and memory, which is never promised twice. Nobody asks it while instances
// that are there suffice. A pool that gets no place waits for one; places that come
// free go to those who wait, by [Fair], and idle instances give way to them, by
// [GreedyDual]. C is what the host keeps a pool in, which embeds [Claim]; it is a
// pointer.
//
// What is free is kept for who is next and needs more, for as long as it becomes more
// now and then. If it does not, and would do for others, who is next is passed over for
// a while: nothing but idle instances gives way to them then. Idle ones only ever do
// where they suffice.
//
// What a [Reservation] sets aside and its pools do not use is nobody else's, and is theirs
// at once, whoever waits.
//
// What follows is up to the host: after [Node.Admit] said no, [Node.Leave],
// [Node.Forget], whenever an instance became idle, and at [Node.Until], it gives places
// away while [Node.Grant] has one, and then evicts while that suffices for somebody.
type Node[C claimant] struct {
	GreedyDual
	MaxInstances int // of all pools
	MemoryMB     int // that instances are promised together, at most; 0: no bound

	instances int // that exist or start, or for which a place is kept
	memoryMB  int // of those
	fair      Fair
	waiting   map[string]C // by their Pool
	passed    []C          // who wait, and are passed over
	contended int          // times that waiting was no longer empty
	leaving   int          // instances that have given their places up, and are there yet
	leavingMB int          // of those
	reserved  room         // of all reservations
	unused    room         // of that, what nobody has

	head   *Claim        // for whom what is free is kept
	freeMB int           // so much was seen of that
	hope   time.Duration // when there is none for head, unless it becomes more
	until  time.Duration // see Until
}

// A Claim is a pool's part of a [Node]: embed it in what the host keeps the pool in.
type Claim struct {
	Project, Pool string       // Pool is this one's alone, on the node
	MemoryMB      int          // of an instance
	Reserved      *Reservation // what the pool may have before others; nil: nothing

	waits  bool          // on the list
	asked  time.Duration // when it came on it
	passed bool          // with those that are passed over
	until  time.Duration // it is passed over
	times  int           // that it was, since it last had a place
	kept   bool          // there is a place for it
	run    float64       // what an invocation uses, in GB-ms, as far as is known
	since  int           // the time of contention in which it was last charged
	leaves int           // of its instances, those that have given their places up
}

func (c *Claim) claim() *Claim { return c }

// A Reservation is what is set aside for the pools of one function. The zero value is of
// nothing.
type Reservation struct {
	places, memoryMB int // of each
	used             int
}

// A room is a number of instances, and their memory.
type room struct{ places, memoryMB int }

func (r *room) add(places, memoryMB int) {
	r.places += places
	r.memoryMB += places * memoryMB
}

func (r *Reservation) unused() int { return max(0, r.places-r.used) }

// CanReserve reports whether so many places could be set aside, each of so much memory, in
// place of what the reservation has.
func (n *Node[C]) CanReserve(r *Reservation, places, memoryMB int) bool {
	others, othersMB := n.Others(r)
	return others+places <= n.MaxInstances && (n.MemoryMB == 0 || othersMB+places*memoryMB <= n.MemoryMB)
}

// Reserve sets places aside. Who has them keeps them, until their instances end.
func (n *Node[C]) Reserve(r *Reservation, places, memoryMB int) {
	n.reserved.add(-r.places, r.memoryMB)
	n.unused.add(-r.unused(), r.memoryMB)
	r.places, r.memoryMB = places, memoryMB
	n.reserved.add(r.places, r.memoryMB)
	n.unused.add(r.unused(), r.memoryMB)
}

// Others is what is set aside for others than a reservation's.
func (n *Node[C]) Others(r *Reservation) (instances, memoryMB int) {
	all := n.reserved
	all.add(-r.places, r.memoryMB)
	return all.places, all.memoryMB
}

// switchAfter is how much more than another who waits, and a run, somebody has had before
// their place becomes that one's: as a switch is a cold start, each takes a while.
const switchAfter = 200 * time.Millisecond

const (
	keepFree = 5 * time.Second // that what is free does not become more, until who is next is passed over
	passFor  = time.Minute     // at first, and twice as long each time that they had no place since
	passMost = time.Hour
)

// Holds reports whether an instance of so much memory has a place here, if only
// alone.
func (n *Node[C]) Holds(memoryMB int) bool { return n.MemoryMB == 0 || memoryMB <= n.MemoryMB }

// Waiting is how many pools wait for a place.
func (n *Node[C]) Waiting() int { return len(n.waiting) + len(n.passed) }

// Pressing is how many of them are not passed over.
func (n *Node[C]) Pressing() int { return len(n.waiting) }

// Until is when Grant is to be asked again, though nothing has changed; or Never.
func (n *Node[C]) Until() time.Duration { return n.until }

// Admit counts one more instance of a pool's and reports whether there is a place
// for it. If not, the pool waits for one, unless the instance is ahead of any
// invocation.
func (n *Node[C]) Admit(now time.Duration, c C, ahead bool) bool {
	s := c.claim()
	switch {
	case s.kept:
		s.kept = false // counted when it was kept
		return true
	case (len(n.waiting) == 0 || s.due()) && n.fits(s):
		n.count(s, 1)
		if !s.waits {
			s.until, s.times = 0, 0
		}
		return true
	case ahead || s.waits:
		return false
	}
	s.waits = true
	if now < s.until {
		s.passed = true
		n.passed = append(n.passed, c)
		return false
	}
	n.wait(now, c)
	return false
}

func (n *Node[C]) wait(now time.Duration, c C) {
	s := c.claim()
	s.asked = now
	if n.waiting == nil {
		n.waiting = map[string]C{}
	}
	if len(n.waiting) == 0 {
		n.contended++
	}
	n.waiting[s.Pool] = c
	n.fair.Wait(s.Project, s.Pool)
}

// Leave counts an instance off.
func (n *Node[C]) Leave(c C) {
	s := c.claim()
	if s.leaves > 0 {
		n.leave(s, -1)
	}
	n.count(s, -1)
}

func (n *Node[C]) leave(s *Claim, by int) {
	s.leaves += by
	n.leaving += by
	n.leavingMB += by * s.MemoryMB
}

// Forget takes a pool off the list for which nobody waits any more.
func (n *Node[C]) Forget(c C) {
	s := c.claim()
	if !s.waits {
		return
	}
	s.waits = false
	if n.head == s {
		n.head = nil // what was seen of the free memory is old when it comes back
	}
	if s.passed {
		s.passed = false
		n.passed = slices.DeleteFunc(n.passed, func(p C) bool { return p.claim() == s })
		return
	}
	delete(n.waiting, s.Pool)
	n.fair.Leave(s.Project, s.Pool)
}

// Grant takes the pool that is next off the list, and keeps a place for it, if there
// is one that is large enough. The pool is to be told by [Pool.Place], and after it
// Return called.
func (n *Node[C]) Grant(now time.Duration) (c C, ok bool) {
	n.until = Never
	n.again(now)
	if c, ok = n.due(n.fits); ok {
		return n.grant(c), true
	}
	for lapsed := false; ; lapsed = true {
		if c, ok = n.next(); !ok {
			n.head = nil
			break
		}
		if n.fits(c.claim()) {
			return n.grant(c), true
		}
		if !n.forlorn(now, c.claim(), lapsed) {
			return c, false
		}
		n.pass(now, c)
	}
	if at := slices.IndexFunc(n.passed, func(p C) bool { return n.fits(p.claim()) }); at >= 0 {
		return n.grant(n.passed[at]), true
	}
	return c, false
}

// due returns a pool that waits for what is set aside for it, if that is there.
func (n *Node[C]) due(fits func(*Claim) bool) (first C, ok bool) {
	look := func(c C) {
		if s := c.claim(); s.due() && fits(s) && (!ok || s.asked < first.claim().asked || s.asked == first.claim().asked && s.Pool < first.claim().Pool) {
			first, ok = c, true
		}
	}
	for _, c := range n.waiting {
		look(c)
	}
	for _, c := range n.passed {
		look(c)
	}
	return first, ok
}

// forlorn reports whether others are to have what is kept for a pool: it would do for
// one of them, and has not become more. If that was just found of who was next before, it
// has not for this one either, for as long as it waits.
func (n *Node[C]) forlorn(now time.Duration, s *Claim, lapsed bool) bool {
	if freeMB := n.MemoryMB - n.memoryMB; n.head != s || freeMB > n.freeMB {
		n.head, n.freeMB, n.hope = s, freeMB, now+keepFree
		if lapsed {
			n.hope = s.asked + keepFree
		}
	}
	if !n.anyFits() {
		return false
	}
	n.until = min(n.until, n.hope)
	return now >= n.hope
}

// anyFits reports whether what is free would do for somebody who waits.
func (n *Node[C]) anyFits() bool {
	for _, c := range n.waiting {
		if n.fits(c.claim()) {
			return true
		}
	}
	return slices.ContainsFunc(n.passed, func(c C) bool { return n.fits(c.claim()) })
}

// pass has a pool passed over.
func (n *Node[C]) pass(now time.Duration, c C) {
	s := c.claim()
	n.Forget(c)
	s.until = now + min(passFor<<min(s.times, 10), passMost)
	s.times++
	s.waits, s.passed = true, true
	n.passed = append(n.passed, c)
	n.until = min(n.until, s.until)
}

// again takes those back that have been passed over for long enough.
func (n *Node[C]) again(now time.Duration) {
	for k := 0; k < len(n.passed); {
		switch c := n.passed[k]; {
		case now >= c.claim().until:
			n.Forget(c)
			c.claim().waits = true
			n.wait(c.claim().asked, c)
		default:
			n.until = min(n.until, c.claim().until)
			k++
		}
	}
}

// next returns who is next, of those that are not passed over.
func (n *Node[C]) next() (c C, ok bool) {
	_, pool, ok := n.fair.Next()
	return n.waiting[pool], ok
}

func (n *Node[C]) grant(c C) C {
	s := c.claim()
	n.fair.Charge(s.Project, s.Pool, s.ahead(), 1)
	n.Forget(c)
	s.kept, s.until, s.times = true, 0, 0
	n.count(s, 1)
	return c
}

// Suffices reports whether somebody has a place once so many idle instances have given
// way, and so much memory.
func (n *Node[C]) Suffices(instances, memoryMB int) bool {
	does := func(s *Claim) bool { return instances > 0 && n.wouldFit(s, instances, memoryMB) }
	if _, ok := n.due(does); ok {
		return true
	}
	if c, ok := n.next(); ok {
		return does(c.claim())
	}
	return slices.ContainsFunc(n.passed, func(c C) bool { return does(c.claim()) })
}

// Spares is how many of a pool's idle instances others could have the places of: not those
// that are set aside for its function, unless who is next is of that, too.
func (n *Node[C]) Spares(c C, idle int) int {
	r := c.claim().Reserved
	if r == nil || r.places == 0 {
		return idle
	}
	if next, ok := n.next(); ok && next.claim().Reserved == r {
		return idle
	}
	return min(idle, max(0, r.used-r.places))
}

// Return takes the place back that was kept for a pool, if it had no use for it, and
// with that what it has paid.
func (n *Node[C]) Return(c C) {
	if s := c.claim(); s.kept {
		s.kept = false
		n.count(s, -1)
		n.fair.Charge(s.Project, s.Pool, -s.ahead(), 1)
	}
}

// Yields charges a pool with what an invocation has used, and reports whether the
// instance is to give its place to another project's, or pool's, which has had less.
//
// A place is paid for ahead, a run each time, as start-time fair queueing has it: who has
// just got one has had something. If it had not, all instances whose runs end in the same
// moment would go to who has had least, and back after the next. The same would be so of
// those whose runs end before who is next has the places that others have given up: it
// counts as if that had paid for them.
//
// An instance that ends has no place to give up, again where it serves several at a time;
// nor has one whose place would be set aside again.
func (n *Node[C]) Yields(c C, ran time.Duration, ends bool) bool {
	if len(n.waiting) == 0 {
		return false
	}
	s := c.claim()
	used := s.worth(ran)
	if s.run == 0 {
		s.run = used
	}
	s.run += (used - s.run) / 8
	if s.since != n.contended {
		s.since = n.contended
		used += s.run // nobody paid for this place when it was taken
	}
	n.fair.Charge(s.Project, s.Pool, used, 1)
	if ends || s.Reserved != nil && s.Reserved.used <= s.Reserved.places || !n.fair.Behind(s.Project, s.Pool, s.worth(switchAfter)+s.run+n.promised()) {
		return false
	}
	n.fair.Charge(s.Project, s.Pool, -s.run, 1)
	n.leave(s, 1)
	return true
}

// promised is what who is next will pay for places that were given up, and are not free.
func (n *Node[C]) promised() float64 {
	if n.leaving == 0 {
		return 0
	}
	next, ok := n.next()
	if !ok {
		return 0
	}
	s, places := next.claim(), float64(n.leaving)
	if n.MemoryMB > 0 {
		places = min(places, float64(n.leavingMB)/float64(s.MemoryMB))
	}
	return places * s.ahead()
}

// ahead is what a place costs that is taken.
func (c *Claim) ahead() float64 { return max(c.run, c.worth(0)) }

// due reports whether something is set aside for the pool.
func (c *Claim) due() bool { return c.Reserved != nil && c.Reserved.unused() > 0 }

func (n *Node[C]) fits(s *Claim) bool { return n.wouldFit(s, 0, 0) }

// wouldFit reports whether there is a place once others, and so much memory, are free.
func (n *Node[C]) wouldFit(s *Claim, places, memoryMB int) bool {
	others := n.unused
	if r := s.Reserved; r != nil {
		others.add(-r.unused(), r.memoryMB)
	}
	return n.instances-places+others.places < n.MaxInstances &&
		(n.MemoryMB == 0 || n.memoryMB-memoryMB+others.memoryMB+s.MemoryMB <= n.MemoryMB)
}

func (n *Node[C]) count(s *Claim, by int) {
	n.instances += by
	n.memoryMB += by * s.MemoryMB
	if r := s.Reserved; r != nil {
		n.unused.add(-r.unused(), r.memoryMB)
		r.used += by
		n.unused.add(r.unused(), r.memoryMB)
	}
}

// worth is what so much time of an instance is, in GB-ms; of no time, that of a
// short invocation.
func (c *Claim) worth(ran time.Duration) float64 {
	return float64(c.MemoryMB) / 1024 * max(1, ran.Seconds()*1000)
}
