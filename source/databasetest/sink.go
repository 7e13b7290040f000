package databasetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"lambent"
	"lambent/source"
)

// A Sink keeps what it is given.
type Sink struct {
	source.Sink // what it has not is not called

	mu       sync.Mutex // guards what follows
	Events   []lambent.Event
	Refused  []lambent.Event // for their size
	Repeats  int             // of events that came before
	Limit    int             // bytes of an event's data; 0: any
	Most     int             // events that are taken, and one batch; 0: any
	Crash    error           // what Publish returns once it has taken what it was given
	File     *os.File        // where events are written, too, a line for each; nil: nowhere
	ids      map[string]bool
	position []byte
}

var _ source.Sink = (*Sink)(nil)

func (s *Sink) Publish(ctx context.Context, events ...lambent.Event) error {
	return s.take(ctx, &s.Events, events)
}

func (s *Sink) Refuse(ctx context.Context, e lambent.Event, reason string) error {
	if !strings.Contains(reason, "bytes") {
		return fmt.Errorf("the reason is %q", reason)
	}
	return s.take(ctx, &s.Refused, []lambent.Event{e})
}

func (s *Sink) take(ctx context.Context, list *[]lambent.Event, events []lambent.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Most > 0 && len(s.Events) >= s.Most {
		return lambent.Errorf(lambent.Throttled, "test", "the lane is full")
	}
	for i := range events {
		if err := events[i].Validate(); err != nil {
			return err
		}
		if s.Limit > 0 && len(events[i].Data) > s.Limit {
			return lambent.Errorf(lambent.TooLarge, "test", "the data of event %q is %d bytes", events[i].ID, len(events[i].Data))
		}
	}
	for _, e := range events {
		if s.ids[e.ID] {
			s.Repeats++
			continue
		}
		s.know(e)
		*list = append(*list, e)
		if s.File != nil {
			if err := json.NewEncoder(s.File).Encode(e); err != nil {
				return err
			}
		}
	}
	if s.Crash != nil {
		return s.Crash
	}
	return ctx.Err()
}

// Know has events be ones that came before.
func (s *Sink) Know(events ...lambent.Event) { s.Set(func() { s.know(events...) }) }

func (s *Sink) know(events ...lambent.Event) {
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	for i := range events {
		s.ids[events[i].ID] = true
	}
}

func (s *Sink) Position(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.position, nil
}

func (s *Sink) SetPosition(_ context.Context, b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.position = slices.Clone(b)
	return nil
}

// Set has a function change what the Sink is, or look at it.
func (s *Sink) Set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}
