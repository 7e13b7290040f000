// Package pattern matches JSON by patterns of JSON, as Amazon EventBridge does: a
// pattern has the fields that an event must have, and for each the values that it may
// have there, or comparisons: prefix, suffix, equals-ignore-case, wildcard,
// anything-but, numeric, cidr, exists; and $or for one of several patterns. See
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html.
//
// It does not find the patterns of many that match: it tries one.
package pattern

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// A Pattern may be used concurrently.
type Pattern struct{ root *object }

// An object is what must hold of an object, all of it.
type object struct {
	objects map[string]*object
	leaves  map[string][]test
	ors     [][]*object // one of each
}

// A test is of one value that is neither an object nor an array, and of whether there
// is one at all.
type test func(value any, present bool) bool

// An Event is parsed once for all patterns that it may match. It may be used
// concurrently.
type Event struct{ root any }

// ParseEvent parses a JSON document.
func ParseEvent(document []byte) (Event, error) {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var e Event
	err := d.Decode(&e.root)
	return e, err
}

// Matches reports whether an event has what the pattern asks for.
func (p *Pattern) Matches(e Event) bool { return p.root.matches(e.root) }

// matches has one element of an array do for all that is asked of it: what is asked of
// one object does not come together from several.
func (o *object) matches(v any) bool {
	if list, ok := v.([]any); ok && len(list) > 0 {
		for _, element := range list {
			if o.matches(element) {
				return true
			}
		}
		return false
	}
	fields, _ := v.(map[string]any) // what is none has no fields
	for name, tests := range o.leaves {
		if value, ok := fields[name]; !oneHolds(tests, value, ok) {
			return false
		}
	}
	for name, inner := range o.objects {
		if !inner.matches(fields[name]) {
			return false
		}
	}
	for _, or := range o.ors {
		if !oneMatches(or, v) {
			return false
		}
	}
	return true
}

func oneMatches(objects []*object, v any) bool {
	for _, o := range objects {
		if o.matches(v) {
			return true
		}
	}
	return false
}

// oneHolds looks into arrays. Of an object only its fields can be asked, so at its own
// place there is nothing; nor is there in an empty array.
func oneHolds(tests []test, v any, present bool) bool {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			if oneHolds(tests, element, true) {
				return true
			}
		}
		if len(v) > 0 {
			return false
		}
		present = false
	case map[string]any:
		present = false
	}
	for _, holds := range tests {
		if holds(v, present) {
			return true
		}
	}
	return false
}

// equal compares numbers by what they are, and not by how they are written.
func equal(want any) test {
	if n, ok := want.(json.Number); ok {
		f := float(n)
		return func(v any, present bool) bool {
			m, ok := v.(json.Number)
			return present && ok && (m == n || float(m) == f)
		}
	}
	return func(v any, present bool) bool { return present && v == want }
}

func float(n json.Number) float64 {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil {
		return math.NaN() // over the range: equal to nothing
	}
	return f
}

func text(holds func(string) bool) test {
	return func(v any, present bool) bool {
		s, ok := v.(string)
		return present && ok && holds(s)
	}
}

func prefix(p string) test { return text(func(s string) bool { return strings.HasPrefix(s, p) }) }

func suffix(p string) test { return text(func(s string) bool { return strings.HasSuffix(s, p) }) }

func prefixFold(p string) test {
	return text(func(s string) bool { return len(s) >= len(p) && strings.EqualFold(s[:len(p)], p) })
}

func suffixFold(p string) test {
	return text(func(s string) bool { return len(s) >= len(p) && strings.EqualFold(s[len(s)-len(p):], p) })
}

func fold(p string) test { return text(func(s string) bool { return strings.EqualFold(s, p) }) }

// wildcard is what must come in order, with anything in between.
func wildcard(parts []string) test {
	return text(func(s string) bool {
		s, ok := strings.CutPrefix(s, parts[0])
		last := len(parts) - 1
		if last == 0 {
			return ok && s == ""
		}
		for _, part := range parts[1:last] {
			if ok {
				_, s, ok = strings.Cut(s, part)
			}
		}
		return ok && strings.HasSuffix(s, parts[last])
	})
}

func inside(p netip.Prefix) test {
	return text(func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && p.Contains(a.Unmap())
	})
}

func exists(want bool) test { return func(_ any, present bool) bool { return present == want } }

// anythingBut is a value that is there, and is none of those.
func anythingBut(tests []test) test {
	return func(v any, present bool) bool { return present && !oneHolds(tests, v, true) }
}

func numeric(bounds []bound) test {
	return func(v any, present bool) bool {
		n, ok := v.(json.Number)
		if !present || !ok {
			return false
		}
		f := float(n)
		for _, b := range bounds {
			if !b.holds(f) {
				return false
			}
		}
		return true
	}
}

// A bound is one comparison with a number.
type bound struct {
	operator string
	number   float64
}

func (b bound) holds(f float64) bool {
	switch b.operator {
	case "<":
		return f < b.number
	case "<=":
		return f <= b.number
	case ">":
		return f > b.number
	case ">=":
		return f >= b.number
	default:
		return f == b.number
	}
}
