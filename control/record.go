package control

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"

	"lambent"
	"lambent/store"
)

// The keys in the store: head.PROJECT.FUNCTION, version.PROJECT.FUNCTION.NUMBER
// and project.PROJECT. Names have no dots.
const (
	headPrefix    = "head"
	versionPrefix = "version"
	projectPrefix = "project"
)

func headKey(n lambent.Name) string     { return headPrefix + "." + n.Project + "." + n.Function }
func versionsKey(n lambent.Name) string { return versionPrefix + "." + n.Project + "." + n.Function }
func versionKey(n lambent.Name, number int) string {
	return versionsKey(n) + "." + label(number)
}

// A record is a head as the store holds it. It says which versions exist: those
// from 1 to LastVersion that are not Gone. A version's own key without that is
// what a crash left, and counts for nothing.
type record struct {
	lambent.Function
	Gone spans `json:"gone,omitempty"`
}

// has reports whether a version exists.
func (r *record) has(number int) bool {
	return number >= 1 && number <= r.LastVersion && !r.Gone.has(number)
}

func (r *record) encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic("control: a head always has a JSON form: " + err.Error())
	}
	return b
}

func decode(raw []byte, revision uint64) (*record, error) {
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, lambent.Errorf(lambent.Internal, "control", "a function's record cannot be read: %w", err)
	}
	r.Revision = revision
	return &r, nil
}

// A placeholder is a head's record while there is no function: it gives a name
// that is about to be used a revision to compare with. See writeVersion.
var placeholder = []byte("{}")

// read returns the head as the store has it. Kind: NotFound, when absentAt is the
// revision that the function's first head is to replace, 0 for none.
func (c *Control) read(ctx context.Context, op string, name lambent.Name) (r *record, absentAt uint64, err error) {
	e, err := c.plug.Store.Get(ctx, headKey(name))
	switch {
	case lambent.Is(err, lambent.NotFound):
		return nil, 0, noFunction(op, name)
	case err != nil:
		return nil, 0, err
	case bytes.Equal(e.Value, placeholder):
		return nil, e.Revision, noFunction(op, name)
	}
	r, err = decode(e.Value, e.Revision)
	return r, 0, err
}

// writeHead puts a head's record in place of the one at a revision, 0 for none,
// and returns the new revision.
func (c *Control) writeHead(ctx context.Context, name lambent.Name, value []byte, at uint64) (uint64, error) {
	if at == 0 {
		return c.plug.Store.Create(ctx, headKey(name), value)
	}
	return c.plug.Store.Update(ctx, headKey(name), value, at)
}

// readVersion returns a version that a head says exists.
func (c *Control) readVersion(ctx context.Context, name lambent.Name, number int) (*lambent.Version, error) {
	e, err := c.plug.Store.Get(ctx, versionKey(name, number))
	if err != nil {
		return nil, err
	}
	return decodeVersion(e)
}

func decodeVersion(e store.Entry) (*lambent.Version, error) {
	var v lambent.Version
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return nil, lambent.Errorf(lambent.Internal, "control", "the record %s cannot be read: %w", e.Key, err)
	}
	return &v, nil
}

// label is a version number as names and revisions spell it.
func label(number int) string { return strconv.Itoa(number) }

// parseLabel is the inverse; "01" and "+1" are no labels.
func parseLabel(s string) (number int, ok bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 1 && label(n) == s
}

// spans is a set of version numbers as ordered ranges that do not touch, so that
// it stays small where the oldest hundreds have been deleted.
type spans []span

type span struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// find returns where the span that has n is, or where it would go.
func (s spans) find(n int) (at int, found bool) {
	return slices.BinarySearchFunc(s, n, func(s span, n int) int {
		switch {
		case n < s.First:
			return +1
		case n > s.Last:
			return -1
		}
		return 0
	})
}

func (s spans) has(n int) bool {
	_, found := s.find(n)
	return found
}

// add returns the set with n in it.
func (s spans) add(n int) spans {
	at, found := s.find(n)
	if found {
		return s
	}
	s = slices.Insert(s, at, span{First: n, Last: n})
	if at+1 < len(s) && s[at+1].First == n+1 {
		s[at].Last = s[at+1].Last
		s = slices.Delete(s, at+1, at+2)
	}
	if at > 0 && s[at-1].Last == n-1 {
		s[at-1].Last = s[at].Last
		s = slices.Delete(s, at, at+1)
	}
	return s
}
