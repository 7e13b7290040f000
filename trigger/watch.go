package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"lambent"
	"lambent/internal/pattern"
	"lambent/source"
)

// Pauses of a source that ended in an error.
const firstRetry, lastRetry = time.Second, time.Minute

// A watch is a trigger whose source runs.
type watch struct {
	b        *Broker
	revision uint64             // of the record
	unbind   func()             // of a source that binds; nil: it does not
	cancel   context.CancelFunc // ends the source; nil: it does not run
	done     chan struct{}      // closed when it has
	filter   *pattern.Pattern   // which of its events are wanted; nil: all

	mu     sync.Mutex // guards status, but for the trigger itself, which does not change
	status Status

	positionMu sync.Mutex // guards position; held while it is written
	position   uint64     // revision of its record; 0: there is none
}

// watch takes a trigger in, and has its source run if it is to.
func (b *Broker) watch(t lambent.Trigger, revision uint64) *watch {
	w := &watch{b: b, revision: revision, status: Status{Trigger: t}}
	src := b.source(&t)
	var p *pattern.Pattern
	if t.Pattern != nil && !t.Disabled {
		var err error
		if p, err = pattern.Parse(t.Pattern); err != nil {
			w.status.Error = lambent.UserMessage(err)
		}
	} else if src == nil && t.Pattern == nil {
		w.status.Error = "this release has no source for it"
	}
	if t.Filter != nil {
		var err error
		if w.filter, err = pattern.Parse(t.Filter); err != nil {
			w.status.Error = lambent.UserMessage(err)
			src = nil
		}
	}
	b.watchMu.Lock()
	b.watches[t.ID] = w
	if p != nil {
		b.follow(t, p)
	}
	b.watchMu.Unlock()
	if src != nil && !t.Disabled {
		if s, ok := src.(source.Binder); ok {
			w.unbind = s.Bind(t, w)
		}
		ctx, cancel := context.WithCancel(b.ctx)
		w.cancel, w.done = cancel, make(chan struct{})
		go w.run(ctx, src, t)
	}
	return w
}

// run runs the source again after it has failed, until ctx ends.
func (w *watch) run(ctx context.Context, src source.Source, t lambent.Trigger) {
	defer close(w.done)
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		begun := time.Now()
		err := w.b.safely(func() error { return src.Run(ctx, t, w) })
		if ctx.Err() != nil || err == nil {
			return
		}
		if time.Since(begun) > lastRetry { // it did well for a while
			pause = firstRetry
		}
		w.b.cfg.Logger.Warn("the source of a trigger has ended, and is started again", "trigger", t.ID, "function", t.Target.String(), "in", pause, "error", err)
		w.fails(lambent.UserMessage(err))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		w.fails("")
	}
}

// safely has a source do something: its panic is one of its errors.
func (b *Broker) safely(f func() error) error {
	err := source.Safely(f)
	if p, ok := errors.AsType[*source.Panic](err); ok {
		b.cfg.Logger.Error("a source has panicked", "panic", p.Value, "stack", string(p.Stack))
	}
	return err
}

func (w *watch) fails(why string) {
	w.mu.Lock()
	w.status.Error = why
	w.mu.Unlock()
}

// end stops the source and waits for that.
func (w *watch) end() {
	w.b.watchMu.Lock()
	w.b.unfollow(&w.status.Trigger)
	w.b.watchMu.Unlock()
	if w.unbind != nil {
		w.unbind()
	}
	if w.cancel != nil {
		w.cancel()
		<-w.done
	}
}

// endWatches stops all, and waits for their sources.
func (b *Broker) endWatches() {
	b.stop()
	b.changing.Lock()
	defer b.changing.Unlock()
	for _, w := range b.watches {
		w.end()
	}
}

var _ source.Sink = (*watch)(nil)

// Publish implements source.Sink: each event is an invocation of its own.
func (w *watch) Publish(ctx context.Context, events ...lambent.Event) error {
	events = w.wanted(events)
	adding := &adder{b: w.b, ctx: ctx}
	for i := range events {
		if err := w.b.check(&events[i]); err != nil {
			return err
		}
		it, err := eventItem(&w.status.Trigger, &events[i], events[i].ID)
		if err != nil {
			return err
		}
		adding.add(it)
	}
	adding.flush()
	if adding.err != nil {
		return adding.err
	}
	for i := range events {
		w.b.remember(w.status.Target.Project, w.status.ID, &events[i])
	}
	return nil
}

// Refuse implements source.Sink.
func (w *watch) Refuse(ctx context.Context, e lambent.Event, reason string) error {
	if err := w.b.check(&e); err != nil {
		return err
	}
	it, err := eventItem(&w.status.Trigger, &e, e.ID)
	if err != nil {
		return err
	}
	var m meta
	if err := json.Unmarshal(it.Meta, &m); err != nil {
		return err
	}
	m.Refused = reason
	it.Meta = marshal(&m)
	_, err = w.b.cfg.Queue.Add(ctx, it) // and not in the history: it is not to be replayed
	return err
}

// Deliver implements source.Sink.
func (w *watch) Deliver(ctx context.Context, events ...lambent.Event) ([]string, error) {
	t := &w.status.Trigger
	events, err := w.cutLoops(ctx, w.wanted(events))
	if err != nil || len(events) == 0 {
		return nil, err
	}
	if len(events) > 1 && !w.b.cfg.Together(t.Target) {
		return w.deliverEach(ctx, events)
	}
	inv := &lambent.Invocation{ID: lambent.NewID(), TriggerID: t.ID, Source: t.Kind(), Target: t.Target, Async: true, Events: events, Trace: events[0].Extensions[lambent.ExtensionTrace]}
	for i := range events {
		inv.Hops = max(inv.Hops, events[i].Hops)
	}
	var out outcome
	if err := w.b.cfg.Invoker.Invoke(ctx, inv, &out); err != nil {
		return nil, err
	}
	if out.result.Fault != nil {
		return nil, out.result.Fault
	}
	return out.result.FailedItems, nil
}

// deliverEach is Deliver to a function that takes one event at a time. What is behind one
// that has failed, and is to stay there, has failed with it.
func (w *watch) deliverEach(ctx context.Context, events []lambent.Event) (failed []string, err error) {
	stuck := map[string]bool{} // by what they are in order of
	for i := range events {
		key := events[i].Extensions[lambent.PartitionKey]
		if stuck[key] {
			failed = append(failed, events[i].ID)
			continue
		}
		if _, err := w.Deliver(ctx, events[i]); err != nil {
			if _, fault := errors.AsType[*lambent.Fault](err); !fault && i == 0 {
				return nil, err
			}
			failed = append(failed, events[i].ID)
			stuck[key] = key != ""
		}
	}
	return failed, nil
}

func (w *watch) positionKey() string { return positionPrefix + "." + w.status.ID }

// Position implements source.Sink.
func (w *watch) Position(ctx context.Context) ([]byte, error) {
	e, err := w.b.cfg.Store.Get(ctx, w.positionKey())
	if lambent.Is(err, lambent.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w.positionMu.Lock()
	w.position = e.Revision
	w.positionMu.Unlock()
	return e.Value, nil
}

// SetPosition implements source.Sink.
func (w *watch) SetPosition(ctx context.Context, position []byte) error {
	w.positionMu.Lock()
	defer w.positionMu.Unlock()
	key := w.positionKey()
	var next uint64
	var err error
	if w.position == 0 {
		next, err = w.b.cfg.Store.Create(ctx, key, position)
	} else {
		next, err = w.b.cfg.Store.Update(ctx, key, position, w.position)
	}
	if err == nil {
		w.position = next
	}
	return err
}

// now is the trigger's status.
func (w *watch) now() Status {
	w.mu.Lock()
	s := w.status
	w.mu.Unlock()
	if s.Batch != nil {
		for i := range s.Batch.Parallel {
			l := w.b.cfg.Queue.LaneStats(laneOfPart(&s.Trigger, i))
			s.Waiting += l.Waiting + l.Delayed + l.Running
		}
	}
	src := w.b.source(&s.Trigger)
	if f, ok := src.(source.Forecaster); ok && !s.Disabled {
		s.Next = f.Next(s.Trigger, time.Now())
	}
	if g, ok := src.(source.Gauge); ok && !s.Disabled {
		if lag, known := g.Lag(s.Trigger); known {
			s.Lag = &lag
		}
	}
	return s
}
