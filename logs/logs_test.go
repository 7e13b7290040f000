package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
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

// put adds numbered lines.
func put(l *logs.Log, request string, n int, text func(i int) string) {
	for i := range n {
		l.Line(time.Now(), "1", request, []byte(text(i)))
	}
}

func numbered(i int) string { return fmt.Sprintf("line %d", i) }

func TestFilter(t *testing.T) {
	s := open(t, logs.Options{MaxBytes: 8 << 10}) // segments of 1 KB, so that several are looked at
	l := s.Function(name("f"))
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 60 {
		l.Line(start.Add(time.Duration(i)*time.Second), "1", fmt.Sprint("r", i%3), []byte(numbered(i)))
		if i%10 == 9 {
			entries(t, s, name("f"), logs.Filter{}) // writes
		}
	}
	for _, c := range []struct {
		what   string
		filter logs.Filter
		want   []int // first and last
		n      int
	}{
		{"all", logs.Filter{}, []int{0, 59}, 60},
		{"since", logs.Filter{Since: start.Add(50 * time.Second)}, []int{50, 59}, 10},
		{"until", logs.Filter{Until: start.Add(10 * time.Second)}, []int{0, 9}, 10},
		{"between", logs.Filter{Since: start.Add(10 * time.Second), Until: start.Add(11 * time.Second)}, []int{10, 10}, 1},
		{"request", logs.Filter{Request: "r1"}, []int{1, 58}, 20},
		{"grep", logs.Filter{Grep: regexp.MustCompile(`^line [12]?7$`)}, []int{7, 27}, 3},
		{"limit", logs.Filter{Limit: 5}, []int{0, 4}, 5},
		{"tail", logs.Filter{Limit: 25, Tail: true}, []int{35, 59}, 25},
		{"tail of one", logs.Filter{Limit: 1, Tail: true}, []int{59, 59}, 1},
		{"tail of all", logs.Filter{Limit: 1000, Tail: true}, []int{0, 59}, 60},
		{"tail of a request", logs.Filter{Limit: 2, Tail: true, Request: "r0"}, []int{54, 57}, 2},
		{"none", logs.Filter{Request: "r9"}, nil, 0},
	} {
		got := texts(entries(t, s, name("f"), c.filter))
		if len(got) != c.n || c.n > 0 && (got[0] != numbered(c.want[0]) || got[c.n-1] != numbered(c.want[1])) {
			t.Errorf("%s: %q", c.what, got)
		}
	}
	for range s.Query(t.Context(), name("f"), logs.Filter{}) {
		break // must not go on
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.Query(ctx, name("f"), logs.Filter{}) {
		if !lambent.Is(err, lambent.Canceled) {
			t.Errorf("a query of a caller who gave up: %v", err)
		}
	}
	if got := entries(t, s, name("other"), logs.Filter{}); len(got) != 0 {
		t.Errorf("another function's log: %v", got)
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	s := open(t, logs.Options{Dir: filepath.Join(dir, "logs")})
	for _, bad := range []lambent.Name{{Project: "..", Function: "x"}, {Project: "p", Function: "../../x"}, {}} {
		s.Function(bad).Line(time.Now(), "1", "r", []byte("x"))
		if err := s.Delete(bad); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("delete of %+v: %v", bad, err)
		}
		for _, err := range s.Query(t.Context(), bad, logs.Filter{}) {
			if !lambent.Is(err, lambent.Invalid) {
				t.Errorf("query of %+v: %v", bad, err)
			}
		}
	}
	a, b := name("f"), name("f")
	b.Qualifier = "live"
	if s.Function(a) != s.Function(b) {
		t.Error("the log of a qualified name is another")
	}
	s.Function(a).Line(time.Now(), "with space", "new\nline", []byte("text here"))
	if got := entries(t, s, a, logs.Filter{}); len(got) != 1 || got[0].Version != "with_space" || got[0].Request != "new_line" || got[0].Text != "text here" {
		t.Errorf("fields with white space: %+v", got)
	}
	s.Close()
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
		t.Errorf("files outside: %v", files)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	const maxBytes = 64 << 10
	s := open(t, logs.Options{Dir: dir, MaxBytes: maxBytes})
	l := s.Function(name("f"))
	for i := range 20 {
		put(l, "r", 200, func(j int) string { return fmt.Sprintf("line %d %s", 200*i+j, strings.Repeat("x", 50)) })
		got := entries(t, s, name("f"), logs.Filter{Tail: true, Limit: 200})
		if len(got) != 200 || !strings.HasPrefix(got[199].Text, fmt.Sprintf("line %d ", 200*i+199)) {
			t.Fatalf("round %d: %d entries, the last %+v", i, len(got), got[len(got)-1])
		}
		if n, files := onDisk(t, dir); n > maxBytes || files > 9 {
			t.Fatalf("round %d: %d bytes in %d files, over %d", i, n, files, maxBytes)
		}
	}
	all := texts(entries(t, s, name("f"), logs.Filter{}))
	for i := 1; i < len(all); i++ {
		var a, b int
		fmt.Sscanf(all[i-1], "line %d", &a)
		fmt.Sscanf(all[i], "line %d", &b)
		if b != a+1 {
			t.Fatalf("%d follows %d", b, a)
		}
	}
	if len(all) < 400 {
		t.Errorf("only %d lines are left", len(all))
	}
	// A line that is longer than a segment.
	l.Line(time.Now(), "1", "r", bytes.Repeat([]byte("y"), maxBytes/2))
	l.Line(time.Now(), "1", "r", []byte("after"))
	got := entries(t, s, name("f"), logs.Filter{Tail: true, Limit: 2})
	if len(got[0].Text) != maxBytes/2 || got[1].Text != "after" {
		t.Errorf("a long line: %d bytes, then %q", len(got[0].Text), got[1].Text)
	}
}

func onDisk(t testing.TB, dir string) (bytes int64, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed in this moment
		}
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				bytes += info.Size()
				files++
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes, files
}

// What is not flushed by a query is in the file after 100 ms, and the file can
// be read without this package.
func TestFlush(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := logs.Open(logs.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Function(name("f")).Line(time.Now(), "latest", "r-1", []byte("hello\nworld"))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		files, _ := filepath.Glob(filepath.Join(dir, "default", "f", "*.log"))
		if len(files) != 1 {
			t.Fatalf("files: %v", files)
		}
		b, err := os.ReadFile(files[0])
		if want := "2000-01-01T00:00:00.000000Z latest r-1 hello\\nworld\n"; err != nil || string(b) != want {
			t.Errorf("the file has %q, want %q (%v)", b, want, err)
		}
	})
}

func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	s := open(t, logs.Options{Dir: dir})
	put(s.Function(name("f")), "r", 3, numbered)
	s.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "default", "f", "*.log"))
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		if err := os.WriteFile(files[0], whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, logs.Options{Dir: dir})
		before := len(entries(t, s, name("f"), logs.Filter{}))
		s.Function(name("f")).Line(time.Now(), "1", "r", []byte("after"))
		got := texts(entries(t, s, name("f"), logs.Filter{}))
		s.Close()
		n := bytes.Count(whole[:cut], []byte("\n"))
		if len(got) != before+1 || before < n || before > n+1 || got[len(got)-1] != "after" {
			t.Fatalf("cut at %d: %d entries, then %q", cut, before, got)
		}
	}
	// A power cut may leave zeros.
	if err := os.WriteFile(files[0], append(whole, make([]byte, 5000)...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, logs.Options{Dir: dir})
	s.Function(name("f")).Line(time.Now(), "1", "r", []byte("after"))
	if got := texts(entries(t, s, name("f"), logs.Filter{})); len(got) != 4 || got[3] != "after" {
		t.Errorf("after zeros: %q", got)
	}
}

func TestDelete(t *testing.T) {
	dir := t.TempDir()
	s := open(t, logs.Options{Dir: dir})
	old := s.Function(name("f"))
	put(old, "r", 3, numbered)
	entries(t, s, name("f"), logs.Filter{})
	put(old, "r", 3, numbered)
	if err := s.Delete(name("f")); err != nil {
		t.Fatal(err)
	}
	put(old, "r", 3, numbered) // of calls that were under way
	if got := entries(t, s, name("f"), logs.Filter{}); len(got) != 0 {
		t.Errorf("after the delete: %q", texts(got))
	}
	if n, _ := onDisk(t, dir); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	put(s.Function(name("f")), "r", 1, func(int) string { return "new" })
	if got := texts(entries(t, s, name("f"), logs.Filter{})); len(got) != 1 || got[0] != "new" {
		t.Errorf("the next function of the name has %q", got)
	}
	if err := s.Delete(name("never")); err != nil {
		t.Errorf("delete of a log that is not there: %v", err)
	}
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	s := open(t, logs.Options{Dir: dir, MaxBytes: 80 << 10})
	for i := range 10 {
		put(s.Function(name(fmt.Sprint("f", i))), "r", 500, func(i int) string { return numbered(i) + strings.Repeat("x", 40) })
		entries(t, s, name(fmt.Sprint("f", i)), logs.Filter{})
	}
	s.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "*", "f3", "*.log"))
	for _, f := range files {
		old := time.Now().Add(-15 * 24 * time.Hour)
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := onDisk(t, dir)
	s = open(t, logs.Options{Dir: dir, MaxBytes: 80 << 10, TotalBytes: 200 << 10})
	wait(t, func() bool { n, _ := onDisk(t, dir); return n <= 200<<10 })
	after, _ := onDisk(t, dir)
	t.Logf("%d bytes, then %d", before, after)
	if got := entries(t, s, name("f3"), logs.Filter{}); len(got) != 0 {
		t.Errorf("%d lines are left of a log that is too old", len(got))
	}
	if got := entries(t, s, name("f9"), logs.Filter{}); len(got) != 500 {
		t.Errorf("%d lines are left of the newest log", len(got))
	}
	// It is also held while lines come.
	for range 10 {
		put(s.Function(name("g")), "r", 500, func(i int) string { return numbered(i) + strings.Repeat("x", 40) })
		entries(t, s, name("g"), logs.Filter{})
	}
	wait(t, func() bool { n, _ := onDisk(t, dir); return n <= 200<<10 })
	if got := entries(t, s, name("g"), logs.Filter{}); len(got) < 500 {
		t.Errorf("%d lines are left of the newest log", len(got))
	}
}

// wait waits for what happens in the background on real files.
func wait(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen in 10 s")
		}
	}
}
