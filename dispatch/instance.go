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
	output   *output
	place    time.Duration // from the start's beginning until the code was in place
	init     time.Duration // from then on until it was initialised
	cpuUS    atomic.Int64  // as of the last invocation's end
	division *division     // nil: it serves one at a time

	cold    atomic.Bool // no invocation has had it, and one waited for its start
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
	took    time.Duration // of the init
}

// again is the failure as it is told to those for whom nothing was started.
func (f *failure) again() *failure { return &failure{fault: f.fault} }

func (f *failure) Error() string { return f.fault.Error() }

// launch takes a revision through Assign and Init, in a sandbox with its runtime
// booted, or about to be where its environment only works then. Its error is a
// *failure where the code is to blame.
func (p *pool) launch(ctx context.Context, ahead bool) (*instance, error) {
	d, begun := p.d, time.Now()
	if !d.begin() {
		return nil, errDraining
	}
	defer d.starting.Done() // the instance is one that Close finds
	cfg := p.rev.Config
	rt, err := d.cfg.Runtime(cfg.Runtime)
	if err != nil {
		return nil, err
	}
	tree, err := d.cfg.Tree(cfg.Code)
	if err != nil {
		return nil, err
	}
	var secrets map[string]string
	if d.cfg.Secrets != nil && len(cfg.Secrets) > 0 {
		if secrets, err = d.cfg.Secrets(p.rev); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Limits.InitTimeout)
	defer cancel()
	defer context.AfterFunc(d.alive, cancel)()

	if fixed := rt.Fixed(cfg); len(fixed) > 0 {
		p.log.Line(time.Now(), p.rev.Version, "", lateLine(rt.Name, fixed))
		rt = rt.Late()
	}
	b, err := d.parking.take(ctx, rt, func() bool { return ahead || !p.excess() })
	if err != nil {
		return nil, err
	}
	in := &instance{p: p, begun: begun, sandbox: b.sandbox, guest: b.guest, output: newOutput(b.sandbox.Output(), p.log, p.rev.Version)}
	in.freezer, _ = b.sandbox.(sandbox.Freezer)
	d.balance.join(in)
	if err := in.boot(ctx, tree, secrets); err != nil {
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

func (in *instance) boot(ctx context.Context, tree string, secrets map[string]string) error {
	cfg := in.p.rev.Config
	task := sandbox.Task{Code: tree, MemoryMB: cfg.MemoryMB, TmpMB: cfg.TmpMB, Network: in.p.rev.Network}
	cpu, _, _ := in.sandbox.Stats() // booting the runtime was ours, not the code's
	in.cpuUS.Store(cpu)
	if cfg.Concurrency > 1 {
		in.division = new(division)
		in.division.cpu.start(cpu)
	}
	placed := time.Now() // or later: from then on it is the code that takes its time
	err := in.guest.Init(ctx, guest.Unit{Revision: in.p.rev, Secrets: secrets, Paths: in.sandbox.Paths(task), Place: func(s sandbox.Start) error {
		task.Start = s
		err := in.sandbox.Assign(ctx, task)
		placed = time.Now()
		return err
	}})
	in.place, in.init = placed.Sub(in.begun), time.Since(placed)
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = in.guest.Fault(lambent.FaultInit, nil)
	}
	if f, ok := errors.AsType[*lambent.Fault](err); ok {
		in.output.drain()
		return &failure{fault: f, sandbox: in.sandbox.ID(), place: in.place, took: in.init}
	}
	return err
}

// usedUS is the processor time used so far, or as of the last time that could be told.
func (in *instance) usedUS() int64 {
	if cpu, _, err := in.sandbox.Stats(); err == nil {
		in.cpuUS.Store(cpu)
	}
	return in.cpuUS.Load()
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
