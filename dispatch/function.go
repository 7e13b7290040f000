package dispatch

import (
	"slices"
	"sync"
	"time"

	"lambent"
	"lambent/scale"
)

// A function is what the pools of its revisions share: a lock, a timer, and what the
// operator says about it. It is there while there is one of them, and its starts before
// may still count.
type function struct {
	d   *Dispatcher
	key string

	mu      sync.Mutex
	account scale.Account
	scaling *lambent.Scaling // that its bounds were made of
	pools   []*pool
	timer   *time.Timer
	armed   time.Duration // when it rings, or scale.Never
	gone    bool          // nothing will lead here again: what has its name is another
	aside   int           // instances that reserved has

	reserved scale.Reservation // guarded by the node's lock
}

func functionKey(n lambent.Name) string { return n.Project + "/" + n.Function }

// lock returns a function with its lock held.
func (d *Dispatcher) lock(n lambent.Name) *function {
	key := functionKey(n)
	for {
		v, ok := d.functions.Load(key)
		if !ok {
			made := &function{d: d, key: key, scaling: &lambent.Scaling{}, armed: scale.Never}
			made.timer = time.AfterFunc(time.Hour, made.ring)
			made.timer.Stop()
			v, _ = d.functions.LoadOrStore(key, made)
		}
		f := v.(*function)
		f.mu.Lock()
		if !f.gone {
			return f
		}
		f.mu.Unlock()
	}
}

// scaleLocked takes over what the operator says about the function now.
func (f *function) scaleLocked(s *lambent.Scaling) {
	if s == nil || s == f.scaling {
		return
	}
	f.scaling = s
	for _, p := range f.pools {
		p.scale.Set(p.boundsLocked())
	}
}

// reserveLocked sets aside what the function has reserved, or is to have ready.
func (f *function) reserveLocked(led []lambent.Target) {
	latest := led[slices.IndexFunc(led, func(t lambent.Target) bool { return t.Revision.Version == lambent.Latest })].Revision.Config
	if aside := f.scaling.SetAside(len(led), latest.Concurrency); f.d.node.reserve(&f.reserved, aside, latest.MemoryMB) {
		f.aside = aside
	} else {
		f.d.cfg.Logger.Error("not as much can be set aside for a function as it has reserved, or is to have ready: all functions' together are more than this server has",
			"function", f.key, "instances", aside, "memory_mb", latest.MemoryMB)
	}
}

// poolLocked returns the pool of a revision, which it may have to make.
func (f *function) poolLocked(rev *lambent.Revision) (p *pool, made bool) {
	if p, ok := f.d.pools.Load(rev.ID); ok {
		return p.(*pool), false
	}
	p = newPoolLocked(f, rev)
	f.d.pools.Store(rev.ID, p)
	return p, true
}

// provision has the pools of what is led to have the minimum, and those alone, and returns
// those that it has made. The lock is held, and let go.
func (f *function) provision(led []lambent.Target) (made []*pool) {
	f.scaling = led[0].Scaling
	f.reserveLocked(led)
	isLed := map[string]bool{}
	for _, t := range led {
		isLed[t.Revision.ID] = true
		if f.scaling.MinInstances == 0 {
			continue
		}
		if p, ok := f.poolLocked(t.Revision); ok {
			made = append(made, p)
		}
	}
	for _, p := range f.pools {
		p.led = isLed[p.rev.ID]
		p.scale.Set(p.boundsLocked())
	}
	f.unlock(f.d.now())
	return made
}

// unlock lets the function go, and has its pools asked again when they want to be.
func (f *function) unlock(now time.Duration) {
	next := f.account.Next()
	if len(f.pools) == 0 && f.aside == 0 && !f.gone {
		if next = f.account.Rested(); next <= now {
			f.goneLocked()
			next = scale.Never
		}
	}
	if next < f.armed {
		f.armed = next
		f.timer.Reset(max(0, next-now))
	}
	f.mu.Unlock()
}

// ring does what time brings.
func (f *function) ring() {
	f.mu.Lock()
	f.armed = scale.Never
	now := f.d.now()
	for _, p := range slices.Clone(f.pools) {
		if p.scale.Next() <= now {
			p.scale.Due(now)
			p.removeIfEmptyLocked()
		}
	}
	f.unlock(now)
}

func (f *function) goneLocked() {
	f.gone, f.aside = true, 0
	f.d.node.reserve(&f.reserved, 0, 0)
	f.d.functions.CompareAndDelete(f.key, f)
}

// changed retires the pools that nothing leads to any more, and revives those that something
// does again.
func (f *function) changed(deleted bool) {
	f.mu.Lock()
	pools := slices.Clone(f.pools)
	if deleted {
		f.goneLocked()
		for _, p := range pools {
			p.abandonLocked()
		}
	}
	f.unlock(f.d.now())
	for _, p := range pools {
		n := p.rev.Name
		n.Qualifier = p.rev.Version
		if t, err := f.d.cfg.Resolve(n); deleted || err != nil || t.Revision.ID != p.rev.ID {
			p.retire()
		} else {
			p.revive(t.Scaling) // a rollback leads to what a deploy has left
		}
	}
}
