package lambda

import "testing"

// What is asked for an invocation that is named has its past; what is asked for none that is
// under way has the longest that it may have.
func TestHops(t *testing.T) {
	const header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
	in := &instance{last: 7}
	for _, c := range []struct {
		calls []*call
		trace string
		want  int
	}{
		{nil, "", 7},
		{nil, header, 7},
		{[]*call{{hops: 2}}, "", 2},
		{[]*call{{hops: 2, root: traceRoot(header)}, {hops: 9, root: "1-a-b"}}, header, 2},
		{[]*call{{hops: 2, root: traceRoot(header)}, {hops: 9, root: "1-a-b"}}, "Root=1-a-b", 9},
		{[]*call{{hops: 2, root: traceRoot(header)}, {hops: 9, root: "1-a-b"}}, "", 9},
		{[]*call{{hops: 2, root: traceRoot(header)}, {hops: 9, root: "1-a-b"}}, "Parent=53995c3f42cd8ad8", 9},
		{[]*call{{hops: 2, root: traceRoot(header)}, {hops: 3, root: traceRoot(header)}, {hops: 9}}, header, 3},
	} {
		in.calls = c.calls
		if got := in.hopsLocked(c.trace); got != c.want {
			t.Errorf("%q of %d under way: %d hops, want %d", c.trace, len(c.calls), got, c.want)
		}
	}
}
