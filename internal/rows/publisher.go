package rows

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"lambent"
)

// A Sink takes events, as source.Sink does.
type Sink interface {
	Publish(context.Context, ...lambent.Event) error
	SetPosition(context.Context, []byte) error
}

const (
	// maxEvents and maxBytes bound what is published at a time. Larger events go alone,
	// so that what is too large is known.
	maxEvents = 1000
	maxBytes  = 1 << 20
	maxAmong  = 256 << 10

	// maxPending is how many bytes wait to be published before reading stops.
	maxPending = 4 << 20

	// keepEvery is how often a position is kept: what comes behind the last that was has
	// the same ids when it is published again.
	keepEvery = 250 * time.Millisecond

	firstPause, lastPause = 50 * time.Millisecond, 2 * time.Second
)

// A Publisher publishes changes in their order while more are read. P is what a position
// is, with a JSON form. Its methods may be called concurrently, but Run.
type Publisher[P any] struct {
	trigger *lambent.Trigger
	sink    Sink

	more chan struct{} // capacity 1: there is something to publish
	room chan struct{} // capacity 1: something was published

	mu      sync.Mutex // guards what follows
	pending []entry[P]
	bytes   int           // of pending, and of what is being published
	busy    bool          // something is being published
	reached P             // where what was published ends
	behind  time.Duration // how old the last was when it was
	refused string        // why it is not taken now
}

// An entry is something to publish, and where that ends.
type entry[P any] struct {
	change *Change // nil: only the position moves
	event  lambent.Event
	at     P
}

// NewPublisher returns a Publisher of a trigger's changes.
func NewPublisher[P any](t *lambent.Trigger, sink Sink, from P) *Publisher[P] {
	return &Publisher[P]{trigger: t, sink: sink, reached: from, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// Add has a change published; nil: nothing, before the position is at. It reports false,
// and does nothing, while there is no room.
func (p *Publisher[P]) Add(c *Change, at P) bool {
	p.mu.Lock()
	full := p.bytes > maxPending
	p.mu.Unlock()
	if full {
		return false
	}
	e := entry[P]{change: c, at: at}
	if c != nil {
		e.event = c.event(p.trigger)
		if len(e.event.Data) <= maxAmong { // it will not have to be made smaller
			e.change = &Change{Committed: c.Committed}
		}
	}
	p.mu.Lock()
	p.pending = append(p.pending, e)
	p.bytes += size(&e)
	p.mu.Unlock()
	signal(p.more)
	return true
}

// Put has a change published as Add does, and waits while there is no room for it. Each
// second meanwhile is called, whose error ends that; nil: nothing is.
func (p *Publisher[P]) Put(ctx context.Context, c *Change, at P, meanwhile func() error) error {
	if p.Add(c, at) {
		return nil
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for !p.Add(c, at) {
		select {
		case <-p.room:
		case <-second.C:
			if meanwhile == nil {
				continue
			}
			if err := meanwhile(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// size is about what an entry takes in memory.
func size[P any](e *entry[P]) int { return 200 + len(e.event.Data) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Reached returns where what was published ends, and whether nothing is to be published.
func (p *Publisher[P]) Reached() (at P, idle bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reached, len(p.pending) == 0 && !p.busy
}

// Behind is how old the last change was when it was published, while there are more, and
// why they are not taken now, if they are not.
func (p *Publisher[P]) Behind() (time.Duration, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) == 0 && !p.busy {
		return 0, ""
	}
	return p.behind, p.refused
}

// While publishes what read adds, until that returns, or what is to be published is
// refused for good, which ends its context. Nothing is published any more when it returns.
func (p *Publisher[P]) While(ctx context.Context, read func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.Run(ctx); err != nil {
			cancel(err)
		}
	}()
	defer func() { // though it panics
		cancel(nil)
		<-ended
	}()
	err := read(ctx)
	if refused := context.Cause(ctx); refused != nil && !errors.Is(refused, context.Canceled) {
		return refused
	}
	return err
}

// Run publishes until ctx ends, or what it is to publish is refused for good.
func (p *Publisher[P]) Run(ctx context.Context) error {
	var unkept bool
	var timer <-chan time.Time
	keep := func(ctx context.Context) error {
		unkept, timer = false, nil
		at, _ := p.Reached()
		b, err := json.Marshal(at)
		if err != nil {
			return lambent.Errorf(lambent.Internal, "rows", "a position has no JSON form: %w", err)
		}
		return p.sink.SetPosition(ctx, b)
	}
	defer func() {
		if unkept {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = keep(ctx) // or some of it is published again, which does no harm
		}
	}()
	for {
		batch := p.take()
		if len(batch) == 0 {
			select {
			case <-p.more:
			case <-timer:
				if err := keep(ctx); err != nil {
					return err
				}
			case <-ctx.Done():
				return nil
			}
			continue
		}
		if err := p.publish(ctx, batch); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		p.done(batch)
		if unkept = true; timer == nil {
			timer = time.After(keepEvery)
		}
		select {
		case <-timer:
			if err := keep(ctx); err != nil {
				return err
			}
		default:
		}
	}
}

// take returns what is published next, together.
func (p *Publisher[P]) take() (batch []entry[P]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, bytes := 0, 0
	for n < len(p.pending) && n < maxEvents {
		s := len(p.pending[n].event.Data)
		if n > 0 && (bytes+s > maxBytes || s > maxAmong || bytes > maxAmong && n == 1) {
			break
		}
		n, bytes = n+1, bytes+s
	}
	batch, p.pending = p.pending[:n:n], p.pending[n:]
	p.busy = n > 0
	return batch
}

// done counts a batch as published.
func (p *Publisher[P]) done(batch []entry[P]) {
	last := &batch[len(batch)-1]
	p.mu.Lock()
	for i := range batch {
		p.bytes -= size(&batch[i])
		if c := batch[i].change; c != nil {
			p.behind = time.Since(c.Committed)
		}
	}
	p.reached, p.busy, p.refused = last.at, false, ""
	p.mu.Unlock()
	signal(p.room)
}

// publish publishes a batch, as often as it takes. What is too large is made smaller.
func (p *Publisher[P]) publish(ctx context.Context, batch []entry[P]) error {
	events := make([]lambent.Event, 0, len(batch))
	var alone *Change
	for i := range batch {
		if batch[i].change != nil {
			events = append(events, batch[i].event)
			alone = batch[i].change
		}
	}
	if len(events) == 0 {
		return nil
	}
	for pause := firstPause; ; {
		err := p.sink.Publish(ctx, events...)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case lambent.Is(err, lambent.TooLarge) && len(events) == 1 && alone.shrink():
			id := events[0].ID
			events[0] = alone.event(p.trigger)
			events[0].ID = id
			continue
		case !lambent.Is(err, lambent.Throttled) && !lambent.Is(err, lambent.NoSpace) && !lambent.Is(err, lambent.Unavailable):
			return err
		}
		p.mu.Lock()
		p.refused = lambent.UserMessage(err)
		p.mu.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			pause = min(2*pause, lastPause)
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
