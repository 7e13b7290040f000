// Package source is the contract of what turns the world into events: its children
// watch a clock, a bucket, a database or a broker for one trigger each, and hand on
// what they see. They know neither functions nor queues, and dispatch nothing.
package source

import (
	"context"
	"time"

	"lambent"
)

// A Source makes events for triggers of one kind. Its methods may be called
// concurrently.
type Source interface {
	// Check says what is wrong with a trigger, before it is kept.
	Check(lambent.Trigger) error

	// Run publishes what happens until ctx ends, which is no error, or until nothing will
	// happen any more. It is called by one holder of the trigger's lease at a time, again
	// after each start of the server and a while after it has returned an error, and goes
	// on where the last one was.
	Run(context.Context, lambent.Trigger, Sink) error
}

// A Forecaster is a Source that knows when it will publish next; the zero time: never.
type Forecaster interface {
	Next(t lambent.Trigger, after time.Time) time.Time
}

// An Ordered source says of its events which belong in order ([lambent.PartitionKey]).
type Ordered interface {
	// Batch is how they reach a function if the trigger does not say.
	Batch() lambent.Batch
}

// A Preparer is a Source that needs something of its own where it watches, such as a
// place in a log there, from before the trigger runs to when it runs no more.
type Preparer interface {
	// Prepare makes it, for a trigger that is new or was enabled again: what happens from
	// when it returns is for the trigger. Its errors are such as those of Check. Run finds
	// in the position what Prepare has set.
	Prepare(context.Context, lambent.Trigger, Sink) error

	// Forget removes what Prepare and Run have made for a trigger, or a part of it, and
	// that is not watched any more. That there is nothing is no error.
	Forget(context.Context, lambent.Trigger) error
}

// A Gauge is a Source that knows how far behind it is.
type Gauge interface {
	// Lag is of a trigger that runs; false: it is not known.
	Lag(lambent.Trigger) (Lag, bool)
}

// A Lag is by how much a source is behind, and what that costs.
type Lag struct {
	Behind   time.Duration // how old the last is that was published; 0: there is nothing to publish
	Waiting  int64         // messages that the origin has for it
	Retained int64         // bytes that the origin keeps for it
	Warning  string        // what is to be looked after, in one line; empty: nothing
}

// A Binder is a Source that has to know its triggers before anybody hears that they are
// kept, since what it watches does not wait: from when Bind returns, all is for them.
type Binder interface {
	// Bind takes a trigger in, whose events are to be published to the sink; unbind lets it
	// go again.
	Bind(lambent.Trigger, Sink) (unbind func())
}

// A Sink takes what happens, for one trigger. Its methods may be called concurrently;
// after an error nobody knows what was taken, and the source ends with it, or publishes
// the same again.
type Sink interface {
	// Publish returns once the events are durable, all of them. One whose ID was published
	// before, lately, counts once.
	Publish(context.Context, ...lambent.Event) error

	// Refuse keeps an event that Publish finds too large, without what made it so: it is a
	// dead letter, or told to whoever is told of failures, with the reason, and runs no code.
	// It is durable when it returns, and one whose ID was published before counts once.
	Refuse(ctx context.Context, e lambent.Event, reason string) error

	// Deliver has the function take events now, together, and waits for that. It is for
	// what the source keeps itself until it is done with: nothing becomes durable, and
	// nothing is tried again. It returns the IDs of those that the function says have
	// failed; after an error, a *lambent.Fault if it is the function's, all have.
	Deliver(context.Context, ...lambent.Event) (failed []string, err error)

	// Position returns what SetPosition kept last; nil: nothing.
	Position(context.Context) ([]byte, error)

	// SetPosition keeps how far a source has come. It is durable when it returns.
	SetPosition(context.Context, []byte) error
}
