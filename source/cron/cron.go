// Package cron fires schedules. Each due time has one event, whose id is made of the
// trigger and that time: however often a server is ended at whatever moment, it
// is published once. A clock that is put forward, or a machine that slept, is noticed
// within half a minute.
package cron

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lambent"
	"lambent/source"
)

var (
	_ source.Source     = Source{}
	_ source.Forecaster = Source{}
)

const (
	// late is how old a due time may be that nobody has missed: clouds promise the minute.
	late = time.Minute

	// nap is how long nobody looks at the clock, which may be set, or go on while the
	// machine sleeps and timers stand.
	nap = 30 * time.Second
)

// A Source fires the schedules of triggers.
type Source struct{}

// Check implements source.Source: it refuses a schedule that is never due.
func (Source) Check(t lambent.Trigger) error {
	times, err := Parse(*t.Schedule, t.Created)
	if err != nil {
		return err
	}
	if t.Schedule.Zone != "" && strings.HasPrefix(strings.TrimSpace(t.Schedule.Expression), "rate(") {
		return refuse("%s has no time zone: it counts from when the trigger was added. A time of day is cron's, such as cron(0 10 * * ? *)", t.Schedule.Expression)
	}
	now := time.Now()
	if times.Next(now).IsZero() {
		return refuse("%q is never due after %s", t.Schedule.Expression, now.UTC().Format(time.DateTime))
	}
	return nil
}

// Next implements source.Forecaster.
func (Source) Next(t lambent.Trigger, after time.Time) time.Time {
	times, err := Parse(*t.Schedule, t.Created)
	if err != nil {
		return time.Time{}
	}
	due := times.Next(after)
	if !due.IsZero() {
		due = due.Add(delay(t, due))
	}
	return due
}

// A position is the last due time that is done with.
type position struct {
	Due time.Time `json:"due"`
}

// Run implements source.Source. It returns when nothing will be due any more, and the
// error of a sink that takes nothing: whoever runs it again goes on from there.
func (Source) Run(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	times, err := Parse(*t.Schedule, t.Created)
	if err != nil {
		return err
	}
	at := position{t.Created}
	if b, err := sink.Position(ctx); err != nil {
		return err
	} else if b != nil {
		if err := json.Unmarshal(b, &at); err != nil {
			return fmt.Errorf("cron: the position of trigger %s: %w", t.ID, err)
		}
	}
	if at.Due.Before(t.Since) { // what was due while it was disabled was not missed
		at.Due = t.Since
	}
	for {
		due := times.Next(at.Due)
		if missed := times.last(at.Due, time.Now().Add(-late-t.Schedule.Jitter)); !missed.IsZero() {
			if due = missed; t.Schedule.SkipMissed {
				at.Due = missed
				continue
			}
		}
		if due.IsZero() {
			return nil
		}
		if !sleep(ctx, due.Add(delay(t, due))) {
			return nil
		}
		if err := sink.Publish(ctx, event(t, due)); err != nil {
			return err
		}
		at.Due = due
		b, err := json.Marshal(at)
		if err != nil {
			return err
		}
		if err := sink.SetPosition(ctx, b); err != nil {
			return err
		}
	}
}

// last returns the last due time behind one moment and not behind another; the zero
// time: there is none.
func (t *Times) last(after, until time.Time) (last time.Time) {
	if first := t.Next(after); first.IsZero() || first.After(until) {
		return last
	}
	// From further and further back, so that a year of minutes is not gone through.
	for back := time.Minute; last.IsZero(); back *= 2 {
		from := until.Add(-back)
		if from.Before(after) {
			from = after
		}
		for due := t.Next(from); !due.IsZero() && !due.After(until); due = t.Next(due) {
			last = due
		}
	}
	return last
}

// sleep waits for a moment, by the clock on the wall, and reports whether it came.
func sleep(ctx context.Context, until time.Time) bool {
	until = until.Round(0)
	for {
		left := until.Sub(time.Now().Round(0))
		if left <= 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(min(left, nap))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// name is the same for a trigger and a due time, whenever it is computed.
func name(t lambent.Trigger, due time.Time) string {
	return fmt.Sprintf("%s %d", t.ID, due.Unix())
}

// delay is by how much the event of a due time is late on purpose.
func delay(t lambent.Trigger, due time.Time) time.Duration {
	if t.Schedule.Jitter <= 0 {
		return 0
	}
	h := sha256.Sum256([]byte(name(t, due)))
	return time.Duration(binary.BigEndian.Uint64(h[:]) % uint64(t.Schedule.Jitter))
}

func event(t lambent.Trigger, due time.Time) lambent.Event {
	data, err := json.Marshal(struct {
		Schedule string    `json:"schedule"`
		Due      time.Time `json:"due"`
	}{t.Schedule.Expression, due.UTC()})
	if err != nil {
		panic("cron: a string and a time always have a JSON form: " + err.Error())
	}
	return lambent.Event{
		ID: lambent.IDOf(name(t, due)), Source: "/triggers/" + t.ID, Type: lambent.EventScheduleDue, Subject: t.Target.Function,
		Time: due.UTC(), DataContentType: "application/json", Data: data,
	}
}
