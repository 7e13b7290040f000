package trigger

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"lambent"
	"lambent/internal/pattern"
	"lambent/store"
)

// maxEvents is how many events are published at a time. EventBridge takes ten.
const maxEvents = 100

// An eventPattern is that of a trigger, ready to be matched.
type eventPattern struct {
	trigger lambent.Trigger
	pattern *pattern.Pattern
}

// Publish has events of a project invoke each function that has a trigger whose pattern
// they match, once for each such trigger. They are on disk when it returns nil, all of
// them, for all; an event of the same source and id, published again, counts once. It
// returns how many invocations there are to be. Kinds: Invalid, TooLarge, and those of
// the queue.
func (b *Broker) Publish(ctx context.Context, project string, events ...lambent.Event) (int, error) {
	const op = "trigger.Publish"
	if len(events) > maxEvents {
		return 0, lambent.Errorf(lambent.TooLarge, op, "%d events are over the limit of %d at a time", len(events), maxEvents)
	}
	var items []store.Item
	for i := range events {
		e := &events[i]
		if err := e.Validate(); err != nil {
			return 0, err
		}
		if e.Time.IsZero() {
			e.Time = time.Now().UTC()
		}
		doc, err := document(project, e)
		if err != nil {
			return 0, err
		}
		for _, p := range b.patternsOf(project) {
			if !p.pattern.Matches(doc) {
				continue
			}
			it, err := b.eventItem(&p.trigger, events[i:i+1], e.Source+" "+e.ID)
			if err != nil {
				return 0, err
			}
			items = append(items, it)
		}
	}
	for part := range slices.Chunk(items, 100) { // what the queue takes at a time
		if _, err := b.cfg.Queue.Add(ctx, part...); err != nil {
			return 0, err
		}
	}
	return len(items), nil
}

// eventItem is the invocation that a trigger makes of events; name is what tells them
// from others of that trigger.
func (b *Broker) eventItem(t *lambent.Trigger, events []lambent.Event, name string) (store.Item, error) {
	it, err := encode(&lambent.Invocation{
		ID: lambent.IDOf("event " + t.ID + " " + name), TriggerID: t.ID, Source: t.Kind(), Target: t.Target,
		Trace: events[0].Extensions["traceparent"], Events: events,
	})
	if err == nil && len(it.Payload) > b.cfg.MaxPayload {
		err = lambent.Errorf(lambent.TooLarge, "trigger.Publish", "event %.64q is %d bytes, over the limit of %d", events[0].ID, len(it.Payload), b.cfg.MaxPayload)
	}
	return it, err
}

// document is what patterns are matched with: an event as EventBridge has it, and its
// attributes as CloudEvents does.
func document(project string, e *lambent.Event) (pattern.Event, error) {
	fields := map[string]any{
		"id": e.ID, "source": e.Source, "type": e.Type, "detail-type": e.Type, "subject": e.Subject,
		"account": lambent.AccountID(project), "region": lambent.Region, "time": e.Time.UTC().Format(time.RFC3339), "resources": []string{},
	}
	for name, value := range e.Extensions {
		fields[name] = value
	}
	if json.Valid(e.Data) {
		fields["detail"], fields["data"] = json.RawMessage(e.Data), json.RawMessage(e.Data)
	}
	b, err := json.Marshal(fields)
	if err == nil {
		var doc pattern.Event
		if doc, err = pattern.ParseEvent(b); err == nil {
			return doc, nil
		}
	}
	return pattern.Event{}, lambent.Errorf(lambent.Invalid, "trigger.Publish", "event %.64q has no JSON form: %w", e.ID, err)
}

// patternsOf returns the patterns of a project's triggers.
func (b *Broker) patternsOf(project string) []*eventPattern {
	b.watchMu.Lock()
	defer b.watchMu.Unlock()
	return b.patterns[project]
}

// follow takes the pattern of a trigger in. The caller holds watchMu.
func (b *Broker) follow(t lambent.Trigger, p *pattern.Pattern) {
	project := t.Target.Project
	b.patterns[project] = append(slices.Clip(b.patterns[project]), &eventPattern{t, p})
}

// unfollow takes it out again. The caller holds watchMu; who has the list goes on with it.
func (b *Broker) unfollow(t *lambent.Trigger) {
	left := slices.DeleteFunc(slices.Clone(b.patterns[t.Target.Project]), func(p *eventPattern) bool { return p.trigger.ID == t.ID })
	if b.patterns[t.Target.Project] = left; len(left) == 0 {
		delete(b.patterns, t.Target.Project)
	}
}
