package queue

import (
	"context"
	"maps"
	"slices"
	"time"

	"lambent"
)

// A Notification has a queue sent what happens to objects in a bucket. Whoever keeps the
// buckets asks for those of each change, and sends.
type Notification struct {
	ID     string         `json:"id"`
	Queue  string         `json:"-"` // its name: it is kept with the queue, and goes with it
	Bucket lambent.Bucket `json:"bucket"`
	Since  time.Time      `json:"since"` // when it was made: what happened before is not for it
}

// Notifications returns those of a bucket, in no order.
func (qs *Queues) Notifications(project, bucket string) []Notification {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	return slices.Concat(slices.Collect(maps.Values(qs.notified[key{project, bucket}]))...)
}

// Notify has a bucket have these notifications and no others; one that was there, and is
// not said to be another by its queue, its label or what it wants, stays what it was. They are
// to be valid, and of no FIFO queue. Kind: NotFound.
func (qs *Queues) Notify(ctx context.Context, project, bucket string, wanted []Notification) error {
	of := map[string][]Notification{}
	for _, n := range wanted {
		if _, err := qs.queue(project, n.Queue); err != nil {
			return err
		}
		of[n.Queue] = append(of[n.Queue], n)
	}
	for _, has := range qs.Notifications(project, bucket) {
		if of[has.Queue] == nil {
			of[has.Queue] = []Notification{}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		err := qs.update(ctx, project, name, func(rec *record) error {
			var all []Notification
			for _, has := range rec.Notifications {
				if has.Bucket.Name != bucket {
					all = append(all, has)
				}
			}
			for _, n := range of[name] {
				if i := slices.IndexFunc(rec.Notifications, func(has Notification) bool { return has.Bucket.Equal(&n.Bucket) }); i >= 0 {
					n = rec.Notifications[i]
				} else {
					n.ID, n.Since = lambent.NewID(), time.Now().UTC()
				}
				all = append(all, n)
			}
			rec.Notifications = all
			return nil
		})
		if err != nil && !(lambent.Is(err, lambent.NotFound) && len(of[name]) == 0) { // deleted just now
			return err
		}
	}
	return nil
}

// listen takes in which buckets' notifications a queue has. The caller holds qs.mu.
func (qs *Queues) listen(rec *record) {
	for _, n := range rec.Notifications {
		n.Queue = rec.Name
		at := key{rec.Project, n.Bucket.Name}
		if qs.notified[at] == nil {
			qs.notified[at] = map[string][]Notification{}
		}
		qs.notified[at][rec.Name] = append(qs.notified[at][rec.Name], n)
	}
}

// unlisten takes that back. The caller holds qs.mu.
func (qs *Queues) unlisten(rec *record) {
	for _, n := range rec.Notifications {
		at := key{rec.Project, n.Bucket.Name}
		if delete(qs.notified[at], rec.Name); len(qs.notified[at]) == 0 {
			delete(qs.notified, at)
		}
	}
}
