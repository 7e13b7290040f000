package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"lambent"
)

// Settings are what a queue's owner says about it. Times are in seconds.
type Settings struct {
	DelayS      int `json:"delay_s"`      // before a message can be received, where it does not say itself; 0 to 900
	VisibilityS int `json:"visibility_s"` // for which a receiver has a message alone, where it does not say itself; 0 to 43,200
	WaitS       int `json:"wait_s"`       // for which a receiver waits, likewise; 0 to 20
	RetentionS  int `json:"retention_s"`  // after which a message is gone; 60 to 1,209,600
	MaxBytes    int `json:"max_bytes"`    // of a message, with its attributes; 1,024 to 1,048,576

	MaxReceives int    `json:"max_receives,omitempty"` // after which a message goes to DeadLetter; 0: it stays
	DeadLetter  string `json:"dead_letter,omitempty"`  // a queue's name

	FIFO           bool `json:"fifo,omitempty"`
	ContentDedupe  bool `json:"content_dedupe,omitempty"`   // FIFO: messages of the same body are the same, where they do not say an id
	DedupePerGroup bool `json:"dedupe_per_group,omitempty"` // FIFO: ids are those of a group, and not of the queue

	Other map[string]string `json:"other,omitempty"` // attributes that are kept for those who set them, by AWS's names
}

// DefaultSettings are SQS's.
func DefaultSettings() Settings {
	return Settings{VisibilityS: 30, RetentionS: 4 * 24 * 3600, MaxBytes: MaxMessageBytes}
}

// MaxMessageBytes is the most that a message may be set to have.
const MaxMessageBytes = 1 << 20

// A record is a queue as it is kept.
type record struct {
	Project  string            `json:"project"`
	Name     string            `json:"name"`
	Lane     string            `json:"lane"` // where its messages are: another one after it was purged
	Settings                   // as they are
	Tags     map[string]string `json:"tags,omitempty"`
	Created  time.Time         `json:"created"`
	Modified time.Time         `json:"modified"`

	Notifications []Notification `json:"notifications,omitempty"` // of buckets
}

// Info is what is known of a queue.
type Info struct {
	Project, Name string
	Settings
	Tags              map[string]string
	Created, Modified time.Time

	Visible int // messages that can be received
	Out     int // that were received, and neither deleted nor given back
	Delayed int
}

// invalid is a refusal of what somebody has said, with AWS's word for it.
func invalid(reason, format string, args ...any) error {
	e := lambent.Errorf(lambent.Invalid, "queue", format, args...)
	e.Reason = reason
	return e
}

// Reasons of refusals, in AWS's words.
const (
	ReasonValue     = "InvalidParameterValue"
	ReasonAttribute = "InvalidAttributeValue"
	ReasonReceipt   = "ReceiptHandleIsInvalid"
	ReasonNotOut    = "MessageNotInflight"
	ReasonOver      = "OverLimit"
)

// check refuses settings that cannot be. The caller holds changing.
func (qs *Queues) check(project, name string, s *Settings) error {
	if err := (&lambent.Queue{Name: name}).Validate(); err != nil {
		return invalid(ReasonValue, "%s", lambent.UserMessage(err))
	}
	if strings.HasSuffix(name, lambent.FIFO) != s.FIFO {
		return invalid(ReasonValue, "queue %q: the name of a FIFO queue ends with .fifo, and no other does", name)
	}
	if !s.FIFO && (s.ContentDedupe || s.DedupePerGroup) {
		return invalid(ReasonAttribute, "queue %q is no FIFO queue: there is no deduplication", name)
	}
	for _, b := range []struct {
		what          string
		value, lo, hi int
	}{
		{"DelaySeconds", s.DelayS, 0, maxDelayS}, {"VisibilityTimeout", s.VisibilityS, 0, maxVisibilityS}, {"ReceiveMessageWaitTimeSeconds", s.WaitS, 0, maxWaitS},
		{"MessageRetentionPeriod", s.RetentionS, 60, 14 * 24 * 3600}, {"MaximumMessageSize", s.MaxBytes, 1024, MaxMessageBytes},
	} {
		if b.value < b.lo || b.value > b.hi {
			return invalid(ReasonAttribute, "%s is %d: %d to %d", b.what, b.value, b.lo, b.hi)
		}
	}
	if s.DeadLetter == "" && s.MaxReceives == 0 {
		return nil
	}
	if s.MaxReceives < 1 || s.MaxReceives > 1000 {
		return invalid(ReasonAttribute, "maxReceiveCount is %d: 1 to 1000", s.MaxReceives)
	}
	dead, err := qs.queue(project, s.DeadLetter)
	if err != nil || s.DeadLetter == name {
		return invalid(ReasonAttribute, "the dead letter queue %.80q does not exist, or is the queue itself", s.DeadLetter)
	}
	if dead.rec.FIFO != s.FIFO {
		return invalid(ReasonAttribute, "the dead letter queue of a FIFO queue is one itself, and that of another is not")
	}
	return nil
}

const (
	maxDelayS      = 900
	maxVisibilityS = 12 * 3600
	maxWaitS       = 20
	maxQueues      = 10_000 // of all projects
	maxTags        = 50
)

// Create makes a queue. One that is there is returned, if it is the same. Kinds: Invalid,
// Exists (with other settings), TooLarge (there are as many as may be).
func (qs *Queues) Create(ctx context.Context, project, name string, s Settings, tags map[string]string) (*Info, error) {
	qs.changing.Lock()
	defer qs.changing.Unlock()
	if q, err := qs.queue(project, name); err == nil {
		if info := q.info(); !info.Settings.equal(&s) {
			return nil, lambent.Errorf(lambent.Exists, "queue.Create", "queue %q exists, with other attributes", name)
		}
		return q.info(), nil
	}
	if err := qs.check(project, name, &s); err != nil {
		return nil, err
	}
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	if len(qs.queues) >= maxQueues {
		return nil, lambent.Errorf(lambent.TooLarge, "queue.Create", "there are %d queues, as many as may be", maxQueues)
	}
	now := time.Now().UTC()
	rec := &record{Project: project, Name: name, Lane: newLane(project), Settings: s, Tags: maps.Clone(tags), Created: now, Modified: now}
	b, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	revision, err := qs.cfg.Store.Create(ctx, rec.key(), b)
	if err != nil {
		return nil, err
	}
	return qs.newQueue(rec, revision).info(), nil
}

func (r *record) key() string { return fmt.Sprintf("%s.%s.%s", recordPrefix, r.Project, r.Name) }

func (s *Settings) equal(other *Settings) bool {
	a, b := *s, *other
	a.Other, b.Other = nil, nil
	return fmt.Sprint(a) == fmt.Sprint(b) && maps.Equal(s.Other, other.Other)
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return invalid(ReasonValue, "there are %d tags: %d at most", len(tags), maxTags)
	}
	for k, v := range tags {
		if k == "" || len(k) > 512 || len(v) > 1024 {
			return invalid(ReasonValue, "tag %.80q: a key has 1 to 128 characters, a value 256", k)
		}
	}
	return nil
}

// Change changes what is said about a queue, all or nothing. Whether it is a FIFO queue
// stays. Kinds: NotFound, Invalid.
func (qs *Queues) Change(ctx context.Context, project, name string, change func(*Settings, map[string]string) error) error {
	return qs.update(ctx, project, name, func(rec *record) error {
		fifo := rec.FIFO
		rec.Other, rec.Tags = maps.Clone(rec.Other), maps.Clone(rec.Tags)
		if rec.Other == nil {
			rec.Other = map[string]string{}
		}
		if rec.Tags == nil {
			rec.Tags = map[string]string{}
		}
		if err := change(&rec.Settings, rec.Tags); err != nil {
			return err
		}
		if rec.FIFO != fifo {
			return invalid(ReasonAttribute, "a queue is a FIFO queue or not from its beginning")
		}
		if err := checkTags(rec.Tags); err != nil {
			return err
		}
		return qs.check(project, name, &rec.Settings)
	})
}

// Purge removes all messages. Kind: NotFound.
func (qs *Queues) Purge(ctx context.Context, project, name string) error {
	return qs.update(ctx, project, name, func(rec *record) error {
		rec.Lane = newLane(rec.Project)
		return nil
	})
}

// update changes a record, and then the queue.
func (qs *Queues) update(ctx context.Context, project, name string, change func(*record) error) error {
	qs.changing.Lock()
	defer qs.changing.Unlock()
	q, err := qs.queue(project, name)
	if err != nil {
		return err
	}
	q.mu.Lock()
	rec, revision := q.rec, q.revision
	q.mu.Unlock()
	before := rec
	old := rec.Lane
	if err := change(&rec); err != nil {
		return err
	}
	rec.Modified = time.Now().UTC()
	b, err := json.Marshal(&rec)
	if err != nil {
		return err
	}
	if revision, err = qs.cfg.Store.Update(ctx, rec.key(), b, revision); err != nil {
		return err
	}
	qs.mu.Lock()
	qs.unlisten(&before)
	qs.listen(&rec)
	delete(qs.lanes, old)
	qs.lanes[rec.Lane] = q
	qs.mu.Unlock()
	q.mu.Lock()
	q.rec, q.revision = rec, revision
	var out []*message
	if rec.Lane != old {
		out = q.empty()
	}
	q.mu.Unlock()
	q.expire()
	if rec.Lane != old {
		qs.drop(old, out)
	}
	return nil
}

// empty forgets all messages, and returns those that are out. The caller holds mu.
func (q *queue) empty() []*message {
	q.letGo()
	out := slices.Collect(maps.Values(q.out))
	for _, g := range q.groups {
		out = append(out, g.back...)
	}
	q.reset()
	return out
}

// drop finishes what is in the lanes that a queue had; what is delayed when it is due.
func (qs *Queues) drop(lane string, out []*message) {
	for _, m := range out {
		_ = m.work.Done() // said before, or closed: then it is due again, and nobody's
	}
	for _, l := range qs.cfg.Log.Lanes() {
		if strings.HasPrefix(l, lane) {
			qs.discard(l)
		}
	}
}

// Delete deletes a queue with its messages. Kind: NotFound.
func (qs *Queues) Delete(ctx context.Context, project, name string) error {
	qs.changing.Lock()
	defer qs.changing.Unlock()
	q, err := qs.queue(project, name)
	if err != nil {
		return err
	}
	q.mu.Lock()
	rec, revision := q.rec, q.revision
	q.mu.Unlock()
	if _, err := qs.cfg.Store.Delete(ctx, rec.key(), revision); err != nil {
		return err
	}
	qs.mu.Lock()
	delete(qs.queues, key{project, name})
	delete(qs.lanes, rec.Lane)
	qs.unlisten(&rec)
	qs.mu.Unlock()
	q.mu.Lock()
	q.gone = true
	out := q.empty()
	q.expiry.stop()
	for len(q.waiters) > 0 {
		q.wake()
	}
	q.mu.Unlock()
	qs.drop(rec.Lane, out)
	return nil
}

// Get returns a queue. Kind: NotFound.
func (qs *Queues) Get(project, name string) (*Info, error) {
	q, err := qs.queue(project, name)
	if err != nil {
		return nil, err
	}
	return q.info(), nil
}

// List returns the names of a project's queues, in their order.
func (qs *Queues) List(project string) []string {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	var names []string
	for k := range qs.queues {
		if k.project == project {
			names = append(names, k.name)
		}
	}
	slices.SortFunc(names, cmp.Compare[string])
	return names
}

func (q *queue) info() *Info {
	q.mu.Lock()
	rec := q.rec
	q.mu.Unlock()
	info := &Info{Project: rec.Project, Name: rec.Name, Settings: rec.Settings, Tags: maps.Clone(rec.Tags), Created: rec.Created, Modified: rec.Modified}
	info.Other = maps.Clone(rec.Other)
	for _, lane := range q.qs.lanesOf(&rec) {
		n := q.qs.cfg.Log.LaneStats(lane)
		info.Visible, info.Out, info.Delayed = info.Visible+n.Waiting, info.Out+n.Running, info.Delayed+n.Delayed
	}
	return info
}

// lanesOf returns the lanes that hold a queue's messages.
func (qs *Queues) lanesOf(rec *record) []string {
	if !rec.FIFO {
		return []string{rec.Lane}
	}
	var all []string
	for _, l := range qs.cfg.Log.Lanes() {
		if strings.HasPrefix(l, rec.Lane+groupMark) {
			all = append(all, l)
		}
	}
	return all
}
