package store

import (
	"context"
	"errors"
	"iter"

	"github.com/nats-io/nats.go/jetstream"
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

// List yields the entries whose keys are below prefix ("head" has "head.a" and
// "head.a.b" below it; "" has all), in the order of their revisions, and an error
// last if it could not go on. They are not one snapshot: an entry that changes
// meanwhile may be yielded as it was, as it is, or both.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	const op = "store.List"
	return func(yield func(Entry, error) bool) {
		w, err := s.watch(ctx, op, prefix, jetstream.IgnoreDeletes())
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer w.close()
		for {
			e, err := w.next()
			if err != nil {
				yield(Entry{}, s.explain(op, prefix, err))
				return
			}
			if e == nil || !yield(entry(e), nil) {
				return
			}
		}
	}
}

// Watch calls changed for each entry below prefix as it is now, and returns. From
// then on it calls changed, from one goroutine, for whatever changes, in the
// order of revisions; of several quick changes of one key it may show the last
// only. It ends when ctx or the store does. changed must not block for long.
func (s *Store) Watch(ctx context.Context, prefix string, changed func(Entry)) error {
	const op = "store.Watch"
	w, err := s.watch(ctx, op, prefix)
	if err != nil {
		return err
	}
	for {
		e, err := w.next()
		if err != nil {
			w.close()
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
		defer w.close()
		for {
			e, err := w.next()
			if err != nil {
				if w.ctx.Err() == nil {
					s.log.Error("store: a watch ended by itself: restart the server", "prefix", prefix)
				}
				return
			}
			changed(entry(e))
		}
	})
	return nil
}

// A watch is one of the engine's, which ends with its context or the store.
type watch struct {
	jetstream.KeyWatcher
	ctx    context.Context
	cancel func()
}

func (s *Store) watch(ctx context.Context, op, prefix string, opts ...jetstream.WatchOpt) (*watch, error) {
	keys, err := filter(op, prefix)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ending, cancel)
	w := &watch{ctx: ctx, cancel: func() { stop(); cancel() }}
	if w.KeyWatcher, err = s.records.Watch(ctx, keys, opts...); err != nil {
		w.cancel()
		return nil, s.explain(op, prefix, err)
	}
	return w, nil
}

// next returns the next entry, nil once between the first state and the changes.
func (w *watch) next() (jetstream.KeyValueEntry, error) {
	select {
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	case e, ok := <-w.Updates():
		if !ok {
			return nil, errors.New("the engine ended the watch")
		}
		return e, nil
	}
}

// close ends the watch. The engine's sender may be blocked on the channel: what
// it has is taken until it closes it.
func (w *watch) close() {
	w.cancel()
	go func() {
		for range w.Updates() {
		}
	}()
	_ = w.Stop() // an error says that it has ended already
}

func entry(e jetstream.KeyValueEntry) Entry {
	if e.Operation() != jetstream.KeyValuePut {
		return Entry{Key: e.Key(), Revision: e.Revision(), Modified: e.Created(), Deleted: true}
	}
	return Entry{Key: e.Key(), Value: e.Value(), Revision: e.Revision(), Modified: e.Created()}
}
