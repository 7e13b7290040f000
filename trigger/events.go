package trigger

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"lambent"
	"lambent/internal/input"
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
// them, for all. An event of the same source and id is the same event, as CloudEvents has
// it: published again, while the queue remembers that, it invokes nothing again. It returns
// how many invocations the events have, again or not, so that whoever publishes again for
// want of an answer has the one that was lost. Kinds: Invalid, TooLarge, and those of the
// queue.
func (b *Broker) Publish(ctx context.Context, project string, events ...lambent.Event) (int, error) {
	const op = "trigger.Publish"
	if len(events) > maxEvents {
		return 0, lambent.Errorf(lambent.TooLarge, op, "%d events are over the limit of %d at a time", len(events), maxEvents)
	}
	for i := range events { // all of them, before any is taken
		e := &events[i]
		if e.Time.IsZero() {
			e.Time = time.Now().UTC()
		}
		if err := b.check(e); err != nil {
			return 0, err
		}
	}
	adding := &adder{b: b, ctx: ctx}
	for i := range events {
		e := &events[i]
		err := b.match(ctx, project, e, func(t *lambent.Trigger) error {
			return adding.event(t, e, e.Source+"\x00"+e.ID)
		})
		if err != nil {
			return 0, err
		}
	}
	adding.flush()
	if adding.err != nil {
		return 0, adding.err
	}
	for i := range events {
		b.remember(project, "", &events[i])
	}
	return adding.count, nil
}

// match calls each with the triggers whose pattern an event of a project matches.
func (b *Broker) match(ctx context.Context, project string, e *lambent.Event, each func(*lambent.Trigger) error) error {
	doc, err := document(project, e, nil)
	if err != nil {
		return err
	}
	for _, p := range b.patternsOf(project) {
		if ctx.Err() != nil {
			return lambent.Errorf(lambent.Canceled, "trigger.Publish", "given up: %w", ctx.Err())
		}
		switch matches, err := p.pattern.Matches(doc); {
		case err != nil: // that is the trigger's, and not the others'
			b.complain(p.trigger.ID, "event "+strconv.Quote(e.ID)+": "+err.Error())
			continue
		case !matches:
			continue
		}
		if err := each(&p.trigger); err != nil {
			return err
		}
	}
	return nil
}

// An adder adds items to the queue, as many at a time as that takes. What is refused for
// one lane is not kept from the others, but nothing goes to a lane behind what that
// refused: the first error is kept, and whoever published does so again, which does no
// harm.
type adder struct {
	b       *Broker
	ctx     context.Context
	items   []store.Item
	bytes   int
	count   int // of all that were given
	refused map[string]bool
	patient time.Duration // for how long it waits where the queue has no room, before that is an error
	err     error
}

// event adds the invocation that a trigger makes of an event; name is as of eventItem.
func (a *adder) event(t *lambent.Trigger, e *lambent.Event, name string) error {
	it, err := eventItem(t, e, name)
	if err == nil {
		a.add(it)
	}
	return err
}

func (a *adder) add(it store.Item) {
	const most = 100 // the queue takes some 200, and one of the largest
	size := len(it.Payload) + len(it.Meta)
	if len(a.items) == most || a.bytes+size > store.MaxPayloadBytes {
		a.flush()
	}
	if a.count++; !a.refused[it.Lane] {
		a.items, a.bytes = append(a.items, it), a.bytes+size
	}
}

func (a *adder) flush() {
	defer func() { a.items, a.bytes = a.items[:0], 0 }()
	if len(a.items) == 0 || a.err != nil && !lambent.Is(a.err, lambent.Throttled) { // it would be the same for all
		return
	}
	_, err := a.b.cfg.Queue.Add(a.ctx, a.items...)
	for begun := time.Now(); lambent.Is(err, lambent.Throttled) && time.Since(begun) < a.patient; {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-a.ctx.Done():
		}
		_, err = a.b.cfg.Queue.Add(a.ctx, a.items...)
	}
	if lambent.Is(err, lambent.Throttled) {
		err = nil
		for _, it := range a.items {
			if a.refused[it.Lane] {
				continue
			}
			_, e := a.b.cfg.Queue.Add(a.ctx, it)
			if e == nil {
				continue
			}
			if err == nil {
				err = e
			}
			if a.refused == nil {
				a.refused = map[string]bool{}
			}
			a.refused[it.Lane] = true
		}
	}
	if a.err == nil {
		a.err = err
	}
}

// eventItem is the invocation that a trigger makes of an event; name is what tells that
// from others of the trigger.
func eventItem(t *lambent.Trigger, e *lambent.Event, name string) (store.Item, error) {
	inv := &lambent.Invocation{
		ID: lambent.IDOf("event " + t.ID + " " + name), TriggerID: t.ID, Source: t.Kind(), Target: t.Target,
		Trace: e.Extensions[lambent.ExtensionTrace], Hops: e.Hops, Events: []lambent.Event{*e},
	}
	if t.Schedule != nil {
		inv.Due = e.Time
	}
	if t.Input != nil {
		raw, err := inputOf(t, e)
		if err != nil {
			return store.Item{}, err
		}
		inv.Raw, inv.Events = raw, nil
	}
	it, err := encode(inv)
	if t.Batch != nil {
		it.Lane = orderedLane(t, e)
	}
	return it, err
}

// inputOf is what a trigger's function is invoked with in place of an event.
func inputOf(t *lambent.Trigger, e *lambent.Event) ([]byte, error) {
	template, err := input.Parse(t.Input.Paths, t.Input.Template)
	if err != nil {
		return nil, err
	}
	return template.Apply(marshal(fieldsOf(t.Target.Project, e)))
}

// maxAttributes bounds what an event is without its data, which is kept in an item's meta.
const maxAttributes = 8 << 10

// check refuses what is no event, or too large a one.
func (b *Broker) check(e *lambent.Event) error {
	const op = "trigger.Publish"
	if err := e.Validate(); err != nil {
		return err
	}
	if len(e.Data) > b.cfg.MaxPayload {
		return lambent.Errorf(lambent.TooLarge, op, "the data of event %.64q is %d bytes, over the limit of %d", e.ID, len(e.Data), b.cfg.MaxPayload)
	}
	bare := *e
	bare.Data = nil
	if n := len(marshal(&bare)); n > maxAttributes {
		return lambent.Errorf(lambent.TooLarge, op, "the attributes of event %.64q are %d bytes together, over the limit of %d", e.ID, n, maxAttributes)
	}
	return nil
}

// complain has a trigger's status say what is wrong with it.
func (b *Broker) complain(id, why string) {
	b.watchMu.Lock()
	w := b.watches[id]
	b.watchMu.Unlock()
	if w != nil {
		w.fails(why)
	}
}

// document is what patterns are matched with: the fields of an event, and more.
func document(project string, e *lambent.Event, more map[string]any) (pattern.Event, error) {
	fields := fieldsOf(project, e)
	maps.Copy(fields, more)
	b, err := json.Marshal(fields)
	if err == nil {
		var doc pattern.Event
		if doc, err = pattern.ParseEvent(b); err == nil {
			return doc, nil
		}
	}
	return pattern.Event{}, lambent.Errorf(lambent.Invalid, "trigger.Publish", "event %.64q has no JSON form: %w", e.ID, err)
}

// fieldsOf are an event as EventBridge has it, and its attributes as CloudEvents does.
func fieldsOf(project string, e *lambent.Event) map[string]any {
	fields := map[string]any{
		"id": e.ID, "source": e.Source, "type": e.Type, "detail-type": e.Type, "subject": e.Subject,
		"account": lambent.AccountID(project), "region": lambent.Region, "time": e.Time.UTC().Format(time.RFC3339),
	}
	for name, value := range e.Extensions {
		fields[name] = value
	}
	fields["resources"] = e.Resources()
	if json.Valid(e.Data) {
		fields["detail"], fields["data"] = json.RawMessage(e.Data), json.RawMessage(e.Data)
	}
	return fields
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
