package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"lambent"
	"lambent/scale"
)

// A pool holds the instances of one revision. What becomes of them, and of the
// invocations that wait for one, its scale.Pool decides; this is who does it, under
// its function's lock.
type pool struct {
	*function
	scale.Claim // of places; what changes of it is guarded by the node's lock

	rev *lambent.Revision
	log Log

	wanted chan struct{} // one start ahead that waits for its turn hears of each call that is in line

	// What follows is guarded by mu, the function's.
	scale    *scale.Pool[*instance, *waiter]
	habits   *scale.Thrift // of the function's callers
	learns   bool          // habits is the policy
	led      bool          // latest is the revision, or an alias leads to it: it has the minimum
	all      map[*instance]struct{}
	launches map[*launch]struct{}
	broken   *failure // of the last start that the code failed
	removed  bool     // from the dispatcher's table
}

// A waiter is one invocation in line.
type waiter struct {
	scale.Waiter
	granted chan grant // of capacity 1
}

// A grant ends a wait: with an instance, with a start that the code failed, or with
// the platform's error.
type grant struct {
	instance *instance
	failed   *failure
	err      error
}

// newPoolLocked adds a pool to its function.
func newPoolLocked(f *function, rev *lambent.Revision) *pool {
	d := f.d
	p := &pool{function: f, rev: rev, wanted: make(chan struct{}), all: map[*instance]struct{}{}, launches: map[*launch]struct{}{}, log: d.cfg.Log(rev.Name), habits: scale.NewThrift(scale.DefaultRate)}
	p.Claim = scale.Claim{Project: rev.Name.Project, Pool: strconv.FormatInt(d.made.Add(1), 10), MemoryMB: rev.Config.MemoryMB, Reserved: &f.reserved}
	p.scale = scale.NewPool(&f.account, p.boundsLocked(), host{p})
	f.pools = append(f.pools, p)
	return p
}

// boundsLocked are what the operator says about the function, for this pool.
func (p *pool) boundsLocked() scale.Config {
	s, cfg, node := p.scaling, p.rev.Config, &p.d.cfg
	c := scale.Default(cfg.MemoryMB)
	c.Concurrency, c.Max, c.Queue, c.FreezeAfter = cfg.Concurrency, node.MaxInstances, node.MaxQueue, node.FreezeAfter
	c.Processors = runtime.NumCPU()
	if node.MaxStarts > 0 {
		c.Rate, c.Burst = float64(node.MaxStarts), 10*node.MaxStarts
	}
	if s.MaxInstances > 0 {
		c.Max = min(c.Max, s.MaxInstances)
	}
	if s.Reserved != nil {
		c.Max, c.Calls = min(c.Max, *s.Reserved), *s.Reserved
	}
	if p.led {
		c.Min = min(s.MinInstances, c.Max)
	}
	keep := cmp.Or(s.KeepAlive, node.KeepAlive)
	if c.Policy, p.learns = p.habits, keep == nil; keep != nil {
		c.Policy, c.Forecast = scale.Fixed(*keep), false
	}
	return c
}

// acquire returns an instance that has room for the invocation, or how the attempt
// to start one failed. It waits in line as long as ctx and the caller's deadline allow.
func (p *pool) acquire(ctx context.Context, s *lambent.Scaling, a *attempt) (grant, error) {
	deadline := sooner(ctx, a.inv.Deadline)
	if err := p.over(ctx, a.arrived, deadline); err != nil {
		return grant{}, err
	}
	p.mu.Lock()
	if p.removed { // it ended between the look-up and here
		p.mu.Unlock()
		return p.d.pool(lambent.Target{Revision: p.rev}).acquire(ctx, s, a)
	}
	p.scaleLocked(s)
	now := p.d.now()
	if in, ok := p.scale.Take(now); ok {
		p.unlock(now)
		in.wake()
		return grant{instance: in}, nil
	}
	until := scale.Never
	var passed <-chan time.Time
	if !deadline.IsZero() {
		until = now + time.Until(deadline)
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		passed = timer.C
	}
	w := &waiter{granted: make(chan grant, 1)}
	if r := p.scale.Wait(now, until, w); r != (scale.Refusal{}) {
		g := p.refusalLocked(r)
		p.removeIfEmptyLocked()
		p.unlock(now)
		return g, g.err
	}
	p.unlock(now)
	select {
	case p.wanted <- struct{}{}: // it is likely to be that one's
	default:
	}

	var err error
	select {
	case g := <-w.granted:
		if g.instance == nil {
			return g, g.err
		}
		if err := p.over(ctx, a.arrived, deadline); err != nil {
			p.free(g.instance, 0)
			return grant{}, err
		}
		g.instance.wake()
		return g, nil
	case <-ctx.Done():
		err = p.over(ctx, a.arrived, deadline)
	case <-passed:
		err = p.tooLate(a.arrived, deadline)
	}
	p.mu.Lock()
	left := p.scale.Leave(w)
	p.removeIfEmptyLocked()
	p.unlock(p.d.now())
	if !left { // granted at the same moment: the next in line has it
		if g := <-w.granted; g.instance != nil {
			p.free(g.instance, 0)
		}
	}
	return grant{}, err
}

// over returns an error if an answer is of no more use to the caller, whose deadline has
// passed or who is gone: that costs no run.
func (p *pool) over(ctx context.Context, since, deadline time.Time) error {
	switch {
	case !deadline.IsZero() && time.Until(deadline) <= 0:
		return p.tooLate(since, deadline)
	case ctx.Err() != nil:
		return gone(ctx)
	}
	return nil
}

func gone(ctx context.Context) error {
	return lambent.Errorf(lambent.Canceled, "dispatch", "the caller is gone: %w", ctx.Err())
}

// refusalLocked is what an invocation gets in an instance's place.
func (p *pool) refusalLocked(r scale.Refusal) grant {
	waiting, longest := p.account.Waiting(), scale.Default(0).QueueWait
	var e *lambent.Error
	switch {
	case r.Reason == scale.Crashing && p.broken != nil:
		return grant{failed: p.broken.again()}
	case r.Reason == scale.Closed:
		return grant{err: errDraining}
	case r.Reason == scale.Stopped:
		e = lambent.Errorf(lambent.Throttled, "dispatch", "the function's reserved concurrency is 0: it is stopped").WithHint("lambent deploy --reserved -1")
		e.Reason = lambent.ReasonReserved
	case r.Reason == scale.TooLate:
		e = lambent.Errorf(lambent.Throttled, "dispatch", "%s could not begin before its caller's deadline: %d invocations wait", p.rev.Name, waiting)
	case r.Reason == scale.NoPlace:
		e = lambent.Errorf(lambent.Throttled, "dispatch", "this server has had no room for an instance of %s (%d MB) in %v: other functions keep it", p.rev.Name, p.rev.Config.MemoryMB, longest).
			WithHint("lower what they keep ready or reserve (lambent deploy --min, --reserved), or start the server with more: lambent serve --memory, --max-instances")
	case r.Reason == scale.TooLong:
		e = lambent.Errorf(lambent.Throttled, "dispatch", "an invocation of %s would wait for longer than %v: %d wait already", p.rev.Name, longest, waiting).
			WithHint("let more run at a time: %s", p.moreLocked())
		e.Reason = p.reasonLocked()
	default:
		e = lambent.Errorf(lambent.Throttled, "dispatch", "%d invocations of %s wait already, as many as may", waiting, p.rev.Name).
			WithHint("let more run at a time (%s), or more wait (lambent serve --max-queue, which is %d)", p.moreLocked(), p.account.Queue)
		e.Reason = p.reasonLocked()
	}
	e.RetryAfter = r.RetryAfter
	return grant{err: e}
}

// moreLocked is what would have more of the function run at a time.
func (p *pool) moreLocked() string {
	switch s := p.scaling; {
	case s.Reserved != nil:
		return fmt.Sprintf("lambent deploy --reserved, which is %d", *s.Reserved)
	case s.MaxInstances > 0:
		return fmt.Sprintf("lambent deploy --max, which is %d", s.MaxInstances)
	}
	return "lambent serve --memory, --max-instances"
}

// reasonLocked is AWS's word for why there are not more, if it has one.
func (p *pool) reasonLocked() string {
	if p.scaling.Reserved != nil {
		return lambent.ReasonReserved
	}
	return ""
}

// A host does what its pool's scale.Pool decides. It is called with p.mu held.
type host struct{ p *pool }

var _ scale.Host[*instance, *waiter] = host{}

// Start implements scale.Host.
func (h host) Start(why scale.Cause) bool {
	if !h.p.d.node.admit(h.p, why.Ahead()) {
		return false
	}
	go h.p.start(why)
	return true
}

// Enough implements scale.Host.
func (h host) Enough() { h.p.d.node.forget(h.p) }

// Full implements scale.Host.
func (h host) Full() bool { return h.p.d.balance.full.Load() }

// Serve implements scale.Host.
func (h host) Serve(w *waiter, in *instance) { w.granted <- grant{instance: in} }

// Refuse implements scale.Host.
func (h host) Refuse(w *waiter, r scale.Refusal) { w.granted <- h.p.refusalLocked(r) }

// End implements scale.Host.
func (h host) End(in *instance) { go in.destroy() }

// Freeze implements scale.Host.
func (h host) Freeze(in *instance) { go in.freeze() }

// start makes one instance and offers it, or fails the first in line.
func (p *pool) start(why scale.Cause) {
	begun := p.d.now()
	in, err := p.launch(context.Background(), why)
	p.mu.Lock()
	now := p.d.now()
	if err == nil {
		p.broken = nil
		p.scale.Started(now, in, now-begun)
		p.unlock(now)
		p.d.node.relieve()
		return
	}
	if errors.Is(err, errUnneeded) {
		p.scale.Canceled(now)
		p.removeIfEmptyLocked()
		p.unlock(now)
		p.d.node.leave(p)
		return
	}
	f, isCodes := errors.AsType[*failure](err)
	g := grant{err: err}
	if isCodes {
		p.broken, g = f, grant{failed: f}
	}
	if w, ok := p.scale.Failed(now, isCodes); ok {
		w.granted <- g
	} else if !isCodes {
		p.d.cfg.Logger.Error("an instance cannot be started", "function", p.rev.Name, "error", err)
	}
	p.removeIfEmptyLocked()
	p.unlock(now)
	p.d.node.leave(p)
}

// excess reports whether one of the starts under way is for nobody any more.
func (p *pool) excess() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.scale.Excess(p.d.now())
}

// prepare makes one instance ahead of any invocation, of a function that is to be scaled so.
func (p *pool) prepare(ctx context.Context, s *lambent.Scaling) error {
	p.mu.Lock()
	if p.removed || p.gone {
		p.mu.Unlock()
		return p.d.pool(lambent.Target{Revision: p.rev}).prepare(ctx, s)
	}
	p.scale.Revive() // whoever asks is about to lead here, maybe again
	admitted := p.d.node.admit(p, true)
	for !admitted {
		p.mu.Unlock()
		evicted := p.d.node.evict(false)
		p.mu.Lock()
		if p.removed {
			p.mu.Unlock()
			return p.prepare(ctx, s)
		}
		if admitted = p.d.node.admit(p, true); !evicted {
			break
		}
	}
	if admitted && !p.scale.Begin() { // as many as there may be have shown that the code starts
		p.removeIfEmptyLocked()
		p.unlock(p.d.now())
		p.d.node.leave(p)
		return nil
	}
	if !admitted {
		p.unlock(p.d.now())
		return p.prepareInTurn(ctx)
	}
	p.unlock(p.d.now())
	begun, why := p.d.now(), scale.Forecast
	if s != nil && s.MinInstances > 0 {
		why = scale.Minimum
	}
	in, err := p.launch(ctx, why)
	p.mu.Lock()
	now := p.d.now()
	if err == nil {
		p.broken = nil
		p.scale.Started(now, in, now-begun)
		p.unlock(now)
		p.d.node.relieve()
		return nil
	}
	p.scale.Canceled(now)
	p.removeIfEmptyLocked()
	p.unlock(now)
	p.d.node.leave(p)
	if f, ok := errors.AsType[*failure](err); ok {
		return f.fault
	}
	return err
}

// prepareInTurn has an instance made as for a call, which waits for a place and its turn
// among those who do: where they never end, there would be no other.
func (p *pool) prepareInTurn(ctx context.Context) error {
	g, err := p.acquire(ctx, nil, &attempt{inv: &lambent.Invocation{}, arrived: time.Now()})
	switch {
	case lambent.Is(err, lambent.Throttled):
		return lambent.Errorf(lambent.Throttled, "dispatch.Prepare", "this server has no room for another instance of %d MB: the others are busy", p.rev.Config.MemoryMB).
			WithHint("try again, deploy it unseen (--check=false), or start the server with more: lambent serve --memory, --max-instances")
	case err != nil:
		return err
	case g.failed != nil:
		return g.failed.fault
	}
	p.free(g.instance, 0)
	return nil
}

// settle frees an instance that has answered, having computed for so long, once the guest says that it can take
// another invocation in that one's place. It reports whether somebody waits for one.
func (p *pool) settle(in *instance, since time.Time, computed time.Duration) (waited bool) {
	p.mu.Lock()
	p.scale.Answered(in, computed)
	waited = p.scale.Stats().Waiting > 0
	p.mu.Unlock()
	ran := time.Since(since)
	in.guest.Settle(func(err error) {
		if err != nil {
			go p.lose(in, since)
			return
		}
		p.free(in, ran)
	})
	return waited
}

// free gives back the place of an invocation that took so long. It does not block.
func (p *pool) free(in *instance, ran time.Duration) {
	p.mu.Lock()
	now := p.d.now()
	if p.d.node.pressing.Load() > 0 && p.d.node.yields(p, in, ran) {
		p.scale.Died(in) // it ends once it is free: its place is another's
	}
	p.scale.Free(now, in, ran)
	p.unlock(now)
	p.d.node.relieve()
}

// lose gives back the place of an invocation whose instance is to serve no other.
// Those that are in flight there are let end, each by its own deadline; the last
// destroys it.
func (p *pool) lose(in *instance, since time.Time) {
	p.mu.Lock()
	p.scale.Died(in)
	now := p.d.now()
	others := in.Serves() > 1
	if others {
		p.scale.Free(now, in, time.Since(since))
	}
	p.unlock(now)
	if !others {
		in.destroy()
	}
}

// died notes that an instance's sandbox has ended by itself.
func (p *pool) died(in *instance) {
	p.mu.Lock()
	unused := p.scale.Died(in)
	p.mu.Unlock()
	if unused {
		in.destroy()
	}
}

// revive takes back a retirement, as something leads here, and takes over what the
// operator says now.
func (p *pool) revive(s *lambent.Scaling) {
	p.mu.Lock()
	if !p.gone {
		p.scale.Revive()
		p.scaleLocked(s)
	}
	p.unlock(p.d.now())
	p.d.node.relieve()
}

// abandonLocked has nothing lead here again, as the function was deleted for good. What
// is made under its name later is something else, though it be the same code: it has pools
// and a log of its own.
func (p *pool) abandonLocked() {
	p.d.pools.Store(p, p) // Close must find it
	p.d.pools.CompareAndDelete(p.rev.ID, p)
}

// retire ends the idle instances now and the busy ones when they are done. What
// is in line is served to the end.
func (p *pool) retire() {
	p.mu.Lock()
	p.scale.Retire()
	p.removeIfEmptyLocked()
	p.unlock(p.d.now())
}

// destroyed is called once for each instance, after its end.
func (p *pool) destroyed(in *instance) {
	p.mu.Lock()
	now := p.d.now()
	delete(p.all, in)
	p.scale.Gone(now, in)
	p.removeIfEmptyLocked()
	p.unlock(now)
	p.d.node.leave(p)
}

// removeIfEmptyLocked forgets a pool in which nothing is and nothing will be of
// itself.
func (p *pool) removeIfEmptyLocked() {
	if p.scale.Empty() && p.scale.Next() == scale.Never && !p.removed {
		p.removed = true
		p.scale.Quit()
		p.pools = slices.DeleteFunc(p.pools, func(q *pool) bool { return q == p })
		p.d.learnt.leave(p)
		p.d.pools.CompareAndDelete(p.rev.ID, p)
		p.d.pools.Delete(p)
	}
}

// close fails whoever is in line and returns every instance.
func (p *pool) close() []*instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scale.Close()
	all := make([]*instance, 0, len(p.all))
	for in := range p.all {
		all = append(all, in)
	}
	return all
}
