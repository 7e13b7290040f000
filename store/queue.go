package store

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// Limits of an item, and of what is written together.
const (
	MaxPayloadBytes = 1 << 20
	MaxMetaBytes    = 16 << 10
	MaxNoteBytes    = 256 // a longer note is cut: they are in memory
	maxName         = 255 // bytes of an id, and of a lane's name
)

// QueueOptions are the bounds of a queue. Zero values are the defaults.
type QueueOptions struct {
	// Name tells the queue from others of the store, whose logs and bounds are their own: a
	// word of letters and digits. "": the one without a name.
	Name      string
	LaneItems int   // a lane's, without dead ones; 250,000
	LaneBytes int64 // a lane's, with dead ones: a quarter of Bytes
	// LaneDead and LaneDeadBytes bound the dead items of a lane: of more, those that died
	// first are forgotten. 10,000, and a sixteenth of Bytes.
	LaneDead      int
	LaneDeadBytes int64
	// OwnerItems and OwnerBytes bound all lanes of one owner together, with dead items, so
	// that there is room for others: half of Items, and half of Bytes. Whose a lane is its
	// name says, before the first slash; one without has no such bound.
	OwnerItems int
	OwnerBytes int64
	Items      int           // of all lanes, with dead ones: each costs about 200 bytes of memory; 2,000,000
	Bytes      int64         // of the log on disk; 10 GB
	Remember   time.Duration // how long the id of a finished item is known; 5 minutes
	// RememberBytes bounds that in the log: ids are known while less than this was
	// written since. It is how much an idle queue may keep on disk for that time;
	// 128 MB.
	RememberBytes int64
}

// rememberIDs bounds the memory of finished ids, at some 70 bytes each.
const rememberIDs = 250_000

// An Item is a piece of work: what Add takes and Load returns.
type Item struct {
	ID        string    // 1-255 bytes; the item's identity in its lane
	Lane      string    // 1-255 bytes
	NotBefore time.Time // zero: now. In whole ms, rounded up
	Attempt   int       // the caller's to count; Retry sets it
	Meta      []byte    // at most MaxMetaBytes
	Payload   []byte    // at most MaxPayloadBytes
}

// A Queue keeps work to be done later on disk until it is done: lanes of items,
// each lane a queue of its own. What it promises:
//
//   - An item for which Add returned nil is on disk, and is handed out, also after
//     kill -9 and power loss, until it is finished by Done.
//   - It may be handed out more than once: what ran when the process ended does
//     so again, and what was finished in the last 10 ms before a crash.
//   - An id that is known in its lane, because the item is there (dead ones too)
//     or was finished within QueueOptions.Remember, is not added again. So a
//     caller that does not know whether Add succeeded calls it again.
//   - A lane hands out in the order of coming due, items of one ms in the order
//     of acceptance, also after a restart. Lanes do not wait for each other.
//
// Writes of all lanes go into one log together, as frames (see RATIONALE.md);
// lanes are an index in memory, which opening builds from the log. Methods may be
// called concurrently.
type Queue struct {
	s      *Store
	opts   QueueOptions
	stream jetstream.Stream
	space  func() (free, total uint64, err error) // of the disk; tests have it full
	ctx    context.Context                        // done when writing is given up
	cancel context.CancelFunc

	kick      chan struct{} // the writer has something to do
	signalled chan struct{} // Next has something to return
	trimming  chan struct{} // the log has something to give back
	written   chan struct{} // closed when the writer has ended: nothing more becomes durable
	trimmer   sync.WaitGroup

	mu      sync.Mutex
	closing bool  // nothing new is taken
	failed  error // why not all of it was written
	stuck   bool  // the engine has not taken the newest frame for a while

	// The index.
	items   map[key]*item
	coming  map[key]*call    // of items that are being written
	recent  map[key]struct{} // of items that were finished lately
	lanes   map[string]*lane
	owners  map[string]*owner
	n       [states]int
	buried  int
	told    time.Time // that some were
	signals []*lane   // for Next
	delays  delays
	alarm   *time.Timer // calls ring

	// What is to be written.
	calls   []*call
	backlog int64    // bytes of calls
	changes []change // can wait until lazy fires
	lazy    *time.Timer
	urgent  bool // it has

	// The log.
	frames   []frame // by sequence number, from first
	first    uint64
	lowest   uint64 // before it, no frame has an item
	mark     uint64 // frames below it are no more, or soon will be
	at       int64  // of the newest frame, ms
	newest   int64  // the highest of those that were scanned
	number   uint64 // of the next item
	end      int64  // bytes ever written
	live     int64  // bytes of items
	finishes []finish
	cache    cache

	trimBytes int64 // of the log are not worth being given back

	looked time.Time // at the disk
	full   error     // what was seen
}

// A frame is what the index knows of a message of the log.
type frame struct {
	start int64 // bytes of the log before it
	size  int64
	live  int     // items that are in it
	items []*item // by slot, nil where one is there no more; nil when live is 0
	body  []byte  // if it is cached
}

// A finish is a record in a frame that an item was finished.
type finish struct {
	key   key
	at    int64 // ms
	frame uint64
}

func (q *Queue) frame(sequence uint64) *frame { return &q.frames[sequence-q.first] }

// last is the sequence number of the newest frame.
func (q *Queue) last() uint64 { return q.first + uint64(len(q.frames)) - 1 }

// size is what the log holds, in bytes.
func (q *Queue) size() int64 { return q.end - q.startOf(q.first) }

// startOf is how many bytes of the log are before a frame, or before the next one.
func (q *Queue) startOf(sequence uint64) int64 {
	if sequence > q.last() {
		return q.end
	}
	return q.frame(sequence).start
}

// OpenQueue opens a queue of the store's, reading the log if there is one: 3 s of processor time
// for a million items of 1 KB, on two processors. One of a name is open at a time; Kind: Exists.
func (s *Store) OpenQueue(ctx context.Context, o QueueOptions) (*Queue, error) {
	const op = "store.OpenQueue"
	q := newQueue(s, o)
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.alarm = time.AfterFunc(time.Hour, q.ring)
	q.lazy = time.AfterFunc(time.Hour, q.hurry)
	if _, other := s.queues.LoadOrStore(o.Name, q); other {
		q.stop()
		return nil, lambent.Errorf(lambent.Exists, op, "the queue is open already")
	}
	err := q.bind(ctx)
	if err == nil {
		err = q.rebuild(ctx)
	}
	if err != nil {
		q.stop()
		close(q.written)
		s.queues.Delete(o.Name)
		return nil, explain(op, s.dir.path, err)
	}
	go q.write()
	q.trimmer.Go(q.trim)
	return q, nil
}

func newQueue(s *Store, o QueueOptions) *Queue {
	return &Queue{
		s: s, opts: o.withDefaults(), space: s.dir.space, trimBytes: trimBytes,
		kick: make(chan struct{}, 1), signalled: make(chan struct{}, 1), trimming: make(chan struct{}, 1), written: make(chan struct{}),
		cache: cache{loads: map[uint64]*load{}},
		items: map[key]*item{}, coming: map[key]*call{}, recent: map[key]struct{}{}, lanes: map[string]*lane{}, owners: map[string]*owner{},
	}
}

func (o QueueOptions) withDefaults() QueueOptions {
	o.LaneItems = cmp.Or(o.LaneItems, 250_000)
	o.Items = cmp.Or(o.Items, 2_000_000)
	o.Bytes = cmp.Or(o.Bytes, 10<<30)
	o.LaneBytes = cmp.Or(o.LaneBytes, o.Bytes/4)
	o.OwnerItems = cmp.Or(o.OwnerItems, o.Items/2)
	o.OwnerBytes = cmp.Or(o.OwnerBytes, o.Bytes/2)
	o.LaneDead = cmp.Or(o.LaneDead, 10_000)
	o.LaneDeadBytes = cmp.Or(o.LaneDeadBytes, o.Bytes/16)
	o.Remember = cmp.Or(o.Remember, 5*time.Minute)
	o.RememberBytes = cmp.Or(o.RememberBytes, 128<<20)
	return o
}

// Add stores items, all or none, and returns how many of them are new: an id
// that is known is not added again, and what it was first added with stays. When
// Add returns nil all of them are on disk, also those that another call added.
//
// Together the items of a call are at most MaxPayloadBytes and 64 KB, and some
// 200 items. Kinds: Invalid, TooLarge; Throttled (a lane or the queue holds as
// much as it may, or the disk does not keep up), NoSpace (the log is as large as it may be, or 5 % of
// the disk are free), Unavailable (closed). After Canceled or Unavailable they may
// have been stored all the same.
func (q *Queue) Add(ctx context.Context, items ...Item) (added int, err error) {
	const op = "store.Add"
	if err := ctx.Err(); err != nil {
		return 0, explain(op, "", err)
	}
	c, err := newCall(op, items)
	if err != nil {
		return 0, err
	}
	pending, err := q.admit(op, c)
	if err != nil {
		return 0, err
	}
	for _, p := range pending {
		if err := q.await(ctx, op, p); err != nil {
			return 0, err
		}
	}
	return len(c.items), nil
}

// newCall checks items and encodes them.
func newCall(op string, items []Item) (*call, error) {
	c := &call{done: make(chan struct{}), items: make([]*item, len(items)), lanes: make([]string, len(items))}
	size := 0
	for i := range items {
		it := &items[i]
		if err := it.check(op); err != nil {
			return nil, err
		}
		size += len(it.ID) + len(it.Meta) + len(it.Payload) + contentBytes
		c.index += recordBytes + len(it.Lane)
	}
	if size > maxBody || c.index > maxCallIndex {
		return nil, lambent.Errorf(lambent.TooLarge, op, "%d items of %d bytes together: %d bytes and about 200 items may be added at a time", len(items), size, maxBody)
	}
	c.content = make([]byte, 0, size)
	for i := range items {
		it := &items[i]
		off := len(c.content)
		c.content = appendContent(c.content, it)
		c.lanes[i] = it.Lane
		c.items[i] = &item{
			key: keyOf(it.Lane, it.ID), note: noNote, attempt: uint32(it.Attempt), since: ceilMS(it.NotBefore),
			off: uint32(off), size: uint32(len(c.content) - off),
		}
	}
	return c, nil
}

// check refuses what an item cannot be.
func (it *Item) check(op string) error {
	switch {
	case len(it.ID) == 0 || len(it.ID) > maxName:
		return lambent.Errorf(lambent.Invalid, op, "the id of an item has 1 to %d bytes, not %d", maxName, len(it.ID))
	case len(it.Lane) == 0 || len(it.Lane) > maxName:
		return lambent.Errorf(lambent.Invalid, op, "the name of a lane has 1 to %d bytes, not %d", maxName, len(it.Lane))
	case len(it.Meta) > MaxMetaBytes:
		return lambent.Errorf(lambent.TooLarge, op, "the metadata of item %s is %d bytes, over the limit of %d", it.ID, len(it.Meta), MaxMetaBytes)
	case len(it.Payload) > MaxPayloadBytes:
		return lambent.Errorf(lambent.TooLarge, op, "the payload of item %s is %d bytes, over the limit of %d", it.ID, len(it.Payload), MaxPayloadBytes)
	}
	return checkDue(op, it.NotBefore, it.Attempt)
}

// checkDue refuses what a record cannot say.
func checkDue(op string, notBefore time.Time, attempt int) error {
	if attempt < 0 || attempt > math.MaxInt32 || ceilMS(notBefore) > maxMS {
		return lambent.Errorf(lambent.Invalid, op, "attempt %d, not before %v: neither may be negative or after the year 9999", attempt, notBefore)
	}
	return nil
}

// admit leaves in a call what is new and takes it for writing. It returns the
// calls that are to be waited for.
func (q *Queue) admit(op string, c *call) (pending []*call, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing {
		return nil, errClosed(op)
	}
	items, content := c.items, c.content
	c.items, c.content = c.items[:0], c.content[:0]
	for i, it := range items {
		if other, ok := q.coming[it.key]; ok {
			if other != c {
				pending = append(pending, other)
			}
			continue
		}
		_, here := q.items[it.key]
		if _, gone := q.recent[it.key]; here || gone {
			continue
		}
		it.lane = q.laneOf(c.lanes[i])
		it.lane.expect(1)
		q.coming[it.key] = c
		from, off := it.off, uint32(len(c.content))
		if c.content, it.off = c.content[:off+it.size], off; from != off {
			copy(c.content[off:], content[from:from+it.size])
		}
		c.items = append(c.items, it)
		if err := q.checkRoom(op, it.lane, len(content)); err != nil {
			for _, it := range c.items {
				it.lane.expect(-1)
				delete(q.coming, it.key)
				q.drop(it.lane)
			}
			return nil, err
		}
	}
	if len(c.items) == 0 {
		return pending, nil
	}
	q.submit(c)
	return append(pending, c), nil
}

// maxBacklog bounds the memory of what waits to be written.
const maxBacklog = 64 << 20

// checkRoom refuses an item that has just been counted to its lane.
func (q *Queue) checkRoom(op string, l *lane, size int) error {
	retry := func(e *lambent.Error) error { e.RetryAfter = time.Second; return e }
	switch {
	case l.held() > q.opts.LaneItems:
		return retry(lambent.Errorf(lambent.Throttled, op, "%d items wait in %s, as many as may", q.opts.LaneItems, l.name))
	case l.bytes+int64(size) > q.opts.LaneBytes:
		return retry(lambent.Errorf(lambent.Throttled, op, "%s has %d MB, as much as it may", l.name, l.bytes>>20))
	case l.owner != nil && l.owner.items+l.owner.coming > q.opts.OwnerItems:
		return retry(lambent.Errorf(lambent.Throttled, op, "%d items are kept of %s, as many as may", q.opts.OwnerItems, l.owner.name))
	case l.owner != nil && l.owner.bytes+int64(size) > q.opts.OwnerBytes:
		return retry(lambent.Errorf(lambent.Throttled, op, "%s has %d MB, as much as it may", l.owner.name, l.owner.bytes>>20))
	case len(q.items)+len(q.coming) > q.opts.Items:
		return retry(lambent.Errorf(lambent.Throttled, op, "the queue has %d items in all, as many as it may", q.opts.Items))
	case q.stuck || q.backlog > maxBacklog:
		return retry(lambent.Errorf(lambent.Throttled, op, "the disk does not keep up: %d MB wait to be written", q.backlog>>20))
	case q.size()+q.backlog+int64(size) > q.opts.Bytes:
		return lambent.Errorf(lambent.NoSpace, op, "the queue has %d MB on disk, as much as it may", q.opts.Bytes>>20)
	}
	return q.checkDisk(op)
}

// checkDisk refuses new work while less than a twentieth of the disk is free:
// what is accepted still has to be retried, finished and moved.
func (q *Queue) checkDisk(op string) error {
	if now := time.Now(); now.Sub(q.looked) > 100*time.Millisecond {
		q.looked, q.full = now, nil
		if free, total, err := q.space(); err != nil {
			q.full = explain(op, q.s.dir.path, err)
		} else if least := max(total/20, minFree); free < least {
			q.full = lambent.Errorf(lambent.NoSpace, op, "%d MB are free on the disk of data directory %s, under the %d MB with which new work is accepted", free>>20, q.s.dir.path, least>>20).
				WithHint("df -h %s", q.s.dir.path)
		}
	}
	return q.full
}

// submit hands a call to the writer.
func (q *Queue) submit(c *call) {
	q.calls = append(q.calls, c)
	q.backlog += int64(len(c.content))
	poke(q.kick)
}

// await waits until a call has been decided.
func (q *Queue) await(ctx context.Context, op string, c *call) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return explain(op, "", ctx.Err())
	}
}

// Flush waits until everything that was done to items before is on disk. Kinds:
// Unavailable, Canceled.
func (q *Queue) Flush(ctx context.Context) error {
	const op = "store.Flush"
	c := &call{done: make(chan struct{})}
	q.mu.Lock()
	if q.closing {
		q.mu.Unlock()
		return errClosed(op)
	}
	q.submit(c)
	q.mu.Unlock()
	return q.await(ctx, op, c)
}

// LaneStats counts the items of a lane by their states.
type LaneStats struct {
	Waiting, Delayed, Running, Dead int
	OldestDue                       time.Time // of those that wait; zero if none does
}

// QueueStats counts the items of all lanes, and what the log takes.
type QueueStats struct {
	Waiting, Delayed, Running, Dead int
	Lanes                           int // that hold anything
	Buried                          int // dead ones that were forgotten as there were too many, since the queue was opened
	Frames                          int
	Bytes                           int64 // of the log
	Live                            int64 // those of them that are items
}

// LaneStats returns a lane's counts, all zero if it holds nothing.
func (q *Queue) LaneStats(name string) (s LaneStats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lanes[name]; l != nil {
		s = LaneStats{Waiting: l.n[waiting], Delayed: l.n[delayed], Running: l.n[running], Dead: l.n[dead]}
		if l.due.head != nil {
			s.OldestDue = time.UnixMilli(l.due.head.since)
		}
	}
	return s
}

// Stats returns the whole queue's counts.
func (q *Queue) Stats() QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return QueueStats{
		Waiting: q.n[waiting], Delayed: q.n[delayed], Running: q.n[running], Dead: q.n[dead],
		Lanes: len(q.lanes), Buried: q.buried, Frames: len(q.frames), Bytes: q.size(), Live: q.live,
	}
}

// Lanes returns the names of the lanes that hold anything, in no order.
func (q *Queue) Lanes() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Collect(maps.Keys(q.lanes))
}

// closeTimeout bounds how long Close waits for the disk.
const closeTimeout = 10 * time.Second

// Close refuses what comes from now on, writes what was accepted and done, and
// ends the queue. Whoever waits gets an answer. The store's Close does it, too;
// calling it again does nothing. An error says that not all of it was written.
func (q *Queue) Close() error {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	poke(q.kick)
	giveUp := time.AfterFunc(closeTimeout, q.cancel)
	<-q.written
	giveUp.Stop()
	q.stop()
	q.trimmer.Wait()
	q.s.queues.CompareAndDelete(q.opts.Name, q)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed != nil {
		return q.failed
	}
	return nil
}

// stop ends what runs beside the writer.
func (q *Queue) stop() {
	q.cancel()
	q.alarm.Stop()
	q.lazy.Stop()
}

func errClosed(op string) error {
	return lambent.Errorf(lambent.Unavailable, op, "the queue is closed")
}

// ceilMS returns a time in ms, not an earlier one.
func ceilMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(0, t.Add(time.Millisecond-1).UnixMilli())
}
