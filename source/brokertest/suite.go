package brokertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/source"
	"lambent/source/databasetest"
)

// ordered fails unless the numbers 0 to n-1 are among the events, and those of each key
// come first in their order.
func ordered(t testing.TB, events []lambent.Event, n int) {
	t.Helper()
	seen := map[string]bool{}
	last := map[int]int{}
	for i := range events {
		var number int
		v := Value(&events[i])
		if _, err := fmt.Sscan(v, &number); err != nil {
			t.Fatalf("%d: %q", i, events[i].Data)
		}
		if seen[v] {
			continue
		}
		seen[v] = true
		key := number % 3
		if before, ok := last[key]; ok && number < before {
			t.Fatalf("%d comes behind %d", number, before)
		}
		last[key] = number
	}
	if len(seen) != n {
		t.Fatalf("%d of %d messages have come", len(seen), n)
	}
}

// Test runs the suite.
func Test(t *testing.T, k Kind) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *Kind)
	}{
		{"order", testOrder}, {"beginning", testBeginning}, {"again", testAgain}, {"large", testLarge}, {"full", testFull},
		{"silent", testSilent}, {"crashes", testCrashes}, {"down", testDown}, {"forgotten", testForgotten},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, &k) })
	}
}

// TestAgain runs that part of the suite alone: what was not acknowledged comes again.
func TestAgain(t *testing.T, k Kind) { testAgain(t, &k) }

func (k *Kind) send(t testing.TB, b lambent.Broker, messages ...Message) {
	t.Helper()
	if err := k.Send(b, messages...); err != nil {
		t.Fatal(err)
	}
}

func testOrder(t *testing.T, k *Kind) {
	b := k.Topic(t)
	w := k.Watch(t, b)
	k.send(t, b, Numbered(0, 300)...)
	ordered(t, w.Wait(300), 300)
	for _, e := range w.Events() {
		if e.Type != lambent.EventBrokerMessage || e.Source != "/triggers/"+w.Trigger.ID || time.Since(e.Time) > time.Minute {
			t.Fatalf("%+v", e)
		}
	}
	if !k.NoGroups { // another trigger has everything, too
		w := k.Watch(t, b)
		k.send(t, b, Numbered(0, 10)...)
		ordered(t, w.Wait(10), 10)
	}
	databasetest.Until(t, "nothing is behind", func() bool {
		lag, known := k.Source.(source.Gauge).Lag(w.Trigger)
		return !known || lag.Behind == 0
	})
}

// Who begins with what is new has nothing else, from when the trigger is prepared.
func testBeginning(t *testing.T, k *Kind) {
	b := k.Topic(t)
	if k.NoPast {
		w := k.Prepare(t, b)
		k.send(t, b, Numbered(0, 5)...)
		w.Run()
		ordered(t, w.Wait(5), 5)
		return
	}
	k.send(t, b, Numbered(0, 5)...)
	w := k.Prepare(t, b)
	all := b
	all.From = lambent.FromEarliest
	k.send(t, b, Numbered(5, 5)...)
	w.Run()
	if events := w.Wait(5); Value(&events[0]) < "5" {
		t.Errorf("it begins with %s", Value(&events[0]))
	}
	ordered(t, k.Watch(t, all).Wait(10), 10)
	if len(w.Events()) != 5 {
		t.Errorf("%d events", len(w.Events()))
	}
}

var errCrash = errors.New("the end")

// What was published and not acknowledged comes again, with the same ID.
func testAgain(t *testing.T, k *Kind) {
	b := k.Topic(t)
	w := k.Prepare(t, b)
	w.Set(func() { w.Crash = errCrash })
	k.send(t, b, Numbered(0, 30)...)
	w.Run()
	databasetest.Until(t, "something comes again", func() (again bool) {
		seen := map[string]bool{}
		w.Set(func() {
			again = w.Repeats > 0
			for i := range w.Sink.Events {
				v := Value(&w.Sink.Events[i])
				again, seen[v] = again || k.Unnamed && seen[v], true
			}
		})
		return again
	})
	w.Set(func() { w.Crash = nil })
	databasetest.Until(t, "all have come", func() bool {
		return slices.ContainsFunc(w.Events(), func(e lambent.Event) bool { return Value(&e) == "29" })
	})
	ordered(t, w.Events(), 30)
	if n := len(w.Events()); !k.Unnamed && n != 30 {
		t.Errorf("%d events", n)
	}
}

// What is too large does not stand in the way of others.
func testLarge(t *testing.T, k *Kind) {
	b := k.Topic(t)
	w := k.Watch(t, b)
	k.send(t, b, Message{"a", "0"}, Message{"a", strings.Repeat("x", limit+1)}, Message{"b", "1"}, Message{"c", "2"})
	ordered(t, w.Wait(3), 3)
	databasetest.Until(t, "it is refused", func() (refused bool) {
		w.Set(func() { refused = len(w.Refused) == 1 })
		return refused
	})
	w.Set(func() {
		var m lambent.BrokerMessage
		if err := json.Unmarshal(w.Refused[0].Data, &m); err != nil || m.Omitted == "" || len(w.Refused[0].Data) > 1000 {
			t.Errorf("%.1000s, %v", w.Refused[0].Data, err)
		}
	})
}

// What is not taken for a while is not lost, and is said.
func testFull(t *testing.T, k *Kind) {
	b := k.Topic(t)
	w := k.Watch(t, b)
	w.Set(func() { w.Most = 1 })
	k.send(t, b, Numbered(0, 1)...)
	w.Wait(1)
	k.send(t, b, Numbered(1, 199)...)
	databasetest.Until(t, "it is said", func() bool {
		lag, known := k.Source.(source.Gauge).Lag(w.Trigger)
		return known && strings.Contains(lag.Warning, "full")
	})
	w.Set(func() { w.Most = 0 })
	ordered(t, w.Wait(200), 200)
}

// A trigger can be ended though whoever answers at its broker says nothing.
func testSilent(t *testing.T, k *Kind) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := k.Topic(t)
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.Addr().String()
	b.URL = u.String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Source.Run(ctx, NewTrigger(b), &databasetest.Sink{}) }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Error("it goes on")
	}
}

// The server and the process of the source are killed at random, while messages are sent.
func testCrashes(t *testing.T, k *Kind) {
	b := k.Topic(t)
	w := k.Prepare(t, b)
	const n = 1500
	sent := make(chan error, 1)
	go func() {
		for i := 0; i < n; {
			part := min(20, n-i)
			for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
				err := k.Send(b, Numbered(i, part)...)
				if err == nil {
					break
				}
				if time.Since(begun) > 30*time.Second {
					sent <- err
					return
				}
			}
			i += part
			time.Sleep(15 * time.Millisecond) // so that it goes on while there are crashes
		}
		sent <- nil
	}()
	file := filepath.Join(t.TempDir(), "events")
	for range 3 {
		c := startChild(t, &w.Trigger, file)
		time.Sleep(time.Duration(100+rand.IntN(300)) * time.Millisecond)
		c.kill()
	}
	c := startChild(t, &w.Trigger, file)
	defer c.kill()
	k.Kill()
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	var events []lambent.Event
	seen := map[string]bool{}
	for begun := time.Now(); len(seen) < n; time.Sleep(20 * time.Millisecond) {
		events = readEvents(t, file)
		for i := range events {
			seen[Value(&events[i])] = true
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("%d of %d messages have come in 20 s; the process of the source has said: %s", len(seen), n, c.said())
		}
	}
	t.Logf("%d events of %d messages", len(events), n)
	// What was sent again, since nobody knew whether the server had it, is there twice.
	ordered(t, events, n)
	ids := map[string]bool{}
	for _, e := range events {
		if ids[e.ID] {
			t.Errorf("event %s was kept twice", e.ID)
		}
		ids[e.ID] = true
	}
}

// A broker that is down refuses triggers, and those that there are go on afterwards.
func testDown(t *testing.T, k *Kind) {
	b := k.Topic(t)
	w := k.Watch(t, b)
	k.send(t, b, Numbered(0, 1)...)
	w.Wait(1)
	k.Kill()
	err := k.Source.Check(NewTrigger(b))
	if err == nil || !lambent.Is(err, lambent.Unavailable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a broker that is down: %v", err)
	}
	databasetest.Until(t, "its source has ended", func() bool { return w.Failure() != nil })
	if err := w.Failure(); strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	databasetest.Until(t, "the broker takes messages", func() bool { return k.Send(b, Numbered(1, 2)...) == nil })
	databasetest.Until(t, "they come", func() bool {
		return slices.ContainsFunc(w.Events(), func(e lambent.Event) bool { return Value(&e) == "2" })
	})
	ordered(t, w.Events(), 3)
}

// Nothing is left of a trigger that is not there any more; what it shared is.
func testForgotten(t *testing.T, k *Kind) {
	if k.NoGroups {
		t.Skip("there are no groups")
	}
	b := k.Topic(t)
	w := k.Watch(t, b)
	k.send(t, b, Numbered(0, 3)...)
	w.Wait(3)
	if n := len(k.Groups(t, b)); n != 1 {
		t.Errorf("there are %d groups while a trigger runs", n)
	}
	w.Stop()
	for range 2 { // that there is nothing is no error
		if err := k.Source.(source.Preparer).Forget(t.Context(), w.Trigger); err != nil {
			t.Fatal(err)
		}
	}
	databasetest.Until(t, "its group is gone", func() bool { return len(k.Groups(t, b)) == 0 })
	shared := b
	shared.Group = "shared"
	one, two := k.Watch(t, shared), k.Watch(t, shared)
	k.send(t, b, Numbered(0, 100)...)
	databasetest.Until(t, "the two have all", func() bool { return len(one.Events())+len(two.Events()) >= 100 })
	one.Stop()
	if err := k.Source.(source.Preparer).Forget(t.Context(), one.Trigger); err != nil {
		t.Fatal(err)
	}
	k.send(t, b, Numbered(100, 10)...)
	databasetest.Until(t, "who is left has what is new", func() bool {
		return slices.ContainsFunc(two.Events(), func(e lambent.Event) bool { return Value(&e) == "109" })
	})
}
