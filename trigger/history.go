package trigger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"iter"
	"slices"
	"time"

	"lambent"
	"lambent/store"
)

// MaxReplay is how many events are replayed at a time. Where each of them is, and which have
// been seen, is in memory meanwhile: some 50 MB.
const MaxReplay = 1_000_000

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

// A Query selects some of what a project has: events of the history, or a function's dead
// letters. What is zero does not matter.
type Query struct {
	ID           string    // the event's, or the invocation's
	Source, Type string    // the event's
	Function     string    // that an event invokes now; of the history alone
	Trigger      string    // by which one
	Kind         string    // by one of which kind, as Trigger.Kind has them
	Error        string    // what the last failure says, in any case; of dead letters alone
	Since, Until time.Time // when it was accepted, or died
	Limit        int
}

// within reports whether a moment is in the time that the query is of.
func (q *Query) within(at time.Time) bool {
	return !at.Before(q.Since) && (q.Until.IsZero() || at.Before(q.Until))
}

// event reports whether the query selects an event by what it says.
func (q *Query) event(e *lambent.Event) bool {
	return (q.Source == "" || e.Source == q.Source) && (q.Type == "" || e.Type == q.Type)
}

// trigger reports whether the query selects what is of a trigger of a kind.
func (q *Query) trigger(id, kind string) bool {
	return (q.Trigger == "" || id == q.Trigger) && (q.Kind == "" || kind == q.Kind)
}

// Events returns events that were accepted lately, the newest first, and no more than
// have 8 MB of data together. One that was accepted several times, which its source and its
// id say, is there once, as it was accepted last.
func (b *Broker) Events(ctx context.Context, project string, q Query) ([]Kept, error) {
	events, most := []Kept{}, 8<<20
	for k, err := range b.selected(ctx, project, &q) {
		if err != nil {
			return nil, err
		}
		if most -= len(k.Event.Data); most < 0 && len(events) > 0 {
			break
		}
		if events = append(events, k.Kept); len(events) == q.Limit {
			break
		}
	}
	return events, nil
}

// A placed event is one of the history's, and where that has it.
type placed struct {
	Kept
	place store.Place
}

// selected yields the events of the history that a query selects, the newest first and
// each once.
func (b *Broker) selected(ctx context.Context, project string, q *Query) iter.Seq2[placed, error] {
	return func(yield func(placed, error) bool) {
		seen := map[[16]byte]bool{}
		prefix := []byte(`{"p":"` + project + `",`) // names need no quoting
		for d, err := range b.cfg.History.Newest(ctx) {
			if err != nil {
				yield(placed{}, err)
				return
			}
			if d.Before.Before(q.Since) {
				return
			}
			if !bytes.HasPrefix(d.Text, prefix) {
				continue
			}
			k, ok := parseKept(d.Text)
			if !ok || !q.within(k.Accepted) || q.ID != "" && k.Event.ID != q.ID || !q.event(&k.Event) {
				continue
			}
			if q.Function != "" || q.Trigger != "" || q.Kind != "" {
				leads := false
				err := b.again(ctx, project, &k, q, func(*lambent.Trigger) error { leads = true; return nil })
				if err != nil {
					yield(placed{}, err)
					return
				}
				if !leads {
					continue
				}
			}
			sum := sha256.Sum256([]byte(k.Trigger + "\x00" + k.Event.Source + "\x00" + k.Event.ID))
			is := [16]byte(sum[:16]) // there may be a million
			if seen[is] {
				continue
			}
			seen[is] = true
			if !yield(placed{k, d.Place}, nil) {
				return
			}
		}
	}
}

// parseKept reads a document of the history.
func parseKept(text []byte) (Kept, bool) {
	var k kept
	if json.Unmarshal(text, &k) != nil {
		return Kept{}, false
	}
	e, err := lambent.ParseEvent(k.Event)
	if err != nil || e == nil {
		return Kept{}, false
	}
	return Kept{time.UnixMilli(k.At), k.Trigger, *e}, true
}

// again calls each with the triggers by which an event of the history invokes a function
// now, of those that a query selects: with the one whose source made it, if that is still
// there, or with those whose pattern it matches.
func (b *Broker) again(ctx context.Context, project string, k *Kept, q *Query, each func(*lambent.Trigger) error) error {
	selected := func(t *lambent.Trigger) error {
		if q.Function != "" && t.Target.Function != q.Function || !q.trigger(t.ID, t.Kind()) {
			return nil
		}
		return each(t)
	}
	if k.Trigger == "" {
		return b.match(ctx, project, &k.Event, selected)
	}
	w, err := b.find("trigger.Replay", project, k.Trigger)
	if err != nil {
		return nil // it is gone
	}
	return selected(&w.status.Trigger)
}

// Replay has events of the history make invocations again, the oldest first: those of a
// source by its trigger, if that is still there, and others by whatever pattern they match now.
// Where a function has as many waiting as may wait, it waits for that. It returns how many
// events there are, and how many invocations; dry, they are only counted. Kinds: NotFound,
// TooLarge, of more than MaxReplay, and those of the queue, where part of them may have
// been replayed.
func (b *Broker) Replay(ctx context.Context, project string, q Query, dry bool) (count, invocations int, err error) {
	const op = "trigger.Replay"
	var places []store.Place // newest first; the events themselves may be many MB
	for k, err := range b.selected(ctx, project, &q) {
		if err == nil && dry {
			err = b.again(ctx, project, &k.Kept, &q, func(*lambent.Trigger) error { invocations++; return nil })
		}
		if err != nil {
			return 0, 0, err
		}
		if len(places) == MaxReplay {
			return 0, 0, lambent.Errorf(lambent.TooLarge, op, "there are over %d events: choose a shorter time, or one source", MaxReplay)
		}
		places = append(places, k.place)
	}
	switch {
	case len(places) == 0 && q.ID != "":
		return 0, 0, lambent.Errorf(lambent.NotFound, op, "the history has no event %.64q", q.ID).WithHint("lambent events list")
	case len(places) == 0:
		return 0, 0, lambent.Errorf(lambent.NotFound, op, "the history has no such event").WithHint("lambent events list")
	case dry:
		return len(places), invocations, nil
	}
	slices.Reverse(places)
	adding := &adder{b: b, ctx: ctx, patient: time.Minute}
	again := "\x00" + lambent.NewID() // they are others than the first time
	for d, err := range b.cfg.History.At(ctx, places) {
		if err == nil {
			err = adding.err
		}
		k, ok := parseKept(d.Text)
		if err == nil && ok {
			err = b.again(ctx, project, &k, &q, func(t *lambent.Trigger) error {
				return adding.event(t, &k.Event, k.Event.Source+"\x00"+k.Event.ID+again)
			})
		}
		if err != nil {
			return count, adding.count, lambent.Errorf(lambent.KindOf(err), op, "about %d of %d events were replayed, the oldest ones: %w", count, len(places), err)
		}
		count++
	}
	adding.flush()
	return count, adding.count, adding.err
}
