package trigger

import (
	"context"
	"slices"
	"strings"
	"time"

	"lambent"
	"lambent/store"
)

// A DeadLetter is an invocation that is not tried any more.
type DeadLetter struct {
	ID       string
	Function lambent.Name
	Trigger  string // whose event it is; empty: of a direct call
	Attempts int
	Accepted time.Time
	Died     time.Time
	Reason   string // the last failure, in one line
	Payload  []byte // as it came; an event as CloudEvents has it in JSON
}

// DeadLetters returns those of a function that a query selects and that died first, without
// their payloads, and how many there are of them.
func (b *Broker) DeadLetters(ctx context.Context, n lambent.Name, q Query) (letters []DeadLetter, total int, err error) {
	all, err := b.dead(ctx, "trigger.DeadLetters", n, &q)
	if err != nil {
		return nil, 0, err
	}
	for _, w := range all[:min(q.Limit, len(all))] {
		d, err := letter(ctx, w)
		switch {
		case lambent.Is(err, lambent.Stale): // redriven or purged just now
			continue
		case ctx.Err() != nil:
			return nil, 0, err
		case err != nil: // of one that cannot be read, this is what is known
			d = DeadLetter{Function: n, Attempts: w.Attempt, Accepted: w.Added, Died: w.Since, Reason: w.Note}
		}
		d.Payload = nil
		letters = append(letters, d)
	}
	return letters, len(all), nil
}

// DeadLetter returns one. Kind: NotFound.
func (b *Broker) DeadLetter(ctx context.Context, n lambent.Name, id string) (DeadLetter, error) {
	w, err := b.findDead("trigger.DeadLetter", n, id)
	if err != nil {
		return DeadLetter{}, err
	}
	return letter(ctx, w)
}

func letter(ctx context.Context, w *store.Work) (DeadLetter, error) {
	it, err := w.Load(ctx)
	if err != nil {
		return DeadLetter{}, err
	}
	d := DeadLetter{ID: it.ID, Function: functionOf(w.Lane), Attempts: w.Attempt, Accepted: w.Added, Died: w.Since, Reason: w.Note, Payload: it.Payload}
	if inv, _, err := decode(it); err == nil { // otherwise that is its reason
		d.Function, d.Trigger = inv.Target, inv.TriggerID
		if len(inv.Events) == 1 {
			d.Payload, err = inv.Events[0].Structured()
		}
		if err != nil {
			return DeadLetter{}, err
		}
	}
	return d, nil
}

func (b *Broker) findDead(op string, n lambent.Name, id string) (*store.Work, error) {
	for _, lane := range b.lanesOf(n) {
		if w, err := b.cfg.Queue.FindDead(lane, id); err == nil {
			return w, nil
		}
	}
	return nil, lambent.Errorf(lambent.NotFound, op, "function %s has no dead letter %.64q", functionOf(laneOf(n)), id).
		WithHint("lambent deadletter list %s", n.Function)
}

// lanesOf returns a function's lane, and those of its triggers that hold anything.
func (b *Broker) lanesOf(n lambent.Name) []string {
	lanes := []string{laneOf(n)}
	for _, lane := range b.cfg.Queue.Lanes() {
		if strings.HasPrefix(lane, lanes[0]+"/") {
			lanes = append(lanes, lane)
		}
	}
	return lanes
}

// dead returns those of a function's dead letters that a query selects, those that died
// first first. Kinds: NotFound, of an id, and those of the queue.
func (b *Broker) dead(ctx context.Context, op string, n lambent.Name, q *Query) (all []*store.Work, err error) {
	if q.ID != "" {
		w, err := b.findDead(op, n, q.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	} else {
		for _, lane := range b.lanesOf(n) {
			all = append(all, b.cfg.Queue.Dead(lane)...)
		}
	}
	letters := all[:0]
	for _, w := range all {
		switch selected, err := q.dead(ctx, w); {
		case err != nil:
			return nil, err
		case selected:
			letters = append(letters, w)
		}
	}
	slices.SortStableFunc(letters, func(a, b *store.Work) int { return a.Since.Compare(b.Since) })
	return letters, nil
}

// dead reports whether the query selects a dead letter. What is said of its event is read
// from the log only if that is asked for.
func (q *Query) dead(ctx context.Context, w *store.Work) (bool, error) {
	if !q.within(w.Since) || q.Error != "" && !strings.Contains(strings.ToLower(w.Note), strings.ToLower(q.Error)) {
		return false, nil
	}
	if q.Source == "" && q.Type == "" && q.Trigger == "" && q.Kind == "" {
		return true, nil
	}
	it, err := w.Load(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return false, err
		}
		return false, nil // it is gone by now, or cannot be read, and then nothing is known of it
	}
	inv, m, err := decode(it)
	if err != nil || !q.trigger(inv.TriggerID, inv.Source) {
		return false, nil
	}
	if m.Event == nil {
		m.Event = &lambent.Event{}
	}
	return q.event(m.Event), nil
}

// Redrive has the dead letters that a query selects run again, from their first attempt
// on; dry, they are only counted. It returns how many. Kinds: NotFound, Unavailable.
func (b *Broker) Redrive(ctx context.Context, n lambent.Name, q Query, dry bool) (int, error) {
	return b.each(ctx, "trigger.Redrive", n, &q, dry, func(w *store.Work) error { return w.Retry(time.Time{}, 1, redriven) })
}

// Purge removes dead letters, as Redrive has them run.
func (b *Broker) Purge(ctx context.Context, n lambent.Name, q Query, dry bool) (int, error) {
	return b.each(ctx, "trigger.Purge", n, &q, dry, (*store.Work).Done)
}

// Sweep removes the dead letters of all functions that died before a moment, and returns
// how many.
func (b *Broker) Sweep(before time.Time) (count int, err error) {
	for _, lane := range b.cfg.Queue.Lanes() {
		for _, w := range b.cfg.Queue.Dead(lane) {
			if !w.Since.Before(before) {
				break // those behind it died later
			}
			switch err := w.Done(); {
			case err == nil:
				count++
			case !lambent.Is(err, lambent.Stale):
				return count, err
			}
		}
	}
	return count, nil
}

// each does something with dead letters, and returns once it is durable.
func (b *Broker) each(ctx context.Context, op string, n lambent.Name, q *Query, dry bool, do func(*store.Work) error) (count int, err error) {
	letters, err := b.dead(ctx, op, n, q)
	if err != nil || dry {
		return len(letters), err
	}
	for _, w := range letters {
		switch err := do(w); {
		case err == nil:
			count++
		case !lambent.Is(err, lambent.Stale): // or somebody else has said so just now
			return count, err
		}
	}
	if count == 0 {
		return 0, nil
	}
	return count, b.cfg.Queue.Flush(ctx)
}
