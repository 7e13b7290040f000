package trigger_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"lambent"
	"lambent/trigger"
)

// What 16 functions have led to does not run, however it comes, and is a dead letter that
// says why; redriven it runs, and leads on.
func TestLoopsAreCut(t *testing.T) {
	t.Parallel()
	p := newOrdered(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		if inv.Started != nil {
			inv.Started()
		}
		return nil, nil
	})
	tr := p.addBatch("f", lambent.Batch{Size: 10, Parallel: 1})
	sink := p.source.sink(tr.ID)
	if _, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name("f"), Pattern: []byte(`{"source":["/test"]}`)}); err != nil {
		t.Fatal(err)
	}
	of := func(id string, hops int) lambent.Event {
		e := event(id)
		e.Hops = hops
		return e
	}

	p.set(func() { p.async["f"] = lambent.Async{OnSuccess: "queue:q"} })
	p.accept(lambent.Invocation{ID: "last", Raw: []byte("1"), Target: name("f"), Hops: 15})
	p.until("its queue is told", func() (told bool) {
		p.set(func() { told = slices.Equal(p.hops, []int{16}) })
		return told
	})
	p.set(func() { p.async["f"] = lambent.Async{} })
	p.accept(lambent.Invocation{ID: "called", Raw: []byte("1"), Target: name("f"), Hops: 16})
	if _, err := p.broker.Publish(t.Context(), "default", of("published", 16)); err != nil {
		t.Fatal(err)
	}
	if err := sink.Publish(t.Context(), of("of a source", 17)); err != nil {
		t.Fatal(err)
	}
	if failed, err := sink.Deliver(t.Context(), of("delivered", 16)); len(failed) != 0 || err != nil {
		t.Errorf("delivered: %v, %v", failed, err)
	}
	if failed, err := sink.Deliver(t.Context(), of("others 1", 3), of("delivered too", 20), of("others 2", 5)); len(failed) != 0 || err != nil {
		t.Errorf("delivered with others: %v, %v", failed, err)
	}
	waitedFor := func(function string, hops int) error {
		return p.broker.Invoke(t.Context(), &lambent.Invocation{ID: "waited for", Raw: []byte("1"), Target: name(function), Hops: hops}, &result{})
	}
	if err := waitedFor("f", 15); err != nil {
		t.Errorf("waited for: %v", err)
	}
	if err, ok := errors.AsType[*lambent.Error](waitedFor("f", 16)); !ok || err.Kind != lambent.Invalid || err.Reason != lambent.ReasonLoop || !strings.HasPrefix(err.Message, "16 functions") {
		t.Errorf("waited for, in a loop: %v", err)
	}
	p.set(func() { p.gone["gone"] = true })
	if err := waitedFor("gone", 16); !lambent.Is(err, lambent.NotFound) {
		t.Errorf("waited for, of none: %v", err)
	}
	p.until("five are dead", func() bool { return p.queue.Stats().Dead == 5 })
	for _, d := range p.dead("f") {
		if d.Attempts != 1 || !strings.HasPrefix(d.Reason, "16 functions have led to one another by now") {
			t.Errorf("a dead letter: %+v", d)
		}
	}
	p.set(func() {
		if len(p.ran) != 3 || len(p.ran[1].Events) != 2 || p.ran[1].Hops != 5 || p.ran[2].Hops != 15 {
			t.Errorf("ran: %+v", p.ran)
		}
		if len(p.lines) != 6 || !slices.ContainsFunc(p.lines, func(l string) bool { return strings.HasPrefix(l, "f waited for LOOP RequestId: ") }) ||
			!slices.ContainsFunc(p.lines, func(l string) bool { return strings.HasPrefix(l, "f called LOOP RequestId: called 16 functions") }) {
			t.Errorf("lines: %q", p.lines)
		}
		p.ran = nil
	})

	if _, err := p.broker.Redrive(t.Context(), name("f"), trigger.Query{ID: "called"}, false); err != nil {
		t.Fatal(err)
	}
	p.until("what was redriven is not dead", func() bool { return p.queue.Stats().Dead == 4 })
	p.until("it has run", func() (ran bool) {
		p.set(func() { ran = len(p.ran) == 1 && p.ran[0].ID == "called" && p.ran[0].Hops == 0 })
		return ran
	})

	// Replayed, too, an event has no past.
	p.set(func() { p.ran = nil })
	if _, n, err := p.broker.Replay(t.Context(), "default", trigger.Query{ID: "published"}, false); n != 1 || err != nil {
		t.Fatalf("replayed: %d, %v", n, err)
	}
	p.until("it has run", func() (ran bool) {
		p.set(func() { ran = len(p.ran) == 1 && p.ran[0].Hops == 0 })
		return ran
	})
}
