package trigger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/source"
	"lambent/store"
	"lambent/trigger"
)

// A scripted source publishes what a test tells it to, and keeps a number as position.
type scripted struct {
	mu      sync.Mutex // guards what follows
	running map[string]func(fails bool, e ...lambent.Event) error
	sinks   map[string]source.Sink
	starts  int
}

func (s *scripted) Check(t lambent.Trigger) error {
	switch t.Schedule.Expression {
	case "bad":
		return lambent.Errorf(lambent.Invalid, "schedule", "it is bad")
	case "panics at once":
		panic("index out of range")
	}
	return nil
}

func (s *scripted) Run(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	ended := make(chan error, 1)
	s.mu.Lock()
	s.starts++
	if s.running == nil {
		s.running, s.sinks = map[string]func(bool, ...lambent.Event) error{}, map[string]source.Sink{}
	}
	s.sinks[t.ID] = sink
	s.running[t.ID] = func(fails bool, e ...lambent.Event) error {
		if fails {
			ended <- errors.New("the world is gone")
			return nil
		}
		if err := sink.Publish(ctx, e...); err != nil {
			return err
		}
		b, err := sink.Position(ctx)
		if err != nil {
			return err
		}
		n := 0
		if b != nil {
			if _, err := fmt.Sscan(string(b), &n); err != nil {
				return err
			}
		}
		return sink.SetPosition(ctx, fmt.Append(nil, n+len(e)))
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.running, t.ID)
		s.mu.Unlock()
	}()
	select {
	case err := <-ended:
		if t.Schedule.Expression == "panics" {
			panic("index out of range")
		}
		return err
	case <-ctx.Done():
		return nil
	}
}

// of returns what a trigger's source does, if it runs.
func (s *scripted) of(id string) func(bool, ...lambent.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[id]
}

func (s *scripted) sink(id string) source.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sinks[id]
}

func (p *platform) add(function, expression string) trigger.Status {
	p.t.Helper()
	s, err := p.broker.Add(p.t.Context(), lambent.Trigger{Target: name(function), Schedule: &lambent.Schedule{Expression: expression}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.until("its source runs", func() bool { return p.source.of(s.ID) != nil })
	return s
}

func event(id string) lambent.Event {
	return lambent.Event{ID: id, Source: "/test", Type: "test", Extensions: map[string]string{"traceparent": "00-1"}}
}

// A source that panics, as one does by what another side says that is no such thing, is one
// that fails.
func TestPanic(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	_, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name("f"), Schedule: &lambent.Schedule{Expression: "panics at once"}})
	if !lambent.Is(err, lambent.Unavailable) || !strings.Contains(err.Error(), "index out of range") {
		t.Error(err)
	}
	s := p.add("f", "panics")
	if err := p.source.of(s.ID)(true); err != nil {
		t.Fatal(err)
	}
	p.until("that is said", func() bool {
		s, err := p.broker.Trigger("default", s.ID)
		return err == nil && strings.Contains(s.Error, "index out of range")
	})
	p.until("it runs again", func() bool { return p.source.of(s.ID) != nil })
}

func TestTriggers(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	a, b := p.add("f", "a"), p.add("g", "b")
	if err := p.source.of(a.ID)(false, event("1"), event("2")); err != nil {
		t.Fatal(err)
	}
	p.wait(2)
	ids := map[string]bool{}
	for _, inv := range p.ran {
		ids[inv.ID] = true
		if inv.Target != name("f") || inv.TriggerID != a.ID || inv.Source != "schedule" || len(inv.Events) != 1 || inv.Trace != "00-1" || inv.Raw != nil {
			t.Errorf("%+v", inv)
		}
	}
	if len(ids) != 2 {
		t.Errorf("%v", ids)
	}
	if err := p.source.of(a.ID)(false, lambent.Event{ID: "3"}); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}

	// After a restart they are there, and go on; what they publish again counts once.
	p.close()
	p.open()
	for _, s := range []trigger.Status{a, b} {
		p.until("its source runs again", func() bool { return p.source.of(s.ID) != nil })
	}
	if err := p.source.of(a.ID)(false, event("2"), event("3")); err != nil {
		t.Fatal(err)
	}
	p.wait(1)
	p.until("nothing is left", func() bool { s := p.queue.Stats(); return s.Running+s.Waiting == 0 })
	if got := p.ran[len(p.ran)-1].Events[0].ID; len(p.ran) != 3 || got != "3" {
		t.Errorf("%d ran, the last of %s", len(p.ran), got)
	}
	if e, err := p.store.Get(t.Context(), "position."+a.ID); err != nil || string(e.Value) != "4" {
		t.Errorf("position %s, %v", e.Value, err)
	}

	// Disabled it is kept, and its source is not run, also after a restart.
	if s, err := p.broker.Enable(t.Context(), "default", a.ID, false); err != nil || !s.Disabled || p.source.of(a.ID) != nil {
		t.Errorf("%+v, %v", s, err)
	}
	p.close()
	p.open()
	p.until("the other's source runs", func() bool { return p.source.of(b.ID) != nil })
	if s, err := p.broker.Trigger("default", a.ID); err != nil || !s.Disabled || p.source.of(a.ID) != nil {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := p.broker.Enable(t.Context(), "default", a.ID, true); err != nil || s.Disabled {
		t.Errorf("%+v, %v", s, err)
	}
	p.until("it runs again", func() bool { return p.source.of(a.ID) != nil })

	// One that fails is started again, and says so meanwhile.
	if err := p.source.of(b.ID)(true); err != nil {
		t.Fatal(err)
	}
	p.until("it says so", func() bool { s, err := p.broker.Trigger("default", b.ID); return err == nil && s.Error != "" })
	p.until("it runs again", func() bool {
		s, err := p.broker.Trigger("default", b.ID)
		return err == nil && s.Error == "" && p.source.of(b.ID) != nil
	})

	// And deleted it is gone with its position, whatever becomes of its function.
	if err := p.broker.Delete(t.Context(), "default", a.ID); err != nil || p.source.of(a.ID) != nil {
		t.Error(err)
	}
	if _, err := p.store.Get(t.Context(), "position."+a.ID); !lambent.Is(err, lambent.NotFound) {
		t.Error(err)
	}
	if err := p.broker.Forget(t.Context(), name("g")); err != nil || p.source.of(b.ID) != nil {
		t.Error(err)
	}
	if left := p.broker.Triggers("default", ""); len(left) != 0 {
		t.Errorf("%+v", left)
	}
}

func TestTriggerRefusals(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	p.set(func() { p.gone["gone"] = true })
	for _, c := range []struct {
		trigger lambent.Trigger
		kind    lambent.Kind
	}{
		{lambent.Trigger{Target: name("gone"), Schedule: &lambent.Schedule{Expression: "a"}}, lambent.NotFound},
		{lambent.Trigger{Target: name("f"), Schedule: &lambent.Schedule{Expression: "bad"}}, lambent.Invalid},
		{lambent.Trigger{Target: name("f")}, lambent.Invalid},
	} {
		if _, err := p.broker.Add(t.Context(), c.trigger); !lambent.Is(err, c.kind) {
			t.Errorf("%+v: %v", c.trigger, err)
		}
	}
	s := p.add("f", "a")
	for _, project := range []string{"default", "other"} {
		id := s.ID
		if project == "default" {
			id = "nosuch"
		}
		if err := p.broker.Delete(t.Context(), project, id); !lambent.Is(err, lambent.NotFound) {
			t.Error(err)
		}
		if _, err := p.broker.Enable(t.Context(), project, id, false); !lambent.Is(err, lambent.NotFound) {
			t.Error(err)
		}
	}
	if all := p.broker.Triggers("default", "f"); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

// A deploy says which triggers there are, of those that deploys have made.
func TestDeployed(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	added := p.add("f", "added")
	deploy := func(expressions ...string) {
		t.Helper()
		var triggers []lambent.Trigger
		for _, e := range expressions {
			triggers = append(triggers, lambent.Trigger{Schedule: &lambent.Schedule{Expression: e}})
		}
		if err := p.broker.Deploy(t.Context(), name("f"), triggers); err != nil {
			t.Fatal(err)
		}
	}
	have := func() (ids map[string]string) {
		ids = map[string]string{}
		for _, s := range p.broker.Triggers("default", "f") {
			ids[s.Schedule.Expression] = s.ID
		}
		return ids
	}
	deploy("x", "y")
	before := have()
	if len(before) != 3 || before["added"] != added.ID {
		t.Fatalf("%v", before)
	}
	deploy("y", "z")
	after := have()
	if len(after) != 3 || after["y"] != before["y"] || after["x"] != "" || after["z"] == "" || after["added"] != added.ID {
		t.Errorf("%v after %v", after, before)
	}
	deploy("y", "y", "z")
	deploy("y", "y", "z")
	if again := have(); len(p.broker.Triggers("default", "f")) != 3 || again["y"] != before["y"] {
		t.Errorf("%v after %v", again, after)
	}
	deploy()
	if left := have(); len(left) != 1 {
		t.Errorf("%v", left)
	}
}

// An event that one function's lane has no room for reaches the others, and once there is
// room the publisher's second try reaches that one.
func TestPublishToFullLane(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := newPlatform(t, func(ctx context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		inv.Started()
		if inv.Target.Function == "full" {
			<-release
		}
		return nil, nil
	}, store.QueueOptions{LaneItems: 1})
	for _, function := range []string{"full", "free"} {
		if _, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name(function), Pattern: []byte(`{"source":["/test"]}`)}); err != nil {
			t.Fatal(err)
		}
	}
	p.accept(lambent.Invocation{ID: "1", Raw: []byte{}, Target: name("full")})
	if _, err := p.broker.Publish(t.Context(), "default", event("1")); !lambent.Is(err, lambent.Throttled) {
		t.Error(err)
	}
	p.wait(1)
	if p.ran[0].Target.Function != "free" {
		t.Errorf("%+v", p.ran[0])
	}
	close(release)
	p.wait(1)
	p.until("there is room", func() bool { return p.queue.Stats().Running == 0 })
	if n, err := p.broker.Publish(t.Context(), "default", event("1")); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	p.wait(1)
	p.until("nothing is left", func() bool { s := p.queue.Stats(); return s.Running+s.Waiting == 0 })
	if len(p.ran) != 3 || p.ran[2].Target.Function != "full" {
		t.Errorf("%d ran", len(p.ran))
	}
}

// Many large events go to many triggers, in as many pieces as that takes.
func TestPublishMuch(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	const triggers = 5
	for i := range triggers {
		if _, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name(fmt.Sprint("f", i)), Pattern: []byte(`{"source":["/test"]}`)}); err != nil {
			t.Fatal(err)
		}
	}
	var events []lambent.Event
	for i, size := range []int{1 << 20, 600 << 10, 600 << 10, 1, 0} {
		e := event(fmt.Sprint(i))
		e.Data = make([]byte, size)
		events = append(events, e)
	}
	for range 60 {
		events = append(events, event(fmt.Sprint(len(events))))
	}
	if n, err := p.broker.Publish(t.Context(), "default", events...); n != triggers*len(events) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	p.wait(triggers * len(events))
}

// What a crash has left of a deleted function's is not taken in.
func TestOrphan(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	p.add("f", "a")
	kept := p.add("g", "b")
	p.close()
	p.set(func() { p.gone["f"] = true })
	p.open()
	p.until("the other's source runs", func() bool { return p.source.of(kept.ID) != nil })
	all := p.broker.Triggers("default", "")
	if !slices.ContainsFunc(all, func(s trigger.Status) bool { return s.ID == kept.ID }) || len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

// An event invokes what has a pattern that it matches, once for each, whatever is
// restarted in between.
func TestPublish(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	follow := func(project, function, text string) trigger.Status {
		t.Helper()
		s, err := p.broker.Add(t.Context(), lambent.Trigger{Target: lambent.Name{Project: project, Function: function}, Pattern: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	publish := func(want int, events ...lambent.Event) {
		t.Helper()
		if n, err := p.broker.Publish(t.Context(), "default", events...); n != want || err != nil {
			t.Errorf("%d, %v, want %d", n, err, want)
		}
	}
	placed := lambent.Event{ID: "1", Source: "shop", Type: "order.placed", Subject: "o1", Extensions: map[string]string{"tenant": "x", "traceparent": "00-1"}, Data: []byte(`{"total":250}`)}
	follow("default", "eventbridge", `{"source":["shop"],"detail-type":[{"prefix":"order."}],"detail":{"total":[{"numeric":[">",100]}]}}`)
	follow("default", "cloudevents", `{"type":["order.placed"],"subject":["o1"],"tenant":["x"],"data":{"total":[250]}}`)
	off := follow("default", "off", `{"source":["shop"]}`)
	follow("default", "not", `{"source":[{"anything-but":"shop"}]}`)
	follow("other", "eventbridge", `{"source":["shop"]}`)
	if _, err := p.broker.Enable(t.Context(), "default", off.ID, false); err != nil {
		t.Fatal(err)
	}
	publish(2, placed)
	p.wait(2)
	ran := map[string]lambent.Invocation{}
	for _, inv := range p.ran {
		ran[inv.Target.Function] = inv
	}
	for _, function := range []string{"eventbridge", "cloudevents"} {
		if inv := ran[function]; inv.Source != "pattern" || len(inv.Events) != 1 || string(inv.Events[0].Data) != `{"total":250}` || inv.Events[0].Time.IsZero() || inv.Trace != "00-1" {
			t.Errorf("%s: %+v", function, inv)
		}
	}
	p.close()
	p.open()
	other := placed
	other.Source = "shop2"
	publish(4, placed, other) // the first of which was published before
	p.wait(2)
	p.until("nothing is left", func() bool { s := p.queue.Stats(); return s.Running+s.Waiting == 0 })
	again := map[string]string{}
	for _, inv := range p.ran[2:] {
		again[inv.Target.Function] = inv.Events[0].Source
	}
	if want := map[string]string{"not": "shop2", "cloudevents": "shop2"}; !maps.Equal(again, want) {
		t.Errorf("%v ran, want %v", again, want)
	}

	follow("default", "all", `{"source":[{"exists":true}]}`)
	large := placed
	large.Data = make([]byte, 1<<20+1)
	for _, bad := range []struct {
		events []lambent.Event
		kind   lambent.Kind
	}{
		{[]lambent.Event{{ID: "1", Source: "s"}}, lambent.Invalid},
		{[]lambent.Event{event("good"), {ID: "1", Source: "s"}}, lambent.Invalid},
		{[]lambent.Event{event("good"), {ID: "1", Source: "s", Type: "t", Extensions: map[string]string{"long": strings.Repeat("x", 10_000)}}}, lambent.TooLarge},
		{make([]lambent.Event, 101), lambent.TooLarge},
		{[]lambent.Event{large}, lambent.TooLarge},
	} {
		if _, err := p.broker.Publish(t.Context(), "default", bad.events...); !lambent.Is(err, bad.kind) {
			t.Errorf("%d events: %v", len(bad.events), err)
		}
	}
	if s := p.queue.Stats(); s.Running+s.Waiting != 0 || len(p.ran) != 4 { // nothing of what was refused is kept
		t.Errorf("%+v, %d ran", s, len(p.ran))
	}
	if _, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name("f"), Pattern: []byte(`{"source":"shop"}`)}); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
	if _, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name("f"), Pattern: []byte(`{"a":["b"]}`), Schedule: &lambent.Schedule{}}); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
}

// Events are replayed to a function, or by a trigger, alone.
func TestReplaySelects(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	made := p.add("f", "a")
	if err := p.source.of(made.ID)(false, event("s1")); err != nil {
		t.Fatal(err)
	}
	p.wait(1)
	shop := event("p1")
	shop.Source = "shop"
	if _, err := p.broker.Publish(t.Context(), "default", shop, event("p2")); err != nil {
		t.Fatal(err)
	}
	var patterns []trigger.Status
	for _, function := range []string{"g", "h"} {
		s, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name(function), Pattern: []byte(`{"source":["shop"]}`)})
		if err != nil {
			t.Fatal(err)
		}
		patterns = append(patterns, s)
	}
	for _, c := range []struct {
		q    trigger.Query
		ids  []string
		want []string // what runs
	}{
		{trigger.Query{}, []string{"p2", "p1", "s1"}, []string{"f s1", "g p1", "h p1"}},
		{trigger.Query{Function: "g"}, []string{"p1"}, []string{"g p1"}},
		{trigger.Query{Trigger: made.ID}, []string{"s1"}, []string{"f s1"}},
		{trigger.Query{Trigger: patterns[1].ID}, []string{"p1"}, []string{"h p1"}},
		{trigger.Query{Kind: "pattern"}, []string{"p1"}, []string{"g p1", "h p1"}},
		{trigger.Query{Kind: "schedule", Function: "f"}, []string{"s1"}, []string{"f s1"}},
		{trigger.Query{Kind: "schedule", Function: "g"}, nil, nil},
	} {
		kept, err := p.broker.Events(t.Context(), "default", c.q)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, k := range kept {
			ids = append(ids, k.Event.ID)
		}
		if !slices.Equal(ids, c.ids) {
			t.Errorf("%+v selects %v, want %v", c.q, ids, c.ids)
		}
		p.set(func() { p.ran = nil })
		n, runs, err := p.broker.Replay(t.Context(), "default", c.q, true)
		if len(c.ids) == 0 {
			if !lambent.Is(err, lambent.NotFound) {
				t.Errorf("%+v: %v", c.q, err)
			}
			continue
		}
		if n != len(c.ids) || runs != len(c.want) || err != nil {
			t.Errorf("%+v, dry: %d, %d, %v", c.q, n, runs, err)
		}
		if n, runs, err := p.broker.Replay(t.Context(), "default", c.q, false); n != len(c.ids) || runs != len(c.want) || err != nil {
			t.Errorf("%+v: %d, %d, %v", c.q, n, runs, err)
		}
		p.wait(len(c.want))
		var ran []string
		p.set(func() {
			for _, inv := range p.ran {
				ran = append(ran, inv.Target.Function+" "+inv.Events[0].ID)
			}
		})
		if slices.Sort(ran); !slices.Equal(ran, c.want) {
			t.Errorf("%+v: %v ran, want %v", c.q, ran, c.want)
		}
	}
}

// More events are replayed than may wait at a time, the oldest first and each once.
func TestReplayMany(t *testing.T) {
	t.Parallel()
	const all = 12_000
	p := newPlatform(t, ok, store.QueueOptions{LaneItems: 1000})
	batch := make([]lambent.Event, 100)
	for i := range all / len(batch) {
		for j := range batch {
			batch[j] = event(fmt.Sprintf("%05d", i*len(batch)+j))
		}
		for range 1 + i%2 { // some are published twice
			if _, err := p.broker.Publish(t.Context(), "default", batch...); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name("f"), Pattern: []byte(`{"source":["/test"]}`)}); err != nil {
		t.Fatal(err)
	}
	if n, runs, err := p.broker.Replay(t.Context(), "default", trigger.Query{}, true); n != all || runs != all || err != nil {
		t.Errorf("dry: %d, %d, %v", n, runs, err)
	}
	if n, runs, err := p.broker.Replay(t.Context(), "default", trigger.Query{}, false); n != all || runs != all || err != nil {
		t.Errorf("%d, %d, %v", n, runs, err)
	}
	p.wait(all)
	ran := map[string]bool{}
	p.set(func() {
		for i, inv := range p.ran {
			id := inv.Events[0].ID
			if n, _ := strconv.Atoi(id); n > i+2000 || n < i-2000 {
				t.Fatalf("event %s ran as the %dth", id, i)
			}
			ran[id] = true
		}
	})
	if len(ran) != all {
		t.Errorf("%d events ran", len(ran))
	}
}

// What was accepted is there to be seen, and to be replayed: by the trigger that made it,
// or by whatever it matches now.
func TestHistory(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	made := p.add("f", "a")
	begun := time.Now().Add(-time.Second)
	if err := p.source.of(made.ID)(false, event("s1")); err != nil {
		t.Fatal(err)
	}
	p.wait(1)
	shop := event("p1")
	shop.Source, shop.Data, shop.DataContentType = "shop", []byte{0xff, 0}, "image/png"
	for _, project := range []string{"default", "other"} {
		if _, err := p.broker.Publish(t.Context(), project, shop, event("p2")); err != nil {
			t.Fatal(err)
		}
	}
	p.close()
	p.open()
	p.until("its source runs again", func() bool { return p.source.of(made.ID) != nil })
	events := func(q trigger.Query) (ids []string) {
		t.Helper()
		list, err := p.broker.Events(t.Context(), "default", q)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			ids = append(ids, k.Event.ID)
			if k.Event.ID == "p1" && (!bytes.Equal(k.Event.Data, shop.Data) || k.Event.DataContentType != "image/png" || k.Trigger != "" || k.Accepted.Before(begun)) ||
				k.Event.ID == "s1" && k.Trigger != made.ID {
				t.Errorf("%+v", k)
			}
		}
		return ids
	}
	for _, c := range []struct {
		q    trigger.Query
		want []string
	}{
		{trigger.Query{}, []string{"p2", "p1", "s1"}}, {trigger.Query{Limit: 2}, []string{"p2", "p1"}},
		{trigger.Query{Source: "shop"}, []string{"p1"}}, {trigger.Query{ID: "s1"}, []string{"s1"}}, {trigger.Query{Type: "nothing"}, nil},
		{trigger.Query{Since: begun}, []string{"p2", "p1", "s1"}}, {trigger.Query{Since: time.Now().Add(time.Hour)}, nil}, {trigger.Query{Until: begun}, nil},
	} {
		if got := events(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.q, got, c.want)
		}
	}

	if _, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name("new"), Pattern: []byte(`{"source":["shop"]}`)}); err != nil {
		t.Fatal(err)
	}
	if n, runs, err := p.broker.Replay(t.Context(), "default", trigger.Query{}, true); n != 3 || runs != 2 || err != nil {
		t.Errorf("dry: %d, %d, %v", n, runs, err)
	}
	for range 2 { // each is one of its own
		p.set(func() { p.ran = nil })
		if n, runs, err := p.broker.Replay(t.Context(), "default", trigger.Query{}, false); n != 3 || runs != 2 || err != nil {
			t.Errorf("%d, %d, %v", n, runs, err)
		}
		p.wait(2)
		ran := map[string]string{}
		for _, inv := range p.ran {
			ran[inv.Target.Function] = inv.Events[0].ID
		}
		if want := map[string]string{"f": "s1", "new": "p1"}; !maps.Equal(ran, want) {
			t.Errorf("%v ran, want %v", ran, want)
		}
	}
	if _, _, err := p.broker.Replay(t.Context(), "default", trigger.Query{ID: "nosuch"}, false); !lambent.Is(err, lambent.NotFound) {
		t.Error(err)
	}
}
