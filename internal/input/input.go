// Package input makes of an event what a function is invoked with in its place, as
// EventBridge's input transformers do: names for parts of the event, and a template that
// has them as <name>
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html).
//
// Where a name stands by itself there is its part as JSON, and null if the event has no
// such part; within a text there is a text's content, or other JSON as it is written, or
// nothing. <aws.events.event.json> is the whole event.
package input

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"lambent"
)

// Bounds of a Template, EventBridge's.
const (
	maxPaths    = 100
	maxTemplate = 8 << 10
)

// whole is the name of the event itself, which every template knows.
const whole = "aws.events.event.json"

// A Template may be used concurrently.
type Template struct {
	parts []part
	paths map[string]path
}

// A part is a text, or a name.
type part struct {
	text   string
	name   string
	within bool // a text of the template's, in quotes
}

// A path leads to a part of an event.
type path []step

type step struct {
	field string
	index int // of an array, if there is no field
}

var (
	nameRule    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	placeholder = regexp.MustCompile(`<([A-Za-z0-9_.-]+)>`)
	stepRule    = regexp.MustCompile(`^(?:\.([A-Za-z0-9_-]+)|\['([^']+)'\]|\[(\d{1,6})\])`)
)

func fail(format string, args ...any) error {
	return lambent.Errorf(lambent.Invalid, "input", format, args...)
}

// Parse reads a template and its paths. Kind: Invalid.
func Parse(paths map[string]string, template string) (*Template, error) {
	t := &Template{paths: map[string]path{whole: nil}}
	if len(paths) > maxPaths || len(template) > maxTemplate {
		return nil, fail("an input has at most %d paths, and a template of %d bytes", maxPaths, maxTemplate)
	}
	for name, text := range paths {
		if !nameRule.MatchString(name) {
			return nil, fail("%.80q is not the name of a path: 1 to 64 letters, digits, '-' and '_'", name)
		}
		p, err := parsePath(text)
		if err != nil {
			return nil, err
		}
		t.paths[name] = p
	}
	at, inText := 0, false
	for _, m := range placeholder.FindAllStringSubmatchIndex(template, -1) {
		name := template[m[2]:m[3]]
		if _, ok := t.paths[name]; !ok {
			return nil, fail("the template has <%s>, and no path has that name", name)
		}
		text := template[at:m[0]]
		inText = quoted(text, inText)
		t.parts = append(t.parts, part{text: text}, part{name: name, within: inText})
		at = m[1]
	}
	t.parts = append(t.parts, part{text: template[at:]})
	if probe := t.fill(nil); !json.Valid(probe) {
		var v any
		return nil, fail("the template is no JSON: %v", json.Unmarshal(probe, &v))
	}
	return t, nil
}

// quoted reports whether one is inside of a JSON string behind text, having been so or not
// before it.
func quoted(text string, before bool) bool {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && before:
			i++
		case text[i] == '"':
			before = !before
		}
	}
	return before
}

func parsePath(text string) (p path, err error) {
	rest, ok := strings.CutPrefix(text, "$")
	for ok && rest != "" {
		m := stepRule.FindStringSubmatch(rest)
		if ok = m != nil; !ok {
			break
		}
		s := step{field: m[1] + m[2]}
		if m[3] != "" {
			s.index, _ = strconv.Atoi(m[3])
		}
		p, rest = append(p, s), rest[len(m[0]):]
	}
	if !ok {
		return nil, fail("%.80q is not a path: $.detail.total, $.resources[0] and $.detail['a b'] are", text)
	}
	return p, nil
}

// Apply makes the input of an event.
func (t *Template) Apply(event []byte) ([]byte, error) {
	var root any
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	if err := d.Decode(&root); err != nil {
		return nil, fail("the event is no JSON: %w", err)
	}
	out := t.fill(func(name string) any { return t.paths[name].of(root) })
	if !json.Valid(out) {
		return nil, fail("what the template makes of the event is no JSON")
	}
	return out, nil
}

// fill fills the template; with no values it only shows its form.
func (t *Template) fill(value func(name string) any) []byte {
	var b bytes.Buffer
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		var v any
		if value != nil {
			v = value(p.name)
		}
		text, isText := v.(string)
		switch {
		case p.within && v == nil:
		case p.within && isText:
			b.Write(inside(text))
		case p.within:
			b.Write(inside(string(document(v))))
		default:
			b.Write(document(v))
		}
	}
	return b.Bytes()
}

func document(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("input: what was JSON has a JSON form: %v", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// inside is a text as it stands in a JSON string, without the quotes.
func inside(s string) []byte {
	b := document(s)
	return b[1 : len(b)-1]
}

func (p path) of(v any) any {
	for _, s := range p {
		switch in := v.(type) {
		case map[string]any:
			v = in[s.field]
			if s.field == "" {
				return nil
			}
		case []any:
			if s.field != "" || s.index >= len(in) {
				return nil
			}
			v = in[s.index]
		default:
			return nil
		}
	}
	return v
}
