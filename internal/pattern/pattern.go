// Package pattern matches JSON by patterns of JSON, as Amazon EventBridge does: a
// pattern has the fields that an event must have, and for each the values that it may
// have there, or comparisons: prefix, suffix, equals-ignore-case, wildcard,
// anything-but, numeric, cidr, exists; and $or for one of several patterns. See
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html.
//
// It does not find the patterns of many that match: it tries one.
package pattern

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// A Pattern may be used concurrently.
type Pattern struct{ root *object }

// An object is what must hold of an object, all of it.
type object struct {
	objects map[string]*object
	leaves  map[string]*leaf
	ors     [][]*object // one of each
}

// A leaf is what may be at one place: one of the values, or what one of the tests holds
// for.
type leaf struct {
	values map[any]struct{} // strings, float64, bool and nil
	tests  []test
}

// A test is of one value that is neither an object nor an array, and of whether there
// is one at all.
type test func(m *matching, value any, present bool) bool

// maxWork bounds what matching one event takes: looks at elements and tests of them, some
// 20 ms of them. Who writes patterns and events of thousands of values does not stop the
// server for minutes.
const maxWork = 500_000

var errWork = errors.New("matching it with the pattern takes too much: there are too many values in both")

// A matching is one event's with one pattern.
type matching struct{ work int }

// An Event is parsed once for all patterns that it may match. It may be used
// concurrently.
type Event struct{ root any }

// ParseEvent parses a JSON document.
func ParseEvent(document []byte) (Event, error) {
	var e Event
	err := json.Unmarshal(document, &e.root)
	return e, err
}

// Matches reports whether an event has what the pattern asks for. An error says that to
// find out takes too much.
func (p *Pattern) Matches(e Event) (bool, error) {
	m := &matching{}
	matches := m.object(p.root, e.root)
	if m.work > maxWork {
		return false, errWork
	}
	return matches, nil
}

// Fields are the names of the fields of an event that the pattern asks for, in order. Of
// what is inside them nothing is told.
func (p *Pattern) Fields() []string {
	names := map[string]bool{}
	p.root.fields(names)
	return slices.Sorted(maps.Keys(names))
}

func (o *object) fields(names map[string]bool) {
	for name := range o.objects {
		names[name] = true
	}
	for name := range o.leaves {
		names[name] = true
	}
	for _, or := range o.ors {
		for _, one := range or {
			one.fields(names)
		}
	}
}

// spend counts some work, and reports whether there may be that.
func (m *matching) spend(n int) bool {
	m.work += n
	return m.work <= maxWork
}

// object has one element of an array do for all that is asked of it: what is asked of
// one object does not come together from several.
func (m *matching) object(o *object, v any) bool {
	if list, ok := v.([]any); ok && len(list) > 0 {
		for _, element := range list {
			if !m.spend(1) {
				return false
			}
			if m.object(o, element) {
				return true
			}
		}
		return false
	}
	fields, _ := v.(map[string]any) // what is none has no fields
	for name, l := range o.leaves {
		if value, ok := fields[name]; !m.leaf(l, value, ok) {
			return false
		}
	}
	for name, inner := range o.objects {
		if !m.object(inner, fields[name]) {
			return false
		}
	}
	for _, or := range o.ors {
		if !m.one(or, v) {
			return false
		}
	}
	return m.spend(1)
}

func (m *matching) one(of []*object, v any) bool {
	for _, o := range of {
		if !m.spend(1) {
			return false
		}
		if m.object(o, v) {
			return true
		}
	}
	return false
}

// leaf looks into arrays. Of an object only its fields can be asked, so at its own place
// there is nothing; nor is there in an empty array.
func (m *matching) leaf(l *leaf, v any, present bool) bool {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			if !m.spend(1) {
				return false
			}
			if m.leaf(l, element, true) {
				return true
			}
		}
		if len(v) > 0 {
			return false
		}
		present = false
	case map[string]any:
		present = false
	default:
		if _, ok := l.values[v]; ok && present {
			return true
		}
	}
	if !m.spend(len(l.tests)) {
		return false
	}
	for _, holds := range l.tests {
		if holds(m, v, present) {
			return true
		}
	}
	return false
}

func text(holds func(string) bool) test {
	return func(m *matching, v any, present bool) bool {
		s, ok := v.(string)
		return present && ok && m.spend(len(s)>>10) && holds(s)
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

func exists(want bool) test {
	return func(_ *matching, _ any, present bool) bool { return present == want }
}

// anythingBut is a value that is there, and is none of those.
func anythingBut(l *leaf) test {
	return func(m *matching, v any, present bool) bool { return present && !m.leaf(l, v, true) }
}

func numeric(bounds []bound) test {
	return func(_ *matching, v any, present bool) bool {
		f, ok := v.(float64)
		if !present || !ok {
			return false
		}
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
