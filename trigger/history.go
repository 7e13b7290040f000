package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"lambent"
)

// MaxReplay is how many events are replayed at a time.
const MaxReplay = 10_000

// maxReplayBytes is how much data they have: they are in memory, as the oldest is first.
const maxReplayBytes = 64 << 20

// A Kept is an event of the history.
type Kept struct {
	Accepted time.Time
	Trigger  string // whose source made it; empty: it was published
	Event    lambent.Event
}

// kept is a document of the history.
type kept struct {
	Project string          `json:"p"` // the first, so that others' documents are not parsed
	At      int64           `json:"t"` // ms
	Trigger string          `json:"r,omitempty"`
	Event   json.RawMessage `json:"e,omitempty"`
}

// remember keeps an event that was accepted in the history. What cannot be written there
// is missing there.
func (b *Broker) remember(project, trigger string, e *lambent.Event) {
	event, err := e.Structured()
	if err != nil {
		return
	}
	head := marshal(kept{Project: project, At: time.Now().UnixMilli(), Trigger: trigger})
	b.cfg.History.Append(slices.Concat(bytes.TrimSuffix(head, []byte("}")), []byte(`,"e":`), event, []byte("}"))) // each byte is looked at once
}

// An EventQuery selects events of a project. What is zero does not matter.
type EventQuery struct {
	ID, Source, Type string
	Since, Until     time.Time // when they were accepted
	Limit            int
}

// Events returns events that were accepted lately, the newest first, and no more than
// have 8 MB of data together. One that was accepted several times, which its source and its
// id say, is there once, as it was accepted last.
func (b *Broker) Events(ctx context.Context, project string, q EventQuery) ([]Kept, error) {
	events, err := b.events(ctx, project, q, 8<<20)
	if lambent.Is(err, lambent.TooLarge) {
		err = nil
	}
	return events, err
}

// events returns those that have so many bytes of data together, with the error TooLarge
// if there are more.
func (b *Broker) events(ctx context.Context, project string, q EventQuery, most int) ([]Kept, error) {
	events := []Kept{}
	seen := map[string]bool{}
	prefix := []byte(`{"p":"` + project + `",`) // names need no quoting
	for d, err := range b.cfg.History.Newest(ctx) {
		if err != nil {
			return nil, err
		}
		if d.Before.Before(q.Since) {
			break
		}
		if !bytes.HasPrefix(d.Text, prefix) {
			continue
		}
		var k kept
		if json.Unmarshal(d.Text, &k) != nil {
			continue
		}
		at := time.UnixMilli(k.At)
		if at.Before(q.Since) || !q.Until.IsZero() && !at.Before(q.Until) {
			continue
		}
		e, err := lambent.ParseEvent(k.Event)
		if err != nil || e == nil || q.ID != "" && e.ID != q.ID || q.Source != "" && e.Source != q.Source || q.Type != "" && e.Type != q.Type {
			continue
		}
		is := k.Trigger + "\x00" + e.Source + "\x00" + e.ID
		if seen[is] {
			continue
		}
		seen[is] = true
		if most -= len(e.Data); most < 0 && len(events) > 0 {
			return events, lambent.Errorf(lambent.TooLarge, "trigger.Events", "there is more")
		}
		events = append(events, Kept{at, k.Trigger, *e})
		if len(events) == q.Limit {
			break
		}
	}
	return events, nil
}

// Replay has events of the history make invocations again, the oldest first: those of a
// source by its trigger, if that is still there, and others by whatever pattern they match now.
// It returns how many events there are, and how many invocations; dry, nothing is done,
// and there are none. Kind: TooLarge, of more than MaxReplay.
func (b *Broker) Replay(ctx context.Context, project string, q EventQuery, dry bool) (count, invocations int, err error) {
	const op = "trigger.Replay"
	q.Limit = MaxReplay + 1
	events, err := b.events(ctx, project, q, maxReplayBytes)
	switch {
	case lambent.Is(err, lambent.TooLarge):
		return 0, 0, lambent.Errorf(lambent.TooLarge, op, "the events have over %d MB of data: choose a shorter time, or one source", maxReplayBytes>>20)
	case err != nil:
		return 0, 0, err
	case len(events) == 0 && q.ID != "":
		return 0, 0, lambent.Errorf(lambent.NotFound, op, "the history has no event %.64q", q.ID).WithHint("lambent events list")
	case len(events) == 0:
		return 0, 0, lambent.Errorf(lambent.NotFound, op, "the history has no such event").WithHint("lambent events list")
	case len(events) > MaxReplay:
		return 0, 0, lambent.Errorf(lambent.TooLarge, op, "there are over %d events: choose a shorter time, or one source", MaxReplay)
	case dry:
		return len(events), 0, nil
	}
	slices.Reverse(events)
	adding := &adder{b: b, ctx: ctx}
	again := "\x00" + lambent.NewID() // they are others than the first time
	for i := range events {
		k := &events[i]
		if k.Trigger == "" {
			if err := b.match(adding, project, &k.Event, again); err != nil {
				return 0, 0, err
			}
			continue
		}
		w, err := b.find(op, project, k.Trigger)
		if lambent.Is(err, lambent.NotFound) {
			continue
		}
		it, err := eventItem(&w.status.Trigger, &k.Event, k.Event.ID+again)
		if err != nil {
			return 0, 0, err
		}
		adding.add(it)
	}
	adding.flush()
	return len(events), adding.count, adding.err
}
