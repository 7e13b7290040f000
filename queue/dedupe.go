package queue

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"lambent"
	"lambent/store"
)

// dedupeWindow is for how long a message that was sent is not sent again.
const dedupeWindow = 5 * time.Minute

// A dedupe knows what was sent to a FIFO queue within the window. On disk that is items of
// a lane of their own, which go into the log with the messages, are read when the queue is
// opened, and are due, and finished, when the window is over.
type dedupe struct {
	sent  map[string]*sent
	order []*sent // the oldest first
}

// sent is a message within the window.
type sent struct {
	Sent
	key  string
	at   time.Time
	done chan struct{} // closed once it is on disk, or err says why it may not be
	err  error
}

// A mark is what is kept of it.
type mark struct {
	Key      string `json:"key"`
	ID       string `json:"id"`
	Sequence string `json:"seq"`
	AtMS     int64  `json:"at"`
}

// item is what is kept, in a lane beside the queue's.
func (s *sent) item(lane string) store.Item {
	b, err := json.Marshal(mark{s.key, s.ID, s.Sequence, s.at.UnixMilli()})
	if err != nil {
		panic(err) // strings and a number always have a JSON form
	}
	return store.Item{ID: lambent.NewID(), Lane: lane + dedupeMark, NotBefore: s.at.Add(dedupeWindow), Payload: b}
}

// find returns what was sent by a key within the window. The caller holds the queue's mu.
func (d *dedupe) find(key string, now time.Time) *sent {
	for len(d.order) > 0 && now.Sub(d.order[0].at) >= dedupeWindow {
		first := d.order[0]
		d.order[0] = nil
		d.order = d.order[1:]
		d.remove(first)
	}
	return d.sent[key]
}

// add takes note of a message that is being sent. The caller holds mu.
func (d *dedupe) add(key string, as Sent, now time.Time) *sent {
	s := &sent{Sent: as, key: key, at: now, done: make(chan struct{})}
	d.sent[key] = s
	d.order = append(d.order, s)
	return s
}

// remove forgets one. The caller holds mu.
func (d *dedupe) remove(s *sent) {
	if d.sent[s.key] == s {
		delete(d.sent, s.key)
	}
}

// recall reads what was sent before the queue was opened.
func (q *queue) recall(ctx context.Context) error {
	if !q.rec.FIFO {
		return nil
	}
	for _, w := range q.qs.cfg.Log.Delayed(q.rec.Lane + dedupeMark) {
		it, err := w.Load(ctx)
		if lambent.Is(err, lambent.Stale) { // the window is over
			continue
		}
		if err != nil {
			return err
		}
		var m mark
		if err := json.Unmarshal(it.Payload, &m); err != nil {
			return lambent.Errorf(lambent.Internal, "queue.Open", "what was sent to %s: %w", q.rec.Name, err)
		}
		s := q.dedupe.add(m.Key, Sent{m.ID, m.Sequence}, time.UnixMilli(m.AtMS))
		close(s.done)
	}
	// They are in no order, and few.
	sortByTime(q.dedupe.order)
	return nil
}

func sortByTime(all []*sent) {
	slices.SortFunc(all, func(a, b *sent) int { return a.at.Compare(b.at) })
}
