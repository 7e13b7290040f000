package trigger_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/source"
	"lambent/store"
	"lambent/trigger"
)

// A platform is a broker over a real queue, with what runs invocations in the test's
// hands.
type platform struct {
	t       *testing.T
	dir     string
	options store.QueueOptions
	store   *store.Store
	queue   *store.Queue
	history *store.History
	broker  *trigger.Broker
	source  scripted
	ordered bool // the source is
	apart   bool // functions take one event at a time
	keeper  keeper
	run     func(context.Context, *lambent.Invocation) (*lambent.Fault, error)
	failed  func(*lambent.Invocation) []string // which of its events a function says have failed; nil: none
	post    func(url string) error             // what a receiver does; nil: takes it

	mu     sync.Mutex // guards what follows
	async  map[string]lambent.Async
	bodies map[string]string // that functions answer with
	gone   map[string]bool
	ran    []lambent.Invocation
	sent   []string      // to queues and receivers: where, and what
	hops   []int         // of those to queues
	lines  []string      // in functions' logs
	told   chan struct{} // one for each that ended
}

func newPlatform(t *testing.T, run func(context.Context, *lambent.Invocation) (*lambent.Fault, error), options ...store.QueueOptions) *platform {
	t.Helper()
	p := &platform{options: append(options, store.QueueOptions{})[0], t: t, dir: t.TempDir(), run: run, async: map[string]lambent.Async{}, bodies: map[string]string{}, gone: map[string]bool{}, told: make(chan struct{}, 100_000)}
	p.open()
	t.Cleanup(p.close)
	return p
}

func (p *platform) open() {
	p.t.Helper()
	var err error
	if p.store, err = store.Open(context.Background(), store.Options{Dir: p.dir}); err != nil {
		p.t.Fatal(err)
	}
	if p.queue, err = p.store.OpenQueue(context.Background(), p.options); err != nil {
		p.t.Fatal(err)
	}
	if p.history, err = p.store.OpenHistory(context.Background(), store.HistoryOptions{}); err != nil {
		p.t.Fatal(err)
	}
	var src source.Source = &p.source
	if p.ordered {
		src = ordered{&p.source}
	}
	p.broker, err = trigger.Open(context.Background(), trigger.Config{
		Invoker: p, Store: p.store, Queue: p.queue, History: p.history, Sources: map[string]source.Source{"schedule": src, "postgres": &p.keeper, "queue": &p.keeper, "redis": &p.keeper}, MaxPayload: 1 << 20, Logger: slog.New(slog.DiscardHandler),
		Together: func(lambent.Name) bool { return !p.apart },
		Send: func(_ context.Context, project, queue, trace string, hops int, body []byte) error {
			if queue == "gone" {
				return lambent.Errorf(lambent.NotFound, "test", "queue %q does not exist", queue)
			}
			p.set(func() { p.sent, p.hops = append(p.sent, project+"/"+queue+" "+string(body)), append(p.hops, hops) })
			return nil
		},
		Post: func(_ context.Context, n lambent.Name, url, id string, body []byte) error {
			p.set(func() { p.sent = append(p.sent, n.Function+" "+url+" "+id+" "+string(body)) })
			if p.post == nil {
				return nil
			}
			return p.post(url)
		},
		Line: func(n lambent.Name, id, text string) {
			p.set(func() { p.lines = append(p.lines, n.Function+" "+id+" "+text) })
		},
		Async: func(n lambent.Name) (lambent.Async, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.gone[n.Function] {
				return lambent.Async{}, lambent.Errorf(lambent.NotFound, "test", "function %q does not exist", n.Function)
			}
			return p.async[n.Function], nil
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// close ends it as a server does that has to be quick.
func (p *platform) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.broker.Close(ctx); err != nil {
		p.t.Error(err)
	}
	if err := p.history.Close(); err != nil {
		p.t.Error(err)
	}
	if err := p.queue.Close(); err != nil {
		p.t.Error(err)
	}
	if err := p.store.Close(); err != nil {
		p.t.Error(err)
	}
}

// Invoke implements lambent.Invoker, in the place of dispatch.
func (p *platform) Invoke(ctx context.Context, inv *lambent.Invocation, reply lambent.Reply) error {
	f, err := p.run(ctx, inv)
	if err != nil {
		return err
	}
	p.mu.Lock()
	kept := *inv
	kept.Started = nil
	p.ran = append(p.ran, kept)
	body := p.bodies[inv.Target.Function]
	p.mu.Unlock()
	if f == nil && body != "" {
		_ = reply.Begin(200, nil)
		_, _ = reply.Write([]byte(body))
	}
	result := lambent.Result{Version: lambent.Latest, Fault: f}
	if f == nil && p.failed != nil {
		result.FailedItems = p.failed(inv)
	}
	reply.End(result)
	p.told <- struct{}{}
	return nil
}

func (p *platform) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// accept has an invocation accepted.
func (p *platform) accept(inv lambent.Invocation) {
	p.t.Helper()
	inv.Async = true
	if inv.Target.Project == "" {
		inv.Target.Project = "default"
	}
	if err := p.broker.Invoke(p.t.Context(), &inv, nil); err != nil {
		p.t.Fatal(err)
	}
}

// wait waits until so many more attempts have ended.
func (p *platform) wait(n int) {
	p.t.Helper()
	for range n {
		select {
		case <-p.told:
		case <-time.After(30 * time.Second):
			p.t.Fatalf("nothing runs: %+v", p.queue.Stats())
		}
	}
}

// until waits for something that is about to be.
func (p *platform) until(what string, holds func() bool) {
	p.t.Helper()
	for begun := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			p.t.Fatalf("it never is: %s", what)
		}
	}
}

func (p *platform) dead(function string) []trigger.DeadLetter {
	p.t.Helper()
	letters, _, err := p.broker.DeadLetters(p.t.Context(), lambent.Name{Project: "default", Function: function}, trigger.Query{Limit: 1000})
	if err != nil {
		p.t.Fatal(err)
	}
	return letters
}

func ok(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
	inv.Started()
	return nil, nil
}

func fail(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
	inv.Started()
	return &lambent.Fault{Kind: lambent.FaultHandler, Type: "ValueError", Message: "no such order"}, nil
}

func name(function string) lambent.Name { return lambent.Name{Project: "default", Function: function} }

// What runs is what was accepted, all of it.
func TestRuns(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, ok)
	events := []lambent.Event{{ID: "e1", Source: "s", Type: "t", Time: time.Unix(1_700_000_000, 5).UTC(), Data: []byte{0, 255}, Extensions: map[string]string{"a": "b"}}}
	for _, want := range []lambent.Invocation{
		{ID: "1", Raw: []byte(`{"a":1}`), Target: lambent.Name{Project: "shop", Function: "f", Qualifier: "live"}, Trace: "00-1", Hops: 3, TriggerID: "t1", Source: "schedule", Entry: "e", ClientContext: []byte("{}"), Due: events[0].Time},
		{ID: "2", Raw: []byte{}, Target: name("f")},
		{ID: "3", Events: events, Target: name("f")},
	} {
		p.accept(want)
		p.wait(1)
		want.Async, want.Attempt = true, 1
		if got := p.ran[len(p.ran)-1]; !reflect.DeepEqual(got, want) {
			t.Errorf("%+v ran as %+v", want, got)
		}
	}
	p.accept(lambent.Invocation{ID: "1", Raw: []byte("again"), Target: lambent.Name{Project: "shop", Function: "f"}})
	p.accept(lambent.Invocation{ID: "1", Raw: []byte("another function's"), Target: name("g")})
	p.wait(1)
	p.until("nothing is left", func() bool { return p.queue.Stats().Running == 0 })
	if len(p.ran) != 4 {
		t.Errorf("%d ran", len(p.ran))
	}
	large := lambent.Invocation{ID: "5", Async: true, Raw: make([]byte, 1<<20+1), Target: name("f")}
	if err := p.broker.Invoke(t.Context(), &large, nil); !lambent.Is(err, lambent.TooLarge) {
		t.Error(err)
	}
	p.set(func() { p.gone["h"] = true })
	if err := p.broker.Invoke(t.Context(), &lambent.Invocation{ID: "6", Async: true, Raw: []byte{}, Target: name("h")}, nil); !lambent.Is(err, lambent.NotFound) {
		t.Error(err)
	}
}

func TestRetriesAndDeadLetters(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, fail)
	p.set(func() { p.async["f"] = lambent.Async{Attempts: 3, Backoff: 50 * time.Millisecond, Factor: 2} })
	begun := time.Now()
	p.accept(lambent.Invocation{ID: "1", Raw: []byte("payload"), Target: lambent.Name{Project: "default", Function: "f", Qualifier: "live"}})
	p.wait(3)
	if took := time.Since(begun); took < 150*time.Millisecond {
		t.Errorf("three attempts took %v", took)
	}
	for i, inv := range p.ran {
		if inv.ID != "1" || inv.Attempt != i+1 || string(inv.Raw) != "payload" {
			t.Errorf("attempt %d: %+v", i+1, inv)
		}
	}
	p.until("it is dead", func() bool { return len(p.dead("f")) == 1 })
	d := p.dead("f")[0]
	if d.ID != "1" || d.Attempts != 3 || d.Reason != "ValueError: no such order" || d.Function.Qualifier != "live" || d.Died.Before(d.Accepted) || d.Payload != nil {
		t.Errorf("%+v", d)
	}
	if d, err := p.broker.DeadLetter(t.Context(), name("f"), "1"); err != nil || string(d.Payload) != "payload" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := p.broker.DeadLetter(t.Context(), name("f"), "2"); !lambent.Is(err, lambent.NotFound) {
		t.Error(err)
	}

	// Again, from the first attempt on, and its age from now.
	p.set(func() { p.async["f"] = lambent.Async{Attempts: 1} })
	if n, err := p.broker.Redrive(t.Context(), name("f"), trigger.Query{ID: "1"}, false); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	p.wait(1)
	if last := p.ran[len(p.ran)-1]; last.Attempt != 1 {
		t.Errorf("attempt %d", last.Attempt)
	}
	p.until("it is dead again", func() bool { return len(p.dead("f")) == 1 })
	if n, err := p.broker.Purge(t.Context(), name("f"), trigger.Query{}, false); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if left := p.dead("f"); len(left) != 0 {
		t.Errorf("%+v", left)
	}
	for _, do := range []func(context.Context, lambent.Name, trigger.Query, bool) (int, error){p.broker.Redrive, p.broker.Purge} {
		if n, err := do(t.Context(), name("f"), trigger.Query{}, false); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if _, err := do(t.Context(), name("f"), trigger.Query{ID: "1"}, false); !lambent.Is(err, lambent.NotFound) {
			t.Error(err)
		}
	}
}

// Dead letters are selected by what they are of, and what became of them.
func TestDeadLettersSelected(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		inv.Started()
		return &lambent.Fault{Kind: lambent.FaultHandler, Type: "IOError", Message: "Connection refused: " + inv.ID}, nil
	})
	p.set(func() { p.async["f"] = lambent.Async{Attempts: 1} })
	var first time.Time
	e := event("e1")
	for i, inv := range []lambent.Invocation{
		{ID: "called", Raw: []byte("payload")}, {ID: "timed", TriggerID: "t1", Source: "schedule", Events: []lambent.Event{event("e0")}}, {ID: "published", TriggerID: "t2", Source: "pattern", Events: []lambent.Event{e}},
	} {
		inv.Target = name("f")
		p.accept(inv)
		p.until("it is dead", func() bool { return len(p.dead("f")) == i+1 })
		if i == 0 {
			first = p.dead("f")[0].Died
			time.Sleep(2 * time.Millisecond) // they are told apart by the ms
		}
	}
	for _, c := range []struct {
		q    trigger.Query
		want []string
	}{
		{trigger.Query{}, []string{"called", "timed", "published"}},
		{trigger.Query{ID: "timed"}, []string{"timed"}},
		{trigger.Query{ID: "timed", Kind: "pattern"}, nil},
		{trigger.Query{Error: "connection REFUSED"}, []string{"called", "timed", "published"}},
		{trigger.Query{Error: "refused: timed"}, []string{"timed"}},
		{trigger.Query{Error: "nothing"}, nil},
		{trigger.Query{Until: first.Add(time.Millisecond)}, []string{"called"}},
		{trigger.Query{Since: first.Add(time.Millisecond)}, []string{"timed", "published"}},
		{trigger.Query{Trigger: "t1"}, []string{"timed"}},
		{trigger.Query{Kind: "pattern"}, []string{"published"}},
		{trigger.Query{Source: "/test"}, []string{"timed", "published"}},
		{trigger.Query{Source: "/test", Type: "other"}, nil},
	} {
		c.q.Limit = 1000
		letters, total, err := p.broker.DeadLetters(t.Context(), name("f"), c.q)
		var ids []string
		for _, d := range letters {
			ids = append(ids, d.ID)
		}
		if err != nil || total != len(c.want) || !slices.Equal(ids, c.want) {
			t.Errorf("%+v selects %d, %v, %v; want %v", c.q, total, ids, err, c.want)
		}
		for _, do := range []func(context.Context, lambent.Name, trigger.Query, bool) (int, error){p.broker.Redrive, p.broker.Purge} {
			if n, err := do(t.Context(), name("f"), c.q, true); n != len(c.want) || err != nil || len(p.dead("f")) != 3 {
				t.Errorf("%+v, dry: %d, %v, and %d are left", c.q, n, err, len(p.dead("f")))
			}
		}
	}
	if n, err := p.broker.Purge(t.Context(), name("f"), trigger.Query{Error: "refused: called"}, false); n != 1 || err != nil || len(p.dead("f")) != 2 {
		t.Errorf("%d, %v", n, err)
	}
	p.set(func() { p.run = ok })
	if n, err := p.broker.Redrive(t.Context(), name("f"), trigger.Query{Trigger: "t2"}, false); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	p.until("that one has run", func() bool { return p.queue.Stats().Dead == 1 && p.queue.Stats().Running+p.queue.Stats().Waiting == 0 })
	if left := p.dead("f"); len(left) != 1 || left[0].ID != "timed" {
		t.Errorf("%+v", left)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, fail)
	for _, function := range []string{"f", "g"} {
		p.set(func() { p.async[function] = lambent.Async{Attempts: 1} })
		p.accept(lambent.Invocation{ID: "1", Raw: []byte{}, Target: name(function)})
		p.until("it is dead", func() bool { return len(p.dead(function)) == 1 })
		time.Sleep(2 * time.Millisecond) // they are told apart by the ms
	}
	if n, err := p.broker.Sweep(p.dead("f")[0].Died); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := p.broker.Sweep(p.dead("g")[0].Died); n != 1 || err != nil || len(p.dead("f")) != 0 || len(p.dead("g")) != 1 {
		t.Errorf("%d, %v", n, err)
	}
}

// A refusal for load is no attempt, and ends by itself.
func TestThrottled(t *testing.T) {
	t.Parallel()
	refusals := 0
	p := newPlatform(t, func(ctx context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		if refusals++; refusals <= 3 {
			return nil, lambent.Errorf(lambent.Throttled, "test", "full")
		}
		return ok(ctx, inv)
	})
	p.accept(lambent.Invocation{ID: "1", Raw: []byte{}, Target: name("f")})
	p.wait(1)
	if p.ran[0].Attempt != 1 {
		t.Errorf("attempt %d", p.ran[0].Attempt)
	}
}

// What ran, and the platform could not keep that, is an attempt all the same: it is not
// repeated at once.
func TestRanForNothing(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	p := newPlatform(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		inv.Started()
		runs.Add(1)
		return nil, lambent.Errorf(lambent.NoSpace, "test", "the ledger is full")
	})
	p.set(func() { p.async["f"] = lambent.Async{Attempts: 2, Backoff: 10 * time.Millisecond} })
	p.accept(lambent.Invocation{ID: "1", Raw: []byte{}, Target: name("f")})
	p.until("it is dead", func() bool { return len(p.dead("f")) == 1 })
	if n := runs.Load(); n != 2 || p.dead("f")[0].Reason != "test: the ledger is full" {
		t.Errorf("%d runs, %+v", n, p.dead("f"))
	}
}

// What is too old is not tried, however it came to that.
func TestTooOld(t *testing.T) {
	t.Parallel()
	var tries atomic.Int64
	p := newPlatform(t, func(context.Context, *lambent.Invocation) (*lambent.Fault, error) {
		tries.Add(1)
		return nil, lambent.Errorf(lambent.Throttled, "test", "full")
	})
	p.set(func() { p.async["f"] = lambent.Async{MaxAge: 200 * time.Millisecond} })
	p.accept(lambent.Invocation{ID: "1", Raw: []byte{}, Target: name("f")})
	p.until("it is dead", func() bool { return len(p.dead("f")) == 1 })

	// Redriven, it is new.
	before := tries.Load()
	if _, err := p.broker.Redrive(t.Context(), name("f"), trigger.Query{}, false); err != nil {
		t.Fatal(err)
	}
	p.until("it is tried again", func() bool { return tries.Load() > before })
	p.until("it is dead again", func() bool { return len(p.dead("f")) == 1 })
}

// What can never run is dead at once.
func TestNeverRuns(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, func(context.Context, *lambent.Invocation) (*lambent.Fault, error) {
		return nil, lambent.Errorf(lambent.Invalid, "test", "the code takes no such thing")
	})
	p.accept(lambent.Invocation{ID: "1", Raw: []byte{}, Target: name("f")})
	p.until("it is dead", func() bool { return len(p.dead("f")) == 1 })
	if d := p.dead("f")[0]; d.Reason != "test: the code takes no such thing" {
		t.Errorf("%+v", d)
	}
}

// A lane that never gets an instance, and one whose calls never end, delay no other.
func TestLanesDoNotWait(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := newPlatform(t, func(ctx context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		switch inv.Target.Function {
		case "slow":
			inv.Started()
			<-release
		case "stuck":
			<-release
			inv.Started()
		default:
			inv.Started()
		}
		return nil, nil
	})
	for i := range 200 {
		p.accept(lambent.Invocation{ID: fmt.Sprint(i), Raw: []byte{}, Target: name("slow")})
		p.accept(lambent.Invocation{ID: fmt.Sprint(i), Raw: []byte{}, Target: name("stuck")})
	}
	p.until("all of the slow ones run, and few of the stuck ones wait outside of the queue", func() bool {
		return p.queue.LaneStats("default/slow").Running == 200 && p.queue.LaneStats("default/stuck").Running == 16
	})
	for i := range 10 {
		p.accept(lambent.Invocation{ID: fmt.Sprint(i), Raw: []byte{}, Target: name("quick")})
		p.wait(1)
	}
	close(release)
	p.wait(400)
}

// What was accepted before a restart runs after it; what had begun, too, if the server
// cut it off.
func TestRestart(t *testing.T) {
	t.Parallel()
	begun, stopped := make(chan struct{}, 100), make(chan struct{})
	p := newPlatform(t, func(ctx context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		if inv.Target.Function == "waits" {
			<-ctx.Done()
			return nil, lambent.Errorf(lambent.Canceled, "test", "the caller is gone")
		}
		inv.Started()
		begun <- struct{}{}
		<-stopped
		if ctx.Err() != nil {
			t.Error("what runs is cancelled")
		}
		return &lambent.Fault{Kind: lambent.FaultExit, Type: "Runtime.ExitError"}, nil
	})
	p.set(func() { p.async["f"] = lambent.Async{Attempts: 1} })
	p.accept(lambent.Invocation{ID: "1", Raw: []byte{}, Target: name("f")})
	for i := range 100 {
		p.accept(lambent.Invocation{ID: fmt.Sprint(i), Raw: []byte{}, Target: name("waits")})
	}
	<-begun
	p.broker.Stop()
	close(stopped)
	p.close()
	p.run = ok
	p.wait(1)
	p.open()
	p.wait(101)
}

// Every invocation succeeds once, whatever fails around it.
func TestHammer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	succeeded := map[string]int{}
	p := newPlatform(t, func(ctx context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		switch rand.IntN(10) {
		case 0:
			return nil, lambent.Errorf(lambent.Throttled, "test", "full")
		case 1, 2:
			return fail(ctx, inv)
		}
		inv.Started()
		mu.Lock()
		defer mu.Unlock()
		succeeded[inv.Target.Function+"/"+string(inv.Raw)]++
		return nil, nil
	})
	const lanes, each = 10, 100
	for l := range lanes {
		p.set(func() { p.async[fmt.Sprint(l)] = lambent.Async{Attempts: 1000, Backoff: time.Millisecond, Factor: 1} })
	}
	var producers sync.WaitGroup
	for l := range lanes {
		producers.Go(func() {
			for i := range each {
				p.accept(lambent.Invocation{ID: fmt.Sprint(i), Raw: fmt.Append(nil, i), Target: name(fmt.Sprint(l))})
			}
		})
	}
	producers.Wait()
	p.until("all have succeeded", func() bool { s := p.queue.Stats(); return s.Running+s.Waiting+s.Delayed == 0 })
	for l := range lanes {
		for i := range each {
			if n := succeeded[fmt.Sprintf("%d/%d", l, i)]; n != 1 {
				t.Errorf("%d of %d ran %d times", i, l, n)
			}
		}
	}
}

// An invocation that is waited for passes through.
func TestSynchronous(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, func(context.Context, *lambent.Invocation) (*lambent.Fault, error) { return nil, nil })
	var r result
	if err := p.broker.Invoke(t.Context(), &lambent.Invocation{ID: "1", Raw: []byte("x"), Target: name("f")}, &r); err != nil || !r.ended {
		t.Errorf("%v, %+v", err, r)
	}
}

type result struct {
	bytes.Buffer
	ended bool
}

func (r *result) Begin(int, map[string][]string) error { return nil }
func (r *result) End(lambent.Result)                   { r.ended = true }
