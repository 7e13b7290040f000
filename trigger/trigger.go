// Package trigger is everything asynchronous: what is accepted now and run later, as
// often as it takes. A [Broker] stands between whoever wants invocations and dispatch:
// it passes on what is waited for, and keeps the rest in lanes of a durable queue, one
// for each function, and some for each trigger whose events are in order.
//
// What it promises: an invocation that was accepted is on disk, and runs until it
// succeeds, or fails as often as its function allows, or is too old; then it is a dead
// letter, which is kept for somebody to redrive or purge it, for as long as [Broker.Sweep]
// leaves it and as many as the queue does. It may run more than once,
// under the same id. One function's work never waits for another's, however much of it
// there is, and however slow or broken that one is.
package trigger

import (
	"context"
	"log/slog"
	"sync"

	"lambent"
	"lambent/source"
	"lambent/store"
)

// Config is what a Broker needs. All of it is required.
type Config struct {
	Invoker    lambent.Invoker // runs invocations: dispatch
	Store      *store.Store
	Queue      *store.Queue                              // the store's
	History    *store.History                            // the store's
	Sources    map[string]source.Source                  // by the kind of triggers, and those of databases and brokers by their engine
	Async      func(lambent.Name) (lambent.Async, error) // how a function wants it; Kind: NotFound
	Together   func(lambent.Name) bool                   // whether a function takes several events in one invocation
	MaxPayload int                                       // bytes of an asynchronous invocation

	// Send puts a message into a queue of a project's, of a trace, that so many functions have
	// led to.
	Send func(ctx context.Context, project, queue, trace string, hops int, body []byte) error

	// Post tells a receiver of a function's outcomes, once: the message has an id, and is
	// JSON. Its kind of error says whether it may take it later (Unavailable), or never will.
	Post func(ctx context.Context, function lambent.Name, url, id string, body []byte) error

	// Line puts a line of the platform's into a function's log, of an invocation.
	Line func(n lambent.Name, id, text string)

	Logger *slog.Logger
}

// A Broker is the Invoker of all faces. Its methods may be called concurrently.
type Broker struct {
	cfg     Config
	ctx     context.Context // ends with Stop
	stop    context.CancelFunc
	looking sync.WaitGroup // for what is due
	running sync.WaitGroup // attempts

	mu    sync.Mutex // guards lanes and all that is in them
	lanes map[string]*lane

	changing sync.Mutex                 // held while triggers are added, changed or removed; before watchMu
	watchMu  sync.Mutex                 // guards what follows
	watches  map[string]*watch          // by the trigger's id
	patterns map[string][]*eventPattern // of those that are enabled, by project; a list is replaced and not changed
}

var _ lambent.Invoker = (*Broker)(nil)

// Open returns a Broker that has begun to run what is in the queue, and the sources of
// the triggers that are kept.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	b := &Broker{cfg: cfg, lanes: map[string]*lane{}, watches: map[string]*watch{}, patterns: map[string][]*eventPattern{}}
	b.ctx, b.stop = context.WithCancel(context.Background())
	if err := b.load(ctx); err != nil {
		b.endWatches()
		b.looking.Wait()
		return nil, err
	}
	b.looking.Go(b.look)
	return b, nil
}

// Invoke implements lambent.Invoker. What is asynchronous is on disk when it returns
// nil. Its id is remembered: the same one again, within minutes of its end, is no other
// invocation.
func (b *Broker) Invoke(ctx context.Context, inv *lambent.Invocation, reply lambent.Reply) error {
	if !inv.Async {
		if err := b.refuseLoop(inv); err != nil {
			return err
		}
		return b.cfg.Invoker.Invoke(ctx, inv, reply)
	}
	if _, err := b.cfg.Async(inv.Target); err != nil {
		return err
	}
	it, err := encode(inv)
	if err != nil {
		return err
	}
	if len(it.Payload) > b.cfg.MaxPayload {
		return lambent.Errorf(lambent.TooLarge, "trigger.Invoke", "the payload is %d bytes, over the limit of %d for asynchronous invocations", len(it.Payload), b.cfg.MaxPayload)
	}
	_, err = b.cfg.Queue.Add(ctx, it)
	return err
}

// Stop takes no more work from the queue. What has begun goes on.
func (b *Broker) Stop() { b.stop() }

// Close stops, and waits until ctx ends for the attempts that have begun. What has not
// ended by then runs again after the next start. Calling Close again does no harm.
func (b *Broker) Close(ctx context.Context) error {
	b.endWatches()
	b.looking.Wait()
	done := make(chan struct{})
	go func() {
		b.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return lambent.Errorf(lambent.Canceled, "trigger.Close", "asynchronous invocations were cut off: they will run again")
	}
}
