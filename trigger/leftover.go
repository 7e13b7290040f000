package trigger

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"lambent"
	"lambent/source"
)

// What a source has made elsewhere for a trigger, such as a place in the log of a
// database, is removed though the server ends in between, or nobody answers there for
// a week: that it may be there is written down before it is made, or before what it is
// for is removed, and is forgotten once it is the trigger's, or is no more.

// leftoverPrefix is of the keys leftover.ID.SINCE.
const leftoverPrefix = "leftover"

func leftoverKey(t *lambent.Trigger) string {
	return leftoverPrefix + "." + t.ID + "." + strconv.FormatInt(t.Since.UnixNano(), 36)
}

const (
	prepareTimeout = 20 * time.Second
	forgetTimeout  = 5 * time.Second

	// Pauses between attempts to remove what is left.
	firstForget, lastForget = time.Second, 10 * time.Minute
)

// prepare has a source make what it needs for a trigger that is about to be kept. The
// caller says whether it was. It holds b.changing.
func (b *Broker) prepare(ctx context.Context, t lambent.Trigger) (made func(bool), err error) {
	p, ok := b.source(&t).(source.Preparer)
	if !ok || t.Disabled {
		return func(bool) {}, nil
	}
	revision, err := b.cfg.Store.Create(ctx, leftoverKey(&t), marshal(&t))
	if err != nil {
		return nil, err
	}
	made = func(kept bool) {
		if kept {
			b.removed(&t, revision)
		} else {
			<-b.clear(p, t, revision)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	sink := &watch{b: b, status: Status{Trigger: t}}
	if _, err = sink.Position(ctx); err == nil { // there may be one of before it was disabled
		err = b.safely(func() error { return p.Prepare(ctx, t, sink) })
	}
	if err != nil {
		made(false)
		return nil, err
	}
	return made, nil
}

// forget writes down that what a source has made for a trigger is to be removed, which
// what it returns begins, once the source has ended. The caller holds b.changing.
func (b *Broker) forget(ctx context.Context, t lambent.Trigger) (func(), error) {
	p, ok := b.source(&t).(source.Preparer)
	if !ok || t.Disabled {
		return func() {}, nil
	}
	key := leftoverKey(&t)
	revision, err := b.cfg.Store.Create(ctx, key, marshal(&t))
	if lambent.Is(err, lambent.Exists) { // the server ended, or failed, when this was done last
		e, err := b.cfg.Store.Get(ctx, key)
		return func() { <-b.clear(p, t, e.Revision) }, err
	}
	return func() { <-b.clear(p, t, revision) }, err
}

// clear has a source forget a trigger, again and again until it has. What it returns is
// closed after the first attempt.
func (b *Broker) clear(p source.Preparer, t lambent.Trigger, revision uint64) (tried chan struct{}) {
	tried = make(chan struct{})
	b.looking.Go(func() {
		for pause := firstForget; ; pause = min(2*pause, lastForget) {
			ctx, cancel := context.WithTimeout(b.ctx, forgetTimeout)
			err := b.safely(func() error { return p.Forget(ctx, t) })
			cancel()
			if err == nil {
				b.removed(&t, revision)
			}
			if pause == firstForget {
				close(tried)
			}
			if err == nil || b.ctx.Err() != nil {
				return
			}
			b.cfg.Logger.Warn("what a trigger that is no more has made is left, and is tried to be removed again", "trigger", t.ID, "in", pause, "error", err)
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-b.ctx.Done():
				timer.Stop()
				return
			}
		}
	})
	return tried
}

// removed forgets that something may be left.
func (b *Broker) removed(t *lambent.Trigger, revision uint64) {
	key := leftoverKey(t)
	if _, err := b.cfg.Store.Delete(context.WithoutCancel(b.ctx), key, revision); err != nil {
		b.cfg.Logger.Warn("a record of what is left of a trigger is left", "key", key, "error", err)
	}
}

// loadLeftovers begins to remove what is left.
func (b *Broker) loadLeftovers(ctx context.Context) error {
	for e, err := range b.cfg.Store.List(ctx, leftoverPrefix) {
		if err != nil {
			return err
		}
		var t lambent.Trigger
		if err := json.Unmarshal(e.Value, &t); err != nil {
			return lambent.Errorf(lambent.Internal, "trigger.Open", "the record %s cannot be read: %w", e.Key, err)
		}
		if w := b.watches[t.ID]; w != nil && !w.status.Disabled && w.status.Since.Equal(t.Since) { // it is in use
			b.removed(&t, e.Revision)
		} else if p, ok := b.source(&t).(source.Preparer); ok {
			b.clear(p, t, e.Revision)
		}
	}
	return nil
}
