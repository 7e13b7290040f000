package sandbox

import (
	"context"
	"net"
	"sync"
	"time"

	"lambent"
)

// Guard returns a driver whose sandboxes all have the same manners, so that no
// driver needs them: calls are serialised, a call out of order is refused, the
// first failure destroys, a dead sandbox stays dead, Freeze and Thaw are
// idempotent. The sandboxes implement [Freezer] exactly if the driver's do.
func Guard(d Driver) Driver { return guardedDriver{d} }

type guardedDriver struct{ Driver }

func (d guardedDriver) Park(ctx context.Context, rt lambent.Runtime) (Sandbox, error) {
	s, err := d.Driver.Park(ctx, rt)
	if err != nil {
		return nil, err
	}
	g := &guarded{Sandbox: s}
	if f, ok := s.(Freezer); ok {
		return &guardedFreezer{guarded: g, freezer: f}, nil
	}
	return g, nil
}

// Unwrap returns the driver's own sandbox behind a guarded one, for abilities that
// are between the two who know them.
func Unwrap(s Sandbox) Sandbox {
	switch g := s.(type) {
	case *guarded:
		return g.Sandbox
	case *guardedFreezer:
		return g.Sandbox
	}
	return s
}

// guarded serialises what changes a sandbox. Agent, Output, Paths, Stats, OOMKilled,
// Done and Exit pass through: drivers promise that they may be called at any time.
type guarded struct {
	Sandbox

	mu        sync.Mutex // held for the length of each call below
	assigned  bool
	frozen    bool
	destroyed bool
}

// do runs a call that needs a living sandbox, and destroys it if the call fails.
// The caller holds g.mu.
func (g *guarded) do(op string, call func() error) error {
	if g.destroyed {
		return lambent.Errorf(lambent.Unavailable, op, "the sandbox %s is gone", g.ID())
	}
	if err := call(); err != nil {
		g.destroyLocked()
		return err
	}
	return nil
}

func (g *guarded) Assign(ctx context.Context, t Task) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.assigned {
		return lambent.Errorf(lambent.Internal, "sandbox.Assign", "the sandbox %s is assigned already", g.ID())
	}
	err := g.do("sandbox.Assign", func() error { return g.Sandbox.Assign(ctx, t) })
	g.assigned = err == nil
	return err
}

func (g *guarded) Listen(port int) (l net.Listener, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	err = g.do("sandbox.Listen", func() error {
		l, err = g.Sandbox.Listen(port)
		return err
	})
	return l, err
}

// Dial may fail without harm: the port may not be open yet.
func (g *guarded) Dial(ctx context.Context, port int, patience time.Duration) (net.Conn, error) {
	g.mu.Lock()
	dead := g.destroyed
	g.mu.Unlock()
	if dead {
		return nil, lambent.Errorf(lambent.Unavailable, "sandbox.Dial", "the sandbox %s is gone", g.ID())
	}
	return g.Sandbox.Dial(ctx, port, patience)
}

// Settle implements [Settler] for every sandbox: for one that does not, it is done.
func (g *guarded) Settle() error {
	s, ok := g.Sandbox.(Settler)
	if !ok {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.do("sandbox.Settle", s.Settle)
}

// Share implements [Sharer] for every sandbox: one that has no share has all of it.
func (g *guarded) Share(part float64) error {
	if !(part > 0 && part <= 1) {
		return lambent.Errorf(lambent.Invalid, "sandbox.Share", "a part of %v", part)
	}
	s, ok := g.Sandbox.(Sharer)
	if !ok {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.do("sandbox.Share", func() error { return s.Share(part) })
}

// OOMKilled implements [Witness] for every sandbox: one that does not see has not seen.
func (g *guarded) OOMKilled() bool {
	w, ok := g.Sandbox.(Witness)
	return ok && w.OOMKilled()
}

// Terminate implements [Terminator] for every sandbox: Unsupported for one that does
// not. It may fail without harm.
func (g *guarded) Terminate() error {
	t, ok := g.Sandbox.(Terminator)
	if !ok {
		return lambent.Errorf(lambent.Unsupported, "sandbox.Terminate", "sandboxes of this driver cannot be sent a signal")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.destroyed || !g.assigned {
		return nil
	}
	return t.Terminate()
}

// Port implements [Sublet] for every sandbox: in a network of its own every port is
// its code's.
func (g *guarded) Port(wanted int) (int, error) {
	s, ok := g.Sandbox.(Sublet)
	if !ok {
		return wanted, nil
	}
	return s.Port(wanted)
}

func (g *guarded) Destroy() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.destroyLocked()
}

func (g *guarded) destroyLocked() error {
	if g.destroyed {
		return nil
	}
	g.destroyed = true
	return g.Sandbox.Destroy()
}

type guardedFreezer struct {
	*guarded
	freezer Freezer
}

func (g *guardedFreezer) Freeze() error { return g.set(true, g.freezer.Freeze) }
func (g *guardedFreezer) Thaw() error   { return g.set(false, g.freezer.Thaw) }

func (g *guardedFreezer) set(frozen bool, call func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen == frozen && !g.destroyed {
		return nil
	}
	g.frozen = frozen
	return g.do("sandbox.Freezer", call)
}
