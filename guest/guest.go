// Package guest is the contract with the code inside a sandbox: how a runtime
// is attached to while it is parked, told what to load, given invocations, and
// stopped. Child packages implement it, one for each contract that functions are
// written against; guesttest is the suite that every one of them passes.
//
// A guest says how things are said. It decides nothing about when an instance
// starts, how long it may run or when it ends: that is dispatch's.
package guest

import (
	"context"

	"lambent"
	"lambent/sandbox"
)

// A Guest attaches to sandboxes. Its method may be called concurrently.
type Guest interface {
	// Attach takes hold of a parked sandbox: it waits for the agent (unless that
	// boots late, which is then Init's to do), opens the listeners that the contract
	// asks for, and returns with everything done that can be done before the code is
	// known.
	Attach(context.Context, sandbox.Sandbox, lambent.Runtime) (Instance, error)
}

// A Checker is a Guest that knows, without running anything, of configurations that it
// cannot run as their owners mean.
type Checker interface {
	// Check refuses such a configuration. It may be called concurrently.
	Check(*lambent.Config, lambent.Runtime) error
}

// A Streamer is a Guest whose code has requests by HTTP as they come.
type Streamer interface {
	// Streams reports whether code on a runtime does: the body of a request may then be
	// a [lambent.Upload], and a request that says so may switch protocols. It may be
	// called concurrently.
	Streams(lambent.Runtime) bool
}

// A Batcher is a Guest whose code may have several events in one invocation.
type Batcher interface {
	// Batches reports whether it may. It may be called concurrently.
	Batches() bool
}

// A Chooser is a Guest that has a runtime booted in more than one way.
type Chooser interface {
	// Choose returns the runtime as it is best parked for a revision, of which tree is
	// the code. Its answer for the two is always the same. It may be called concurrently.
	Choose(rt lambent.Runtime, rev *lambent.Revision, tree string) lambent.Runtime
}

// A Unit is what an instance is told to load.
type Unit struct {
	Revision *lambent.Revision
	InitType string            // [lambent.InitOnDemand] or InitProvisioned; "" is the first
	Secrets  map[string]string // joins the environment; values never reach a log
	Paths    sandbox.Paths

	// Place puts the code where Paths says, and starts what is to be started then.
	// Init calls it once, before the code is to be loaded: what a runtime can do
	// without the code it can do meanwhile.
	Place func(sandbox.Start) error
}

// An Instance is one attached sandbox: first Init once, then any number of
// Invokes, of which at most Config.Concurrency at a time.
type Instance interface {
	// Init loads the code and returns when it waits for its first invocation.
	// A *lambent.Fault as error is the code's own failure; any other error is
	// the platform's, or ctx's.
	Init(context.Context, Unit) error

	// Invoke serves one invocation. It calls the reply's methods on the calling
	// goroutine and touches neither it nor the request once it has returned. After it returns nil,
	// Reply.End has been called and the instance may still be busy: see Settle.
	// After an error End has not been called, and the instance takes no other
	// invocation; those that it has may end.
	// ErrNotDelivered says that the code never saw the invocation, of whose upload
	// nothing was read, so that another instance may serve it; any other *lambent.Error refuses the invocation before
	// the code saw it, and the instance is as it was. ctx's deadline is the
	// attempt's: the code is told of it, and it ends Invoke.
	Invoke(context.Context, *lambent.Invocation, lambent.Reply) error

	// Settle calls back once: with nil as soon as the instance can take another
	// invocation, at once if it can already, or with an error if it never will.
	// The callback runs on the caller's or on one of the guest's goroutines, must
	// not block, and may call the Instance.
	Settle(func(error))

	// Fault phrases a failure that the platform saw (timeout, exit, oom) in the
	// words of this guest's cloud.
	Fault(lambent.FaultKind, *lambent.Invocation) *lambent.Fault

	// Stop ends the conversation as the contract says; the sandbox is destroyed
	// after it. It also unblocks an Invoke that is under way.
	Stop(context.Context) error
}

// A Rehearser is an Instance that starts faster after a rehearsal.
type Rehearser interface {
	// Rehearse tells the runtime, before Init, that nobody waits for it: it may go
	// through what it will need. It does not wait for that; Init may be called
	// meanwhile, and then takes what is left of it longer.
	Rehearse() error
}

// ErrNotDelivered is returned (wrapped or not) by Instance.Invoke when the
// instance was found dead before the code saw anything of the invocation.
var ErrNotDelivered = lambent.Errorf(lambent.Unavailable, "guest", "the instance ended before it took the invocation")
