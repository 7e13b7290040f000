// Package queue has functions take the messages of users' queues, several at a time, as
// event source mappings of SQS do.
//
// What it guarantees: a message is deleted once the function has done well with it, and
// until then is received again, after the queue's visibility timeout if the function has
// failed, as often as the queue's owner lets it be. Of a group of a FIFO queue one batch is
// under way at a time. The queue keeps what is not done with: nothing becomes durable here.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/queue"
	"lambent/source"
)

var (
	_ source.Source   = (*Source)(nil)
	_ source.Ordered  = (*Source)(nil)
	_ source.Preparer = (*Source)(nil)
)

// A Source takes messages for triggers. Its methods may be called concurrently.
type Source struct{ Queues *queue.Queues }

// held is for how long a function has messages alone at first. It is over every timeout;
// once it has answered they are deleted, or wait for as long as the queue says. It is not on
// disk: after a crash all are to be received again.
const held = 2 * time.Hour

// Pauses where there is no place for an invocation.
const firstPause, lastPause = 100 * time.Millisecond, 30 * time.Second

// maxBatchBytes is of what size a batch takes no more.
const maxBatchBytes = 256 << 10

// Batch implements source.Ordered: what AWS's mappings have, ten messages at five places.
func (*Source) Batch() lambent.Batch { return lambent.Batch{Size: 10, Parallel: 5} }

// Check implements source.Source.
func (s *Source) Check(t lambent.Trigger) error {
	return t.Queue.Validate()
}

// Prepare implements source.Preparer: a queue that is not there is made.
func (s *Source) Prepare(ctx context.Context, t lambent.Trigger, _ source.Sink) error {
	_, err := s.Queues.Get(t.Target.Project, t.Queue.Name)
	if lambent.Is(err, lambent.NotFound) {
		settings := queue.DefaultSettings()
		settings.FIFO = strings.HasSuffix(t.Queue.Name, lambent.FIFO)
		_, err = s.Queues.Create(ctx, t.Target.Project, t.Queue.Name, settings, nil)
	}
	return err
}

// Forget implements source.Preparer: a queue has other users.
func (*Source) Forget(context.Context, lambent.Trigger) error { return nil }

// Run implements source.Source.
func (s *Source) Run(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var workers sync.WaitGroup
	for range t.Batch.Parallel {
		workers.Go(func() {
			w := &worker{queues: s.Queues, project: t.Target.Project, name: t.Queue.Name, batch: *t.Batch, sink: sink}
			for ctx.Err() == nil {
				if err := w.next(ctx); err != nil && ctx.Err() == nil {
					end(err)
				}
			}
		})
	}
	workers.Wait()
	err := context.Cause(ctx)
	switch {
	case err == context.Canceled:
		return nil
	case lambent.Is(err, lambent.NotFound):
		return lambent.Errorf(lambent.NotFound, "queue", "the queue %s is gone. If there is to be another of that name: aws sqs create-queue --queue-name %s; if not: lambent trigger delete %s", t.Queue.Name, t.Queue.Name, t.ID)
	}
	return err
}

// A worker has one batch under way at a time.
type worker struct {
	queues        *queue.Queues
	project, name string
	batch         lambent.Batch
	sink          source.Sink
	pause         time.Duration // the last one
}

// next takes the next batch through.
func (w *worker) next(ctx context.Context) error {
	const long = 20 * time.Second // whoever waits is woken
	messages, err := w.queues.Receive(ctx, w.project, w.name, min(w.batch.Size, 10), long, held)
	if lambent.Is(err, lambent.Throttled) { // as many are out as may be
		w.rest(ctx, err)
		return nil
	}
	if err != nil || len(messages) == 0 {
		return err
	}
	messages = w.gather(ctx, messages)
	events := make([]lambent.Event, len(messages))
	for i := range messages {
		events[i] = event(w.name, &messages[i])
	}
	failed, err := w.sink.Deliver(ctx, events...)
	_, own := errors.AsType[*lambent.Fault](err)
	switch {
	case err != nil && !own && ctx.Err() == nil:
		// Nobody has looked at them; their count of receives is one higher all the same, as on AWS.
		w.giveBack(messages, 0)
		w.rest(ctx, err)
		return nil
	case err != nil: // or the source ends, and the function may be at it still
		w.pause = 0
		return w.again(messages)
	}
	w.pause = 0
	var receipts []string
	var left []queue.Received
	for _, id := range failed {
		if !slices.ContainsFunc(messages, func(m queue.Received) bool { return m.ID == id }) {
			return w.again(messages) // it names one that it was not given: all have failed
		}
	}
	for i := range messages {
		if slices.Contains(failed, messages[i].ID) {
			left = append(left, messages[i])
		} else {
			receipts = append(receipts, messages[i].Receipt)
		}
	}
	// What was done is deleted though the source ends.
	if _, err := w.queues.DeleteMessages(context.WithoutCancel(ctx), w.project, w.name, receipts...); err != nil {
		return err
	}
	return w.again(left)
}

// gather adds messages until the batch is full, or its window over.
func (w *worker) gather(ctx context.Context, messages []queue.Received) []queue.Received {
	until := time.Now().Add(w.batch.Window)
	size := sizeOf(messages)
	for len(messages) < w.batch.Size && size < maxBatchBytes {
		left := time.Until(until)
		more, err := w.queues.Receive(ctx, w.project, w.name, min(w.batch.Size-len(messages), 10), max(0, min(left, 20*time.Second)), held)
		if err != nil || len(more) == 0 && left <= 0 {
			break
		}
		size += sizeOf(more)
		messages = append(messages, more...)
	}
	return messages
}

func sizeOf(messages []queue.Received) (bytes int) {
	for i := range messages {
		bytes += messages[i].Size()
	}
	return bytes
}

// again has messages that have failed wait for the queue's visibility timeout.
func (w *worker) again(messages []queue.Received) error {
	info, err := w.queues.Get(w.project, w.name)
	if err != nil {
		return err
	}
	w.giveBack(messages, time.Duration(info.VisibilityS)*time.Second)
	return nil
}

// giveBack has others receive messages after a while. One that cannot be given back is,
// when the time is over for which it is held.
func (w *worker) giveBack(messages []queue.Received, after time.Duration) {
	changes := make([]queue.VisibilityChange, len(messages))
	for i := range messages {
		changes[i] = queue.VisibilityChange{Receipt: messages[i].Receipt, Visibility: after}
	}
	_, _ = w.queues.ChangeVisibility(w.project, w.name, changes...)
}

// rest waits after a refusal, longer each time.
func (w *worker) rest(ctx context.Context, err error) {
	w.pause = min(max(2*w.pause, firstPause), lastPause)
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		w.pause = max(w.pause, min(e.RetryAfter, lastPause))
	}
	timer := time.NewTimer(w.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func event(name string, r *queue.Received) lambent.Event {
	m := lambent.QueueMessage{
		Queue: name, ID: r.ID, Body: r.Body, Receipt: r.Receipt, Sent: r.SentAt.UTC(), FirstReceived: r.FirstReceived.UTC(), Receives: r.Receives, Sender: r.Sender,
		Group: r.Group, DedupeID: r.DedupeID, Sequence: r.Sequence, Trace: r.Trace, DeadLetterOf: r.DeadLetterOf,
	}
	for key, a := range r.Attributes {
		if m.Attributes == nil {
			m.Attributes = map[string]lambent.MessageAttribute{}
		}
		m.Attributes[key] = lambent.MessageAttribute(a)
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic("queue: a message always has a JSON form: " + err.Error())
	}
	e := lambent.Event{
		ID: r.ID, Source: "/queues/" + name, Type: lambent.EventQueueMessage, Subject: name, Time: m.Sent, DataContentType: "application/json", Data: data, Hops: r.Hops,
	}
	if r.Group != "" {
		e.Extensions = map[string]string{lambent.PartitionKey: r.Group}
	}
	e.SetTrace(r.Trace)
	return e
}
