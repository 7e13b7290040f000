package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"lambent"
	"lambent/store"
)

// Send puts messages into a queue, as many as go into the log at a time: a megabyte. Each
// has its own result, in their order; those without an error are on disk. Kinds: NotFound,
// Invalid; and those of the log: Throttled, NoSpace, Unavailable, Canceled.
func (qs *Queues) Send(ctx context.Context, project, name string, messages ...Message) ([]Sent, []error, error) {
	q, err := qs.queue(project, name)
	if err != nil {
		return nil, nil, err
	}
	out, errs := make([]Sent, len(messages)), make([]error, len(messages))
	q.mu.Lock()
	s, gone := q.rec.Settings, q.gone
	q.mu.Unlock()
	if gone {
		return nil, nil, notFound(project, name)
	}
	for i := range messages {
		errs[i] = s.checkMessage(&messages[i])
	}
	if s.FIFO {
		defer q.inOrder(messages)()
		q.sendInOrder(ctx, &s, messages, out, errs)
		return out, errs, nil
	}
	var items []store.Item
	var at []int
	lane, now := q.lane(), time.Now()
	for i := range messages {
		if errs[i] != nil {
			continue
		}
		m := &messages[i]
		h := m.head(now)
		h.Group = m.Group
		it, err := encode(h, m.Body)
		if errs[i] = err; err != nil {
			continue
		}
		it.Lane, it.NotBefore = lane, s.notBefore(m, now)
		items, at = append(items, it), append(at, i)
		out[i].ID = h.ID
	}
	if err := q.add(ctx, items); err != nil {
		for _, i := range at {
			out[i], errs[i] = Sent{}, err
		}
	}
	return out, errs, nil
}

// lane is where the messages of a queue are.
func (q *queue) lane() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.rec.Lane
}

func (m *Message) head(now time.Time) *head {
	id := lambent.NewID()
	if m.Key != "" {
		id = lambent.IDOf("message " + m.Key)
	}
	return &head{ID: id, SentMS: now.UnixMilli(), Sender: m.Sender, Trace: m.Trace, Hops: m.Hops, Attributes: m.Attributes}
}

// notBefore is when a message can be received; zero: at once.
func (s *Settings) notBefore(m *Message, now time.Time) time.Time {
	delay := time.Duration(s.DelayS) * time.Second
	if m.Delay >= 0 && !s.FIFO {
		delay = m.Delay
	}
	if delay == 0 {
		return time.Time{}
	}
	return now.Add(delay)
}

// checkMessage refuses what a message cannot be.
func (s *Settings) checkMessage(m *Message) error {
	size := m.Size()
	switch {
	case len(m.Body) == 0:
		return invalid(ReasonValue, "the message has no body")
	case size > s.MaxBytes:
		return invalid(ReasonValue, "the message is %d bytes with its attributes, over the queue's limit of %d", size, s.MaxBytes)
	case m.Delay > maxDelayS*time.Second:
		return invalid(ReasonValue, "DelaySeconds is %v: 0 to %d", m.Delay.Seconds(), maxDelayS)
	case s.FIFO && m.Delay >= 0 && m.Delay != time.Duration(s.DelayS)*time.Second:
		return invalid(ReasonValue, "the messages of a FIFO queue are delayed as the queue says: they have no DelaySeconds of their own")
	case s.FIFO && m.Group == "":
		return invalid("MissingParameter", "the messages of a FIFO queue need a MessageGroupId")
	case !isToken(m.Group):
		return invalid(ReasonValue, "MessageGroupId %.40q: at most 128 letters, digits and punctuation", m.Group)
	case !isToken(m.DedupeID):
		return invalid(ReasonValue, "MessageDeduplicationId %.40q: at most 128 letters, digits and punctuation", m.DedupeID)
	case s.FIFO && m.DedupeID == "" && !s.ContentDedupe:
		return invalid(ReasonValue, "the queue needs a MessageDeduplicationId, or ContentBasedDeduplication")
	case !s.FIFO && m.DedupeID != "":
		return invalid(ReasonValue, "MessageDeduplicationId is for FIFO queues")
	}
	return nil
}

// isToken reports whether text is what ids of groups may be.
func isToken(text string) bool {
	return len(text) <= 128 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// add puts items into the log, and has them go when they are too old.
func (q *queue) add(ctx context.Context, items []store.Item) error {
	if len(items) == 0 {
		return nil
	}
	if _, err := q.qs.cfg.Log.Add(ctx, items...); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expiry.from(q, time.Now())
	return nil
}

var seed = maphash.MakeSeed()

// inOrder waits until no one else sends to the groups of messages, and has others wait until
// the function that it returns is called: their order is that in which they go into the log.
func (q *queue) inOrder(messages []Message) (done func()) {
	var held []int
	for i := range messages {
		held = append(held, int(maphash.String(seed, messages[i].Group)%uint64(len(q.sending))))
	}
	slices.Sort(held)
	held = slices.Compact(held)
	for _, i := range held {
		q.sending[i].Lock()
	}
	return func() {
		for _, i := range held {
			q.sending[i].Unlock()
		}
	}
}

// sendInOrder sends to a FIFO queue.
func (q *queue) sendInOrder(ctx context.Context, s *Settings, messages []Message, out []Sent, errs []error) {
	var items []store.Item
	var mine []*sent
	var at []int
	waits := map[int]*sent{}
	now := time.Now()
	q.mu.Lock()
	lane := q.rec.Lane
	for i := range messages {
		if errs[i] != nil {
			continue
		}
		m := &messages[i]
		h := m.head(now)
		h.Group, h.DedupeID = m.Group, m.DedupeID
		if h.DedupeID == "" {
			sum := sha256.Sum256(m.Body)
			h.DedupeID = hex.EncodeToString(sum[:])
		}
		key := h.DedupeID
		if s.DedupePerGroup {
			key = h.Group + "\x00" + key
		}
		if before := q.dedupe.find(key, now); before != nil {
			waits[i] = before
			continue
		}
		q.sequence = max(q.sequence+1, now.UnixNano())
		h.Sequence = fmt.Sprintf("%020d", q.sequence)
		it, err := encode(h, m.Body)
		if errs[i] = err; err != nil {
			continue
		}
		it.Lane, it.NotBefore = lane+groupMark+h.Group, s.notBefore(m, now)
		one := q.dedupe.add(key, Sent{h.ID, h.Sequence}, now)
		items = append(items, one.item(lane), it) // together, or neither
		mine, at = append(mine, one), append(at, i)
	}
	q.mu.Unlock()

	err := q.add(ctx, items)
	q.mu.Lock()
	for n, one := range mine {
		if one.err = err; err != nil {
			errs[at[n]] = err
			q.dedupe.remove(one)
		} else {
			out[at[n]] = one.Sent
		}
		close(one.done)
	}
	q.mu.Unlock()
	for i, before := range waits {
		select {
		case <-before.done:
			out[i], errs[i] = before.Sent, before.err
			if before.err != nil {
				out[i] = Sent{}
			}
		case <-ctx.Done():
			errs[i] = lambent.Errorf(lambent.Canceled, "queue.Send", "given up: %w", ctx.Err())
		}
	}
}
