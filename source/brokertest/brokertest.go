// Package brokertest is the suite that each source of a broker must pass, with the real
// server and a client of its own: what is sent comes, in order, whoever is killed
// meanwhile, and nothing is left at the broker of what is not watched any more.
package brokertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/source"
	"lambent/source/databasetest"
)

// A Kind is a broker, and what is known of it.
type Kind struct {
	Source source.Source

	// Topic makes a new one, as a trigger has it.
	Topic func(testing.TB) lambent.Broker

	// Send has the broker acknowledge messages, one after the other; keys are such as "a",
	// and count where the broker has some.
	Send func(b lambent.Broker, messages ...Message) error

	// Groups are the names of the groups that there are of a topic.
	Groups func(testing.TB, lambent.Broker) []string

	// Kill and Start are of the server; the data stays.
	Kill  func()
	Start func() error

	Unnamed  bool // messages have no names of their own: one that comes again has another ID
	NoGroups bool // of the trigger's own
	NoPast   bool // there is no taking what was sent before
}

// A Message is what is sent.
type Message struct{ Key, Value string }

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

// A Sink keeps what it is given.
type Sink struct {
	source.Sink // what it has not is not called

	mu      sync.Mutex // guards what follows
	events  []lambent.Event
	Refused []lambent.Event // for their size
	ids     map[string]bool
	repeats int
	most    int   // events that are taken, and one batch; 0: any
	crash   error // what Publish returns once it has taken what it was given
	file    *os.File
}

const limit = 1 << 20 // bytes of an event's data

func (s *Sink) take(list *[]lambent.Event, events []lambent.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most > 0 && len(s.events) >= s.most {
		return lambent.Errorf(lambent.Throttled, "test", "the lane is full")
	}
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return err
		}
		if len(events[i].Data) > limit {
			return lambent.Errorf(lambent.TooLarge, "test", "the data of event %q is %d bytes", events[i].ID, len(events[i].Data))
		}
	}
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	for _, e := range events {
		if s.ids[e.ID] {
			s.repeats++
			continue
		}
		s.ids[e.ID] = true
		*list = append(*list, e)
		if s.file != nil {
			if err := json.NewEncoder(s.file).Encode(e); err != nil {
				return err
			}
		}
	}
	return s.crash
}

// Publish implements source.Sink.
func (s *Sink) Publish(_ context.Context, events ...lambent.Event) error {
	return s.take(&s.events, events)
}

// Refuse implements source.Sink.
func (s *Sink) Refuse(_ context.Context, e lambent.Event, reason string) error {
	if !strings.Contains(reason, "bytes") {
		return fmt.Errorf("the reason is %q", reason)
	}
	return s.take(&s.Refused, []lambent.Event{e})
}

// Set changes the sink.
func (s *Sink) Set(f func(s *Sink)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// Fill has the sink take so many events, and one batch.
func (s *Sink) Fill(n int) { s.Set(func(s *Sink) { s.most = n }) }

// Events returns what was taken.
func (s *Sink) Events() []lambent.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// A Watched is a trigger whose source runs, as the platform has it run.
type Watched struct {
	*Sink
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
	w := &Watched{Sink: &Sink{}, t: t, Trigger: NewTrigger(b), source: k.Source, Stop: func() {}}
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

// Until waits for something that comes to hold.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("it has not come to it in 20 s that %s", what)
		}
	}
}

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
	Until(t, "nothing is behind", func() bool {
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
	w.Set(func(s *Sink) { s.crash = errCrash })
	k.send(t, b, Numbered(0, 30)...)
	w.Run()
	Until(t, "something comes again", func() (again bool) {
		seen := map[string]bool{}
		w.Set(func(s *Sink) {
			again = s.repeats > 0
			for i := range s.events {
				v := Value(&s.events[i])
				again, seen[v] = again || k.Unnamed && seen[v], true
			}
		})
		return again
	})
	w.Set(func(s *Sink) { s.crash = nil })
	Until(t, "all have come", func() bool {
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
	Until(t, "it is refused", func() (refused bool) {
		w.Set(func(s *Sink) { refused = len(s.Refused) == 1 })
		return refused
	})
	w.Set(func(s *Sink) {
		var m lambent.BrokerMessage
		if err := json.Unmarshal(s.Refused[0].Data, &m); err != nil || m.Omitted == "" || len(s.Refused[0].Data) > 1000 {
			t.Errorf("%.1000s, %v", s.Refused[0].Data, err)
		}
	})
}

// What is not taken for a while is not lost, and is said.
func testFull(t *testing.T, k *Kind) {
	b := k.Topic(t)
	w := k.Watch(t, b)
	w.Set(func(s *Sink) { s.most = 1 })
	k.send(t, b, Numbered(0, 1)...)
	w.Wait(1)
	k.send(t, b, Numbered(1, 199)...)
	Until(t, "it is said", func() bool {
		lag, known := k.Source.(source.Gauge).Lag(w.Trigger)
		return known && strings.Contains(lag.Warning, "full")
	})
	w.Set(func(s *Sink) { s.most = 0 })
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
	go func() { ended <- k.Source.Run(ctx, NewTrigger(b), &Sink{}) }()
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
	Until(t, "its source has ended", func() bool { return w.Failure() != nil })
	if err := w.Failure(); strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	Until(t, "the broker takes messages", func() bool { return k.Send(b, Numbered(1, 2)...) == nil })
	Until(t, "they come", func() bool {
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
	Until(t, "its group is gone", func() bool { return len(k.Groups(t, b)) == 0 })
	shared := b
	shared.Group = "shared"
	one, two := k.Watch(t, shared), k.Watch(t, shared)
	k.send(t, b, Numbered(0, 100)...)
	Until(t, "the two have all", func() bool { return len(one.Events())+len(two.Events()) >= 100 })
	one.Stop()
	if err := k.Source.(source.Preparer).Forget(t.Context(), one.Trigger); err != nil {
		t.Fatal(err)
	}
	k.send(t, b, Numbered(100, 10)...)
	Until(t, "who is left has what is new", func() bool {
		return slices.ContainsFunc(two.Events(), func(e lambent.Event) bool { return Value(&e) == "109" })
	})
}

// A child is a process of the source that can be killed.
type child struct {
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	errors bytes.Buffer  // what its source has ended with, from when it has
}

// said ends it, with the stacks of its goroutines, and returns what it has said.
func (c *child) said() string {
	_ = c.cmd.Process.Signal(syscall.SIGQUIT)
	<-c.done
	return c.errors.String()
}

const childEnv, childFile = "BROKERTEST_TRIGGER", "BROKERTEST_FILE"

// Main runs a package's tests, or the source in a process of its own, which is killed.
func Main(m *testing.M, s source.Source) int {
	if os.Getenv(childEnv) == "" {
		return databasetest.Main(m)
	}
	fmt.Fprintln(os.Stderr, beChild(s))
	return 1
}

// beChild runs the source until it is killed.
func beChild(s source.Source) error {
	var t lambent.Trigger
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &t); err != nil {
		return err
	}
	path := os.Getenv(childFile)
	events, whole, err := parseEvents(path)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := file.Truncate(whole); err != nil { // a torn last line was not acknowledged
		return err
	}
	if _, err := file.Seek(whole, 0); err != nil {
		return err
	}
	sink := &Sink{file: file, ids: map[string]bool{}}
	for _, e := range events {
		sink.ids[e.ID] = true
	}
	for last := ""; ; {
		if err := s.Run(context.Background(), t, sink); err != nil && err.Error() != last {
			last = err.Error()
			fmt.Fprintln(os.Stderr, last)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func startChild(t testing.TB, trigger *lambent.Trigger, file string) *child {
	t.Helper()
	b, err := json.Marshal(trigger)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(b), childFile+"="+file)
	c := &child{cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = &c.errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	<-c.done
}

func readEvents(t testing.TB, path string) []lambent.Event {
	t.Helper()
	events, _, err := parseEvents(path)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// parseEvents returns the events of a file, and how long its whole lines are.
func parseEvents(path string) (events []lambent.Event, whole int64, err error) {
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, 0, err
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var e lambent.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, 0, err
		}
		events, whole = append(events, e), whole+int64(len(line))
	}
	return events, whole, nil
}
