// Package broker is what sources of outside brokers have in common: for each trigger
// messages are received, published and acknowledged, some at a time and in this order. A
// child of source for each broker has what differs, as a [Driver].
//
// What it guarantees: a message is acknowledged once its event is durable, so that
// whichever side crashes it comes again. It then has the same ID, and counts once, if the
// broker has a name for it that is its for ever; the drivers say whether. What the broker
// keeps in order stays so. No more is received while the last messages have not been taken.
//
// A message over the limit of events is not kept from those behind it: it is refused,
// which leaves a dead letter that says where it is.
package broker

import (
	"context"
	"strconv"
	"sync"
	"time"

	"lambent"
	"lambent/source"
)

// A Driver speaks with brokers of one kind. Its methods may be called concurrently, and
// return soon after their contexts have ended, whatever answers there. Their errors are
// lambent's, and have no password in them.
type Driver interface {
	// Batch is how messages reach a function if the trigger does not say. Messages without
	// an Order are in order as long as one batch is under way at a time.
	Batch() lambent.Batch

	// Check asks the broker whether a trigger could run that has no id yet.
	Check(context.Context, *lambent.Trigger) error

	// Prepare makes the trigger's group ([GroupOf]), unless it is there.
	Prepare(context.Context, *lambent.Trigger) error

	// Forget removes what is the trigger's own.
	Forget(context.Context, *lambent.Trigger) error

	// Consume begins to take messages.
	Consume(context.Context, *lambent.Trigger) (Stream, error)
}

// A Stream is of messages that were not acknowledged before. Its methods are called one
// at a time, but Waiting may be beside Receive and Done; with their contexts it is as with
// those of a Driver.
type Stream interface {
	// Receive waits until there are messages, and returns some: up to about a megabyte,
	// and at least one. The broker may have them come again until Done is called.
	Receive(context.Context) ([]Message, error)

	// Done acknowledges what Receive has returned last.
	Done(context.Context) error

	// Waiting is how many messages the broker has for the trigger; negative: it does not say.
	Waiting(context.Context) (int64, error)

	// Close gives back what was not acknowledged.
	Close()
}

// A Rejecter is a Stream whose broker forgets what was acknowledged, and can put aside
// what never will be. What is rejected is not acknowledged by Done.
type Rejecter interface {
	// Reject is of the i-th message that Receive has returned last.
	Reject(ctx context.Context, i int) error
}

// A Warner is a Stream that has something to say which is no error; empty: it has not.
type Warner interface {
	Warning() string
}

// NameOf is a trigger's own at its broker, and another one each time it is enabled.
func NameOf(t *lambent.Trigger) string {
	return "lambent-" + t.ID + "-" + strconv.FormatInt(t.Since.UnixMilli(), 36)
}

// GroupOf is the name of the group that a trigger is in, and whether that is its own.
func GroupOf(t *lambent.Trigger) (name string, own bool) {
	if t.Broker.Group != "" {
		return t.Broker.Group, false
	}
	return NameOf(t), true
}

// A Source takes messages for triggers, by one driver. Its methods may be called
// concurrently.
type Source struct {
	driver Driver

	mu   sync.Mutex      // guards what follows
	runs map[string]*run // by the trigger's id
}

// New returns a Source of a driver's brokers.
func New(d Driver) *Source { return &Source{driver: d, runs: map[string]*run{}} }

var (
	_ source.Source   = (*Source)(nil)
	_ source.Ordered  = (*Source)(nil)
	_ source.Preparer = (*Source)(nil)
	_ source.Gauge    = (*Source)(nil)
)

// askTimeout is how long a broker may take to answer.
const askTimeout = 15 * time.Second

// Batch implements source.Ordered.
func (s *Source) Batch() lambent.Batch { return s.driver.Batch() }

// Check implements source.Source: it asks the broker.
func (s *Source) Check(t lambent.Trigger) error {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	return s.driver.Check(ctx, &t)
}

// Prepare implements source.Preparer: from when it returns, the broker keeps what is sent
// for the trigger.
func (s *Source) Prepare(ctx context.Context, t lambent.Trigger, _ source.Sink) error {
	return s.driver.Prepare(ctx, &t)
}

// Forget implements source.Preparer.
func (s *Source) Forget(ctx context.Context, t lambent.Trigger) error {
	return s.driver.Forget(ctx, &t)
}

// Run implements source.Source.
func (s *Source) Run(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stream, err := s.driver.Consume(asking, &t)
	if ctx.Err() != nil {
		if err == nil {
			stream.Close()
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer stream.Close()
	r := &run{trigger: &t, stream: stream, sink: sink}
	s.mu.Lock()
	s.runs[t.ID] = r
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.runs, t.ID)
		s.mu.Unlock()
	}()
	ended := make(chan struct{})
	measuring, stop := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		r.measure(measuring)
	}()
	defer func() {
		stop()
		<-ended
	}()
	if err := r.run(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// Lag implements source.Gauge.
func (s *Source) Lag(t lambent.Trigger) (source.Lag, bool) {
	s.mu.Lock()
	r := s.runs[t.ID]
	s.mu.Unlock()
	if r == nil {
		return source.Lag{}, false
	}
	return r.now()
}
