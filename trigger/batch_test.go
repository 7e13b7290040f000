package trigger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/store"
	"lambent/trigger"
)

// An ordered source is a scripted one whose events have an order.
type ordered struct{ *scripted }

func (ordered) Batch() lambent.Batch { return lambent.Batch{Size: 10, Parallel: 4} }

func newOrdered(t *testing.T, run func(context.Context, *lambent.Invocation) (*lambent.Fault, error), o ...store.QueueOptions) *platform {
	p := newPlatform(t, run, o...)
	p.close()
	p.ordered = true
	p.open()
	p.async["f"] = lambent.Async{Attempts: 3, Backoff: time.Millisecond, Factor: 1}
	return p
}

func (p *platform) addBatch(function string, b lambent.Batch) trigger.Status {
	p.t.Helper()
	s, err := p.broker.Add(p.t.Context(), lambent.Trigger{Target: name(function), Schedule: &lambent.Schedule{Expression: "a"}, Batch: &b})
	if err != nil {
		p.t.Fatal(err)
	}
	p.until("its source runs", func() bool { return p.source.of(s.ID) != nil })
	return s
}

// keyed is the n-th event of a key.
func keyed(key string, n int) lambent.Event {
	return lambent.Event{ID: fmt.Sprintf("%s %d", key, n), Source: "/test", Type: "test", Extensions: map[string]string{lambent.PartitionKey: key}}
}

// A stream is a function that wants the events of each key in order.
type stream struct {
	t       *testing.T
	mu      sync.Mutex // guards what follows
	next    map[string]int
	done    int
	largest int
	busy    map[string]bool
	bad     []string
}

// run has a function take events until the first that fails, of which it tells; so that
// is what it is called with again.
func (s *stream) run(inv *lambent.Invocation, fails func(id string) bool) (failed []string) {
	s.mu.Lock()
	s.largest = max(s.largest, len(inv.Events))
	keys := map[string]bool{}
	for _, e := range inv.Events {
		key := e.Extensions[lambent.PartitionKey]
		if s.busy[key] && !keys[key] {
			s.bad = append(s.bad, key+" is in two invocations at a time")
		}
		keys[key], s.busy[key] = true, true
	}
	s.mu.Unlock()
	time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range inv.Events {
		if fails(e.ID) {
			failed = []string{e.ID}
			break
		}
		key, number, _ := strings.Cut(e.ID, " ")
		n, _ := strconv.Atoi(number)
		switch {
		case n == s.next[key]:
			s.next[key]++
			s.done++
		case n > s.next[key]:
			s.bad = append(s.bad, fmt.Sprintf("%s before %d", e.ID, s.next[key]))
		}
	}
	for key := range keys {
		delete(s.busy, key)
	}
	return failed
}

// Whatever goes wrong, events of one key are done in their order, and all are.
func TestOrder(t *testing.T) {
	t.Parallel()
	const keys, each = 10, 100
	s := &stream{t: t, next: map[string]int{}, busy: map[string]bool{}}
	var mu sync.Mutex
	failures := map[string][]string{}
	p := newOrdered(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		if rand.IntN(10) == 0 {
			return nil, &lambent.Error{Kind: lambent.Throttled, Op: "test", Err: fmt.Errorf("too many"), RetryAfter: time.Microsecond}
		}
		inv.Started()
		failed := s.run(inv, func(string) bool { return rand.IntN(40) == 0 })
		if len(failed) > 0 && rand.IntN(2) == 0 {
			return &lambent.Fault{Kind: lambent.FaultHandler, Message: "it fell over"}, nil
		}
		mu.Lock()
		failures[inv.ID] = failed
		mu.Unlock()
		return nil, nil
	})
	p.failed = func(inv *lambent.Invocation) []string {
		mu.Lock()
		defer mu.Unlock()
		return failures[inv.ID]
	}
	p.set(func() { p.async["f"] = lambent.Async{Attempts: 1000, Backoff: time.Millisecond, Factor: 1} })
	tr := p.add("f", "a")
	if want := (&lambent.Batch{Size: 10, Parallel: 4}); !reflect.DeepEqual(tr.Batch, want) {
		t.Errorf("the source's batch is %+v", tr.Batch)
	}
	for n := range each {
		var events []lambent.Event
		for key := range keys {
			events = append(events, keyed(strconv.Itoa(key), n))
		}
		if err := p.source.of(tr.ID)(false, events...); err != nil {
			t.Fatal(err)
		}
		if n == each/2 {
			p.close()
			p.open()
			p.until("its source runs", func() bool { return p.source.of(tr.ID) != nil })
		}
	}
	p.until("all is done", func() bool {
		st, err := p.broker.Trigger("default", tr.ID)
		return err == nil && st.Waiting == 0
	})
	if s.done != keys*each || len(s.bad) > 0 {
		t.Errorf("%d of %d were done, and %q", s.done, keys*each, s.bad)
	}
	if s.largest < 2 || s.largest > 10 {
		t.Errorf("the largest batch has %d", s.largest)
	}
	if d := p.dead("f"); len(d) > 0 {
		t.Errorf("%d are dead: %+v", len(d), d[0])
	}
}

// One event that always fails is found, tried as often as the function allows, and is a
// dead letter; what is behind it goes on.
func TestPoison(t *testing.T) {
	t.Parallel()
	for _, tells := range []bool{false, true} {
		var mu sync.Mutex
		var with []int // how many events the invocations had that the poison was in
		done := map[string]int{}
		var failed []string
		p := newOrdered(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
			inv.Started()
			mu.Lock()
			defer mu.Unlock()
			failed = nil
			for _, e := range inv.Events {
				if e.ID == "a 7" {
					with = append(with, len(inv.Events))
					if tells {
						failed = []string{e.ID}
						return nil, nil
					}
					return &lambent.Fault{Kind: lambent.FaultHandler, Message: "poison"}, nil
				}
			}
			for _, e := range inv.Events {
				done[e.ID]++
			}
			return nil, nil
		})
		p.failed = func(*lambent.Invocation) []string {
			mu.Lock()
			defer mu.Unlock()
			return failed
		}
		tr := p.addBatch("f", lambent.Batch{Size: 16, Parallel: 1, Window: 300 * time.Millisecond})
		var events []lambent.Event
		for n := range 16 {
			events = append(events, keyed("a", n))
		}
		if err := p.source.of(tr.ID)(false, events...); err != nil {
			t.Fatal(err)
		}
		p.until("it is dead, and the rest done", func() bool {
			st, err := p.broker.Trigger("default", tr.ID)
			return err == nil && st.Waiting == 0
		})
		letters := p.dead("f")
		if len(letters) != 1 || letters[0].Attempts != 3 || letters[0].Trigger != tr.ID {
			t.Fatalf("dead are %+v", letters)
		}
		for n := range 16 {
			if id := fmt.Sprintf("a %d", n); n != 7 && done[id] == 0 && !tells {
				t.Errorf("%s was not done", id)
			}
		}
		want := []int{16, 8, 1, 1, 1}
		if tells {
			want = []int{16, 1, 1}
		}
		if !slices.Equal(with, want) {
			t.Errorf("tells %v: the poison was in batches of %v, want %v", tells, with, want)
		}

		// It lives again by its id, wherever it lies.
		if n, err := p.broker.Redrive(t.Context(), name("f"), trigger.Query{ID: letters[0].ID}, false); n != 1 || err != nil {
			t.Error(n, err)
		}
		p.until("it is dead again", func() bool { return len(p.dead("f")) == 1 })
		if n, err := p.broker.Purge(t.Context(), name("f"), trigger.Query{}, false); n != 1 || err != nil {
			t.Error(n, err)
		}
	}
}

// A function that fails with something that it was not given has failed whole.
func TestUnknownFailure(t *testing.T) {
	t.Parallel()
	p := newOrdered(t, ok)
	p.failed = func(*lambent.Invocation) []string { return []string{""} }
	tr := p.addBatch("f", lambent.Batch{Size: 2, Window: time.Minute, Parallel: 1})
	if err := p.source.of(tr.ID)(false, keyed("a", 0), keyed("a", 1)); err != nil {
		t.Fatal(err)
	}
	p.until("both are dead", func() bool { return len(p.dead("f")) == 2 })
	if d := p.dead("f")[0]; d.Attempts != 3 || !strings.Contains(d.Reason, `item "" has failed, which is not in its batch`) {
		t.Errorf("%+v", d)
	}
}

// A batch waits for its window, unless it is full; and what is large goes by itself.
func TestWindow(t *testing.T) {
	t.Parallel()
	p := newOrdered(t, ok)
	tr := p.addBatch("f", lambent.Batch{Size: 3, Window: 100 * time.Millisecond, Parallel: 1})
	publish := p.source.of(tr.ID)
	begun := time.Now()
	for n := range 2 {
		if err := publish(false, keyed("a", n)); err != nil {
			t.Fatal(err)
		}
	}
	p.wait(1)
	if took := time.Since(begun); took < 99*time.Millisecond || len(p.ran[0].Events) != 2 {
		t.Errorf("%d events after %v", len(p.ran[0].Events), took)
	}
	tr = p.addBatch("f", lambent.Batch{Size: 3, Window: time.Minute, Parallel: 1})
	publish = p.source.of(tr.ID)
	for n := range 3 {
		if err := publish(false, keyed("b", n)); err != nil {
			t.Fatal(err)
		}
	}
	p.wait(1)
	if got := p.ran[1].Events; len(got) != 3 {
		t.Errorf("%d events", len(got))
	}
	tr = p.addBatch("f", lambent.Batch{Size: 7, Window: 2 * time.Second, Parallel: 1})
	publish = p.source.of(tr.ID)
	for n := range 7 {
		e := keyed("c", n)
		e.Data = make([]byte, 1<<20)
		if err := publish(false, e); err != nil {
			t.Fatal(err)
		}
	}
	p.wait(2)
	p.set(func() {
		if a, b := len(p.ran[2].Events), len(p.ran[3].Events); a != 4 || b != 3 || p.ran[2].ID == p.ran[3].ID {
			t.Errorf("7 MB were taken as %d and %d events", a, b)
		}
	})
}

// A lane that is full takes nothing behind what it has refused.
func TestOrderOfRefused(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	var mu sync.Mutex
	var got []string
	p := newOrdered(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		inv.Started()
		<-hold
		mu.Lock()
		defer mu.Unlock()
		for _, e := range inv.Events {
			got = append(got, e.ID)
		}
		return nil, nil
	}, store.QueueOptions{LaneItems: 50})
	tr := p.addBatch("f", lambent.Batch{Size: 5, Parallel: 1})
	var events []lambent.Event
	for n := range 300 {
		events = append(events, keyed("a", n))
	}
	publish := p.source.of(tr.ID)
	if err := publish(false, events...); !lambent.Is(err, lambent.Throttled) {
		t.Fatal(err)
	}
	close(hold)
	p.until("all are taken", func() bool { return publish(false, events...) == nil })
	p.until("all are done", func() bool {
		st, err := p.broker.Trigger("default", tr.ID)
		return err == nil && st.Waiting == 0
	})
	for i, id := range got {
		if id != events[i].ID {
			t.Fatalf("%q is number %d", id, i)
		}
	}
	if len(got) != len(events) {
		t.Errorf("%d of %d", len(got), len(events))
	}
}

// What a source delivers itself is run once, and it is told how that went.
func TestDeliver(t *testing.T) {
	t.Parallel()
	var fault *lambent.Fault
	var refusal error
	p := newOrdered(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) { return fault, refusal })
	p.failed = func(*lambent.Invocation) []string { return []string{"a 1"} }
	tr := p.add("f", "a")
	deliver := p.source.sink(tr.ID).Deliver
	first := keyed("a", 0)
	first.Extensions[lambent.ExtensionTrace] = "00-1"
	failed, err := deliver(t.Context(), first, keyed("a", 1))
	if err != nil || p.ran[0].Trace != "00-1" || !slices.Equal(failed, []string{"a 1"}) || len(p.ran) != 1 || len(p.ran[0].Events) != 2 || p.ran[0].TriggerID != tr.ID {
		t.Errorf("%q, %v of %+v", failed, err, p.ran)
	}
	fault = &lambent.Fault{Kind: lambent.FaultTimeout, Message: "late"}
	if _, err := deliver(t.Context(), keyed("a", 0)); err != error(fault) {
		t.Error(err)
	}
	refusal = lambent.Errorf(lambent.Throttled, "test", "too many")
	if _, err := deliver(t.Context(), keyed("a", 0)); !lambent.Is(err, lambent.Throttled) {
		t.Error(err)
	}
	if st := p.queue.Stats(); st.Frames != 0 {
		t.Errorf("it is in the queue: %+v", st)
	}
}

// To a function that takes one event at a time a source delivers them so, and what is behind one that failed
// does not overtake it.
func TestDeliverApart(t *testing.T) {
	t.Parallel()
	outcomes := map[string]error{"a 1": &lambent.Fault{Kind: lambent.FaultHandler, Message: "it fell over"}, "b 1": lambent.Errorf(lambent.Throttled, "test", "too many")}
	p := newPlatform(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		err := outcomes[inv.Events[0].ID]
		if f, ok := err.(*lambent.Fault); ok {
			return f, nil
		}
		return nil, err
	})
	p.apart = true
	tr := p.add("f", "a")
	alone := func(id string) lambent.Event { return lambent.Event{ID: id, Source: "/test", Type: "test"} }
	outcomes["alone 0"] = outcomes["a 1"]
	deliver := p.source.sink(tr.ID).Deliver
	failed, err := deliver(t.Context(), keyed("a", 0), alone("alone 0"), keyed("a", 1), keyed("b", 0), keyed("a", 2), keyed("b", 1), alone("alone 1"), keyed("b", 2), keyed("c", 0), keyed("a", 3))
	if want := []string{"alone 0", "a 1", "a 2", "b 1", "b 2", "a 3"}; err != nil || !slices.Equal(failed, want) {
		t.Errorf("failed: %q, %v, want %q", failed, err, want)
	}
	var ran []string
	for _, inv := range p.ran {
		ran = append(ran, inv.Events[0].ID)
	}
	if want := []string{"a 0", "alone 0", "a 1", "b 0", "alone 1", "c 0"}; !slices.Equal(ran, want) {
		t.Errorf("ran: %q, want %q", ran, want)
	}
}

func TestBadBatches(t *testing.T) {
	t.Parallel()
	plain, p := newPlatform(t, ok), newOrdered(t, ok)
	schedule := &lambent.Schedule{Expression: "a"}
	for want, check := range map[string]error{
		"schedule has no batches":        plain.broker.Check(lambent.Trigger{Target: name("f"), Schedule: schedule, Batch: &lambent.Batch{}}),
		"pattern has no batches":         p.broker.Check(lambent.Trigger{Target: name("f"), Pattern: []byte(`{"source":["a"]}`), Batch: &lambent.Batch{}}),
		"10001 events is outside":        p.broker.Check(lambent.Trigger{Target: name("f"), Schedule: schedule, Batch: &lambent.Batch{Size: 10_001}}),
		"window of 1h0m0s is outside":    p.broker.Check(lambent.Trigger{Target: name("f"), Schedule: schedule, Batch: &lambent.Batch{Window: time.Hour}}),
		"-1 invocations in parallel are": p.broker.Check(lambent.Trigger{Target: name("f"), Schedule: schedule, Batch: &lambent.Batch{Parallel: -1}}),
	} {
		if !lambent.Is(check, lambent.Invalid) || !strings.Contains(check.Error(), want) {
			t.Errorf("%s: %v", want, check)
		}
	}
}
