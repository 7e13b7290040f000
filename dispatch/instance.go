package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/sandbox"
)

// An instance is a sandbox with a revision's code initialised in it.
type instance struct {
	p       *pool
	sandbox sandbox.Sandbox
	guest   guest.Instance
	output  *output
	init    time.Duration
	cpuUS   int64 // as of the last invocation's end; used by one invocation at a time

	cold bool // no invocation has had it, and one waited for its start

	idleSince time.Time // guarded by p.mu
	dead      bool      // guarded by p.mu

	once sync.Once // destroys
}

// A failure is a start that the code itself failed.
type failure struct {
	fault   *lambent.Fault
	sandbox string
	took    time.Duration
}

func (f *failure) Error() string { return f.fault.Error() }

// launch takes a revision through Park, Attach, Assign and Init. Its error is a
// *failure where the code is to blame.
func (p *pool) launch(ctx context.Context) (*instance, error) {
	d := p.d
	select {
	case d.starts <- struct{}{}:
		defer func() { <-d.starts }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.alive.Done():
		return nil, errDraining
	}
	cfg := p.rev.Config
	rt, err := d.cfg.Runtime(cfg.Runtime)
	if err != nil {
		return nil, err
	}
	g, ok := d.cfg.Guests[rt.Guest]
	if !ok {
		return nil, lambent.Errorf(lambent.Unsupported, "dispatch", "runtime %s needs the guest %q, which this server does not have", rt.Name, rt.Guest)
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

	sb, err := d.cfg.Driver.Park(ctx, rt)
	if err != nil {
		return nil, err
	}
	in := &instance{p: p, sandbox: sb, output: newOutput(sb.Output(), p.log, p.rev.Version)}
	if err := in.boot(ctx, g, rt, tree, secrets); err != nil {
		in.end()
		return nil, err
	}
	p.mu.Lock()
	p.all[in] = struct{}{}
	p.mu.Unlock()
	go func() {
		<-sb.Done()
		p.died(in)
	}()
	return in, nil
}

func (in *instance) boot(ctx context.Context, g guest.Guest, rt lambent.Runtime, tree string, secrets map[string]string) (err error) {
	cfg := in.p.rev.Config
	if in.guest, err = g.Attach(ctx, in.sandbox, rt); err != nil {
		return err
	}
	paths, err := in.sandbox.Assign(ctx, sandbox.Task{Code: tree, MemoryMB: cfg.MemoryMB, TmpMB: cfg.TmpMB})
	if err != nil {
		return err
	}
	start := time.Now()
	err = in.guest.Init(ctx, guest.Unit{Revision: in.p.rev, Secrets: secrets, Paths: paths})
	in.init = time.Since(start)
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = in.guest.Fault(lambent.FaultInit, nil)
	}
	if f, ok := errors.AsType[*lambent.Fault](err); ok {
		in.output.drain()
		return &failure{fault: f, sandbox: in.sandbox.ID(), took: in.init}
	}
	return err
}

// destroy ends the instance. It may be called more than once; the first does it.
func (in *instance) destroy() {
	in.once.Do(func() {
		in.end()
		in.p.destroyed(in)
	})
}

func (in *instance) end() {
	if in.guest != nil {
		_ = in.guest.Stop(context.Background())
	}
	if err := in.sandbox.Destroy(); err != nil {
		in.p.d.cfg.Logger.Error("a sandbox cannot be destroyed", "sandbox", in.sandbox.ID(), "error", err)
	}
	in.output.close()
}
