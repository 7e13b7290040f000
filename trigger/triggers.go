package trigger

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/internal/pattern"
	"lambent/source"
	"lambent/store"
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
	Error string    // why the source does not run now, in one line; empty: it does, or is not to
}

// A watch is a trigger whose source runs.
type watch struct {
	b        *Broker
	revision uint64             // of the record
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
		if _, err := b.cfg.Async(t.Target); lambent.Is(err, lambent.NotFound) { // it ended while the function was being deleted
			if _, err := b.cfg.Store.Delete(ctx, e.Key, e.Revision); err != nil {
				return err
			}
			continue
		}
		b.watch(t, e.Revision)
	}
	return nil
}

// watch takes a trigger in, and has its source run if it is to.
func (b *Broker) watch(t lambent.Trigger, revision uint64) *watch {
	w := &watch{b: b, revision: revision, status: Status{Trigger: t}}
	src := b.cfg.Sources[t.Kind()]
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
func (w *watch) Publish(ctx context.Context, trigger string, events ...lambent.Event) error {
	t := &w.status.Trigger
	items := make([]store.Item, len(events))
	for i := range events {
		e := &events[i]
		if err := e.Validate(); err != nil {
			return err
		}
		it, err := w.b.eventItem(t, events[i:i+1], e.ID)
		if err != nil {
			return err
		}
		items[i] = it
	}
	_, err := w.b.cfg.Queue.Add(ctx, items...)
	return err
}

// Position implements source.Sink.
func (w *watch) Position(ctx context.Context, trigger string) ([]byte, error) {
	e, err := w.b.cfg.Store.Get(ctx, positionPrefix+"."+trigger)
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
func (w *watch) SetPosition(ctx context.Context, trigger string, position []byte) error {
	w.positionMu.Lock()
	defer w.positionMu.Unlock()
	key := positionPrefix + "." + trigger
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
	if t.Kind() == "pattern" {
		_, err := pattern.Parse(t.Pattern)
		return err
	}
	src := b.cfg.Sources[t.Kind()]
	if src == nil {
		return lambent.Errorf(lambent.Invalid, "trigger.Check", "a trigger says of one source what it is to watch")
	}
	t.Created = time.Now()
	return src.Check(t)
}

// add keeps a trigger that was checked. The caller holds b.changing.
func (b *Broker) add(ctx context.Context, t lambent.Trigger) (Status, error) {
	if b.ctx.Err() != nil {
		return Status{}, lambent.Errorf(lambent.Unavailable, "trigger.Add", "the server is shutting down")
	}
	t.ID, t.Created = lambent.NewID(), time.Now().UTC()
	revision, err := b.cfg.Store.Create(ctx, triggerKey(&t), marshal(&t))
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
	had := map[string]string{} // ids by what they are
	for _, s := range b.Triggers(n.Project, n.Function) {
		if s.Deployed {
			had[identity(s.Trigger)] = s.ID
		}
	}
	for _, t := range triggers {
		t.Target, t.Deployed = n, true
		if _, ok := had[identity(t)]; ok {
			delete(had, identity(t))
			continue
		}
		if _, err := b.add(ctx, t); err != nil {
			return err
		}
	}
	for _, id := range had {
		w, err := b.find("trigger.Deploy", n.Project, id)
		if err == nil {
			err = b.delete(ctx, w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// identity is all that two triggers of one deploy may differ in.
func identity(t lambent.Trigger) string {
	t.ID, t.Created, t.Disabled = "", time.Time{}, false
	return string(marshal(&t))
}

func marshal(t *lambent.Trigger) []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic("trigger: a trigger always has a JSON form: " + err.Error())
	}
	return b
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

// Triggers returns those of a project, or of one of its functions, in the order in which
// they were made.
func (b *Broker) Triggers(project, function string) []Status {
	b.watchMu.Lock()
	defer b.watchMu.Unlock()
	all := []Status{}
	for _, w := range b.watches {
		if t := &w.status.Target; t.Project == project && (function == "" || t.Function == function) {
			all = append(all, w.now())
		}
	}
	slices.SortFunc(all, func(a, b Status) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// now is the trigger's status.
func (w *watch) now() Status {
	w.mu.Lock()
	s := w.status
	w.mu.Unlock()
	if f, ok := w.b.cfg.Sources[s.Kind()].(source.Forecaster); ok && !s.Disabled {
		s.Next = f.Next(s.Trigger, time.Now())
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
	t.Disabled = !enabled
	revision, err := b.cfg.Store.Update(ctx, triggerKey(&t), marshal(&t), w.revision)
	if err != nil {
		return Status{}, err
	}
	w.end()
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
	for _, s := range b.Triggers(n.Project, n.Function) {
		w, err := b.find("trigger.Forget", n.Project, s.ID)
		if err == nil {
			err = b.delete(ctx, w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// delete removes the record first: a position without one counts for nothing.
func (b *Broker) delete(ctx context.Context, w *watch) error {
	t := &w.status.Trigger
	if _, err := b.cfg.Store.Delete(ctx, triggerKey(t), w.revision); err != nil {
		return err
	}
	b.watchMu.Lock()
	delete(b.watches, t.ID)
	b.watchMu.Unlock()
	w.end()
	key := positionPrefix + "." + t.ID
	if e, err := b.cfg.Store.Get(ctx, key); err == nil {
		_, err = b.cfg.Store.Delete(ctx, key, e.Revision)
		return err
	}
	return nil
}
