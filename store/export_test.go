package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// LoseAcks makes the next n writes reach the engine and their acknowledgements
// not reach us.
func (s *Store) LoseAcks(n int32) {
	var lost atomic.Int32
	send := s.js.PublishMsg
	s.send = func(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
		ack, err := send(ctx, m, opts...)
		if lost.Add(1) <= n {
			return nil, nats.ErrTimeout
		}
		return ack, err
	}
}

// Messages returns how many messages the engine holds, marks of deletes included.
func (s *Store) Messages(ctx context.Context) (uint64, error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Msgs, nil
}

// SetMarkFor makes deletes leave their marks for a shorter time.
func SetMarkFor(d time.Duration) (restore func()) {
	markFor = d
	return func() { markFor = deletedFor }
}

// LoseAcks makes the acknowledgement of a frame not reach the queue wherever lose
// says so, and the frame not reach the engine wherever drop does.
func (q *Queue) LoseAcks(drop, lose func() bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.s.send = func(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
		if drop() {
			return nil, nats.ErrTimeout
		}
		ack, err := q.s.js.PublishMsg(ctx, m, opts...)
		if lose() {
			return nil, nats.ErrTimeout
		}
		return ack, err
	}
}

// BlockWrites makes every frame wait until release is called or the queue gives up.
func (q *Queue) BlockWrites() (release func()) {
	gate := make(chan struct{})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.s.send = func(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
		select {
		case <-gate:
			return q.s.js.PublishMsg(ctx, m, opts...)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return sync.OnceFunc(func() { close(gate) })
}

// FakeDisk returns what makes the disk of a queue look as large and as free as it
// is told. It is for a queue into which nothing was put yet.
func (q *Queue) FakeDisk(total uint64) (free func(uint64)) {
	var left atomic.Uint64
	left.Store(total)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.space = func() (uint64, uint64, error) { return left.Load(), total, nil }
	return func(n uint64) {
		left.Store(n)
		q.mu.Lock()
		defer q.mu.Unlock()
		q.looked = time.Time{}
	}
}

// SetClockBack makes the newest frame one of later than now.
func (q *Queue) SetClockBack(by time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.at = time.Now().Add(by).UnixMilli()
}

// SetTrim makes the queue trim its log for less.
func (q *Queue) SetTrim(bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trimBytes = bytes
}

// KeepPurged makes the engine keep what the queue has it remove, as files that a
// power cut has brought back.
func (q *Queue) KeepPurged() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stream = keeper{q.stream}
}

type keeper struct{ jetstream.Stream }

func (keeper) Purge(context.Context, ...jetstream.StreamPurgeOpt) error { return nil }

// DecodeFrame reads an index whole and encodes it again, and applies it to the
// index of a log with one frame. It reads a content, too.
func DecodeFrame(header string, content []byte) (again string, records int, err error) {
	_, _, _, _ = decodeContent(content)
	d := decodeFrame(header)
	w := draft{preamble: d.preamble} // before records count
	for r, ok := d.next(); ok; r, ok = d.next() {
		w.records = r.append(w.records, d.at)
		records++
	}
	q := newQueue(&Store{dir: &dir{}}, QueueOptions{})
	q.first, q.alarm = 1, time.NewTimer(time.Hour)
	if _, err := q.apply(1, base64.StdEncoding.EncodeToString(SampleFrames()[0]), nil); err != nil {
		return "", 0, err
	}
	_, err = q.apply(2, header, nil)
	q.link()
	q.alarm.Stop()
	return w.header(), records, cmp.Or(d.err, err)
}

// Dump describes what the index in memory has, each lane in its order.
func (q *Queue) Dump() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var b strings.Builder
	items := slices.SortedFunc(maps.Values(q.items), (*item).compare)
	for _, it := range items {
		fmt.Fprintf(&b, "%s %x state %d since %d added %d number %d attempt %d note %q at %d/%d %d+%d\n", it.lane.name, it.key, it.state,
			it.since, it.added, it.number, it.attempt, it.note.Value(), it.frame, it.slot, it.off, it.size)
	}
	for _, k := range slices.SortedFunc(maps.Keys(q.recent), func(a, b key) int { return bytes.Compare(a[:], b[:]) }) {
		fmt.Fprintf(&b, "recent %x\n", k)
	}
	fmt.Fprintf(&b, "number %d live %d frames %d-%d counts %v\n", q.number, q.live, q.first, q.last(), q.n)
	for i, f := range q.frames {
		fmt.Fprintf(&b, "frame %d live %d\n", q.first+uint64(i), f.live)
	}
	return b.String()
}

// Store returns the queue's store.
func (q *Queue) Store() *Store { return q.s }

// Coming returns how many items are on their way to the log.
func (q *Queue) Coming() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.coming)
}

// Closing reports whether Close has begun.
func (q *Queue) Closing() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closing
}

// First returns the number of the log's first frame.
func (q *Queue) First() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.first
}

// Messages returns how many frames the engine has.
func (q *Queue) Messages(ctx context.Context) uint64 {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return 0
	}
	return info.State.Msgs
}

// Intrude writes a frame to the log that is none.
func (q *Queue) Intrude(ctx context.Context) error {
	_, err := q.s.js.Publish(ctx, q.subject(), []byte("stranger"))
	return err
}

// SampleFrames are indexes with each kind of record.
func SampleFrames() (all [][]byte) {
	d := draft{preamble: preamble{id: key{1, 2}, at: 1000, mark: 1, number: 7, lanes: []string{"a", "lane-b"}}}
	note := unique.Make("a note")
	for _, r := range []record{
		{op: opAdd, lane: 1, key: key{3}, since: 1500, attempt: 2, size: 100},
		{op: opMove, lane: 0, key: key{4}, at: ref{1, 0}, state: dead, since: 900, attempt: 3, added: 800, number: 2, size: 10, note: note},
		{op: opSet, at: ref{1, 0}, state: waiting, since: 1200, attempt: 4, note: note},
		{op: opDone, key: key{3}, at: ref{1, 0}},
	} {
		d.records = r.append(d.records, d.at)
		b, _ := base64.StdEncoding.DecodeString(d.header())
		all = append(all, b)
	}
	return all
}

// Unwritten counts the changes that are in memory alone.
func (q *Queue) Unwritten() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.changes)
}
