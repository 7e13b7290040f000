package lambent

import (
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
}

// Kind is of what kind the source is: "schedule" or "pattern". It is empty where that is
// not clear.
func (t *Trigger) Kind() string {
	switch {
	case t.Schedule != nil && t.Pattern == nil:
		return "schedule"
	case t.Pattern != nil && t.Schedule == nil:
		return "pattern"
	}
	return ""
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
