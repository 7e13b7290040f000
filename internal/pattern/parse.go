package pattern

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"lambent"
)

const (
	maxDepth = 32
	maxBytes = 8 << 10 // EventBridge's is 2,048 characters
)

// Parse reads a pattern. An error says where in it something is wrong, by line and
// column, both from 1.
func Parse(document []byte) (*Pattern, error) {
	if len(document) > maxBytes {
		return nil, lambent.Errorf(lambent.TooLarge, "pattern", "the pattern has %d bytes, over the limit of %d", len(document), maxBytes)
	}
	p := &parser{document: document, d: json.NewDecoder(bytes.NewReader(document))}
	o, err := p.whole()
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "pattern", "the pattern, %w", p.at(err))
	}
	return &Pattern{o}, nil
}

type parser struct {
	document []byte
	d        *json.Decoder
	token    int64 // where the last one began
	depth    int
}

// at puts a place before an error.
func (p *parser) at(err error) error {
	offset := p.token
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset, err = int64(len(p.document)), errors.New("it ends too early")
	}
	before := p.document[:min(offset, int64(len(p.document)))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("line %d, column %d: %w", line, column, err)
}

// next returns the next token.
func (p *parser) next() (json.Token, error) {
	p.token = p.d.InputOffset()
	for p.token < int64(len(p.document)) && strings.IndexByte(" \t\r\n,:", p.document[p.token]) >= 0 {
		p.token++
	}
	return p.d.Token()
}

func (p *parser) whole() (*object, error) {
	t, err := p.next()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('{') {
		return nil, errors.New("a pattern is an object")
	}
	o, err := p.object()
	if err != nil {
		return nil, err
	}
	if _, err := p.next(); err != io.EOF {
		return nil, errors.New("something is behind the pattern")
	}
	return o, nil
}

// object reads on behind a '{'.
func (p *parser) object() (*object, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("it is more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	o := &object{objects: map[string]*object{}, leaves: map[string]*leaf{}}
	for n := 0; ; n++ {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		if t == json.Delim('}') {
			if n == 0 {
				return nil, errors.New("an object without fields asks for nothing")
			}
			return o, nil
		}
		name, ok := t.(string)
		if !ok {
			return nil, errors.New("a field has a name")
		}
		if err := p.field(o, name); err != nil {
			return nil, err
		}
	}
}

func (p *parser) field(o *object, name string) error {
	if o.objects[name] != nil || o.leaves[name] != nil {
		return fmt.Errorf("field %q is there twice", name)
	}
	t, err := p.next()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		if name == "$or" {
			return errors.New("$or is a list of patterns")
		}
		o.objects[name], err = p.object()
	case json.Delim('['):
		if name == "$or" {
			var or []*object
			if or, err = p.or(); err == nil {
				o.ors = append(o.ors, or)
			}
			return err
		}
		o.leaves[name], err = p.leaf(p.comparison)
	default:
		err = fmt.Errorf("field %q: its values stand in a list, in [ ]", name)
	}
	return err
}

// or reads on behind the '[' of a $or.
func (p *parser) or() (or []*object, err error) {
	for {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		switch t {
		case json.Delim('{'):
			o, err := p.object()
			if err != nil {
				return nil, err
			}
			or = append(or, o)
		case json.Delim(']'):
			if len(or) < 2 {
				return nil, errors.New("$or is of two patterns, or more")
			}
			return or, nil
		default:
			return nil, errors.New("$or is a list of patterns, which are objects")
		}
	}
}

// leaf reads on behind a '[': values, and objects that inside reads.
func (p *parser) leaf(inside func() (test, error)) (*leaf, error) {
	l := &leaf{values: map[any]struct{}{}}
	for {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		switch t {
		case json.Delim(']'):
			if len(l.values)+len(l.tests) == 0 {
				return nil, errors.New("a list without values is what nothing can match")
			}
			return l, nil
		case json.Delim('{'):
			one, err := inside()
			if err != nil {
				return nil, err
			}
			l.tests = append(l.tests, one)
		case json.Delim('['):
			return nil, errors.New("a list of values has no list in it")
		default:
			l.values[t] = struct{}{}
		}
	}
}

// comparison reads on behind the '{' of one: a name, and what it takes.
func (p *parser) comparison() (test, error) {
	t, err := p.next()
	if err != nil {
		return nil, err
	}
	name, ok := t.(string)
	if !ok {
		return nil, errors.New("a comparison has a name, such as prefix")
	}
	var one test
	switch name {
	case "exists":
		var want bool
		if want, err = take[bool](p, "exists is true or false"); err == nil {
			one = exists(want)
		}
	case "numeric":
		one, err = p.numeric()
	case "anything-but":
		one, err = p.anythingBut()
	default:
		one, err = p.text(name)
	}
	if err != nil {
		return nil, err
	}
	return one, p.end("a comparison is one name and what it takes")
}

// end reads the '}' that has to come.
func (p *parser) end(otherwise string) error {
	t, err := p.next()
	if err == nil && t != json.Delim('}') {
		err = errors.New(otherwise)
	}
	return err
}

// text reads what a comparison of text takes.
func (p *parser) text(name string) (test, error) {
	with := map[string]func(string) (test, error){
		"prefix": sure(prefix), "suffix": sure(suffix), "equals-ignore-case": sure(fold), "wildcard": newWildcard, "cidr": newInside,
	}[name]
	if with == nil {
		return nil, fmt.Errorf("%q is none of prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric, cidr, exists", name)
	}
	t, err := p.next()
	if err != nil {
		return nil, err
	}
	if s, ok := t.(string); ok {
		return with(s)
	}
	if t != json.Delim('{') || name != "prefix" && name != "suffix" {
		return nil, fmt.Errorf("%s takes a string", name)
	}
	if t, err = p.next(); err != nil {
		return nil, err
	}
	if t != "equals-ignore-case" {
		return nil, fmt.Errorf("%s takes a string, or {\"equals-ignore-case\": a string}", name)
	}
	s, err := take[string](p, "equals-ignore-case takes a string")
	if err != nil {
		return nil, err
	}
	if err := p.end("a comparison is one name and what it takes"); err != nil {
		return nil, err
	}
	if name == "prefix" {
		return prefixFold(s), nil
	}
	return suffixFold(s), nil
}

func sure(f func(string) test) func(string) (test, error) {
	return func(s string) (test, error) { return f(s), nil }
}

// newWildcard reads a * for anything, and \* and \\ for themselves.
func newWildcard(s string) (test, error) {
	var parts []string
	var part strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '*' && part.Len() == 0 && len(parts) > 0:
			return nil, errors.New("a wildcard has no two * in a row")
		case c == '*':
			parts = append(parts, part.String())
			part.Reset()
			continue
		case c == '\\':
			if i++; i == len(s) || s[i] != '*' && s[i] != '\\' {
				return nil, errors.New(`of a wildcard, \ stands before * or \`)
			}
			c = s[i]
		}
		part.WriteByte(c)
	}
	return wildcard(append(parts, part.String())), nil
}

func newInside(s string) (test, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, fmt.Errorf("cidr takes addresses such as 10.0.0.0/24, and not %q", s)
	}
	return inside(p.Masked()), nil
}

// take reads a value of one type.
func take[T any](p *parser, otherwise string) (v T, err error) {
	t, err := p.next()
	if err != nil {
		return v, err
	}
	v, ok := t.(T)
	if !ok {
		return v, errors.New(otherwise)
	}
	return v, nil
}

// anythingBut reads a value, a list of values, or a comparison of text, with a string or
// a list of them.
func (p *parser) anythingBut() (test, error) {
	t, err := p.next()
	if err != nil {
		return nil, err
	}
	but := &leaf{}
	switch t {
	case json.Delim('['):
		but, err = p.leaf(func() (test, error) { return nil, errors.New("anything-but takes a list of values, or one comparison") })
	case json.Delim('{'):
		var name string
		if name, err = take[string](p, "a comparison has a name, such as prefix"); err != nil {
			return nil, err
		}
		if but.tests, err = p.texts(name); err == nil {
			err = p.end("a comparison is one name and what it takes")
		}
	case nil:
		err = errors.New("anything-but takes strings and numbers")
	default:
		but.values = map[any]struct{}{t: {}}
	}
	if err != nil {
		return nil, err
	}
	return anythingBut(but), nil
}

// texts reads what a comparison of text takes, or a list of that.
func (p *parser) texts(name string) (tests []test, err error) {
	if p.peek() != '[' {
		one, err := p.text(name)
		return []test{one}, err
	}
	if _, err := p.next(); err != nil {
		return nil, err
	}
	for p.d.More() {
		one, err := p.text(name)
		if err != nil {
			return nil, err
		}
		tests = append(tests, one)
	}
	if _, err := p.next(); err != nil {
		return nil, err
	}
	if len(tests) == 0 {
		return nil, errors.New("a list without values is what nothing can match")
	}
	return tests, nil
}

// peek returns the first byte of the next token.
func (p *parser) peek() byte {
	rest := bytes.TrimLeft(p.document[p.d.InputOffset():], " \t\r\n,:")
	if len(rest) == 0 {
		return 0
	}
	return rest[0]
}

// numeric reads a list of one or two comparisons and their numbers.
func (p *parser) numeric() (test, error) {
	const otherwise = `numeric takes a list such as [">", 0, "<=", 5]`
	if t, err := p.next(); err != nil {
		return nil, err
	} else if t != json.Delim('[') {
		return nil, errors.New(otherwise)
	}
	var bounds []bound
	for p.d.More() {
		operator, err := take[string](p, otherwise)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(" < <= = > >= ", " "+operator+" ") {
			return nil, fmt.Errorf("%q is none of <, <=, =, >, >=", operator)
		}
		n, err := take[float64](p, otherwise)
		if err != nil {
			return nil, err
		}
		bounds = append(bounds, bound{operator, n})
	}
	if _, err := p.next(); err != nil {
		return nil, err
	}
	switch {
	case len(bounds) == 1:
	case len(bounds) != 2 || bounds[0].operator[0] != '>' || bounds[1].operator[0] != '<':
		return nil, errors.New("numeric is one comparison, or a lower bound and then an upper one")
	case bounds[0].number >= bounds[1].number:
		return nil, errors.New("numeric: the lower bound is not below the upper one")
	}
	return numeric(bounds), nil
}
