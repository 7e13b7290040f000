package logs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/logs"
)

// Writers, readers, followers and deletes at once: every line of the functions
// that are not deleted is there once, in order for each writer, or counted.
func TestHammer(t *testing.T) {
	s := open(t, logs.Options{MaxBytes: 64 << 20})
	const functions, writers, lines = 3, 4, 3000
	var writing, reading sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	var followed atomic.Int64
	for f := range functions {
		n := name(fmt.Sprint("f", f))
		reading.Go(func() {
			for e, err := range s.Follow(ctx, n, logs.Filter{}) {
				if err != nil {
					t.Error(err)
				}
				followed.Add(int64(max(1, e.Dropped)))
			}
		})
		reading.Go(func() {
			for ctx.Err() == nil {
				for _, err := range s.Query(t.Context(), n, logs.Filter{Tail: true, Limit: 10}) {
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
		for w := range writers {
			writing.Go(func() {
				text := []byte(strings.Repeat("x", 30))
				for i := range lines {
					line := fmt.Appendf(text[:0], "%d", i)
					s.Function(n).Line(time.Now(), "1", fmt.Sprint("w", w), line)
					clear(line) // it must not have been kept
				}
			})
		}
	}
	reading.Go(func() {
		for ctx.Err() == nil {
			put(s.Function(name("gone")), "r", 10, numbered)
			if err := s.Delete(name("gone")); err != nil {
				t.Error(err)
			}
		}
	})
	writing.Wait()
	cancel()
	reading.Wait()
	t.Logf("followers saw or missed %d lines", followed.Load())
	for f := range functions {
		next := make(map[string]int)
		total := 0
		last := time.Time{}
		for _, e := range entries(t, s, name(fmt.Sprint("f", f)), logs.Filter{}) {
			total += max(1, e.Dropped)
			if e.Time.Before(last) {
				t.Fatalf("%v after %v", e.Time, last)
			}
			last = e.Time
			if e.Dropped > 0 {
				continue
			}
			var i int
			if _, err := fmt.Sscan(e.Text, &i); err != nil || i < next[e.Request] {
				t.Fatalf("writer %s: %q where %d or more was to come", e.Request, e.Text, next[e.Request])
			}
			next[e.Request] = i + 1
		}
		if total != writers*lines {
			t.Errorf("function %d: %d lines of %d", f, total, writers*lines)
		}
	}
}

// On a full disk lines are dropped with a count, calls are not slowed, and the
// log goes on when there is room.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, "1m")
	s := open(t, logs.Options{Dir: filepath.Join(dir, "logs")})
	l := s.Function(name("f"))
	const n = 5000
	put(l, "before", 10, numbered)
	entries(t, s, name("f"), logs.Filter{})
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not small")
	}
	put(l, "full", n, func(i int) string { return numbered(i) + strings.Repeat("x", 200) })
	entries(t, s, name("f"), logs.Filter{})
	put(l, "full", n, numbered)
	entries(t, s, name("f"), logs.Filter{})
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	entries(t, s, name("f"), logs.Filter{}) // writes the mark
	put(l, "after", 10, numbered)
	var before, full, dropped, after, marks int
	for _, e := range entries(t, s, name("f"), logs.Filter{}) {
		switch {
		case e.Dropped > 0:
			if !strings.Contains(e.Text, "no space left") || after > 0 {
				t.Errorf("the mark is %+v", e)
			}
			marks++
			dropped += e.Dropped
		case e.Request == "before":
			before++
		case e.Request == "full":
			full++
		case e.Request == "after":
			after++
		}
	}
	t.Logf("%d lines kept and %d dropped on a full disk", full, dropped)
	if before != 10 || after != 10 || full+dropped != 2*n || dropped == 0 || marks == 0 {
		t.Errorf("%d lines before, %d kept, %d dropped in %d marks, %d after", before, full, dropped, marks, after)
	}
}

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size+",mode=0700", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no small disk here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	return dir
}

// 10,000 logs that were written to and are quiet take next to no memory, and no
// descriptor.
func TestManyIdleLogs(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 10,000 files")
	}
	s := open(t, logs.Options{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 10_000
	all := make([]*logs.Log, n)
	for i := range n {
		all[i] = s.Function(name(fmt.Sprint("f", i)))
		put(all[i], "r", 3, numbered)
	}
	for i := range n {
		entries(t, s, name(fmt.Sprint("f", i)), logs.Filter{Limit: 1})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	fds, _ := os.ReadDir("/proc/self/fd")
	t.Logf("%d bytes a log, %d descriptors", each, len(fds))
	if each > 1200 {
		t.Errorf("an idle log takes %d bytes", each)
	}
	if len(fds) > 100 {
		t.Errorf("%d descriptors are open", len(fds))
	}
	runtime.KeepAlive(all)
}

func FuzzText(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte("\\x41 \\n \xff\x00é\u2028"))
	f.Add([]byte("\\"))
	s := open(f, logs.Options{Dir: f.TempDir()})
	n := 0
	f.Fuzz(func(t *testing.T, text []byte) {
		n++
		fn := name(fmt.Sprint("f", n, "-", os.Getpid()))
		s.Function(fn).Line(time.Now(), "1", "r", text)
		got := entries(t, s, fn, logs.Filter{})
		if len(got) != 1 || got[0].Text != string(text) {
			t.Errorf("%q came back as %+v", text, got)
		}
		if err := s.Delete(fn); err != nil {
			t.Error(err)
		}
	})
}

// FuzzFile reads a file of any bytes.
func FuzzFile(f *testing.F) {
	f.Add([]byte("2026-01-02T03:04:05.678901Z latest r text\n2026-01-02T03:04:05.678901Z ! 12 lines dropped: x\n\\x"))
	f.Add([]byte("2026-01-02T03:04:05.678901Z ! -1 lines dropped: x\n\n   \n"))
	dir := f.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "default", "f"), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := os.WriteFile(filepath.Join(dir, "default", "f", "20260102T030405.000000Z.log"), file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := logs.Open(logs.Options{Dir: dir, MaxAge: 1 << 62})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, f := range []logs.Filter{{}, {Tail: true, Limit: 3}, {Since: time.Unix(0, 0)}} {
			if got := entries(t, s, name("f"), f); len(got) > bytes.Count(file, []byte("\n"))+1 {
				t.Errorf("%d entries of %q", len(got), file)
			}
		}
	})
}

// What a line costs the invocation that writes it.
func BenchmarkLine(b *testing.B) {
	s := open(b, logs.Options{})
	l := s.Function(name("f"))
	text := []byte("REPORT RequestId: 6bc0f2c8-5c7e-4d7a-9d0f-3f1d5a3b2c1d\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 46 MB\t")
	b.ReportAllocs()
	for b.Loop() {
		l.Line(time.Now(), "latest", "6bc0f2c8-5c7e-4d7a-9d0f-3f1d5a3b2c1d", text)
	}
}

// What it costs while another function writes 50 MB/s, and how many of that
// function's lines are lost.
func BenchmarkLineBesideWriter(b *testing.B) {
	dir := b.TempDir()
	s := open(b, logs.Options{Dir: dir})
	quit := make(chan struct{})
	var wg sync.WaitGroup
	var written atomic.Int64
	began := time.Now()
	wg.Go(func() {
		l, text := s.Function(name("noisy")), bytes.Repeat([]byte("x"), 100)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-quit:
				tick.Stop()
				return
			case <-tick.C:
				for float64(written.Load()) < 50e6*time.Since(began).Seconds() {
					l.Line(time.Now(), "1", "r", text)
					written.Add(100)
				}
			}
		}
	})
	l := s.Function(name("f"))
	var worst time.Duration
	n := 0
	for b.Loop() {
		t := time.Now()
		l.Line(t, "latest", "6bc0f2c8-5c7e-4d7a-9d0f-3f1d5a3b2c1d", []byte("START RequestId: 6bc0f2c8-5c7e-4d7a-9d0f-3f1d5a3b2c1d Version: $LATEST"))
		worst = max(worst, time.Since(t))
		if n++; n%1000 == 0 {
			time.Sleep(time.Millisecond) // some 100,000 lines a second
		}
	}
	took := time.Since(began)
	close(quit)
	wg.Wait()
	dropped := 0
	for e, err := range s.Query(context.Background(), lambent.Name{Project: "default", Function: "noisy"}, logs.Filter{}) {
		if err != nil {
			b.Fatal(err)
		}
		dropped += e.Dropped
	}
	b.ReportMetric(float64(written.Load())/1e6/took.Seconds(), "noisy-MB/s")
	b.ReportMetric(float64(worst.Microseconds()), "worst-us")
	b.ReportMetric(float64(dropped), "dropped")
}
