package postgres_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/source"
	"lambent/source/databasetest"
	"lambent/source/postgres"
)

func TestMain(m *testing.M) { os.Exit(databasetest.Main(m)) }

// A sink keeps what it is given.
type sink struct {
	source.Sink // what it has not is not called

	mu       sync.Mutex // guards what follows
	events   []lambent.Event
	ids      map[string]bool
	repeats  int
	position []byte
	limit    int // bytes of an event's data; 0: any
	most     int // events that are taken, and one batch; 0: any
}

func (s *sink) Publish(ctx context.Context, events ...lambent.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 0 && len(s.events) >= s.most {
		return lambent.Errorf(lambent.Throttled, "test", "the lane is full")
	}
	for _, e := range events {
		if err := e.Validate(); err != nil {
			return err
		}
		if s.limit > 0 && len(e.Data) > s.limit {
			return lambent.Errorf(lambent.TooLarge, "test", "%d bytes", len(e.Data))
		}
		if s.ids == nil {
			s.ids = map[string]bool{}
		}
		if s.ids[e.ID] {
			s.repeats++
			continue
		}
		s.ids[e.ID] = true
		s.events = append(s.events, e)
	}
	return ctx.Err()
}

func (s *sink) Position(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position, nil
}

func (s *sink) SetPosition(_ context.Context, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = slices.Clone(b)
	return nil
}

func (s *sink) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// data is what an event has, as its documentation says.
type data struct {
	Operation, Schema, Table        string
	Key, Old, New                   map[string]json.RawMessage
	Unchanged, Omitted              []string
	Position, Transaction, Commited string
	Index                           int
	Snapshot                        bool
}

// A watched is a trigger whose source runs, as the broker has it run.
type watched struct {
	*sink
	t       *testing.T
	trigger lambent.Trigger
	source  *postgres.Source
	stop    func()
	mu      sync.Mutex // guards err
	err     error      // that it ended with last
}

func newTrigger(d lambent.Database) lambent.Trigger {
	now := time.Now()
	return lambent.Trigger{ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}, Created: now, Since: now, Database: &d}
}

// watch adds a trigger and runs it until the test ends.
func watch(t *testing.T, d lambent.Database) *watched {
	t.Helper()
	return watchMost(t, d, 0)
}

// watchMost has the sink take so many, about.
func watchMost(t *testing.T, d lambent.Database, most int) *watched {
	t.Helper()
	w := &watched{sink: &sink{most: most}, t: t, trigger: newTrigger(d), source: &postgres.Source{}}
	if err := w.source.Check(w.trigger); err != nil {
		t.Fatal(err)
	}
	if err := w.source.Prepare(t.Context(), w.trigger, w.sink); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() {
		w.stop()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = w.source.Forget(ctx, w.trigger)
	})
	return w
}

func (w *watched) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := w.source.Run(ctx, w.trigger, w.sink)
			if ctx.Err() != nil {
				if err != nil {
					w.t.Errorf("at its end: %v", err)
				}
				return
			}
			w.mu.Lock()
			w.err = err
			w.mu.Unlock()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

func (w *watched) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("it has not come to it in 20 s that %s", what)
		}
	}
}

// wait returns the first n events' data.
func (w *watched) wait(n int) []data {
	w.t.Helper()
	count := func() (c int) { w.set(func() { c = len(w.events) }); return c }
	begun := time.Now()
	for count() < n {
		if time.Sleep(2 * time.Millisecond); time.Since(begun) > 20*time.Second {
			w.t.Fatalf("%d events have come in 20 s, want %d; %v", count(), n, w.failure())
		}
	}
	var all []data
	w.set(func() {
		for _, e := range w.events {
			var d data
			if err := json.Unmarshal(e.Data, &d); err != nil {
				w.t.Fatalf("%s: %v", e.Data, err)
			}
			all = append(all, d)
		}
	})
	return all
}

// row is a row in one line.
func row(columns map[string]json.RawMessage) string {
	if columns == nil {
		return "-"
	}
	b, err := json.Marshal(columns)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (d *data) String() string {
	s := d.Operation + " " + d.Table + " " + row(d.Key) + " " + row(d.Old) + " " + row(d.New)
	for name, l := range map[string][]string{"unchanged": d.Unchanged, "omitted": d.Omitted} {
		if l != nil {
			s += " " + name + " " + strings.Join(l, ",")
		}
	}
	return s
}

func (w *watched) want(lines ...string) {
	w.t.Helper()
	all := w.wait(len(lines))
	for i := range all {
		if i >= len(lines) || all[i].String() != lines[i] {
			w.t.Errorf("%d: %s, want %q", i, &all[i], lines[min(i, len(lines)-1)])
		}
	}
}

var _ source.Sink = (*sink)(nil)
