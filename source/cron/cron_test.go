package cron_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/source"
	"lambent/source/cron"
)

// A sink keeps what it is given, unless it is told to fail.
type sink struct {
	source.Sink // what it has not is not called

	mu       sync.Mutex // guards what follows
	events   []lambent.Event
	at       []time.Time // when each came
	position []byte
	failing  bool
	forgets  bool // it fails to keep positions
}

var errFull = errors.New("the disk is full")

func (s *sink) Publish(_ context.Context, e ...lambent.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing {
		return errFull
	}
	s.events = append(s.events, e...)
	s.at = append(s.at, time.Now().UTC())
	return nil
}

func (s *sink) Position(context.Context) ([]byte, error) { return s.position, nil }

func (s *sink) SetPosition(_ context.Context, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgets {
		return errFull
	}
	s.position = b
	return nil
}

func (s *sink) due() (due []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		due = append(due, e.Time.Format("15:04:05"))
	}
	return due
}

func (s *sink) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func trigger(s lambent.Schedule) lambent.Trigger {
	return lambent.Trigger{ID: "t1", Target: lambent.Name{Project: "default", Function: "f"}, Created: time.Now(), Schedule: &s}
}

// run runs the source for d, as a server that is ended then, which runs it again a
// second after it has failed.
func run(t *testing.T, tr lambent.Trigger, s *sink, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for {
		switch err := (cron.Source{}).Run(ctx, tr, s); {
		case err == nil:
			return
		case !errors.Is(err, errFull):
			t.Fatal(err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

func want(t *testing.T, s *sink, due ...string) {
	t.Helper()
	if got := s.due(); !slices.Equal(got, due) {
		t.Errorf("due %v, want %v", got, due)
	}
}

// Synctest begins at midnight.

func TestFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr := &sink{}, trigger(lambent.Schedule{Expression: "*/5 * * * *"})
		run(t, tr, s, 16*time.Minute)
		want(t, s, "00:05:00", "00:10:00", "00:15:00")
		for i, e := range s.events {
			if err := e.Validate(); err != nil || e.Type != lambent.EventScheduleDue || !s.at[i].Equal(e.Time) {
				t.Errorf("%+v at %v, %v", e, s.at[i], err)
			}
		}
		if s.events[0].ID == s.events[1].ID {
			t.Error("two due times have one id")
		}
	})
}

// A server that was down for a while fires the last that was missed, or nothing.
func TestMissed(t *testing.T) {
	for skip, due := range map[bool][]string{false: {"00:10:00", "01:00:00", "01:10:00"}, true: {"00:10:00", "01:10:00"}} {
		synctest.Test(t, func(t *testing.T) {
			s, tr := &sink{}, trigger(lambent.Schedule{Expression: "rate(10 minutes)", SkipMissed: skip})
			run(t, tr, s, 15*time.Minute)
			time.Sleep(50 * time.Minute)
			run(t, tr, s, 6*time.Minute)
			want(t, s, due...)
		})
	}
}

// A start within the minute has missed nothing, whatever the policy.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr := &sink{}, trigger(lambent.Schedule{Expression: "rate(10 seconds)", SkipMissed: true})
		run(t, tr, s, 15*time.Second)
		time.Sleep(30 * time.Second)
		run(t, tr, s, time.Second)
		want(t, s, "00:00:10", "00:00:20", "00:00:30", "00:00:40")
	})
}

// What was published before the position could be kept is published again, under the
// same id.
func TestCrashBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr := &sink{forgets: true}, trigger(lambent.Schedule{Expression: "rate(1 hour)"})
		run(t, tr, s, time.Hour+time.Millisecond)
		s.forgets = false
		run(t, tr, s, time.Minute)
		want(t, s, "01:00:00", "01:00:00")
		if s.events[0].ID != s.events[1].ID {
			t.Error("one due time has two ids")
		}
	})
}

// What was due while a trigger was disabled was not missed.
func TestEnabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr := &sink{}, trigger(lambent.Schedule{Expression: "rate(10 minutes)"})
		run(t, tr, s, 15*time.Minute)
		time.Sleep(50 * time.Minute)
		tr.Since = time.Now()
		run(t, tr, s, 6*time.Minute)
		want(t, s, "00:10:00", "01:10:00")
	})
}

func TestRefusedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr := &sink{failing: true}, trigger(lambent.Schedule{Expression: "rate(1 minute)"})
		go func() {
			time.Sleep(90 * time.Second)
			s.set(func() { s.failing = false })
		}()
		run(t, tr, s, 3*time.Minute+time.Second)
		want(t, s, "00:01:00", "00:02:00", "00:03:00")
	})
}

func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr := &sink{}, trigger(lambent.Schedule{Expression: "rate(1 hour)", Jitter: 20 * time.Minute, SkipMissed: true})
		run(t, tr, s, 5*time.Hour+21*time.Minute)
		want(t, s, "01:00:00", "02:00:00", "03:00:00", "04:00:00", "05:00:00")
		late := map[time.Duration]bool{}
		for i, e := range s.events {
			d := s.at[i].Sub(e.Time)
			if d < 0 || d >= 20*time.Minute {
				t.Errorf("late by %v", d)
			}
			late[d] = true
		}
		if len(late) < 4 {
			t.Errorf("late by %v", late)
		}
	})
}

// A one-shot that passed while the server was down is fired, and is over then.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr := &sink{}, trigger(lambent.Schedule{Expression: "at(2000-01-01T06:00:00)"})
		run(t, tr, s, time.Hour)
		want(t, s)
		time.Sleep(10 * time.Hour)
		begun := time.Now()
		for range 2 {
			run(t, tr, s, time.Hour)
		}
		want(t, s, "06:00:00")
		if took := time.Since(begun); took > 0 {
			t.Errorf("it was over after %v", took)
		}
	})
}

// A year of minutes that were missed is not gone through.
func TestLongMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tr := &sink{}, trigger(lambent.Schedule{Expression: "* * * * *"})
		time.Sleep(3*365*24*time.Hour + 30*time.Second)
		run(t, tr, s, 31*time.Second)
		want(t, s, "23:59:00", "00:00:00", "00:01:00")
	})
}

func BenchmarkNext(b *testing.B) {
	times := parse(b, lambent.Schedule{Expression: "cron(0 10 ? * MON-FRI *)", Zone: "Europe/Berlin"}, time.Now())
	at := time.Now()
	for b.Loop() {
		times.Next(at)
	}
}
