package trigger_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/source"
)

// A keeper is a source that has something made elsewhere for each trigger.
type keeper struct {
	mu   sync.Mutex      // guards what follows
	made map[string]bool // by trigger and since when
	gone error           // nobody answers there
	runs map[string]source.Sink
}

func (k *keeper) Check(lambent.Trigger) error { return nil }

func keptFor(t lambent.Trigger) string { return fmt.Sprint(t.ID, " ", t.Since.UnixNano()) }

func (k *keeper) Prepare(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.made == nil {
		k.made = map[string]bool{}
	}
	k.made[keptFor(t)] = true // also where the rest of it fails
	if k.gone != nil {
		return k.gone
	}
	return sink.SetPosition(ctx, []byte(keptFor(t)))
}

func (k *keeper) Run(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	switch b, err := sink.Position(ctx); {
	case err != nil:
		return err
	case string(b) != keptFor(t):
		return lambent.Errorf(lambent.Broken, "test", "the position is %q", b)
	}
	k.mu.Lock()
	if k.runs == nil {
		k.runs = map[string]source.Sink{}
	}
	k.runs[t.ID] = sink
	k.mu.Unlock()
	<-ctx.Done()
	return nil
}

// sink is of a trigger that runs; nil: it does not.
func (k *keeper) sink(id string) source.Sink {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.runs[id]
}

func (k *keeper) Forget(_ context.Context, t lambent.Trigger) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone == nil {
		delete(k.made, keptFor(t))
	}
	return k.gone
}

func (k *keeper) Lag(lambent.Trigger) (source.Lag, bool) {
	return source.Lag{Behind: time.Second, Retained: 7}, true
}

func (k *keeper) set(gone error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = gone
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.made)
}

func database(function string) lambent.Trigger {
	return lambent.Trigger{Target: name(function), Database: &lambent.Database{URL: "postgres://u:secret@h/d", Tables: []string{"t"}}}
}

// What a source needs is made before its trigger is kept, and is removed after it, with
// whatever happens in between.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	k := &p.keeper
	want := func(n int) {
		t.Helper()
		if got := k.count(); got != n {
			t.Errorf("%d are made, want %d", got, n)
		}
	}
	records := func() (n int) {
		t.Helper()
		for _, err := range p.store.List(t.Context(), "leftover") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	a, err := p.broker.Add(t.Context(), database("f"))
	if err != nil || a.Lag == nil || a.Lag.Retained != 7 {
		t.Fatalf("%+v, %v", a, err)
	}
	want(1)
	// Enabled again it is another one.
	for _, enabled := range []bool{false, true} {
		if _, err := p.broker.Enable(t.Context(), "default", a.ID, enabled); err != nil {
			t.Fatal(err)
		}
		want(map[bool]int{true: 1}[enabled])
	}
	if n := records(); n != 0 {
		t.Errorf("%d records", n)
	}

	// What cannot be made is refused, and what there is of it is removed when it can be.
	k.set(errors.New("nobody answers"))
	if _, err := p.broker.Add(t.Context(), database("f")); err == nil {
		t.Error("it was taken")
	}
	if all := p.broker.Triggers("default", ""); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	want(2)
	p.close()
	p.open()
	want(2)
	k.set(nil)
	p.until("it is removed", func() bool { return k.count() == 1 && records() == 0 })
	if s, err := p.broker.Trigger("default", a.ID); err != nil || s.Error != "" {
		t.Errorf("%+v, %v", s, err)
	}

	// So is what was a trigger's that was deleted meanwhile, or whose function was.
	k.set(errors.New("nobody answers"))
	if err := p.broker.Delete(t.Context(), "default", a.ID); err != nil {
		t.Error(err)
	}
	want(1)
	k.set(nil)
	p.until("it is removed", func() bool { return k.count() == 0 })
	if _, err := p.broker.Add(t.Context(), database("g")); err != nil {
		t.Fatal(err)
	}
	p.close()
	p.set(func() { p.gone["g"] = true })
	p.open()
	p.until("it is removed", func() bool { return k.count() == 0 && records() == 0 })
}
