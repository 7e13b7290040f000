package trigger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/internal/pattern"
	"lambent/source"
)

// The keys in the store: trigger.PROJECT.ID and position.ID.
const (
	triggerPrefix  = "trigger"
	positionPrefix = "position"
)

func triggerKey(t *lambent.Trigger) string {
	return triggerPrefix + "." + t.Target.Project + "." + t.ID
}

// Pauses of a source that ended in an error.
const firstRetry, lastRetry = time.Second, time.Minute

// A Status is a trigger, and how its source does.
type Status struct {
	lambent.Trigger
	Next  time.Time // when the source will publish next; zero: nobody knows, or it does not run
	Lag   *source.Lag
	Error string // why the source does not run now, or what a pattern could not be matched with last, in one line

	Waiting int // events that are in order and have not run; those of other triggers wait with all that is their function's
}

// A watch is a trigger whose source runs.
type watch struct {
	b        *Broker
	revision uint64             // of the record
	unbind   func()             // of a source that binds; nil: it does not
	cancel   context.CancelFunc // ends the source; nil: it does not run
	done     chan struct{}      // closed when it has

	mu     sync.Mutex // guards status, but for the trigger itself, which does not change
	status Status

	positionMu sync.Mutex // guards position; held while it is written
	position   uint64     // revision of its record; 0: there is none
}

// load reads the triggers and starts their sources.
func (b *Broker) load(ctx context.Context) error {
	for e, err := range b.cfg.Store.List(ctx, triggerPrefix) {
		if err != nil {
			return err
		}
		var t lambent.Trigger
		if err := json.Unmarshal(e.Value, &t); err != nil {
			return lambent.Errorf(lambent.Internal, "trigger.Open", "the record %s cannot be read: %w", e.Key, err)
		}
		function := lambent.Name{Project: t.Target.Project, Function: t.Target.Function}
		if _, err := b.cfg.Async(function); lambent.Is(err, lambent.NotFound) { // the server ended while that was being deleted
			b.cfg.Logger.Info("a trigger of a function that is no more is removed", "trigger", t.ID, "function", function.String())
			if _, err := b.forget(ctx, t); err != nil { // loadLeftovers does
				return err
			}
			if _, err := b.cfg.Store.Delete(ctx, e.Key, e.Revision); err != nil {
				return err
			}
			continue
		}
		b.watch(t, e.Revision)
	}
	return b.loadLeftovers(ctx)
}

// source is what watches for a trigger; nil: nothing does.
func (b *Broker) source(t *lambent.Trigger) source.Source {
	kind := t.Kind()
	if kind == "database" {
		kind = t.Database.Engine()
	}
	return b.cfg.Sources[kind]
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
		err := src.Run(ctx, t, w)
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
	adding := &adder{b: w.b, ctx: ctx}
	for i := range events {
		if err := w.b.check(&events[i]); err != nil {
			return err
		}
		it, err := eventItem(&w.status.Trigger, &events[i], events[i].ID, 0)
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

// Deliver implements source.Sink.
func (w *watch) Deliver(ctx context.Context, events ...lambent.Event) ([]string, error) {
	t := &w.status.Trigger
	if len(events) > 1 && !w.b.cfg.Together(t.Target) {
		return w.deliverEach(ctx, events)
	}
	inv := &lambent.Invocation{ID: lambent.NewID(), TriggerID: t.ID, Source: t.Kind(), Target: t.Target, Async: true, Events: events}
	var out outcome
	if err := w.b.cfg.Invoker.Invoke(ctx, inv, &out); err != nil {
		return nil, err
	}
	if out.result.Fault != nil {
		return nil, out.result.Fault
	}
	return out.result.FailedItems, nil
}

// deliverEach is Deliver to a function that takes one event at a time.
func (w *watch) deliverEach(ctx context.Context, events []lambent.Event) (failed []string, err error) {
	for i := range events {
		if _, err := w.Deliver(ctx, events[i]); err != nil {
			if _, fault := errors.AsType[*lambent.Fault](err); !fault && i == 0 {
				return nil, err
			}
			failed = append(failed, events[i].ID)
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

// Add keeps a trigger, which gets its id, and starts its source. Kinds: NotFound (its
// function), Invalid, Unsupported, NoSpace.
func (b *Broker) Add(ctx context.Context, t lambent.Trigger) (Status, error) {
	if err := b.Check(t); err != nil {
		return Status{}, err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	// A function that is deleted from now on has Forget wait for this.
	if _, err := b.cfg.Async(t.Target); err != nil {
		return Status{}, err
	}
	return b.add(ctx, t)
}

// Check says what is wrong with a trigger, but for its function.
func (b *Broker) Check(t lambent.Trigger) error {
	const op = "trigger.Check"
	src := b.source(&t)
	if t.Kind() == "database" {
		if err := t.Database.Validate(); err != nil {
			return err
		}
		if src == nil {
			return lambent.Errorf(lambent.Unsupported, op, "this release does not watch databases of %s yet: those of PostgreSQL it does", t.Database.Engine())
		}
	}
	if t.Batch != nil {
		if _, ok := src.(source.Ordered); !ok {
			return lambent.Errorf(lambent.Invalid, op, "a trigger of kind %s has no batches: each event is an invocation of its own", t.Kind())
		}
		if err := t.Batch.Validate(); err != nil {
			return err
		}
	}
	if t.Kind() == "pattern" {
		_, err := pattern.Parse(t.Pattern)
		return err
	}
	if src == nil {
		return lambent.Errorf(lambent.Invalid, op, "a trigger says of one source what it is to watch")
	}
	t.Created = time.Now()
	return src.Check(t)
}

// complete fills what a trigger leaves to its source.
func (b *Broker) complete(t *lambent.Trigger) {
	if src, ok := b.source(t).(source.Ordered); ok {
		var batch lambent.Batch
		if t.Batch != nil {
			batch = *t.Batch
		}
		batch = batch.WithDefaults(src.Batch()).WithDefaults(lambent.Batch{Size: 1, Parallel: 1})
		t.Batch = &batch
	}
}

// batchOf is how the events of an ordered lane reach their function.
func (b *Broker) batchOf(lane string) lambent.Batch {
	b.watchMu.Lock()
	w := b.watches[triggerOf(lane)]
	b.watchMu.Unlock()
	if w == nil || w.status.Batch == nil { // the trigger is no more
		return lambent.Batch{Size: 1}
	}
	batch := *w.status.Batch
	if !b.cfg.Together(functionOf(lane)) {
		batch.Size = 1
	}
	return batch
}

// add keeps a trigger that was checked. The caller holds b.changing.
func (b *Broker) add(ctx context.Context, t lambent.Trigger) (Status, error) {
	b.complete(&t)
	if b.ctx.Err() != nil {
		return Status{}, lambent.Errorf(lambent.Unavailable, "trigger.Add", "the server is shutting down")
	}
	t.ID, t.Created = lambent.NewID(), time.Now().UTC()
	t.Since = t.Created
	made, err := b.prepare(ctx, t)
	if err != nil {
		return Status{}, err
	}
	revision, err := b.cfg.Store.Create(ctx, triggerKey(&t), marshal(&t))
	made(err == nil)
	if err != nil {
		return Status{}, err
	}
	return b.watch(t, revision).now(), nil
}

// Deploy has a function have these triggers and no others of those that came with its
// code; what is as it was goes on. They are to have been checked.
func (b *Broker) Deploy(ctx context.Context, n lambent.Name, triggers []lambent.Trigger) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	if _, err := b.cfg.Async(n); err != nil {
		return err
	}
	had := map[string]*watch{}
	for _, w := range b.of(n.Project, n.Function) {
		if w.status.Deployed {
			had[identity(w.status.Trigger)] = w
		}
	}
	wanted := map[string]bool{}
	for _, t := range triggers {
		t.Target, t.Deployed = n, true
		b.complete(&t)
		is := identity(t)
		if had[is] == nil && !wanted[is] { // of two that are the same one is enough
			if _, err := b.add(ctx, t); err != nil {
				return err
			}
		}
		wanted[is] = true
	}
	for is, w := range had {
		if !wanted[is] {
			if err := b.delete(ctx, w); err != nil {
				return err
			}
		}
	}
	return nil
}

// identity is all that two triggers of one deploy may differ in.
func identity(t lambent.Trigger) string {
	t.ID, t.Created, t.Since, t.Disabled = "", time.Time{}, time.Time{}, false
	return string(marshal(&t))
}

// find returns a project's trigger.
func (b *Broker) find(op, project, id string) (*watch, error) {
	b.watchMu.Lock()
	defer b.watchMu.Unlock()
	if w := b.watches[id]; w != nil && w.status.Target.Project == project {
		return w, nil
	}
	return nil, lambent.Errorf(lambent.NotFound, op, "project %s has no trigger %.64q", project, id).WithHint("lambent trigger list")
}

// Triggers returns those of a project, or of one of its functions, or all, in the order in
// which they were made.
func (b *Broker) Triggers(project, function string) []Status {
	watches := b.of(project, function)
	all := make([]Status, len(watches))
	for i, w := range watches {
		all[i] = w.now()
	}
	return all
}

// of returns the watches of a project, or of one of its functions, or all, the oldest first.
func (b *Broker) of(project, function string) (watches []*watch) {
	b.watchMu.Lock()
	for _, w := range b.watches {
		if t := &w.status.Target; (project == "" || t.Project == project) && (function == "" || t.Function == function) {
			watches = append(watches, w)
		}
	}
	b.watchMu.Unlock()
	slices.SortFunc(watches, func(a, b *watch) int {
		return cmp.Or(a.status.Created.Compare(b.status.Created), strings.Compare(a.status.ID, b.status.ID))
	})
	return watches
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

// Trigger returns one of a project's. Kind: NotFound.
func (b *Broker) Trigger(project, id string) (Status, error) {
	w, err := b.find("trigger.Trigger", project, id)
	if err != nil {
		return Status{}, err
	}
	return w.now(), nil
}

// Enable has a trigger's source run, or not. Kinds: NotFound, Stale.
func (b *Broker) Enable(ctx context.Context, project, id string, enabled bool) (Status, error) {
	b.changing.Lock()
	defer b.changing.Unlock()
	w, err := b.find("trigger.Enable", project, id)
	if err != nil {
		return Status{}, err
	}
	t := w.status.Trigger
	if t.Disabled == !enabled {
		return w.now(), nil
	}
	made := func(bool) {}
	forget := func() {}
	if t.Disabled = !enabled; enabled {
		t.Since = time.Now().UTC()
		made, err = b.prepare(ctx, t)
	} else {
		forget, err = b.forget(ctx, w.status.Trigger)
	}
	if err != nil {
		return Status{}, err
	}
	revision, err := b.cfg.Store.Update(ctx, triggerKey(&t), marshal(&t), w.revision)
	made(err == nil)
	if err != nil {
		return Status{}, err
	}
	w.end()
	forget()
	return b.watch(t, revision).now(), nil
}

// Delete removes a trigger. What it has made already runs. Kind: NotFound.
func (b *Broker) Delete(ctx context.Context, project, id string) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	w, err := b.find("trigger.Delete", project, id)
	if err != nil {
		return err
	}
	return b.delete(ctx, w)
}

// Forget removes the triggers of a function that is no more.
func (b *Broker) Forget(ctx context.Context, n lambent.Name) error {
	b.changing.Lock()
	defer b.changing.Unlock()
	for _, w := range b.of(n.Project, n.Function) {
		if err := b.delete(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// delete removes the record first: a position without one counts for nothing.
func (b *Broker) delete(ctx context.Context, w *watch) error {
	t := &w.status.Trigger
	forget, err := b.forget(ctx, *t)
	if err != nil {
		return err
	}
	if _, err := b.cfg.Store.Delete(ctx, triggerKey(t), w.revision); err != nil {
		return err
	}
	b.watchMu.Lock()
	delete(b.watches, t.ID)
	b.watchMu.Unlock()
	w.end()
	forget()
	key := w.positionKey()
	if e, err := b.cfg.Store.Get(ctx, key); err == nil {
		if _, err := b.cfg.Store.Delete(ctx, key, e.Revision); err != nil {
			b.cfg.Logger.Warn("the position of a trigger that is no more is left", "key", key, "error", err)
		}
	}
	return nil
}
