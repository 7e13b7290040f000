package cron

import (
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // for machines that have none

	"github.com/hashicorp/cronexpr"

	"lambent"
)

// Times are the moments at which a schedule is due. They are for one goroutine at a time.
type Times struct {
	next func(after time.Time) time.Time
}

// Next returns the first moment behind another, in UTC; the zero time: there is none.
func (t *Times) Next(after time.Time) time.Time {
	if next := t.next(after); !next.IsZero() {
		return next.UTC()
	}
	return time.Time{}
}

const (
	maxExpression = 256
	maxRate       = 10 * 365 * 24 * time.Hour
)

// Parse reads a schedule; anchor is what a rate counts from. An error says which part of
// it is wrong.
func Parse(s lambent.Schedule, anchor time.Time) (*Times, error) {
	zone, err := time.LoadLocation(s.Zone)
	if err != nil || s.Zone == "Local" {
		return nil, refuse("time zone %q is not known: an IANA name, such as Europe/Berlin", s.Zone)
	}
	if s.Jitter < 0 || s.Jitter > 24*time.Hour {
		return nil, refuse("jitter %v: 0 to 24h", s.Jitter)
	}
	text := strings.TrimSpace(s.Expression)
	if len(text) > maxExpression {
		return nil, refuse("the expression has %d characters, over the limit of %d", len(text), maxExpression)
	}
	form, inside, ok := strings.Cut(text, "(")
	if ok {
		if inside, ok = strings.CutSuffix(inside, ")"); !ok {
			return nil, refuse("%q: its last ')' is missing", text)
		}
	}
	switch {
	case !ok:
		return unix(text, zone)
	case form == "rate":
		return rate(inside, anchor)
	case form == "cron":
		return aws(inside, zone)
	case form == "at":
		return at(inside, zone)
	}
	return nil, refuse("%q is none of rate(5 minutes), cron(0 10 ? * MON-FRI *), at(2026-12-24T18:00:00), and five fields as in crontab(5)", text)
}

// units are those of rate(). AWS has no seconds.
var units = map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}

func rate(text string, anchor time.Time) (*Times, error) {
	number, unit, _ := strings.Cut(strings.TrimSpace(text), " ")
	n, err := strconv.Atoi(number)
	each, ok := units[strings.TrimSuffix(unit, "s")]
	switch {
	case err != nil || n < 1 || n > 1e6:
		return nil, refuse("rate(%s): %q is no number of 1 to 1,000,000", text, number)
	case !ok:
		return nil, refuse("rate(%s): %q is none of seconds, minutes, hours, days", text, unit)
	case (n == 1) == strings.HasSuffix(unit, "s"): // AWS refuses it, too
		return nil, refuse("rate(%s): it is rate(1 %s), and rate(2 %[2]ss)", text, strings.TrimSuffix(unit, "s"))
	}
	if time.Duration(n) > maxRate/each {
		return nil, refuse("rate(%s): it is over the limit of 10 years", text)
	}
	each *= time.Duration(n)
	anchor = anchor.Truncate(time.Second)
	return &Times{func(after time.Time) time.Time {
		if after.Before(anchor) {
			return anchor.Add(each)
		}
		return anchor.Add((after.Sub(anchor)/each + 1) * each)
	}}, nil
}

func at(text string, zone *time.Location) (*Times, error) {
	t, err := time.ParseInLocation("2006-01-02T15:04:05", strings.TrimSpace(text), zone)
	if err != nil {
		return nil, refuse("at(%s): a time is written 2026-12-24T18:00:00, and its zone is a field of its own", text)
	}
	return &Times{func(after time.Time) time.Time {
		if after.Before(t) {
			return t
		}
		return time.Time{}
	}}, nil
}

func aws(text string, zone *time.Location) (*Times, error) {
	fields, err := translate(text, awsFields)
	if err != nil {
		return nil, err
	}
	if given := strings.Fields(text); (given[2] == "?") == (given[4] == "?") {
		return nil, refuse("cron(%s): one of day of month and day of week is '?', and the other is not", text)
	}
	return calendar(fields, zone)
}

// unix is five fields of crontab(5), or one of its names for some.
func unix(text string, zone *time.Location) (*Times, error) {
	if name, ok := strings.CutPrefix(text, "@"); ok {
		switch name {
		case "yearly", "annually":
			text = "0 0 1 1 *"
		case "monthly":
			text = "0 0 1 * *"
		case "weekly":
			text = "0 0 * * 0"
		case "daily", "midnight":
			text = "0 0 * * *"
		case "hourly":
			text = "0 * * * *"
		default:
			return nil, refuse("%q is none of @yearly, @monthly, @weekly, @daily, @hourly", text)
		}
	}
	fields, err := translate(text, unixFields)
	if err != nil {
		return nil, err
	}
	return calendar(fields, zone)
}

// calendar returns when a clock on the wall of a zone shows what an expression says.
// What it never shows, as it is put forward, is left out. What it shows twice, as it
// is put back, counts once, as in EventBridge Scheduler, but for each hour of those that
// ask for each.
func calendar(fields string, zone *time.Location) (*Times, error) {
	expr, err := cronexpr.Parse(fields)
	if err != nil {
		return nil, refuse("%q: %w", fields, err)
	}
	hourly := strings.Fields(fields)[1] == "*"
	return &Times{func(after time.Time) time.Time {
		for from, within := after, after.In(zone); ; {
			start, end := within.ZoneBounds()
			_, seconds := within.Zone()
			offset := time.Duration(seconds) * time.Second
			shown := expr.Next(from.UTC().Add(offset))
			if shown.IsZero() {
				return shown
			}
			switch t := shown.Add(-offset); {
			case !end.IsZero() && !t.Before(end):
				from, within = end.Add(-time.Nanosecond), end
			case !hourly && t.Sub(start) < putBack(start):
				from = t
			default:
				return t
			}
		}
	}}, nil
}

// putBack returns by how much a clock was put back when a period of its zone began.
func putBack(start time.Time) time.Duration {
	if start.IsZero() {
		return 0
	}
	_, before := start.Add(-time.Nanosecond).Zone()
	_, offset := start.Zone()
	return time.Duration(before-offset) * time.Second
}
