package logs_test

import (
	"testing"
	"time"

	"lambent"
	"lambent/logs"
)

func open(t testing.TB, o logs.Options) *logs.Logs {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := logs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func name(function string) lambent.Name {
	return lambent.Name{Project: lambent.DefaultProject, Function: function}
}

// entries returns what a query yields.
func entries(t testing.TB, s *logs.Logs, n lambent.Name, f logs.Filter) []logs.Entry {
	t.Helper()
	var all []logs.Entry
	for e, err := range s.Query(t.Context(), n, f) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func texts(all []logs.Entry) []string {
	var s []string
	for _, e := range all {
		s = append(s, e.Text)
	}
	return s
}

func TestLinesComeBackAsTheyCame(t *testing.T) {
	dir := t.TempDir()
	s := open(t, logs.Options{Dir: dir})
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("", 3600))
	lines := []string{"", "plain", "tab\tin it", "two\nlines\r", `back\slash \n`, "\x1b[31mred\x1b[0m", "grüß 世界 🎉", "\xff\xfe\x00bin\x7f\x80", " spaces ", "\\", "\u2028"}
	for _, line := range lines {
		s.Function(name("f")).Line(at, "latest", "id-1", []byte(line))
	}
	s.Function(name("f")).Line(at, "", "", []byte("of no request"))
	check := func(s *logs.Logs) {
		t.Helper()
		got := entries(t, s, name("f"), logs.Filter{})
		if len(got) != len(lines)+1 {
			t.Fatalf("%d entries, want %d: %q", len(got), len(lines)+1, texts(got))
		}
		for i, line := range lines {
			want := logs.Entry{Time: at.UTC().Truncate(time.Microsecond), Version: "latest", Request: "id-1", Text: line}
			if got[i] != want {
				t.Errorf("entry %d is %+v, want %+v", i, got[i], want)
			}
		}
		if e := got[len(lines)]; e.Version != "" || e.Request != "" || e.Text != "of no request" {
			t.Errorf("last entry is %+v", e)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, logs.Options{Dir: dir}))
}
