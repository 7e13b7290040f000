package dispatch

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"lambent"
)

// A pool holds the instances of one revision. An instance is starting, idle or
// busy; invocations without one wait in line. Whichever frees first, an instance
// that was busy or one that was starting, takes the first in line.
type pool struct {
	d   *Dispatcher
	rev *lambent.Revision
	log Log

	mu       sync.Mutex
	idle     []*instance // a stack: the last one is the hottest
	all      map[*instance]struct{}
	waiters  list.List // of *waiter, first come first served
	starting int
	settling int           // instances that have answered and are about to be free
	total    int           // instances that exist or start
	took     time.Duration // what the last start took: how long settling is waited for
	patience *time.Timer   // runs while an invocation waits for a settling instance
	max      int
	keep     time.Duration
	retired  bool // nothing leads here any more
	gone     bool // abandoned: nothing will lead here again
	removed  bool // from the dispatcher's table
	starved  bool // on the dispatcher's list; guarded by its lock
	expiry   *time.Timer
	frost    *time.Timer // freezes what has been idle for long enough
	freezing bool        // frost runs, or is about to
}

// A waiter is one invocation in line.
type waiter struct{ granted chan grant } // of capacity 1

// A grant ends a wait: with an instance, with the fault of a start that failed, or
// with the platform's error.
type grant struct {
	instance *instance
	fault    *lambent.Fault
	started  string        // the sandbox of a failed start
	init     time.Duration // how long it took
	err      error
}

func newPool(d *Dispatcher, rev *lambent.Revision) *pool {
	p := &pool{d: d, rev: rev, all: map[*instance]struct{}{}, log: d.cfg.Log(rev.Name)}
	p.expiry = time.AfterFunc(time.Hour, p.expire)
	p.expiry.Stop()
	p.frost = time.AfterFunc(time.Hour, p.freeze)
	p.frost.Stop()
	p.patience = time.AfterFunc(time.Hour, func() {
		p.mu.Lock()
		p.startUpToLocked(p.waiters.Len())
		p.mu.Unlock()
	})
	p.patience.Stop()
	return p
}

// scaleLocked takes over what the operator says about the function now.
func (p *pool) scaleLocked(s *lambent.Scaling) {
	p.max, p.keep = p.d.cfg.MaxInstances, p.d.cfg.KeepAlive
	if s == nil {
		return
	}
	if s.MaxInstances > 0 {
		p.max = min(p.max, s.MaxInstances)
	}
	if s.Reserved != nil {
		p.max = min(p.max, *s.Reserved)
	}
	if s.KeepAlive != nil {
		p.keep = *s.KeepAlive
	}
}

// acquire returns an instance that nobody else has, or how the attempt to start
// one failed. It waits in line as long as ctx allows.
func (p *pool) acquire(ctx context.Context, s *lambent.Scaling) (grant, error) {
	p.mu.Lock()
	if p.removed { // it ended between the look-up and here
		p.mu.Unlock()
		return p.d.pool(lambent.Target{Revision: p.rev}).acquire(ctx, s)
	}
	p.scaleLocked(s)
	if n := len(p.idle); n > 0 {
		in := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		in.wake()
		return grant{instance: in}, nil
	}
	if p.waiters.Len() >= p.d.cfg.MaxQueue {
		p.mu.Unlock()
		e := lambent.Errorf(lambent.Throttled, "dispatch", "%d invocations of %s wait already", p.d.cfg.MaxQueue, p.rev.Name)
		e.RetryAfter = time.Second
		return grant{}, e
	}
	w := &waiter{granted: make(chan grant, 1)}
	place := p.waiters.PushBack(w)
	p.startLocked()
	p.mu.Unlock()

	select {
	case g := <-w.granted:
		return g, g.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	p.waiters.Remove(place)
	p.mu.Unlock()
	select {
	case g := <-w.granted: // granted at the same moment: the next in line has it
		if g.instance != nil {
			p.release(g.instance, nil)
		}
	default:
	}
	return grant{}, lambent.Errorf(lambent.Canceled, "dispatch", "the caller is gone: %w", ctx.Err())
}

// startLocked starts instances while there are invocations in line that none of
// the starting ones is for. An instance that has answered is usually free again
// sooner than another could start: those are counted on for as long as a start
// takes.
func (p *pool) startLocked() {
	if p.settling > 0 && p.starting < p.waiters.Len() {
		p.patience.Reset(p.took)
	}
	p.startUpToLocked(p.waiters.Len() - p.settling)
}

func (p *pool) startUpToLocked(n int) {
	for p.starting < n && p.total < p.max && p.d.admit(p) {
		p.starting++
		p.total++
		go p.start()
	}
}

// start makes one instance and offers it, or fails the first in line.
func (p *pool) start() {
	begun := time.Now()
	in, err := p.launch(context.Background())
	if err == nil {
		in.cold = true
		p.mu.Lock()
		p.starting--
		p.took = time.Since(begun)
		p.mu.Unlock()
		p.release(in, nil)
		return
	}
	p.mu.Lock()
	p.starting--
	p.total--
	g := grant{err: err}
	if f, ok := errors.AsType[*failure](err); ok {
		g = grant{fault: f.fault, started: f.sandbox, init: f.took}
	}
	if w := p.nextLocked(); w != nil {
		w.granted <- g
	}
	p.startLocked()
	p.removeIfEmptyLocked()
	p.mu.Unlock()
	p.d.gone()
}

// settle releases an instance that has answered once the guest says that it can
// take another invocation.
func (p *pool) settle(in *instance) {
	p.mu.Lock()
	p.settling++
	p.mu.Unlock()
	in.guest.Settle(func(err error) {
		p.mu.Lock()
		p.settling--
		p.mu.Unlock()
		p.release(in, err)
	})
}

// prepare makes one instance ahead of any invocation.
func (p *pool) prepare(ctx context.Context, s *lambent.Scaling) error {
	p.mu.Lock()
	if p.removed || p.gone {
		p.mu.Unlock()
		return p.d.pool(lambent.Target{Revision: p.rev}).prepare(ctx, s)
	}
	p.retired = false // whoever asks is about to lead here, maybe again
	p.scaleLocked(s)
	admitted := p.d.admit(p)
	if admitted {
		p.total++
	}
	p.mu.Unlock()
	if !admitted {
		return lambent.Errorf(lambent.Throttled, "dispatch.Prepare", "all %d instances of this server are busy", p.d.cfg.MaxInstances)
	}
	in, err := p.launch(ctx)
	if err == nil {
		p.release(in, nil)
		return nil
	}
	p.mu.Lock()
	p.total--
	p.removeIfEmptyLocked()
	p.mu.Unlock()
	p.d.gone()
	if f, ok := errors.AsType[*failure](err); ok {
		return f.fault
	}
	return err
}

// nextLocked takes the first waiter out of the line, or returns nil.
func (p *pool) nextLocked() *waiter {
	if e := p.waiters.Front(); e != nil {
		return p.waiters.Remove(e).(*waiter)
	}
	return nil
}

// release gives an instance to the first in line, or to the stack of idle ones.
// An instance with an error, or that nothing leads to, is destroyed. It does not
// block.
func (p *pool) release(in *instance, err error) {
	p.mu.Lock()
	if err == nil && !in.dead {
		if w := p.nextLocked(); w != nil {
			w.granted <- grant{instance: in} // under the lock: who leaves the line looks for it after taking that
			p.mu.Unlock()
			return
		}
		if p.keep > 0 && !p.retired && p.d.hungry.Load() == 0 {
			in.idleSince = time.Now()
			p.idle = append(p.idle, in)
			if len(p.idle) == 1 {
				p.expiry.Reset(p.keep)
			}
			if after := p.d.cfg.FreezeAfter; after > 0 && !p.freezing {
				p.freezing = true
				p.frost.Reset(after)
			}
			in.rest()
			p.mu.Unlock()
			return
		}
	}
	p.mu.Unlock()
	go in.destroy()
}

// expire ends the instances that have been idle for longer than the keep-alive.
func (p *pool) expire() {
	p.mu.Lock()
	now := time.Now()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].idleSince) >= p.keep {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	if len(p.idle) > 0 {
		p.expiry.Reset(p.keep - now.Sub(p.idle[0].idleSince))
	}
	p.mu.Unlock()
	for _, in := range old {
		go in.destroy()
	}
}

// evict ends the instance that has been idle for longest.
func (p *pool) evict() {
	p.mu.Lock()
	var in *instance
	if len(p.idle) > 0 {
		in = p.idle[0]
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	p.mu.Unlock()
	if in != nil {
		in.destroy()
	}
}

// died takes an instance whose sandbox ended by itself off the stack.
func (p *pool) died(in *instance) {
	p.mu.Lock()
	in.dead = true
	i := slices.Index(p.idle, in)
	if i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 {
		in.destroy()
	}
}

// revive takes back a retirement: something leads here again.
func (p *pool) revive() {
	p.mu.Lock()
	p.retired = p.gone
	p.mu.Unlock()
}

// abandon retires the pool of what was deleted for good. What is made under its
// name later is something else, though it be the same code: it has a pool and a
// log of its own.
func (p *pool) abandon() {
	p.mu.Lock()
	if !p.gone && !p.removed {
		p.gone = true
		p.d.pools.Store(p, p) // Close must find it
		p.d.pools.CompareAndDelete(p.rev.ID, p)
	}
	p.mu.Unlock()
	p.retire()
}

// retire ends the idle instances now and the busy ones when they are done. What
// is in line is served to the end.
func (p *pool) retire() {
	p.mu.Lock()
	p.retired = true
	idle := p.idle
	p.idle = nil
	p.removeIfEmptyLocked()
	p.mu.Unlock()
	for _, in := range idle {
		go in.destroy()
	}
}

// destroyed is called once for each instance, after its end.
func (p *pool) destroyed(in *instance) {
	p.mu.Lock()
	delete(p.all, in)
	p.total--
	p.startLocked() // its place may be wanted
	p.removeIfEmptyLocked()
	p.mu.Unlock()
	p.d.gone()
}

// removeIfEmptyLocked forgets a pool without instances and waiters.
func (p *pool) removeIfEmptyLocked() {
	if p.total == 0 && p.waiters.Len() == 0 && !p.removed {
		p.removed = true
		p.expiry.Stop()
		p.frost.Stop()
		p.patience.Stop()
		p.d.pools.CompareAndDelete(p.rev.ID, p)
		p.d.pools.Delete(p)
	}
}

// close fails whoever is in line and returns every instance.
func (p *pool) close() []*instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	for w := p.nextLocked(); w != nil; w = p.nextLocked() {
		w.granted <- grant{err: errDraining}
	}
	p.idle = nil
	all := make([]*instance, 0, len(p.all))
	for in := range p.all {
		all = append(all, in)
	}
	return all
}
