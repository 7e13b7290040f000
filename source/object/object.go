// Package object makes events of what happens to objects in the server's own buckets.
//
// Whoever keeps the buckets says of each change first that it is about to happen, and
// then that it has happened, and tells nobody else before that is through. What it
// guarantees: each trigger that watches for a change has its event in the queue when
// [Source.Done] returns nil. A change that somebody watches for when it begins is on
// disk before it happens, as an intent; if the server ends before it is done, the intent
// is there after the next start, for its keeper to say whether the change has happened.
// The same change published again has the same event id, and counts once.
//
// Buckets elsewhere can tell of their changes, too ([Source.Notify]).
//
// What it does not do: it does not know what is in a bucket.
package object

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/source"
)

var (
	_ source.Source = (*Source)(nil)
	_ source.Binder = (*Source)(nil)
	_ source.Gauge  = (*Source)(nil)
)

// A Source has the triggers of buckets. Its methods may be called concurrently.
type Source struct {
	// Exists says whether a project has a bucket, with an error of kind NotFound if not; nil:
	// nobody knows.
	Exists func(project, bucket string) error

	// Others returns who watches a bucket beside the triggers; nil: nobody does.
	Others func(project, bucket string) []Watcher

	intents intents
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	later   sync.WaitGroup // for what could not be published at once
	last    atomic.Int64   // sequencer

	mu      sync.Mutex                       // guards what follows
	bound   map[string]map[*Watcher]struct{} // by project and bucket
	failing map[string]failing               // by project
}

// A Watcher is told of what happens in a bucket.
type Watcher struct {
	ID     string
	Bucket lambent.Bucket
	Since  time.Time // what happened before is not for it

	// Publish keeps the events durably. The same event may come again, under its id.
	Publish func(context.Context, ...lambent.Event) error
}

// failing is how a project's changes fail to be published.
type failing struct {
	changes int   // that could not be yet
	last    error // why the last of them could not
}

// A Change is what one request does to one object.
type Change struct {
	lambent.ObjectEvent
	Time  time.Time // when it happened; zero: now
	Hops  int       // functions that led to it
	Trace string    // of the request, or none
}

// Open returns a Source that keeps its intents in DIR/PROJECT/intents.
func Open(dir string) *Source {
	s := &Source{intents: intents{dir}, bound: map[string]map[*Watcher]struct{}{}, failing: map[string]failing{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close gives up what could not be published yet, whose intents stay.
func (s *Source) Close() {
	s.cancel()
	s.later.Wait()
}

// Check implements source.Source.
func (s *Source) Check(t lambent.Trigger) error { return t.Bucket.Validate() }

// Run implements source.Source: what happens is published by who does it.
func (s *Source) Run(context.Context, lambent.Trigger, source.Sink) error { return nil }

// Lag implements source.Gauge: a trigger of a bucket that is not there has nothing to wait for.
func (s *Source) Lag(t lambent.Trigger) (source.Lag, bool) {
	if s.Exists == nil || !lambent.Is(s.Exists(t.Target.Project, t.Bucket.Name), lambent.NotFound) {
		return source.Lag{}, false
	}
	return source.Lag{Warning: fmt.Sprintf("there is no bucket %s here: aws s3 mb s3://%s. One elsewhere is to tell of itself at /v1/notifications/s3, and if there is none: lambent trigger delete %s", t.Bucket.Name, t.Bucket.Name, t.ID)}, true
}

// Bind implements source.Binder.
func (s *Source) Bind(t lambent.Trigger, sink source.Sink) (unbind func()) {
	key, b := bucketKey(t.Target.Project, t.Bucket.Name), &Watcher{t.ID, *t.Bucket, t.Since, sink.Publish}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound[key] == nil {
		s.bound[key] = map[*Watcher]struct{}{}
	}
	s.bound[key][b] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if delete(s.bound[key], b); len(s.bound[key]) == 0 {
			delete(s.bound, key)
		}
	}
}

func bucketKey(project, bucket string) string { return project + "/" + bucket }

// watching returns who watches a bucket.
func (s *Source) watching(project, bucket string) (all []*Watcher) {
	s.mu.Lock()
	for b := range s.bound[bucketKey(project, bucket)] {
		all = append(all, b)
	}
	s.mu.Unlock()
	if s.Others != nil {
		for _, w := range s.Others(project, bucket) {
			all = append(all, &w)
		}
	}
	return all
}

// Begin says that one request is about to make changes in a project, and returns the
// name of that, for Done or Cancel. If somebody watches for one of them, what is known
// yet of all is on disk, and watched is true. Of a removal Begin need not know which one it
// is. While events cannot be published it refuses, before anything has happened. Kinds:
// NoSpace, Throttled, Unavailable.
func (s *Source) Begin(project string, changes []Change) (i Intent, watched bool, err error) {
	i = Intent{ID: lambent.NewID(), Changes: changes}
	if !s.watched(project, changes) {
		return i, false, nil
	}
	s.mu.Lock()
	failing := s.failing[project]
	s.mu.Unlock()
	if failing.changes > 0 {
		return Intent{}, false, failing.last
	}
	i.Began, err = s.intents.write(project, i.ID, changes)
	return i, true, err
}

func (s *Source) watched(project string, changes []Change) bool {
	for i := range changes {
		c := &changes[i]
		for _, b := range s.watching(project, c.Bucket) {
			if b.Bucket.Wants(c.Event, c.Key) || c.Event == EventDelete && b.Bucket.Wants(EventDeleteMarker, c.Key) {
				return true
			}
		}
	}
	return false
}

// What is removed, of [lambent.BucketEvents].
const (
	EventDelete       = "s3:ObjectRemoved:Delete"
	EventDeleteMarker = "s3:ObjectRemoved:DeleteMarkerCreated"
)

// Done says that changes which began under that name have happened: those that are given,
// now with all that is known of them. It returns when the events of whoever watches for
// them now are durable. If it fails they will be published later; of what nobody watched
// for when it began that is only so while the server runs. Kinds: those of the queue.
func (s *Source) Done(ctx context.Context, project, id string, changes []Change) error {
	changes = append([]Change(nil), changes...)
	for i := range changes {
		c := &changes[i]
		c.Sequencer = fmt.Sprintf("%016X", s.next())
		if c.Time.IsZero() {
			c.Time = time.Now().UTC()
		}
	}
	err := s.publish(ctx, project, id, changes, true)
	if err == nil {
		return s.Cancel(project, id)
	}
	s.fails(project, 1, err)
	s.later.Go(func() {
		for pause := time.Second; ; pause = min(2*pause, time.Minute) {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-s.ctx.Done():
				timer.Stop()
				return
			}
			err := s.publish(s.ctx, project, id, changes, true)
			if err == nil {
				err = s.Cancel(project, id)
			}
			if err == nil {
				s.fails(project, -1, nil)
				return
			}
			s.fails(project, 0, err)
		}
	})
	return err
}

func (s *Source) fails(project string, more int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.failing[project]
	f.changes += more
	if err != nil {
		f.last = err
	}
	if s.failing[project] = f; f.changes == 0 {
		delete(s.failing, project)
	}
}

// next is a number over all that were given out.
func (s *Source) next() int64 {
	for {
		last := s.last.Load()
		n := max(last+1, time.Now().UnixNano())
		if s.last.CompareAndSwap(last, n) {
			return n
		}
	}
}

// Cancel says that what began under that name has not happened, or is done with.
func (s *Source) Cancel(project, id string) error { return s.intents.remove(project, id) }

// Pending returns what began in a project and is not done with: after a start, what was
// under way when the last one ended.
func (s *Source) Pending(project string) ([]Intent, error) { return s.intents.list(project) }

// publish hands events to all who watch for them; with since, to those alone who have done
// so when they happened.
func (s *Source) publish(ctx context.Context, project, id string, changes []Change, since bool) error {
	events, watching := map[*Watcher][]lambent.Event{}, map[string][]*Watcher{}
	for i := range changes {
		c := &changes[i]
		name := id
		if i > 0 {
			name = lambent.IDOf(fmt.Sprint(id, " ", i))
		}
		if _, known := watching[c.Bucket]; !known {
			watching[c.Bucket] = s.watching(project, c.Bucket)
		}
		for _, b := range watching[c.Bucket] {
			if b.Bucket.Wants(c.Event, c.Key) && !(since && c.Time.Before(b.Since)) {
				c := *c
				c.Configuration = cmp.Or(b.Bucket.Label, b.ID)
				events[b] = append(events[b], event(name, &c))
			}
		}
	}
	var failed []error
	for b, list := range events {
		failed = append(failed, b.Publish(ctx, list...))
	}
	return errors.Join(failed...)
}

// event is a change as it is published.
func event(id string, c *Change) lambent.Event {
	data, err := json.Marshal(&c.ObjectEvent)
	if err != nil {
		panic("object: texts and numbers always have a JSON form: " + err.Error())
	}
	kind := lambent.EventObjectCreated
	if c.Event == EventDelete || c.Event == EventDeleteMarker {
		kind = lambent.EventObjectDeleted
	}
	key := c.Key
	if len(key) > 256 {
		sum := sha256.Sum256([]byte(key))
		key = hex.EncodeToString(sum[:])
	}
	e := lambent.Event{
		ID: id, Source: "/buckets/" + c.Bucket, Type: kind, Subject: c.Key, Time: c.Time.UTC(), DataContentType: "application/json",
		Extensions: map[string]string{lambent.PartitionKey: c.Bucket + "/" + key}, Data: data, Hops: c.Hops,
	}
	e.SetTrace(c.Trace)
	return e
}
