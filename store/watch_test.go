package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"lambent/store"
)

// A mirror is what a watch has told, by key.
type mirror struct {
	mu     sync.Mutex
	values map[string]string
	last   uint64
	moved  chan struct{}
}

func newMirror() *mirror {
	return &mirror{values: map[string]string{}, moved: make(chan struct{}, 1)}
}

func (m *mirror) changed(e store.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Deleted {
		delete(m.values, e.Key)
	} else {
		m.values[e.Key] = string(e.Value)
	}
	m.last = e.Revision
	select {
	case m.moved <- struct{}{}:
	default:
	}
}

// wait returns once the mirror has seen a revision.
func (m *mirror) wait(t *testing.T, revision uint64) map[string]string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		m.mu.Lock()
		values, last := maps.Clone(m.values), m.last
		m.mu.Unlock()
		if last >= revision {
			return values
		}
		select {
		case <-m.moved:
		case <-deadline:
			t.Fatalf("the watch stands at revision %d, %d was written", last, revision)
		}
	}
}

func TestWatch(t *testing.T) {
	ctx := t.Context()
	s := open(t, t.TempDir())
	var last uint64
	write := func(key, value string) {
		t.Helper()
		var err error
		if last, err = s.Create(ctx, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		write(fmt.Sprintf("head.p.f%d", i), "old")
	}
	gone := last
	write("version.p.f.1", "not watched")
	if _, err := s.Delete(ctx, "head.p.f499", gone); err != nil {
		t.Fatal(err)
	}

	m := newMirror()
	if err := s.Watch(ctx, "head", m.changed); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	filled := len(m.values)
	m.mu.Unlock()
	if filled != 499 {
		t.Fatalf("Watch returned with %d entries, want all 499", filled)
	}

	write("head.p.new", "new")
	first, err := s.Get(ctx, "head.p.f0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, first.Key, first.Revision); err != nil {
		t.Fatal(err)
	}
	write("head.p.f0", "back")
	values := m.wait(t, last)
	if values["head.p.new"] != "new" || values["head.p.f0"] != "back" || len(values) != 500 {
		t.Errorf("new is %q, f0 is %q, %d in all", values["head.p.new"], values["head.p.f0"], len(values))
	}
}

// Neither a watch's end nor the store's leaves anything running (goleak, in
// TestMain), whatever is on its way.
func TestWatchEnds(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := newMirror()
	for range 2 {
		if err := s.Watch(ctx, "", m.changed); err != nil {
			t.Fatal(err)
		}
	}
	ended := newMirror()
	if err := s.Watch(t.Context(), "", ended.changed); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if i == 25 {
			cancel()
		}
		if _, err := s.Create(t.Context(), fmt.Sprintf("k%d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// In an ordinary life, the ends of watches included, the engine has nothing to
// say that an operator would see.
func TestQuiet(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelInfo}))
	for round := range 2 {
		s, err := store.Open(t.Context(), store.Options{Dir: dir, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Watch(t.Context(), "", func(store.Entry) {}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create(t.Context(), fmt.Sprintf("k%d", round), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := list(t.Context(), s, ""); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if said.Len() > 0 {
		t.Errorf("the log has %s", said.String())
	}
}
