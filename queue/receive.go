package queue

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/store"
)

// A message that is out: received, and neither deleted nor given back.
type message struct {
	work     *store.Work
	id       string // of its item
	group    *group
	sequence string
	receives int
	first    time.Time // when it was received first
	until    time.Time // for which its receiver has it alone
	timer    *time.Timer
}

const (
	maxReceive = 10
	maxOut     = 120_000 // messages of a queue that are out; SQS's
	maxOutFIFO = 20_000
)

// Receive returns up to n messages, 1 to 10, which their receiver has alone for a time;
// negative: as long as the queue says. If there is none it waits for one, for as long as
// wait or, if that is negative, as the queue says, or until Stop. Kinds: NotFound, Invalid;
// Throttled (as many are out as may be); Canceled.
func (qs *Queues) Receive(ctx context.Context, project, name string, n int, wait, visibility time.Duration) ([]Received, error) {
	q, err := qs.queue(project, name)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	s := q.rec.Settings
	q.mu.Unlock()
	if wait < 0 {
		wait = time.Duration(s.WaitS) * time.Second
	}
	if visibility < 0 {
		visibility = time.Duration(s.VisibilityS) * time.Second
	}
	switch {
	case n < 1 || n > maxReceive:
		return nil, invalid(ReasonValue, "MaxNumberOfMessages is %d: 1 to %d", n, maxReceive)
	case wait > maxWaitS*time.Second:
		return nil, invalid(ReasonValue, "WaitTimeSeconds is %v: 0 to %d", wait.Seconds(), maxWaitS)
	}
	if err := checkVisibility(visibility); err != nil {
		return nil, err
	}
	var timeout <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		works, dead, w, err := q.take(n, wait > 0)
		if err != nil {
			return nil, err
		}
		works = append(works, q.bury(ctx, dead)...)
		if out := q.load(ctx, works, visibility); len(out) > 0 {
			return out, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, lambent.Errorf(lambent.Canceled, "queue.Receive", "given up: %w", err)
		}
		if len(works)+len(dead) > 0 {
			continue // they are dead, or cannot be read: there may be others
		}
		if w == nil {
			return nil, nil
		}
		select {
		case <-w.c:
			continue
		case <-timeout:
		case <-ctx.Done():
		case <-qs.ctx.Done():
		}
		q.dismiss(w)
		return nil, nil
	}
}

func checkVisibility(d time.Duration) error {
	if d < 0 || d > maxVisibilityS*time.Second {
		return invalid(ReasonValue, "VisibilityTimeout is %v: 0 to %d", d.Seconds(), maxVisibilityS)
	}
	return nil
}

// A taken item counts as out, in its group.
type taken struct {
	*store.Work
	group *group
}

// take takes up to n messages from the log, and those that are received too often apart. If
// there are none, and waits, it returns who waits.
func (q *queue) take(n int, waits bool) (works, dead []taken, w *waiter, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return nil, nil, nil, notFound(q.rec.Project, q.rec.Name)
	}
	limit := maxOut
	if q.rec.FIFO {
		limit = maxOutFIFO
	}
	if len(q.out)+n > limit {
		e := lambent.Errorf(lambent.Throttled, "queue.Receive", "%d messages of queue %q are received and not deleted, as many as may be", len(q.out), q.rec.Name)
		e.Reason = ReasonOver
		return nil, nil, nil, e
	}
	tooOld := time.Now().Add(-q.retention())
	for len(q.ready) > 0 && len(works)+len(dead) < n {
		g := q.ready[0]
		asked := n - len(works) - len(dead)
		got := q.qs.cfg.Log.Take(g.lane, asked)
		for _, one := range got {
			switch {
			case one.Added.Before(tooOld):
				_ = one.Done() // closed: it is taken again then
				continue
			case q.rec.MaxReceives > 0 && one.Attempt >= q.rec.MaxReceives:
				dead = append(dead, taken{one, g})
			default:
				works = append(works, taken{one, g})
			}
			g.out++
		}
		g.due = len(got) == asked
		if !g.due || q.blocks(g) {
			q.ready, g.listed = q.ready[1:], false
		}
		q.tidy(g)
	}
	switch {
	case len(works)+len(dead) > 0 && len(q.ready) > 0:
		q.wake() // there is more, for another
	case len(works)+len(dead) == 0 && waits:
		w = &waiter{make(chan struct{})}
		q.waiters = append(q.waiters, w)
	}
	return works, dead, w, nil
}

// tidy forgets a group that has nothing. The caller holds mu.
func (q *queue) tidy(g *group) {
	if g.name != "" && !g.due && !g.listed && g.out+len(g.back) == 0 && q.groups[g.name] == g {
		delete(q.groups, g.name)
	}
}

// maxReceived bounds the messages of one answer together, but for the first: a receiver asks
// again for what is left.
const maxReceived = 1 << 20

// load reads messages that were taken, which are out from then on, as far as they are for
// one answer.
func (q *queue) load(ctx context.Context, works []taken, visibility time.Duration) (out []Received) {
	size, full := 0, false
	for _, w := range works {
		it, err := w.Load(ctx)
		var r Received
		if err == nil {
			r, err = received(&it, w.Work)
		}
		size += r.Size()
		full = full || len(out) > 0 && size > maxReceived // and so for those behind it, which may be in order
		q.mu.Lock()
		m := &message{work: w.Work, id: it.ID, group: w.group, sequence: r.Sequence, receives: w.Attempt, first: r.FirstReceived}
		switch {
		case q.isGone(w.group.lane), lambent.Is(err, lambent.NotFound): // purged meanwhile; or the engine has lost it
			_ = w.Done()
			q.left(w.group)
		case ctx.Err() != nil, full && err == nil:
			m.first = time.Time{} // nobody has seen it
			q.giveBack(m)
		case err != nil:
			q.qs.cfg.Logger.Error("a message cannot be read", "queue", q.rec.Name, "error", err)
			m.id = "unread " + lambent.NewID()
			q.lend(m, time.Minute)
		default:
			m.receives++
			q.lend(m, visibility)
			r.Receipt = m.receipt()
			out = append(out, r)
		}
		q.mu.Unlock()
	}
	return out
}

// lend has a message be out for a time. The caller holds mu.
func (q *queue) lend(m *message, visibility time.Duration) {
	m.until = time.Now().Add(visibility)
	q.out[m.id] = m
	m.timer = time.AfterFunc(visibility, func() { q.over(m) })
}

func received(it *store.Item, w *store.Work) (r Received, err error) {
	h, body, err := decode(it)
	if err != nil {
		return r, err
	}
	r = Received{
		Sent:    Sent{h.ID, h.Sequence},
		Message: Message{Body: body, Attributes: h.Attributes, Trace: h.Trace, Group: h.Group, DedupeID: h.DedupeID, Sender: h.Sender, Hops: h.Hops},
		SentAt:  time.UnixMilli(h.SentMS), FirstReceived: time.Now(), Receives: w.Attempt + 1, DeadLetterOf: h.From,
	}
	if ms, err := strconv.ParseInt(w.Note, 10, 64); err == nil {
		r.FirstReceived = time.UnixMilli(ms)
	}
	return r, nil
}

// over is the end of the time that a receiver has a message for.
func (q *queue) over(m *message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.out[m.id] != m || time.Now().Before(m.until) {
		return // deleted, or it has more time
	}
	delete(q.out, m.id)
	q.giveBack(m)
}

// giveBack has a message received again, the first of its group. The caller holds mu, and
// the message is not among those that are out any more.
func (q *queue) giveBack(m *message) {
	g := m.group
	if q.isGone(g.lane) {
		_ = m.work.Done()
		return
	}
	g.out--
	g.back = append(g.back, m)
	if q.rec.FIFO && g.out > 0 { // which may be earlier ones
		return
	}
	slices.SortFunc(g.back, func(a, b *message) int { return cmp.Compare(b.sequence, a.sequence) })
	for _, m := range g.back {
		note := m.work.Note
		if note == "" && !m.first.IsZero() {
			note = strconv.FormatInt(m.first.UnixMilli(), 10)
		}
		if m.work.Repeat(m.receives, note) == nil { // closed: so it is after the next start
			g.due = true
		}
	}
	g.back = nil
	if q.groups[g.name] == nil {
		q.groups[g.name] = g
	}
	q.list(g)
}

// left takes note that a message of a group is out no more, and gone. The caller holds mu.
func (q *queue) left(g *group) {
	g.out--
	if g.out == 0 && len(g.back) > 0 {
		last := g.back[len(g.back)-1]
		g.back = g.back[:len(g.back)-1]
		g.out++
		q.giveBack(last)
	}
	q.list(g)
	q.tidy(g)
}

// receipt is the receipt handle of a message that is out: its item, which time it was
// received, and its group.
func (m *message) receipt() string {
	return base64.RawURLEncoding.EncodeToString([]byte(m.id + " " + strconv.Itoa(m.receives) + " " + m.group.name))
}

// A receipt is what a receipt handle says.
type receipt struct {
	id       string
	receives int
	group    string
}

func readReceipt(handle string) (receipt, error) {
	b, err := base64.RawURLEncoding.DecodeString(handle)
	parts := strings.SplitN(string(b), " ", 3)
	if err == nil && len(parts) == 3 && len(parts[0]) >= idLen {
		if receives, err := strconv.Atoi(parts[1]); err == nil {
			return receipt{parts[0], receives, parts[2]}, nil
		}
	}
	return receipt{}, invalid(ReasonReceipt, "the receipt handle %.80q is none of this server's", handle)
}

// find returns the message that is out by a receipt, or nil. The caller holds mu.
func (q *queue) find(handle string) (*message, receipt, error) {
	r, err := readReceipt(handle)
	if err != nil {
		return nil, r, err
	}
	if m := q.out[r.id]; m != nil && m.receives == r.receives {
		return m, r, nil
	}
	if q.rec.FIFO {
		return nil, r, invalid(ReasonValue, "Value %.80s for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.", handle)
	}
	return nil, r, nil
}

// DeleteMessages deletes the messages of receipts: they are gone from the disk when it
// returns. Each has its own result. Whoever deletes a message of a queue that is no FIFO
// queue after its time was over may be too late: that is no error, nor is a message that was
// deleted before. Kinds: NotFound; Invalid, Unavailable, Canceled.
func (qs *Queues) DeleteMessages(ctx context.Context, project, name string, receipts ...string) ([]error, error) {
	q, err := qs.queue(project, name)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(receipts))
	for i, receipt := range receipts {
		errs[i] = q.delete(receipt)
	}
	if err := qs.cfg.Log.Flush(ctx); err != nil {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
	}
	return errs, nil
}

func (q *queue) delete(handle string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	m, r, err := q.find(handle)
	switch {
	case err != nil:
		return err
	case m != nil:
		m.timer.Stop()
		delete(q.out, m.id)
		err := m.work.Done()
		q.left(m.group)
		return err
	case q.out[r.id] != nil:
		return nil // somebody else has it now
	}
	w, err := q.qs.cfg.Log.TakeID(q.rec.Lane, r.id) // its time was over, or the server was started meanwhile
	switch {
	case err != nil:
		return nil // it is deleted
	case w.Attempt > r.receives:
		return w.Repeat(w.Attempt, w.Note) // somebody else had it since
	}
	return w.Done()
}

// A VisibilityChange says how long from now a receiver has a message alone.
type VisibilityChange struct {
	Receipt    string
	Visibility time.Duration
}

// ChangeVisibility changes for how long receivers have messages alone; 0: not any more. Each
// has its own result. Kinds: NotFound; Invalid.
func (qs *Queues) ChangeVisibility(project, name string, changes ...VisibilityChange) ([]error, error) {
	q, err := qs.queue(project, name)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(changes))
	for i, c := range changes {
		errs[i] = q.changeVisibility(c)
	}
	return errs, nil
}

func (q *queue) changeVisibility(c VisibilityChange) error {
	if err := checkVisibility(c.Visibility); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	m, _, err := q.find(c.Receipt)
	if err != nil {
		return err
	}
	if m == nil {
		return invalid(ReasonNotOut, "the message is not received, or by somebody else since")
	}
	if c.Visibility == 0 {
		m.timer.Stop()
		delete(q.out, m.id)
		q.giveBack(m)
		return nil
	}
	m.until = time.Now().Add(c.Visibility)
	m.timer.Reset(c.Visibility)
	return nil
}

// bury moves messages that were received too often to the dead letter queue, and returns
// those that it does not take: they are received once more.
func (q *queue) bury(ctx context.Context, dead []taken) (works []taken) {
	for _, w := range dead {
		if err := q.move(ctx, w.Work); err != nil {
			q.qs.cfg.Logger.Warn("a message cannot be moved to the dead letter queue", "error", err)
			works = append(works, w)
			continue
		}
		q.mu.Lock()
		q.left(w.group)
		q.mu.Unlock()
	}
	return works
}

// move puts a message into the dead letter queue, and takes it out of this one after that:
// a crash between leaves it in both, and the next move finds it there already.
func (q *queue) move(ctx context.Context, w *store.Work) error {
	q.mu.Lock()
	rec := q.rec
	q.mu.Unlock()
	to, err := q.qs.queue(rec.Project, rec.DeadLetter)
	if err != nil {
		return err
	}
	it, err := w.Load(ctx)
	if err != nil {
		return err
	}
	h, body, err := decode(&it)
	if err != nil {
		return err
	}
	h.BodyBytes, h.Moves, h.From = 0, h.Moves+1, rec.Name
	if it, err = encode(&h, body); err != nil {
		return err
	}
	it.Lane = to.lane()
	if rec.FIFO {
		it.Lane += groupMark + h.Group
		defer to.inOrder([]Message{{Group: h.Group}})()
	}
	if err := to.add(ctx, []store.Item{it}); err != nil {
		return err
	}
	return w.Done()
}
