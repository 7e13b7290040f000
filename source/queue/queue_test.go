package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lambent"
	"lambent/queue"
	"lambent/source"
	queues "lambent/source/queue"
	"lambent/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A sink is a function that messages are delivered to.
type sink struct {
	source.Sink // what it has not is not called

	run func(bodies []string) (failed []int, err error)

	mu      sync.Mutex // guards what follows
	batches [][]string
	ids     map[string]int // how often each was delivered
	told    chan struct{}
}

func (s *sink) Deliver(_ context.Context, events ...lambent.Event) ([]string, error) {
	var bodies []string
	s.mu.Lock()
	for _, e := range events {
		var m lambent.QueueMessage
		if err := json.Unmarshal(e.Data, &m); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		bodies = append(bodies, string(m.Body))
		s.ids[e.ID]++
	}
	s.batches = append(s.batches, bodies)
	s.mu.Unlock()
	failed, err := s.run(bodies)
	var ids []string
	for _, i := range failed {
		if i < 0 {
			ids = append(ids, "nobody's")
		} else {
			ids = append(ids, events[i].ID)
		}
	}
	s.told <- struct{}{}
	return ids, err
}

type bench struct {
	t      *testing.T
	queues *queue.Queues
	source *queues.Source
	sink   *sink
}

func start(t *testing.T, name string, b lambent.Batch, settings func(*queue.Settings), run func([]string) ([]int, error)) *bench {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	log, err := st.OpenQueue(t.Context(), store.QueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	qs, err := queue.Open(t.Context(), queue.Config{Store: st, Log: log, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := &bench{t, qs, &queues.Source{Queues: qs}, &sink{run: run, ids: map[string]int{}, told: make(chan struct{}, 10_000)}}
	tr := lambent.Trigger{Target: lambent.Name{Project: "default", Function: "f"}, Queue: &lambent.Queue{Name: name}, Batch: &b}
	if err := s.source.Check(tr); err != nil {
		t.Fatal(err)
	}
	if err := s.source.Prepare(t.Context(), tr, s.sink); err != nil {
		t.Fatal(err)
	}
	if err := qs.Change(t.Context(), "default", name, func(set *queue.Settings, _ map[string]string) error {
		set.VisibilityS = 1
		if settings != nil {
			settings(set)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.source.Run(ctx, tr, s.sink) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		qs.Close()
		for _, err := range []error{log.Close(), st.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *bench) send(name string, messages ...queue.Message) {
	s.t.Helper()
	_, errs, err := s.queues.Send(s.t.Context(), "default", name, messages...)
	if err != nil || slices.ContainsFunc(errs, func(e error) bool { return e != nil }) {
		s.t.Fatal(err, errs)
	}
}

// empty waits until nothing is left of a queue.
func (s *bench) empty(name string) {
	s.t.Helper()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		info, err := s.queues.Get("default", name)
		if err != nil {
			s.t.Fatal(err)
		}
		if info.Visible+info.Out+info.Delayed == 0 {
			return
		}
		if time.Since(begun) > 20*time.Second {
			s.t.Fatalf("it is never empty: %+v", info)
		}
	}
}

// Messages come several at a time; those that the function names come again, after the
// queue's timeout, and the others do not.
func TestPartialFailure(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	at := map[string][]time.Time{}
	s := start(t, "jobs", lambent.Batch{Size: 5, Window: 200 * time.Millisecond, Parallel: 1}, nil, func(bodies []string) (failed []int, err error) {
		mu.Lock()
		defer mu.Unlock()
		for i, body := range bodies {
			if at[body] = append(at[body], time.Now()); body == "bad" && len(at[body]) == 1 {
				failed = append(failed, i)
			}
		}
		return failed, nil
	})
	s.send("jobs", queue.Message{Body: []byte("a"), Delay: -1}, queue.Message{Body: []byte("bad"), Delay: -1}, queue.Message{Body: []byte("b"), Delay: -1})
	<-s.sink.told
	<-s.sink.told
	s.empty("jobs")
	if n := len(s.sink.batches[0]); n != 3 {
		t.Errorf("the first batch has %d", n)
	}
	if len(at["a"]) != 1 || len(at["b"]) != 1 || len(at["bad"]) != 2 || at["bad"][1].Sub(at["bad"][0]) < 900*time.Millisecond {
		t.Errorf("they came at %v", at)
	}
}

// One that always fails goes where the queue's owner says, whether the function fails, or
// names what it was not given; a refusal for load deletes nothing.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(n int) ([]int, error){
		"fault":   func(int) ([]int, error) { return nil, &lambent.Fault{Kind: lambent.FaultHandler, Message: "no"} },
		"unknown": func(int) ([]int, error) { return []int{-1}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			s := start(t, "jobs", lambent.Batch{Size: 1, Parallel: 1}, nil, func([]string) ([]int, error) { n++; return run(n) })
			if _, err := s.queues.Create(t.Context(), "default", "dead", queue.DefaultSettings(), nil); err != nil {
				t.Fatal(err)
			}
			if err := s.queues.Change(t.Context(), "default", "jobs", func(set *queue.Settings, _ map[string]string) error {
				set.VisibilityS, set.MaxReceives, set.DeadLetter = 0, 2, "dead"
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			s.send("jobs", queue.Message{Body: []byte("a"), Delay: -1})
			s.empty("jobs")
			if got, err := s.queues.Receive(t.Context(), "default", "dead", 1, time.Second, 0); err != nil || len(got) != 1 || got[0].DeadLetterOf != "jobs" {
				t.Errorf("%+v, %v", got, err)
			}
			if n != 2 {
				t.Errorf("it ran %d times", n)
			}
		})
	}
	t.Run("refusal", func(t *testing.T) {
		t.Parallel()
		n := 0
		s := start(t, "jobs", lambent.Batch{Size: 1, Parallel: 1}, nil, func([]string) ([]int, error) {
			if n++; n < 3 {
				return nil, lambent.Errorf(lambent.Throttled, "test", "too many")
			}
			return nil, nil
		})
		s.send("jobs", queue.Message{Body: []byte("a"), Delay: -1})
		s.empty("jobs")
		if n != 3 {
			t.Errorf("it ran %d times", n)
		}
	})
}

// As many batches are under way at a time as there may be, and no more, however many messages wait.
func TestParallel(t *testing.T) {
	t.Parallel()
	const parallel, messages = 3, 60
	var mu sync.Mutex
	running, most, ran := 0, 0, 0
	together := make(chan struct{}) // closed when as many are as may be
	s := start(t, "jobs", lambent.Batch{Size: 1, Parallel: parallel}, nil, func([]string) ([]int, error) {
		mu.Lock()
		running, ran = running+1, ran+1
		most = max(most, running)
		if ran == parallel {
			close(together)
		}
		mu.Unlock()
		select {
		case <-together:
		case <-time.After(10 * time.Second): // and the test fails
		}
		time.Sleep(time.Millisecond) // of work
		mu.Lock()
		defer mu.Unlock()
		running--
		return nil, nil
	})
	for i := range messages {
		s.send("jobs", queue.Message{Body: fmt.Append(nil, i), Delay: -1})
	}
	s.empty("jobs")
	mu.Lock()
	defer mu.Unlock()
	if most != parallel || ran != messages {
		t.Errorf("%d ran, %d at a time at most, want %d and %d", ran, most, messages, parallel)
	}
}

// Of a group messages come in their order, one batch at a time.
func TestGroups(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string][]string{}
	busy := map[string]bool{}
	s := start(t, "jobs.fifo", lambent.Batch{Size: 3, Parallel: 4}, nil, func(bodies []string) ([]int, error) {
		mu.Lock()
		groups := map[string]bool{}
		for _, b := range bodies {
			if g := b[:1]; !groups[g] {
				if busy[g] {
					t.Errorf("group %s is in two batches", g)
				}
				groups[g], busy[g] = true, true
			}
			got[b[:1]] = append(got[b[:1]], b)
		}
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		for g := range groups {
			delete(busy, g)
		}
		return nil, nil
	})
	want := map[string][]string{}
	for i := range 30 {
		for _, g := range []string{"a", "b", "c"} {
			body := fmt.Sprintf("%s%d", g, i)
			want[g] = append(want[g], body)
			s.send("jobs.fifo", queue.Message{Body: []byte(body), Group: g, DedupeID: body, Delay: -1})
		}
	}
	s.empty("jobs.fifo")
	mu.Lock()
	defer mu.Unlock()
	for g := range want {
		if !slices.Equal(got[g], want[g]) {
			t.Errorf("%s: %q", g, got[g])
		}
	}
}

func TestBadNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a b", "a.b", ".fifo.fifo", "../x"} {
		if err := (&queues.Source{}).Check(lambent.Trigger{Queue: &lambent.Queue{Name: name}}); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A queue that is deleted is said to be, with what helps.
func TestGone(t *testing.T) {
	s := start(t, "jobs", lambent.Batch{Size: 1, Parallel: 2}, nil, nil)
	tr := lambent.Trigger{ID: "id", Target: lambent.Name{Project: "default", Function: "f"}, Queue: &lambent.Queue{Name: "others"}, Batch: &lambent.Batch{Size: 1, Parallel: 2}}
	if err := s.source.Prepare(t.Context(), tr, s.sink); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.source.Run(t.Context(), tr, s.sink) }()
	if err := s.queues.Delete(t.Context(), "default", "others"); err != nil {
		t.Fatal(err)
	}
	const want = "the queue others is gone. If there is to be another of that name: aws sqs create-queue --queue-name others; if not: lambent trigger delete id"
	if err := <-ended; !lambent.Is(err, lambent.NotFound) || lambent.UserMessage(err) != want {
		t.Error(err)
	}
}
