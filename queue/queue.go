// Package queue has the queues of users: messages that are sent, received, and deleted by
// whoever received them, or received again. What they are like is SQS's to say; the words
// are AWS's, too, where it has some.
//
// What it promises: a message for which Send returned is on disk, and is received until it
// is deleted, or is too old, also after kill -9 and power loss; one that was deleted is not
// received again. A message may be received more than once, at the latest when the time is
// over for which its receiver has it alone: that is not on disk, so that after a crash all
// are to be received that were not deleted. In queues of kind FIFO, the messages of a group
// are received in the order in which they were sent, none while an earlier one is out, and
// what is sent twice with one deduplication id within five minutes counts once, after a
// crash too. Whoever waits for a message is woken by it; nothing looks at a queue that is
// idle.
//
// What it does not do: rights, and AWS's protocols, are the edge's. It runs no function.
package queue

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"lambent"
	"lambent/store"
)

// Config is what Queues need. All of it is required.
type Config struct {
	Store  *store.Store
	Log    *store.Queue // the messages: nobody else's
	Logger *slog.Logger
}

// Queues are those of all projects. Methods may be called concurrently.
type Queues struct {
	cfg     Config
	ctx     context.Context // ends with Stop
	stop    context.CancelFunc
	looking sync.WaitGroup

	changing sync.Mutex // held while records are written; before mu

	mu     sync.Mutex // guards what follows; neither is it taken under a queue's mu, nor that under it
	queues map[key]*queue
	lanes  map[string]*queue // by the lane that they have now
	// notified are the notifications of buckets, by the bucket and the queue's name.
	notified map[key]map[string][]Notification
}

// A key names a queue, or a bucket.
type key struct{ project, name string }

const (
	recordPrefix = "queue" // of records: queue.PROJECT.NAME

	idLen = 36 // of what the lanes of a queue begin with, PROJECT/ID, so that the log knows whose they are
	// What follows that in the names of other lanes than the one of a queue without groups.
	groupMark  = "/" // and then the group
	dedupeMark = "#" // what was sent lately
)

// Open returns the queues that are kept.
func Open(ctx context.Context, cfg Config) (*Queues, error) {
	qs := &Queues{cfg: cfg, queues: map[key]*queue{}, lanes: map[string]*queue{}, notified: map[key]map[string][]Notification{}}
	qs.ctx, qs.stop = context.WithCancel(context.Background())
	for e, err := range cfg.Store.List(ctx, recordPrefix) {
		if err != nil {
			return nil, err
		}
		var rec record
		if err := json.Unmarshal(e.Value, &rec); err != nil {
			return nil, lambent.Errorf(lambent.Internal, "queue.Open", "record %s: %w", e.Key, err)
		}
		q := qs.newQueue(&rec, e.Revision)
		if err := q.recall(ctx); err != nil {
			return nil, err
		}
	}
	for _, q := range qs.queues {
		q.expire()
	}
	qs.looking.Go(qs.look)
	return qs, nil
}

// Stop lets go of whoever waits for messages.
func (qs *Queues) Stop() { qs.stop() }

// Close stops, and ends what runs in the background. What was received can be deleted
// until the log is closed.
func (qs *Queues) Close() {
	qs.stop()
	qs.looking.Wait()
	qs.mu.Lock()
	all := slices.Collect(maps.Values(qs.queues))
	qs.mu.Unlock()
	for _, q := range all {
		q.close()
	}
}

// newQueue takes a queue in. The caller holds changing, or is alone.
func (qs *Queues) newQueue(rec *record, revision uint64) *queue {
	q := &queue{qs: qs, rec: *rec, revision: revision}
	q.reset()
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.queues[key{rec.Project, rec.Name}] = q
	qs.lanes[rec.Lane] = q
	qs.listen(rec)
	return q
}

// queue returns the queue of a name. Kind: NotFound.
func (qs *Queues) queue(project, name string) (*queue, error) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if q := qs.queues[key{project, name}]; q != nil {
		return q, nil
	}
	return nil, notFound(project, name)
}

func notFound(project, name string) error {
	return lambent.Errorf(lambent.NotFound, "queue", "there is no queue %.80q in project %q", name, project)
}

// look hands lanes that have something due to their queues.
func (qs *Queues) look() {
	for {
		lane, err := qs.cfg.Log.Next(qs.ctx)
		if err != nil {
			return
		}
		first, rest := splitLane(lane)
		qs.mu.Lock()
		q := qs.lanes[first]
		qs.mu.Unlock()
		if q == nil || rest == dedupeMark { // a queue that is gone, or was purged; what was sent long enough ago
			qs.discard(lane)
			continue
		}
		q.due(lane)
	}
}

// newLane makes the name of a lane, for a queue of a project's.
func newLane(project string) string { return project + "/" + lambent.NewID() }

// splitLane is the inverse, of a lane with whatever follows that. A lane of another form is
// nobody's.
func splitLane(lane string) (first, rest string) {
	end := strings.IndexByte(lane, '/') + 1 + idLen
	if len(lane) < end {
		return lane, ""
	}
	return lane[:end], lane[end:]
}

// discard finishes what is due in a lane.
func (qs *Queues) discard(lane string) {
	for {
		all := qs.cfg.Log.Take(lane, 256)
		for _, w := range all {
			if err := w.Done(); err != nil {
				return // closed: it is due again then
			}
		}
		if len(all) < 256 {
			return
		}
	}
}

// A queue is one of a user's.
type queue struct {
	qs *Queues

	sending [64]sync.Mutex // of groups, by their names' hash: held while messages are added in their order; before mu

	mu       sync.Mutex // guards what follows; the log's lock is taken under it
	rec      record
	revision uint64
	gone     bool // deleted
	groups   map[string]*group
	ready    []*group            // that may have something to receive
	out      map[string]*message // received, by the id of their item
	waiters  []*waiter
	sequence int64 // the last number of a message
	dedupe   dedupe
	expiry   expiry
}

// A group is the messages of one message group, or of a queue without.
type group struct {
	name, lane string
	due        bool       // the log may have something
	listed     bool       // in ready
	out        int        // how many messages are received
	back       []*message // FIFO: whose time is over, while others are out
}

// A waiter waits for messages.
type waiter struct{ c chan struct{} }

// reset makes what a queue has in memory anew. The caller holds mu, or is alone.
func (q *queue) reset() {
	q.groups, q.ready, q.out = map[string]*group{}, nil, map[string]*message{}
	q.dedupe.sent = map[string]*sent{}
	q.dedupe.order = nil
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.letGo()
	q.expiry.stop()
}

// letGo ends the times of all messages that are out. The caller holds mu.
func (q *queue) letGo() {
	for _, m := range q.out {
		m.timer.Stop()
	}
}

// due takes note that a lane has something to receive.
func (q *queue) due(lane string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.isGone(lane) {
		q.qs.looking.Go(func() { q.qs.discard(lane) })
		return
	}
	q.found(lane)
}

// isGone reports whether what is in a lane is to be received no more. The caller holds mu.
func (q *queue) isGone(lane string) bool { return q.gone || !strings.HasPrefix(lane, q.rec.Lane) }

// found is due for whoever holds mu, of a lane that is not gone.
func (q *queue) found(lane string) {
	_, rest := splitLane(lane)
	name := strings.TrimPrefix(rest, groupMark)
	g := q.groups[name]
	if g == nil {
		g = &group{name: name, lane: lane}
		q.groups[name] = g
	}
	g.due = true
	q.list(g)
}

// list has a group's messages received, if it has any that may be, and wakes whoever waits
// first. The caller holds mu.
func (q *queue) list(g *group) {
	if !g.due || q.blocks(g) || q.isGone(g.lane) {
		return
	}
	if !g.listed {
		g.listed = true
		q.ready = append(q.ready, g)
	}
	q.wake()
}

// blocks reports whether what a group has must wait for what is out.
func (q *queue) blocks(g *group) bool { return q.rec.FIFO && g.out+len(g.back) > 0 }

// wake wakes whoever waits first. The caller holds mu.
func (q *queue) wake() {
	if len(q.waiters) > 0 {
		w := q.waiters[0]
		q.waiters = q.waiters[1:]
		close(w.c)
	}
}

// dismiss removes a waiter that does not wait any more; if it was woken meanwhile, another is.
func (q *queue) dismiss(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.waiters {
		if other == w {
			q.waiters = append(q.waiters[:i:i], q.waiters[i+1:]...)
			return
		}
	}
	if len(q.ready) > 0 {
		q.wake()
	}
}
