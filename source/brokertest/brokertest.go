// Package brokertest starts the servers of brokers for tests, each with a client of its own,
// and is the suite that each source of a broker must pass with them: what is sent comes, in
// order, whoever is killed meanwhile, and nothing is left at the broker of what is not watched
// any more.
package brokertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/source"
	"lambent/source/databasetest"
)

// A Kind is a broker, and what is known of it.
type Kind struct {
	Source source.Source
	Server

	// Groups are the names of the groups that there are of a topic.
	Groups func(testing.TB, lambent.Broker) []string

	Unnamed  bool // messages have no names of their own: one that comes again has another ID
	NoGroups bool // of the trigger's own
	NoPast   bool // there is no taking what was sent before
}

// Values are messages with these values.
func Values(key string, values ...string) (all []Message) {
	for _, v := range values {
		all = append(all, Message{key, v})
	}
	return all
}

// Numbered are n messages whose keys take turns.
func Numbered(from, n int) (all []Message) {
	for i := range n {
		all = append(all, Message{string(rune('a' + (from+i)%3)), fmt.Sprint(from + i)})
	}
	return all
}

// NewTrigger is one of a broker's.
func NewTrigger(b lambent.Broker) lambent.Trigger {
	now := time.Now()
	return lambent.Trigger{ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}, Created: now, Since: now, Broker: &b}
}

// Value is what the suite has sent as a message, whichever the broker.
func Value(e *lambent.Event) string {
	var m lambent.BrokerMessage
	if err := json.Unmarshal(e.Data, &m); err != nil {
		return err.Error()
	}
	if m.Body != nil {
		return string(*m.Body)
	}
	return string(m.Fields["value"])
}

const limit = 1 << 20 // bytes of an event's data

// A Watched is a trigger whose source runs, as the platform has it run.
type Watched struct {
	*databasetest.Sink
	Trigger lambent.Trigger
	Stop    func()
	t       testing.TB
	source  source.Source
	mu      sync.Mutex // guards err
	err     error      // that it ended with last
}

// Watch adds a trigger and runs it until the test ends.
func (k *Kind) Watch(t testing.TB, b lambent.Broker) *Watched {
	t.Helper()
	w := k.Prepare(t, b)
	w.Run()
	return w
}

// Prepare adds a trigger that does not run yet.
func (k *Kind) Prepare(t testing.TB, b lambent.Broker) *Watched {
	t.Helper()
	w := &Watched{Sink: &databasetest.Sink{Limit: limit}, t: t, Trigger: NewTrigger(b), source: k.Source, Stop: func() {}}
	check := w.Trigger
	check.ID = "" // it has none before it is kept
	if err := k.Source.Check(check); err != nil {
		t.Fatal(err)
	}
	if err := k.Source.(source.Preparer).Prepare(t.Context(), w.Trigger, w.Sink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = k.Source.(source.Preparer).Forget(ctx, w.Trigger)
	})
	return w
}

// Events returns what was taken.
func (w *Watched) Events() (events []lambent.Event) {
	w.Set(func() { events = slices.Clone(w.Sink.Events) })
	return events
}

// Run runs the source, again after it has failed.
func (w *Watched) Run() {
	w.Stop = databasetest.Keep(w.t, func(ctx context.Context) error {
		err := w.source.Run(ctx, w.Trigger, w.Sink)
		if ctx.Err() != nil && errors.Is(err, errCrash) {
			return nil
		}
		return err
	}, func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = err
	})
}

// Failure is what the source has ended with last.
func (w *Watched) Failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Wait returns the first n events, once they are there.
func (w *Watched) Wait(n int) []lambent.Event {
	w.t.Helper()
	for begun := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		if events := w.Events(); len(events) >= n {
			return events
		} else if time.Since(begun) > 20*time.Second {
			w.t.Fatalf("%d events have come in 20 s, want %d; %v", len(events), n, w.Failure())
		}
	}
}
