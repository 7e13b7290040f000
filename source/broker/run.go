package broker

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"

	"lambent"
	"lambent/source"
)

// measureEvery is how often a broker is asked how much it has for a trigger.
const measureEvery = 3 * time.Second

// Pauses while what was received is not taken.
const firstPause, lastPause = 50 * time.Millisecond, 2 * time.Second

// A run is one of a trigger.
type run struct {
	trigger *lambent.Trigger
	stream  Stream
	sink    source.Sink

	mu      sync.Mutex // guards what follows
	waiting int64      // at the broker
	known   bool       // it has said so
	behind  time.Duration
	refused string // why what was received is not taken
}

// now is by how much the trigger is behind.
func (r *run) now() (source.Lag, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lag := source.Lag{Waiting: r.waiting, Warning: r.refused}
	if r.waiting > 0 || r.refused != "" {
		lag.Behind = r.behind
	}
	if w, ok := r.stream.(Warner); ok && lag.Warning == "" {
		lag.Warning = w.Warning()
	}
	return lag, r.known || lag.Warning != ""
}

// run takes messages until ctx ends, or the stream does.
func (r *run) run(ctx context.Context) error {
	for {
		messages, err := r.stream.Receive(ctx)
		if err != nil {
			return err
		}
		if err := r.take(ctx, messages); err != nil {
			return err
		}
		// What is durable is acknowledged though the source ends.
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		err = r.stream.Done(asking)
		cancel()
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// take has messages be durable events.
func (r *run) take(ctx context.Context, messages []Message) error {
	if len(messages) == 0 {
		return nil
	}
	now := time.Now()
	events := make([]lambent.Event, len(messages))
	for i := range messages {
		events[i] = messages[i].event(r.trigger, now)
	}
	alone := slices.ContainsFunc(messages, func(m Message) bool { return m.Refused != "" })
	var err error
	if !alone {
		err = r.patiently(ctx, func() error { return r.sink.Publish(ctx, events...) })
		alone = lambent.Is(err, lambent.TooLarge) // one of them is, or several
	}
	for i := 0; alone && i < len(events); i++ {
		if err = r.takeOne(ctx, i, &messages[i], events[i]); err != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.behind = time.Since(events[len(events)-1].Time)
	r.mu.Unlock()
	return nil
}

// takeOne refuses a message if it is too large.
func (r *run) takeOne(ctx context.Context, i int, m *Message, e lambent.Event) error {
	reason := m.Refused
	if reason == "" {
		err := r.patiently(ctx, func() error { return r.sink.Publish(ctx, e) })
		if !lambent.Is(err, lambent.TooLarge) {
			return err
		}
		reason = lambent.UserMessage(err)
		where := m.where(reason)
		e.Data = document(&where)
	}
	if err := r.patiently(ctx, func() error { return r.sink.Refuse(ctx, e, reason) }); err != nil {
		return err
	}
	if s, ok := r.stream.(Rejecter); ok {
		return s.Reject(ctx, i)
	}
	return nil
}

// patiently does something again as long as there is no room for it.
func (r *run) patiently(ctx context.Context, do func() error) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := do()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why := ""
		again := lambent.Is(err, lambent.Throttled) || lambent.Is(err, lambent.NoSpace) || lambent.Is(err, lambent.Unavailable)
		if again {
			why = lambent.UserMessage(err)
		}
		r.mu.Lock()
		r.refused = why
		r.mu.Unlock()
		if !again {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// measure asks the broker now and then.
func (r *run) measure(ctx context.Context) {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		var n int64
		err := source.Safely(func() (err error) {
			n, err = r.stream.Waiting(asking)
			return err
		})
		cancel()
		r.mu.Lock()
		r.waiting, r.known = max(n, 0), err == nil && n >= 0
		r.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Fail is an error for people of a broker that does not answer, or not as it should; what
// is lambent's already stays as it is.
func Fail(b *lambent.Broker, kind lambent.Kind, what string, err error) error {
	if _, ok := errors.AsType[*lambent.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return lambent.Errorf(lambent.Canceled, b.Engine(), "given up: %w", err)
	}
	why := line(b, err) + source.Untrusted(err)
	if errors.Is(err, context.DeadlineExceeded) {
		why = "it takes too long; is it " + b.Engine() + " that listens there, with TLS or without as the URL has it?"
	}
	if b.TLS() && b.Certificate == "" && hungUp(err) {
		why += "; a server that wants a certificate of who connects may hang up so: --cert, --key"
	}
	return lambent.Errorf(kind, b.Engine(), "%s %s: %s", b.Masked(), what, why)
}

// hungUp says whether the other side has closed a connection. With TLS 1.3 it says why once the
// client takes it for open, and what that writes then may have its answer lost.
func hungUp(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}
