package meter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/meter"
)

func open(t testing.TB, o meter.Options) *meter.Ledger {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	l, err := meter.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// usage returns a record with every field set.
func usage(i int) *lambent.Usage {
	end := time.Now().UTC().Truncate(time.Microsecond)
	return &lambent.Usage{
		ID: fmt.Sprintf("6bc0f2c8-5c7e-4d7a-9d0f-%012d", i), Attempt: 1, Project: "default", Function: "thumbs",
		Version: "latest", Alias: "live", Trigger: "http", Runtime: "python3.11", Guest: "lambda", Instance: "s-17",
		Start: end.Add(-3 * time.Millisecond), End: end, QueueUS: 120, InitUS: 14020, RunUS: 1230, BilledMS: 16,
		MemoryMB: 128, TmpMB: 512, PeakMB: 46, CPUUS: 900, BytesIn: 12, BytesOut: 345, Cold: true,
		Outcome: lambent.OutcomeOK,
	}
}

func scan(t testing.TB, l *meter.Ledger, f meter.Filter) []*lambent.Usage {
	t.Helper()
	var all []*lambent.Usage
	for u, err := range l.Scan(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

func recent(t testing.TB, l *meter.Ledger, f meter.Filter) []*lambent.Usage {
	t.Helper()
	var all []*lambent.Usage
	for u, err := range l.Recent(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestScan(t *testing.T) {
	l := open(t, meter.Options{SegmentBytes: 4 << 10}) // some eight records in each
	begin := time.Now()
	for i := range 100 {
		u := usage(i)
		u.Function = fmt.Sprint("f", i%3)
		u.End = begin.Add(time.Duration(i) * time.Microsecond).UTC()
		if i%10 == 0 {
			u.Project, u.Outcome = "shop", "timeout"
		}
		if err := l.Append(u); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what   string
		filter meter.Filter
		n      int
	}{
		{"all", meter.Filter{}, 100},
		{"function", meter.Filter{Function: "f0"}, 34},
		{"project", meter.Filter{Project: "shop"}, 10},
		{"function of a project", meter.Filter{Project: "shop", Function: "f1"}, 3},
		{"outcome", meter.Filter{Outcome: "timeout"}, 10},
		{"request", meter.Filter{Request: usage(17).ID}, 1},
		{"since", meter.Filter{Since: begin.Add(90 * time.Microsecond)}, 10},
		{"until", meter.Filter{Until: begin.Add(90 * time.Microsecond)}, 90},
		{"limit", meter.Filter{Function: "f0", Limit: 5}, 5},
		{"none", meter.Filter{Function: "f"}, 0},
	} {
		got := scan(t, l, c.filter)
		if len(got) != c.n || !slices.IsSortedFunc(got, func(a, b *lambent.Usage) int { return strings.Compare(a.ID, b.ID) }) {
			t.Errorf("%s: %d records, want %d, in order", c.what, len(got), c.n)
		}
		back := recent(t, l, c.filter)
		if len(back) != c.n || !slices.IsSortedFunc(back, func(a, b *lambent.Usage) int { return strings.Compare(b.ID, a.ID) }) {
			t.Errorf("%s: %d records, want %d, newest first", c.what, len(back), c.n)
		}
	}
	if got := recent(t, l, meter.Filter{Limit: 1}); got[0].ID != usage(99).ID {
		t.Errorf("the newest is %s", got[0].ID)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	big := open(t, meter.Options{})
	for i := range 2000 {
		big.Append(usage(i))
	}
	if _, err := big.Sum(ctx, meter.Filter{}, nil); !lambent.Is(err, lambent.Canceled) {
		t.Errorf("a sum for a caller who gave up: %v", err)
	}
	if a, b := scan(t, big, meter.Filter{}), recent(t, big, meter.Filter{}); len(a) != 2000 || len(b) != 2000 {
		t.Errorf("over several blocks: %d and %d of 2000", len(a), len(b))
	}
}

// Opening cuts the unfinished record of the newest segment, wherever it was torn,
// and nothing else.
func TestTornRecord(t *testing.T) {
	dir := t.TempDir()
	l := open(t, meter.Options{Dir: dir, SegmentBytes: 1 << 10})
	for i := range 5 { // two in each segment, one in the last
		if err := l.Append(usage(i)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	segments := files(t, dir)
	if len(segments) != 3 {
		t.Fatalf("%d segments", len(segments))
	}
	older, _ := os.ReadFile(segments[0])
	newest, err := os.ReadFile(segments[2])
	if err != nil {
		t.Fatal(err)
	}
	full := slices.Concat(newest, newest)
	for cut := 0; cut <= len(full); cut += 7 {
		if err := os.WriteFile(segments[2], full[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, meter.Options{Dir: dir, SegmentBytes: 10 << 10})
		want := 4 + bytes.Count(full[:cut], []byte("\n"))
		if got := len(scan(t, l, meter.Filter{})); got != want {
			t.Fatalf("cut at %d: %d records, want %d", cut, got, want)
		}
		if err := l.Append(usage(9)); err != nil {
			t.Fatal(err)
		}
		got := scan(t, l, meter.Filter{})
		if len(got) != want+1 || got[want].ID != usage(9).ID {
			t.Fatalf("cut at %d: %d records after an append", cut, len(got))
		}
		if r, err := l.Check(t.Context()); err != nil || r.Damaged != 0 {
			t.Fatalf("cut at %d: %+v, %v", cut, r, err)
		}
		l.Close()
	}
	if b, _ := os.ReadFile(segments[0]); !bytes.Equal(b, older) {
		t.Error("an older segment changed")
	}
	// Zeros, as a power cut may leave.
	if err := os.WriteFile(segments[2], append(newest, make([]byte, 200<<10)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := scan(t, open(t, meter.Options{Dir: dir}), meter.Filter{}); len(got) != 5 {
		t.Errorf("after zeros: %d records", len(got))
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	l := open(t, meter.Options{Dir: dir})
	for i := range 10 {
		l.Append(usage(i))
	}
	again := usage(3)
	again.Attempt = 2
	l.Append(again)
	l.Append(usage(5))
	l.Close()
	path := files(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte(`"billed_ms":16`))
	b[i+len(`"billed_ms":`)] = '9'
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l = open(t, meter.Options{Dir: dir})
	r, err := l.Check(t.Context())
	if err != nil || r.Records != 11 || r.Damaged != 1 || r.Duplicates != 1 || r.Segments != 1 || len(r.Examples) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	t.Logf("%q", r.Examples)
	if got := scan(t, l, meter.Filter{}); len(got) != 11 {
		t.Errorf("a scan yields %d", len(got))
	}
}

// A segment ends with its size and with the UTC day; what is over the retention
// goes; the order is kept.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // begins at midnight of 2000-01-01
		l, err := meter.Open(meter.Options{Dir: dir, SegmentBytes: 4 << 10, MaxAge: 10 * 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i := range 30 {
			if err := l.Append(usage(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(8 * time.Hour)
		}
		synctest.Wait()
		segments := files(t, dir)
		t.Logf("%d segments, %s", len(segments), filepath.Base(segments[0]))
		got := scan(t, l, meter.Filter{})
		if len(segments) != 10 || len(got) != 30 {
			t.Errorf("%d segments, %d records", len(segments), len(got))
		}
		day3 := time.Date(2000, 1, 4, 0, 0, 0, 0, time.UTC)
		if got := scan(t, l, meter.Filter{Since: day3, Until: day3.Add(24 * time.Hour)}); len(got) != 3 {
			t.Errorf("%d records of one day", len(got))
		}
		time.Sleep(5 * 24 * time.Hour)
		synctest.Wait()
		// The first five days' records were followed by others over ten days ago.
		if got := scan(t, l, meter.Filter{}); len(got) == 30 || len(got) < 15 || got[len(got)-1].ID != usage(29).ID {
			t.Errorf("%d records are left", len(got))
		}
		for i := range 300 { // by size, and in one moment
			if err := l.Append(usage(100 + i)); err != nil {
				t.Fatal(err)
			}
		}
		got = scan(t, l, meter.Filter{Since: time.Now()})
		if len(got) != 300 || !slices.IsSortedFunc(got, func(a, b *lambent.Usage) int { return strings.Compare(a.ID, b.ID) }) {
			t.Errorf("%d records of one moment", len(got))
		}
	})
	l := open(t, meter.Options{Dir: dir, MaxBytes: 20 << 10})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if got := scan(t, l, meter.Filter{}); len(got) > 0 && len(got) < 50 && got[len(got)-1].ID == usage(399).ID {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d records are left in 20 KB", len(got))
		}
	}
}

// On a full disk Append says so, leaves nothing half-written, and works again
// when there is room.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no small disk here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, meter.Options{Dir: filepath.Join(dir, "usage")})
	n, failed := 0, 0
	for i := range 1000 {
		err := l.Append(usage(i))
		if err == nil {
			n++
			continue
		}
		failed++
		if !lambent.Is(err, lambent.NoSpace) {
			t.Fatal(err)
		}
		if failed == 1 {
			e, _ := errors.AsType[*lambent.Error](err)
			t.Logf("%s (%s)", e.Message, e.Hint)
		}
	}
	if failed == 0 {
		t.Fatal("the disk is not small")
	}
	if got := scan(t, l, meter.Filter{}); len(got) != n {
		t.Errorf("%d records, and %d were taken", len(got), n)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(usage(5000)); err != nil {
		t.Fatal(err)
	}
	got := scan(t, l, meter.Filter{})
	r, err := l.Check(t.Context())
	if err != nil || r.Damaged != 0 || r.Duplicates != 0 || len(got) != n+1 || got[n].ID != usage(5000).ID {
		t.Errorf("%d records of %d, %+v, %v", len(got), n+1, r, err)
	}
}

func TestHammer(t *testing.T) {
	l := open(t, meter.Options{SegmentBytes: 64 << 10})
	const writers, records = 8, 1000
	var writing, reading sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for w := range writers {
		writing.Go(func() {
			for i := range records {
				if err := l.Append(usage(w*records + i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	reading.Go(func() {
		for ctx.Err() == nil {
			if r, err := l.Check(t.Context()); err != nil || r.Damaged+r.Duplicates > 0 {
				t.Errorf("%+v, %v", r, err)
			}
			recent(t, l, meter.Filter{Limit: 100})
		}
	})
	reading.Go(func() {
		for ctx.Err() == nil {
			if err := l.Sync(); err != nil {
				t.Error(err)
			}
		}
	})
	writing.Wait()
	cancel()
	reading.Wait()
	if r, err := l.Check(t.Context()); err != nil || r.Records != writers*records || r.Damaged+r.Duplicates > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	l.Close()
	if err := l.Append(usage(1)); !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("an append after the close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
}

// An append is one write(2), which kill -9 cannot undo: a process is killed while
// it appends, and every record that it reported is there.
func TestKill(t *testing.T) {
	if dir := os.Getenv("METER_KILL_DIR"); dir != "" {
		l, err := meter.Open(meter.Options{Dir: dir, SegmentBytes: 16 << 10})
		if err != nil {
			t.Fatal(err)
		}
		begin := len(scan(t, l, meter.Filter{}))
		for i := 0; ; i++ {
			if err := l.Append(usage(begin + i)); err != nil {
				t.Fatal(err)
			}
			fmt.Println("appended", begin+i)
		}
	}
	dir := t.TempDir()
	for range 5 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKill$")
		cmd.Env = append(os.Environ(), "METER_KILL_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last, line := -1, make([]byte, 0, 1<<16)
		buf := make([]byte, 4096)
		for len(line) < 20_000 {
			n, err := out.Read(buf)
			line = append(line, buf[:n]...)
			if err != nil {
				break
			}
		}
		_ = cmd.Process.Kill()
		for {
			n, err := out.Read(buf)
			line = append(line, buf[:n]...)
			if err != nil {
				break
			}
		}
		_ = cmd.Wait()
		if i := bytes.LastIndexByte(line, '\n'); i > 0 {
			line = line[:i]
			fmt.Sscanf(string(line[bytes.LastIndexByte(line, '\n')+1:]), "appended %d", &last)
		}
		l := open(t, meter.Options{Dir: dir})
		got := scan(t, l, meter.Filter{})
		r, err := l.Check(t.Context())
		if last < 100 || len(got) < last+1 || len(got) > last+2 || err != nil || r.Damaged+r.Duplicates > 0 {
			t.Fatalf("%d records, the last reported was %d: %+v, %v", len(got), last, r, err)
		}
		l.Close()
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("{}\n"))
	f.Add(meter.AppendRecord(meter.AppendRecord(nil, usage(1)), usage(2))[:700])
	f.Fuzz(func(t *testing.T, file []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "20260102T030405.000000Z.jsonl"), file, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := meter.Open(meter.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		before := len(scan(t, l, meter.Filter{}))
		if back := len(recent(t, l, meter.Filter{})); back != before {
			t.Errorf("%d forward, %d backward", before, back)
		}
		if err := l.Append(usage(1)); err != nil {
			t.Fatal(err)
		}
		if got := scan(t, l, meter.Filter{}); len(got) != before+1 {
			t.Errorf("%d records, then %d", before, len(got))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, meter.Options{})
	u := usage(1)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Append(u); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite is the system call of an append, to be taken off.
func BenchmarkWrite(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "f"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := meter.AppendRecord(nil, usage(1))
	for b.Loop() {
		f.Write(buf)
	}
}

func BenchmarkSum(b *testing.B) {
	l := open(b, meter.Options{})
	const n = 100_000
	for i := range n {
		if err := l.Append(usage(i)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := l.Sum(b.Context(), meter.Filter{}, tally(b, meter.OwnCloud)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/record")
}
