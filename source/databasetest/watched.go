package databasetest

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/source"
)

// Data is what an event has, as its documentation says.
type Data struct {
	Operation, Schema, Table        string
	Key, Old, New                   map[string]json.RawMessage
	Unchanged, Omitted              []string
	Position, Transaction, Commited string
	Index                           int
	Snapshot                        bool
}

// A DatabaseSource is a source of databases.
type DatabaseSource interface {
	source.Source
	source.Preparer
	source.Gauge
}

// A Watched is a trigger whose source runs, as the broker has it run.
type Watched struct {
	*Sink
	t       *testing.T
	Trigger lambent.Trigger
	Source  DatabaseSource
	Stop    func()
	mu      sync.Mutex // guards err
	err     error      // that it ended with last
}

// NewTrigger returns one of a database.
func NewTrigger(d lambent.Database) lambent.Trigger {
	now := time.Now()
	return lambent.Trigger{ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}, Created: now, Since: now, Database: &d}
}

// Watch adds a trigger and runs it until the test ends.
func Watch(t *testing.T, src DatabaseSource, d lambent.Database) *Watched {
	t.Helper()
	return WatchMost(t, src, d, 0)
}

// WatchMost has the sink take so many, about.
func WatchMost(t *testing.T, src DatabaseSource, d lambent.Database, most int) *Watched {
	t.Helper()
	w := &Watched{Sink: &Sink{Most: most}, t: t, Trigger: NewTrigger(d), Source: src}
	if err := w.Source.Check(w.Trigger); err != nil {
		t.Fatal(err)
	}
	if err := w.Source.Prepare(t.Context(), w.Trigger, w.Sink); err != nil {
		t.Fatal(err)
	}
	w.Start()
	t.Cleanup(func() {
		w.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = w.Source.Forget(ctx, w.Trigger)
	})
	return w
}

// Start has it run again.
func (w *Watched) Start() {
	w.Stop = Keep(w.t, func(ctx context.Context) error { return w.Source.Run(ctx, w.Trigger, w.Sink) }, func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = err
	})
}

// Keep has a source run, again after it has ended, which ended is told of, until stop. At its
// end it is to return no error.
func Keep(t testing.TB, run func(context.Context) error, ended func(error)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := run(ctx)
			if ctx.Err() != nil {
				if err != nil {
					t.Errorf("at its end: %v", err)
				}
				return
			}
			ended(err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

// Failure is the error that it ended with last.
func (w *Watched) Failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Until waits until something holds.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("it has not come to it in 20 s that %s", what)
		}
	}
}

// Wait returns the first n events' data.
func (w *Watched) Wait(n int) []Data {
	w.t.Helper()
	count := func() (c int) { w.Set(func() { c = len(w.Events) }); return c }
	begun := time.Now()
	for count() < n {
		if time.Sleep(2 * time.Millisecond); time.Since(begun) > 20*time.Second {
			w.t.Fatalf("%d events have come in 20 s, want %d; %v", count(), n, w.Failure())
		}
	}
	var all []Data
	w.Set(func() {
		for _, e := range w.Events {
			var d Data
			if err := json.Unmarshal(e.Data, &d); err != nil {
				w.t.Fatalf("%s: %v", e.Data, err)
			}
			all = append(all, d)
		}
	})
	return all
}

// Row is a row in one line.
func Row(columns map[string]json.RawMessage) string {
	if columns == nil {
		return "-"
	}
	b, err := json.Marshal(columns)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// String is a change in one line.
func (d *Data) String() string {
	s := d.Operation + " " + d.Table + " " + Row(d.Key) + " " + Row(d.Old) + " " + Row(d.New)
	for name, l := range map[string][]string{"unchanged": d.Unchanged, "omitted": d.Omitted} {
		if l != nil {
			s += " " + name + " " + strings.Join(l, ",")
		}
	}
	return s
}

// Want compares what comes with events in one line each.
func (w *Watched) Want(lines ...string) {
	w.t.Helper()
	all := w.Wait(len(lines))
	for i := range all {
		if i >= len(lines) || all[i].String() != lines[i] {
			w.t.Errorf("%d: %s, want %q", i, &all[i], lines[min(i, len(lines)-1)])
		}
	}
}
