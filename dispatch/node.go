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
	d      *Dispatcher
	hungry atomic.Int32 // pools that wait for a place

	mu     sync.Mutex // guards what follows; a pool's lock may be held when it is taken
	scale  scale.Node[*pool]
	making bool // somebody makes room
	again  bool // what is idle has changed meanwhile
}

func newNode(d *Dispatcher) *node {
	return &node{d: d, scale: scale.Node[*pool]{MaxInstances: d.cfg.MaxInstances, MemoryMB: d.cfg.MemoryMB}}
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

// admit counts one more instance and reports whether there is a place for it. If
// not, and somebody waits for it, the pool is told when there is one. The caller
// holds p.mu.
func (n *node) admit(p *pool, ahead bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	ok := n.scale.Admit(p, ahead)
	if !ok && !ahead {
		n.tellLocked()
		go n.makeRoom()
	}
	return ok
}

// leave counts an instance off, and gives places that are free to who waits.
func (n *node) leave(p *pool) {
	n.mu.Lock()
	n.scale.Leave(p)
	n.mu.Unlock()
	n.give()
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

func (n *node) tellLocked() { n.hungry.Store(int32(n.scale.Waiting())) }

// give offers the places that are free to those who wait, one at a time, and reports
// whether somebody waits for more room than there is. No pool's lock is held.
func (n *node) give() (short bool) {
	for {
		n.mu.Lock()
		p, ok := n.scale.Grant()
		n.tellLocked()
		n.mu.Unlock()
		if !ok {
			return n.hungry.Load() > 0
		}

		p.mu.Lock()
		now := n.d.now()
		p.scale.Place(now)
		p.unlock(now)

		n.mu.Lock()
		n.scale.Return(p)
		n.mu.Unlock()
	}
}

// yields charges a pool with what an invocation has used, and reports whether the
// instance is to give its place up. The caller holds p.mu.
func (n *node) yields(p *pool, ran time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.scale.Yields(p, ran)
}

// relieve has room made if somebody waits: an instance may have become idle.
func (n *node) relieve() {
	if n.hungry.Load() > 0 {
		go n.makeRoom()
	}
}

// makeRoom gives free places away, and ends idle instances while somebody waits. No
// pool's lock is held.
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
		for n.give() && n.evict() {
		}
		n.mu.Lock()
	}
	n.making = false
}

// evict ends the idle instance that is worth least, of whichever pool, and reports
// whether there was one. Its place is given away. No pool's lock is held.
func (n *node) evict() bool {
	var least *pool
	var priority float64
	n.d.pools.Range(func(_, v any) bool {
		p := v.(*pool)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.scale.Spare() > 0 {
			n.mu.Lock()
			pr := n.scale.Priority(p.scale.Standing())
			n.mu.Unlock()
			if least == nil || pr < priority {
				least, priority = p, pr
			}
		}
		return true
	})
	if least == nil {
		return false
	}
	least.mu.Lock()
	var in *instance
	ok := least.scale.Spare() > 0 // or it was just taken
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
