package dispatch

import (
	"slices"
	"time"
)

// An instance that has been idle for a while is frozen: nothing of the code runs
// between invocations, as on Lambda, and unpaid. It is thawed on the way to the
// next one. Between calls that follow one another closely nothing is done: one
// timer of the pool looks at all of them, at most once in that while.

// freeze freezes the instances that have been idle for long enough.
func (p *pool) freeze() {
	after := p.d.cfg.FreezeAfter
	p.mu.Lock()
	var due []*instance
	next := time.Duration(-1)
	now := time.Now()
	for _, in := range p.idle { // the longest idle first
		if idle := now.Sub(in.idleSince); idle < after {
			next = after - idle
			break
		}
		due = append(due, in)
	}
	p.freezing = next >= 0
	if p.freezing {
		p.frost.Reset(next)
	}
	p.mu.Unlock()
	for _, in := range slices.Backward(due) { // the hottest first: the others are frozen already
		if !in.freeze() {
			break
		}
	}
}

// rest tells that the instance is on its pool's stack.
func (in *instance) rest() {
	in.freezeMu.Lock()
	in.resting = true
	in.freezeMu.Unlock()
}

// wake makes an instance that has left the stack ready to run. If that fails, its
// sandbox is destroyed, which the invocation finds.
func (in *instance) wake() {
	in.freezeMu.Lock()
	in.resting = false
	if in.frozen {
		in.frozen = false
		if err := in.freezer.Thaw(); err != nil {
			in.p.d.cfg.Logger.Error("a sandbox cannot be thawed", "sandbox", in.sandbox.ID(), "error", err)
		}
	}
	in.freezeMu.Unlock()
}

// freeze freezes an instance that is still at rest, and reports whether it was
// running until now.
func (in *instance) freeze() bool {
	in.freezeMu.Lock()
	defer in.freezeMu.Unlock()
	if in.freezer == nil || in.frozen {
		return false
	}
	if in.resting {
		in.frozen = true
		if err := in.freezer.Freeze(); err != nil {
			in.p.d.cfg.Logger.Error("a sandbox cannot be frozen", "sandbox", in.sandbox.ID(), "error", err)
		}
	}
	return true
}
