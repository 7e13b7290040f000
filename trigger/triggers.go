package trigger

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"lambent"
	"lambent/internal/input"
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

// A Status is a trigger, and how its source does.
type Status struct {
	lambent.Trigger
	Next  time.Time // when the source will publish next; zero: nobody knows, or it does not run
	Lag   *source.Lag
	Error string // why the source does not run now, or what a pattern could not be matched with last, in one line

	Waiting int // events that are in order and have not run; those of other triggers wait with all that is their function's
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
	switch kind {
	case "database":
		kind = t.Database.Engine()
	case "broker":
		kind = t.Broker.Engine()
	}
	return b.cfg.Sources[kind]
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
			return lambent.Errorf(lambent.Unsupported, op, "this server does not watch databases of %s", t.Database.Engine())
		}
	}
	if t.Kind() == "broker" {
		if err := t.Broker.Validate(); err != nil {
			return err
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
	if t.Filter != nil {
		if err := checkFilter(&t); err != nil {
			return err
		}
	}
	if t.Input != nil {
		if k := t.Kind(); k != "pattern" && k != "schedule" {
			return lambent.Errorf(lambent.Invalid, op, "a trigger of kind %s has no input of its own: its function gets what it is about", k)
		}
		if _, err := input.Parse(t.Input.Paths, t.Input.Template); err != nil {
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
	return b.safely(func() error { return src.Check(t) })
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
