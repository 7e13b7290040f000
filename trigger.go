package lambent

import (
	"cmp"
	"encoding/json"
	"time"
)

// A Trigger has a function invoked by events of one source. What it says of the source
// is in one of the fields behind Created; exactly one of them is set.
type Trigger struct {
	ID       string    `json:"id"`     // of its own, for ever: what its events are told apart by
	Target   Name      `json:"target"` // whose project the trigger is in
	Disabled bool      `json:"disabled,omitempty"`
	Deployed bool      `json:"deployed,omitempty"` // it came with the function's code, and goes with it: the next deploy says anew what there is
	Created  time.Time `json:"created"`
	Since    time.Time `json:"since"` // when it was made, or was enabled last: what happened before is not for it

	Schedule *Schedule       `json:"schedule,omitempty"`
	Pattern  json.RawMessage `json:"pattern,omitempty"` // of the project's events: what EventBridge calls an event pattern
	Database *Database       `json:"database,omitempty"`
	Bucket   *Bucket         `json:"bucket,omitempty"`
	Queue    *Queue          `json:"queue,omitempty"`
	Broker   *Broker         `json:"broker,omitempty"`

	// Filter is a pattern that events of the source are to match; nil: all are for the
	// function. What it is matched with is what Pattern is, and of a message its body.
	Filter json.RawMessage `json:"filter,omitempty"`

	// Input is what the function is invoked with in place of an event, of a schedule or a
	// pattern; nil: the event.
	Input *Input `json:"input,omitempty"`

	Batch *Batch `json:"batch,omitempty"` // nil: each event is an invocation of its own, in no order
}

// Kind is of what kind the source is, such as "schedule". It is empty where that is not
// clear.
func (t *Trigger) Kind() (kind string) {
	for _, k := range []struct {
		name string
		is   bool
	}{{"schedule", t.Schedule != nil}, {"pattern", t.Pattern != nil}, {"database", t.Database != nil}, {"bucket", t.Bucket != nil}, {"queue", t.Queue != nil}, {"broker", t.Broker != nil}} {
		switch {
		case k.is && kind != "":
			return ""
		case k.is:
			kind = k.name
		}
	}
	return kind
}

// A Schedule fires by the clock.
type Schedule struct {
	// Expression is rate(5 minutes), cron(0 10 ? * MON-FRI *), at(2026-12-24T18:00:00),
	// as AWS has them, or the five fields of crontab(5), or @hourly and the like.
	Expression string `json:"expression"`

	// Zone is an IANA time zone that cron and at are in; empty: UTC.
	Zone string `json:"zone,omitempty"`

	// Jitter spreads what is due at the same moment: each event is late by some part of
	// it, the same one whenever it is computed.
	Jitter time.Duration `json:"jitter,omitempty"`

	// SkipMissed leaves out what was due while nobody was there to fire it; otherwise the
	// last of that is fired, once.
	SkipMissed bool `json:"skip_missed,omitempty"`
}

// An Input makes of an event what a function is invoked with, as EventBridge's input
// transformers do.
type Input struct {
	Paths    map[string]string `json:"paths,omitempty"` // of parts of the event, such as $.detail.total, by their names
	Template string            `json:"template"`        // JSON, with <name> where a part goes
}

// A Batch is how events reach a function that are in order: several at a time, and those
// of one partition key ([PartitionKey]) as they happened. What fails is tried again before
// what is behind it, alone: of several that fail together it is found by having fewer of
// them together. Zero values are the defaults of its source.
type Batch struct {
	// Size is how many events an invocation has at most. Where the function's contract
	// has no such invocations there is one.
	Size int `json:"size,omitempty"`

	// Window is how long an event may wait for others.
	Window time.Duration `json:"window,omitempty"`

	// Parallel is how many invocations may be under way. Keys are spread over them: with 1,
	// all events are in order.
	Parallel int `json:"parallel,omitempty"`
}

// Bounds of a Batch. The first two are AWS's for its event source mappings.
const (
	maxBatchSize   = 10_000
	maxBatchWindow = 5 * time.Minute
	maxParallel    = 256
)

// Validate checks the bounds.
func (b *Batch) Validate() error {
	switch {
	case b.Size < 0 || b.Size > maxBatchSize:
		return Errorf(Invalid, "batch", "a batch of %d events is outside 1 to %d", b.Size, maxBatchSize)
	case b.Window < 0 || b.Window > maxBatchWindow:
		return Errorf(Invalid, "batch", "a batch window of %v is outside 0 to %v", b.Window, maxBatchWindow)
	case b.Parallel < 0 || b.Parallel > maxParallel:
		return Errorf(Invalid, "batch", "%d invocations in parallel are outside 1 to %d", b.Parallel, maxParallel)
	}
	return nil
}

// WithDefaults fills what is left out from d.
func (b Batch) WithDefaults(d Batch) Batch {
	return Batch{cmp.Or(b.Size, d.Size), cmp.Or(b.Window, d.Window), cmp.Or(b.Parallel, d.Parallel)}
}
