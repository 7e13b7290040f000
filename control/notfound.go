package control

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"lambent"
)

// The refusals of what does not exist. Where the function is known they say what
// does exist; they read only memory, because anyone may ask for any name.

func noFunction(op string, name lambent.Name) error {
	e := lambent.Errorf(lambent.NotFound, op, "function %q does not exist in project %q", name.Function, name.Project)
	return e.WithHint("lambent list")
}

func noQualifier(op string, r *record, qualifier string) error {
	what := "alias"
	if _, ok := parseLabel(qualifier); ok {
		what = "version"
	}
	e := lambent.Errorf(lambent.NotFound, op, "function %q has no %s %q: it has %s", r.Name.Function, what, qualifier, r.qualifiers())
	return e.WithHint("lambent versions %s", r.Name)
}

// qualifiers says what a name of the function may end with.
func (r *record) qualifiers() string {
	have := []string{lambent.Latest}
	for first := 1; first <= r.LastVersion && len(have) < 8; first++ {
		if at, gone := r.Gone.find(first); gone {
			first = r.Gone[at].Last
			continue
		}
		last := r.LastVersion
		if at, _ := r.Gone.find(first); at < len(r.Gone) {
			last = r.Gone[at].First - 1
		}
		switch {
		case first == last:
			have = append(have, fmt.Sprintf("version %d", first))
		default:
			have = append(have, fmt.Sprintf("versions %d to %d", first, last))
		}
		first = last
	}
	if len(r.Aliases) > 0 {
		have = append(have, "aliases "+strings.Join(slices.Sorted(maps.Keys(r.Aliases)), " "))
	}
	return strings.Join(have, ", ")
}
