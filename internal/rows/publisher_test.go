package rows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
)

// A sink takes events, or says why not.
type sink struct {
	takes time.Duration

	mu        sync.Mutex // guards what follows
	refuse    func(events []lambent.Event) error
	batches   []int
	events    []lambent.Event
	positions []string
}

func (s *sink) Publish(_ context.Context, events ...lambent.Event) error {
	if s.takes > 0 { // whoever reads gets on meanwhile, as far as there is room
		time.Sleep(s.takes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if err := s.refuse(events); err != nil {
			return err
		}
	}
	s.batches = append(s.batches, len(events))
	s.events = append(s.events, events...)
	return nil
}

func (s *sink) SetPosition(_ context.Context, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, err := strconv.Atoi(string(b)); err != nil || n > len(s.events) {
		return fmt.Errorf("position %s is kept after %d events", b, len(s.events))
	}
	s.positions = append(s.positions, string(b))
	return nil
}

func change(n, size int) *Change {
	return &Change{Operation: "insert", Schema: "s", Table: "t", Key: row("id", strconv.Itoa(n)), New: row("id", strconv.Itoa(n), "v", `"`+strings.Repeat("x", size)+`"`),
		Position: strconv.Itoa(n), Transaction: "1", Committed: time.Now()}
}

// publishes runs a test with a publisher that is read for.
func publishes(t *testing.T, s *sink, read func(context.Context, *Publisher[int]) error) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := NewPublisher(trigger(), s, 0)
		err = p.While(t.Context(), func(ctx context.Context) error { return read(ctx, p) })
	})
	return err
}

// reached waits until all is published.
func reached(p *Publisher[int]) int {
	synctest.Wait()
	at, _ := p.Reached()
	return at
}

// Changes are published in their order, many at a time, and positions are kept behind
// them, now and then and at the end.
func TestPublisher(t *testing.T) {
	s := &sink{takes: time.Millisecond}
	const n = 5000
	err := publishes(t, s, func(ctx context.Context, p *Publisher[int]) error {
		for i := range n {
			if err := p.Put(ctx, change(i+1, 1000), i+1, nil); err != nil {
				return err
			}
		}
		time.Sleep(keepEvery)
		if at := reached(p); at != n {
			t.Errorf("reached %d", at)
		}
		time.Sleep(keepEvery)
		synctest.Wait()
		if len(s.positions) == 0 || s.positions[len(s.positions)-1] != strconv.Itoa(n) {
			t.Errorf("%q", s.positions)
		}
		if behind, refused := p.Behind(); behind != 0 || refused != "" {
			t.Error(behind, refused)
		}
		return p.Put(ctx, change(n+1, 1), n+1, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if want := fmt.Sprintf(`"key":{"id":%d}`, i+1); !strings.Contains(string(s.events[i].Data), want) {
			t.Fatalf("%d: %.200s", i, s.events[i].Data)
		}
	}
	if len(s.batches) > 200 {
		t.Errorf("%d batches", len(s.batches))
	}
}

// What is not taken now is tried again, says so, and has reading stop; what was kept
// meanwhile is not lost.
func TestRefused(t *testing.T) {
	const n = 10_000
	s := &sink{refuse: func([]lambent.Event) error { return lambent.Errorf(lambent.Throttled, "test", "the lane is full") }}
	err := publishes(t, s, func(ctx context.Context, p *Publisher[int]) error {
		beats, i := 0, 0
		for ; p.Add(change(i+1, 1000), i+1); i++ {
			if i == n {
				t.Fatal("there is no end to it")
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if behind, refused := p.Behind(); refused != "the lane is full" {
			t.Error(behind, refused)
		}
		if at, idle := p.Reached(); at != 0 || idle {
			t.Error(at, idle)
		}
		err := p.Put(ctx, change(i+1, 1000), i+1, func() error {
			if beats++; beats == 3 {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.refuse = nil
			}
			return nil
		})
		if beats < 3 || err != nil {
			t.Error(beats, err)
		}
		if at := reached(p); at != i+1 {
			t.Errorf("reached %d of %d", at, i+1)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What is refused for good ends reading, and is what is returned.
func TestRefusedForGood(t *testing.T) {
	s := &sink{refuse: func([]lambent.Event) error { return lambent.Errorf(lambent.NotFound, "test", "no function") }}
	err := publishes(t, s, func(ctx context.Context, p *Publisher[int]) error {
		if err := p.Put(ctx, change(1, 1), 1, nil); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if !lambent.Is(err, lambent.NotFound) {
		t.Error(err)
	}
	failed := errors.New("the connection is gone")
	if err := publishes(t, &sink{}, func(context.Context, *Publisher[int]) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
}

// An event that is too large alone is made smaller, under its id; small ones stay as they
// were.
func TestTooLarge(t *testing.T) {
	s := &sink{refuse: func(events []lambent.Event) error {
		for _, e := range events {
			if len(e.Data) > 1<<20 {
				return lambent.Errorf(lambent.TooLarge, "test", "%d bytes", len(e.Data))
			}
		}
		return nil
	}}
	large := change(2, 2<<20)
	id := large.event(trigger()).ID
	err := publishes(t, s, func(ctx context.Context, p *Publisher[int]) error {
		for i, c := range []*Change{change(1, 1), large, change(3, 300<<10), change(4, 1)} {
			if err := p.Put(ctx, c, i+1, nil); err != nil {
				return err
			}
		}
		if at := reached(p); at != 4 {
			t.Errorf("reached %d", at)
		}
		return nil
	})
	if err != nil || len(s.events) != 4 {
		t.Fatal(err, len(s.events))
	}
	var data struct{ Omitted []string }
	if err := json.Unmarshal(s.events[1].Data, &data); err != nil || fmt.Sprint(data.Omitted) != "[v]" || s.events[1].ID != id {
		t.Errorf("%+v, %v", s.events[1], err)
	}
	if len(s.events[2].Data) < 300<<10 {
		t.Errorf("%d bytes", len(s.events[2].Data))
	}
}
