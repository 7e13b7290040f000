package dispatch

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/scale"
)

// A node has the places for instances that all pools share: a number of them, and
// memory, which is never promised twice. Nobody asks it while instances that are
// there suffice. A pool that gets no place waits for one; places that come free go
// to those who wait, fairly between projects and their functions, and idle
// instances give way to them.
type node struct {
	d      *Dispatcher
	hungry atomic.Int32 // pools that wait for a place

	mu        sync.Mutex // guards what follows; a pool's lock may be held when it is taken
	instances int        // that exist or start
	memoryMB  int        // of those
	fair      scale.Fair
	greedy    scale.GreedyDual
	waiting   map[string]*pool // by the pool's id
	making    bool             // somebody makes room
	again     bool             // what is idle has changed meanwhile
}

// switchAfter is how much more than another who waits somebody has had before their
// place becomes that one's: as a switch is a cold start, each takes a while.
const switchAfter = 100 * time.Millisecond

// A want is a pool's part of the node's books.
type want struct {
	waits bool // on the list
	mine  bool // a place is kept for it
}

func newNode(d *Dispatcher) *node {
	return &node{d: d, waiting: map[string]*pool{}}
}

// holds returns an error if an instance of the revision has no place here, even
// alone.
func (n *node) holds(rev *lambent.Revision) error {
	if most, mb := n.d.cfg.MemoryMB, rev.Config.MemoryMB; most > 0 && mb > most {
		e := lambent.Errorf(lambent.Unavailable, "dispatch", "%s has a limit of %d MB, and instances on this server may be promised %d MB together", rev.Name, mb, most)
		e.Hint = "deploy it with less --memory, or start the server with more: lambent serve --memory " + strconv.Itoa(mb)
		return e
	}
	return nil
}

// fitsLocked reports whether there is a place for an instance of the pool's.
func (n *node) fitsLocked(p *pool) bool {
	cfg := &n.d.cfg
	return n.instances < cfg.MaxInstances &&
		(cfg.MemoryMB == 0 || n.memoryMB+p.rev.Config.MemoryMB <= cfg.MemoryMB)
}

func (n *node) countLocked(p *pool, by int) {
	n.instances += by
	n.memoryMB += by * p.rev.Config.MemoryMB
}

// admit counts one more instance and reports whether there is a place for it. If
// not, and somebody waits for it, the pool is told when there is one. The caller
// holds p.mu.
func (n *node) admit(p *pool, ahead bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case p.want.mine:
		p.want.mine = false // counted when it was kept
		return true
	case len(n.waiting) == 0 && n.fitsLocked(p):
		n.countLocked(p, 1)
		return true
	case ahead:
		return false
	}
	if !p.want.waits {
		p.want.waits = true
		n.waiting[p.id] = p
		n.fair.Wait(p.rev.Name.Project, p.id)
		n.hungry.Add(1)
	}
	go n.makeRoom()
	return false
}

// leave counts an instance off, and gives places that are free to who waits.
func (n *node) leave(p *pool) {
	n.mu.Lock()
	n.countLocked(p, -1)
	n.mu.Unlock()
	n.give()
}

// forget takes a pool off the list that wants nothing any more.
func (n *node) forget(p *pool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.want.waits {
		n.offLocked(p)
	}
}

func (n *node) offLocked(p *pool) {
	p.want.waits = false
	delete(n.waiting, p.id)
	n.fair.Leave(p.rev.Name.Project, p.id)
	n.hungry.Add(-1)
}

// give offers the places that are free to those who wait, one at a time. No pool's
// lock is held.
func (n *node) give() {
	for {
		n.mu.Lock()
		project, id, ok := n.fair.Next()
		p := n.waiting[id]
		if !ok || p == nil || !n.fitsLocked(p) {
			n.mu.Unlock()
			return
		}
		n.fair.Charge(project, id, p.worth(0), 1)
		n.offLocked(p)
		p.want.mine = true
		n.countLocked(p, 1)
		n.mu.Unlock()

		p.mu.Lock()
		now := n.d.now()
		p.scale.Place(now)
		p.unlock(now)

		n.mu.Lock()
		if p.want.mine { // it needs none any more
			p.want.mine = false
			n.countLocked(p, -1)
		}
		n.mu.Unlock()
	}
}

// worth is what so much time of an instance is, in GB-ms; of no time, that of a
// short call.
func (p *pool) worth(ran time.Duration) float64 {
	return float64(p.rev.Config.MemoryMB) / 1024 * max(1, ran.Seconds()*1000)
}

// yields charges a pool with what an invocation has used, and reports whether the
// instance is to give its place to another project's, or function's, which has had
// less. The caller holds p.mu.
func (n *node) yields(p *pool, ran time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) == 0 {
		return false
	}
	n.fair.Charge(p.rev.Name.Project, p.id, p.worth(ran), 1)
	return n.fair.Behind(p.rev.Name.Project, p.id, p.worth(switchAfter))
}

// relieve has room made if somebody waits: an instance may have become idle.
func (n *node) relieve() {
	if n.hungry.Load() > 0 {
		go n.makeRoom()
	}
}

// makeRoom ends idle instances until there is room for the first that waits. No
// pool's lock is held.
func (n *node) makeRoom() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.making {
		n.again = true
		return
	}
	n.making = true
	for {
		n.again = false
		_, id, ok := n.fair.Next()
		if p := n.waiting[id]; !ok || p == nil || n.fitsLocked(p) {
			break
		}
		n.mu.Unlock()
		ended := n.evict()
		n.mu.Lock()
		if !ended && !n.again {
			break
		}
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
			pr := n.greedy.Priority(p.scale.Standing())
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
		n.greedy.Evicted(n.d.now(), priority)
		n.mu.Unlock()
		in.destroy()
	}
	return true
}
