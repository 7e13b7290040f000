package dispatch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/sandbox"
	"lambent/scale"
)

// An instance is a sandbox with a revision's code initialised in it.
type instance struct {
	scale.Instance // guarded by p.mu

	p        *pool
	begun    time.Time // its start
	sandbox  sandbox.Sandbox
	guest    guest.Instance
	kind     string // the guest's name
	output   *output
	place    time.Duration // from the start's beginning until the code was in place
	init     time.Duration // from then on until it was initialised
	repeated time.Duration // of init: what counts as a part of the first invocation
	cpuUS    atomic.Int64  // as of the last invocation's end
	division *division     // nil: it serves one at a time

	why     scale.Cause // it was started
	fresh   atomic.Bool // no invocation has had it
	settled atomic.Bool // from being one that starts to its share of the processor

	once sync.Once // destroys

	freezer  sandbox.Freezer // nil: the driver has none
	freezeMu sync.Mutex      // guards what follows; held while the sandbox is frozen or thawed
	frozen   bool
}

// A failure is a start that the code itself failed.
type failure struct {
	fault   *lambent.Fault
	sandbox string
	place   time.Duration
	took    time.Duration     // of the init
	late    lambent.FaultKind // that it overran its limit; or ""
	guest   guest.Instance    // has the words for late
	kind    string            // as of an instance
}

// words are the failure as one invocation is told of it.
func (f *failure) words(inv *lambent.Invocation) *lambent.Fault {
	if f.late == "" {
		return f.fault
	}
	fault := *f.guest.Fault(f.late, inv)
	fault.Said = f.fault.Said
	return &fault
}

// again is the failure as it is told to those for whom nothing was started.
func (f *failure) again() *failure {
	return &failure{fault: f.fault, late: f.late, guest: f.guest, kind: f.kind}
}

func (f *failure) Error() string { return f.fault.Error() }

// launch makes an instance. An init that overruns its limit is repeated once in a
// sandbox of its own, as a part of the invocation that waits for it and under the
// function's timeout: as on Lambda. Its error is a *failure where the code is to blame.
func (p *pool) launch(ctx context.Context, why scale.Cause) (*instance, error) {
	l := &launch{begun: time.Now()}
	p.track(func() { p.launches[l] = struct{}{} })
	defer p.track(func() { delete(p.launches, l) })
	in, err := p.try(ctx, why, l, p.d.cfg.Limits.InitTimeout)
	first, ok := errors.AsType[*failure](err)
	if !ok || first.late == "" {
		return in, err
	}
	p.log.Line(time.Now(), p.rev.Version, "", initReport(first.took, "init"))
	// A web server may have an hour for a request, and has no more than others to start.
	in, err = p.try(ctx, why, l, min(p.rev.Config.Timeout, p.d.cfg.Limits.MaxTimeout))
	if f, ok := errors.AsType[*failure](err); ok {
		f.place, f.took = f.place+first.place, f.took+first.took
		if f.late != "" {
			p.log.Line(time.Now(), p.rev.Version, "", initReport(f.took-first.took, "invoke"))
		}
		if f.late != "" && !why.Ahead() {
			f.late = lambent.FaultTimeout
			f.fault = f.words(nil)
		}
	}
	if err == nil {
		in.repeated = in.init
		in.place, in.init = in.place+first.place, in.init+first.took
	}
	return in, err
}

// track changes what is under way.
func (p *pool) track(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// try takes a revision through Assign and Init, in a sandbox with its runtime booted,
// or about to be where its environment only works then. The code has so long from
// when there is a sandbox for it.
func (p *pool) try(ctx context.Context, why scale.Cause, l *launch, limit time.Duration) (*instance, error) {
	d, begun, ahead := p.d, time.Now(), why.Ahead()
	if !d.begin() {
		return nil, errDraining
	}
	defer d.starting.Done() // the instance is one that Close finds
	cfg := p.rev.Config
	rt, err := d.cfg.Runtime(cfg.Runtime)
	if err != nil {
		return nil, err
	}
	tree, err := d.cfg.Tree(p.rev, rt)
	if err != nil {
		return nil, err
	}
	var secrets map[string]string
	if d.cfg.Secrets != nil && len(cfg.Secrets) > 0 {
		if secrets, err = d.cfg.Secrets(p.rev); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.alive, cancel)()

	if fixed := rt.Fixed(cfg); len(fixed) > 0 {
		p.log.Line(time.Now(), p.rev.Version, "", lateLine(rt.Name, fixed))
		rt = rt.Late()
	} else if c, ok := d.cfg.Guests[rt.Guest].(guest.Chooser); ok {
		rt = c.Choose(rt, p.rev, tree)
	}
	var wanted <-chan struct{}
	if ahead {
		wanted = p.wanted
	}
	b, err := d.parking.take(ctx, rt, wanted, func() bool { return ahead || !p.excess() })
	if err != nil {
		return nil, err
	}
	p.track(func() { l.placed = time.Time{} })
	in := &instance{p: p, why: why, begun: begun, sandbox: b.sandbox, guest: b.guest, kind: rt.Guest, output: newOutput(b.sandbox.Output(), p.log, p.rev.Version)}
	in.freezer, _ = b.sandbox.(sandbox.Freezer)
	in.fresh.Store(true)
	d.balance.join(in)
	limited, cancelLimit := context.WithTimeout(ctx, limit)
	defer cancelLimit()
	if err := in.boot(limited, l, tree, secrets); err != nil {
		in.end()
		return nil, err
	}
	p.mu.Lock()
	p.all[in] = struct{}{}
	p.mu.Unlock()
	go func() {
		<-in.sandbox.Done()
		p.died(in)
	}()
	return in, nil
}

func (in *instance) boot(ctx context.Context, l *launch, tree string, secrets map[string]string) error {
	cfg := in.p.rev.Config
	task := sandbox.Task{Code: tree, MemoryMB: cfg.MemoryMB, TmpMB: cfg.TmpMB, Network: in.p.rev.Network}
	cpu := in.usedUS() // booting the runtime was ours, not the code's
	in.cpuUS.Store(cpu)
	if cfg.Concurrency > 1 {
		in.division = new(division)
		in.division.cpu.start(cpu)
	}
	placed := time.Now() // or later: from then on it is the code that takes its time
	err := in.guest.Init(ctx, guest.Unit{Revision: in.p.rev, InitType: in.initType(), Secrets: secrets, Paths: in.sandbox.Paths(task), Place: func(s sandbox.Start) error {
		task.Start = s
		err := in.sandbox.Assign(ctx, task)
		placed = time.Now()
		in.p.track(func() { l.placed = placed })
		return err
	}})
	in.place, in.init = placed.Sub(in.begun), time.Since(placed)
	if err == nil {
		return nil
	}
	var late lambent.FaultKind
	if errors.Is(err, context.DeadlineExceeded) {
		late, err = lambent.FaultInit, in.guest.Fault(lambent.FaultInit, nil)
	}
	if f, ok := errors.AsType[*lambent.Fault](err); ok {
		in.output.drain()
		if f.Said == "" {
			told := *f
			told.Said, f = in.output.said(), &told
		}
		return &failure{fault: f, sandbox: in.sandbox.ID(), place: in.place, took: in.init, late: late, guest: in.guest, kind: in.kind}
	}
	return err
}

func (in *instance) initType() string {
	if in.why == scale.Minimum {
		return lambent.InitProvisioned
	}
	return lambent.InitOnDemand
}

// usedUS is the processor time used so far.
func (in *instance) usedUS() int64 {
	cpu, _, _ := in.sandbox.Stats()
	return cpu
}

// settleAfter is how long a first call has the processor that starting had: most are
// over by then, and the others are not to have it for as long as they please.
const settleAfter = 5 * time.Millisecond

// settle takes the processor that starting had back, off the way of the answer.
func (in *instance) settle() {
	if s, ok := in.sandbox.(sandbox.Settler); ok && in.settled.CompareAndSwap(false, true) {
		go func() { _ = s.Settle() }() // a sandbox that fails is destroyed, which its next call finds
	}
}

// destroy ends the instance. It may be called more than once; the first does it.
func (in *instance) destroy() {
	in.once.Do(func() {
		in.end()
		in.p.destroyed(in)
	})
}

func (in *instance) end() {
	in.p.d.balance.leave(in)
	_ = in.guest.Stop(context.Background())
	in.p.d.destroy(in.sandbox)
	in.output.close()
}
