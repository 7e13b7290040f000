package store

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// filter returns the engine's pattern for every key below a prefix of whole
// words.
func filter(op, prefix string) (string, error) {
	if prefix == "" {
		return ">", nil
	}
	if err := checkKey(op, prefix); err != nil {
		return "", err
	}
	return prefix + ".>", nil
}

// List returns the entries whose keys are below prefix ("head" has "head.a" and
// "head.a.b" below it; "" has all), in the order of their revisions.
func (s *Store) List(ctx context.Context, prefix string) ([]Entry, error) {
	const op = "store.List"
	keys, err := filter(op, prefix)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(s.ending, cancel)
	defer stop()
	w, err := s.records.Watch(ctx, keys, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, s.explain(op, prefix, err)
	}
	var entries []Entry
	for {
		select {
		case <-ctx.Done():
			_ = drain(w)
			return nil, s.explain(op, prefix, ctx.Err())
		case e, ok := <-w.Updates():
			if !ok {
				return nil, s.explain(op, prefix, errWatchEnded)
			}
			if e == nil {
				return entries, drain(w)
			}
			entries = append(entries, entry(e))
		}
	}
}

// Watch calls changed for each entry below prefix as it is now, and returns. From
// then on it calls changed, from one goroutine, for whatever changes, in the
// order of revisions; of several quick changes of one key it may show the last
// only. It ends when ctx or the store does. changed must not block for long.
func (s *Store) Watch(ctx context.Context, prefix string, changed func(Entry)) error {
	const op = "store.Watch"
	keys, err := filter(op, prefix)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ending, cancel)
	quit := func(w jetstream.KeyWatcher) {
		stop()
		cancel()
		_ = drain(w)
	}
	w, err := s.records.Watch(ctx, keys)
	if err != nil {
		stop()
		cancel()
		return s.explain(op, prefix, err)
	}
	next := func() (e jetstream.KeyValueEntry, err error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e, ok := <-w.Updates():
			if !ok {
				return nil, errWatchEnded
			}
			return e, nil
		}
	}
	for {
		e, err := next()
		if err != nil {
			quit(w)
			return s.explain(op, prefix, err)
		}
		if e == nil {
			break
		}
		if entry := entry(e); !entry.Deleted {
			changed(entry)
		}
	}
	s.watchers.Go(func() {
		defer quit(w)
		for {
			e, err := next()
			switch {
			case err == nil:
				changed(entry(e))
			case errors.Is(err, errWatchEnded) && s.ending.Err() == nil:
				s.log.Error("store: a watch ended by itself: restart the server", "prefix", prefix)
				return
			default:
				return
			}
		}
	})
	return nil
}

var errWatchEnded = lambent.Errorf(lambent.Unavailable, "store.Watch", "the engine ended the watch")

// drain stops a watch. Its sender may be blocked on the channel: take what it
// has until the library closes it.
func drain(w jetstream.KeyWatcher) error {
	go func() {
		for range w.Updates() {
		}
	}()
	return w.Stop()
}

func entry(e jetstream.KeyValueEntry) Entry {
	if e.Operation() != jetstream.KeyValuePut {
		return Entry{Key: e.Key(), Revision: e.Revision(), Modified: e.Created(), Deleted: true}
	}
	return Entry{Key: e.Key(), Value: e.Value(), Revision: e.Revision(), Modified: e.Created()}
}
