package dispatch

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/scale"
)

// A node has the places for instances that all pools share. Who gets one, and what
// gives way, its scale.Node decides; this has the lock. Nobody asks it while
// instances that are there suffice.
type node struct {
	d        *Dispatcher
	hungry   atomic.Int32 // pools that wait for a place
	pressing atomic.Int32 // of those, not passed over

	mu     sync.Mutex // guards what follows; a pool's lock may be held when it is taken
	scale  scale.Node[*pool]
	making bool          // somebody makes room
	again  bool          // what is idle has changed meanwhile
	timer  *time.Timer   // to make room
	rings  time.Duration // when it does; Never
}

func newNode(d *Dispatcher) *node {
	n := &node{d: d, scale: scale.Node[*pool]{MaxInstances: d.cfg.MaxInstances, MemoryMB: d.cfg.MemoryMB}, rings: scale.Never}
	n.timer = time.AfterFunc(time.Hour, n.ring)
	n.timer.Stop()
	return n
}

// holds returns an error if an instance of the revision has no place here, even
// alone.
func (n *node) holds(rev *lambent.Revision) error {
	if most, mb := n.scale.MemoryMB, rev.Config.MemoryMB; !n.scale.Holds(mb) {
		e := lambent.Errorf(lambent.Unavailable, "dispatch", "%s has a limit of %d MB, and instances on this server may be promised %d MB together", rev.Name, mb, most)
		e.Hint = "deploy it with less --memory, or start the server with more: lambent serve --memory " + strconv.Itoa(mb)
		return e
	}
	return nil
}

// reserve sets places aside, and reports whether there are so many.
func (n *node) reserve(r *scale.Reservation, places, memoryMB int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	ok := n.scale.CanReserve(r, places, memoryMB)
	if ok {
		n.scale.Reserve(r, places, memoryMB)
	}
	return ok
}

// canReserve returns an error if what a function has set aside is not there.
func (n *node) canReserve(f *lambent.Function, r *scale.Reservation) error {
	instances, mb := f.SetAside()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.scale.CanReserve(r, instances, mb) {
		return nil
	}
	has := strconv.Itoa(n.scale.MaxInstances) + " instances"
	if n.scale.MemoryMB > 0 {
		has += " and " + strconv.Itoa(n.scale.MemoryMB) + " MB"
	}
	others, othersMB := n.scale.Others(r)
	return lambent.Errorf(lambent.Invalid, "dispatch", "%s would have %d instances of %d MB set aside, reserved or always ready, beside others' %d with %d MB: this server has %s",
		f.Name, instances, mb, others, othersMB, has).
		WithHint("deploy it, or others, with less --reserved or --min, or start the server with more: lambent serve --memory, --max-instances")
}

// admit counts one more instance and reports whether there is a place for it. If
// not, and somebody waits for it, the pool is told when there is one. The caller
// holds p.mu.
func (n *node) admit(p *pool, ahead bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	ok := n.scale.Admit(n.d.now(), p, ahead)
	if !ok && !ahead {
		n.tellLocked()
		go n.makeRoom()
	}
	return ok
}

// leave counts an instance off: there may be a place for who waits, or be if others
// give way, too. No pool's lock is held.
func (n *node) leave(p *pool) {
	n.mu.Lock()
	n.scale.Leave(p)
	n.mu.Unlock()
	if n.hungry.Load() > 0 {
		n.makeRoom()
	}
}

// forget takes a pool off the list for which nobody waits any more: what is free and
// was too small for it may be another's. The caller holds p.mu.
func (n *node) forget(p *pool) {
	n.mu.Lock()
	n.scale.Forget(p)
	n.tellLocked()
	n.mu.Unlock()
	n.relieve()
}

func (n *node) tellLocked() {
	n.hungry.Store(int32(n.scale.Waiting()))
	n.pressing.Store(int32(n.scale.Pressing()))
}

// byLocked has room made at a time at the latest.
func (n *node) byLocked(now, at time.Duration) {
	if at < n.rings {
		n.rings = at
		n.timer.Reset(max(0, at-now))
	}
}

func (n *node) ring() {
	n.mu.Lock()
	n.rings = scale.Never
	n.mu.Unlock()
	n.makeRoom()
}

// give offers the places that are free to those who wait, one at a time, and reports
// whether somebody waits for more room than there is. No pool's lock is held.
func (n *node) give() (short bool) {
	for {
		n.mu.Lock()
		now := n.d.now()
		p, ok := n.scale.Grant(now)
		n.tellLocked()
		if !ok {
			n.byLocked(now, n.scale.Until())
		}
		n.mu.Unlock()
		if !ok {
			return n.hungry.Load() > 0
		}

		p.mu.Lock()
		now = n.d.now()
		p.scale.Place(now)
		p.unlock(now)

		n.mu.Lock()
		n.scale.Return(p)
		n.mu.Unlock()
	}
}

// yields charges a pool with what an invocation has used, and reports whether its
// instance is to give its place up. The caller holds p.mu.
func (n *node) yields(p *pool, in *instance, ran time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.scale.Yields(p, ran, in.Ends())
}

// relieve has room made if somebody waits: an instance may have become idle. For those
// that are passed over that is soon enough in a while.
func (n *node) relieve() {
	switch {
	case n.hungry.Load() == 0:
	case n.pressing.Load() > 0:
		go n.makeRoom()
	default:
		n.mu.Lock()
		now := n.d.now()
		n.byLocked(now, now+lookForPassed)
		n.mu.Unlock()
	}
}

const lookForPassed = 100 * time.Millisecond

// makeRoom gives free places away, and ends idle instances where that suffices for
// somebody who waits. No pool's lock is held.
func (n *node) makeRoom() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.making {
		n.again = true
		return
	}
	n.making = true
	for n.again = true; n.again; {
		n.again = false
		n.mu.Unlock()
		for n.give() && n.evict(true) {
		}
		n.mu.Lock()
	}
	n.making = false
}

func (n *node) suffices(instances, memoryMB int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.scale.Suffices(instances, memoryMB)
}

// spare is how many idle instances of a pool may give way. Its lock is held.
func (n *node) spare(p *pool) int {
	idle := p.scale.Spare()
	if idle == 0 {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.scale.Spares(p, idle)
}

// evict ends the idle instance that is worth least, of whichever pool, and reports
// whether there was one; where it has to suffice, only if all that are idle do. Its
// place is given away. No pool's lock is held.
func (n *node) evict(suffices bool) bool {
	var least *pool
	var priority float64
	instances, memoryMB := 0, 0
	n.d.pools.Range(func(_, v any) bool {
		p := v.(*pool)
		p.mu.Lock()
		defer p.mu.Unlock()
		if spare := n.spare(p); spare > 0 {
			instances += spare
			memoryMB += spare * p.MemoryMB
			n.mu.Lock()
			pr := n.scale.Priority(p.scale.Standing())
			n.mu.Unlock()
			if least == nil || pr < priority {
				least, priority = p, pr
			}
		}
		return true
	})
	if least == nil || suffices && !n.suffices(instances, memoryMB) {
		return false
	}
	least.mu.Lock()
	var in *instance
	ok := n.spare(least) > 0 // or it was just taken
	if ok {
		in, ok = least.scale.Evict()
	}
	least.mu.Unlock()
	if ok {
		n.mu.Lock()
		n.scale.Evicted(n.d.now(), priority)
		n.mu.Unlock()
		in.destroy()
	}
	return true
}
