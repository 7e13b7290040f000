package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lambent/store"
)

// BenchmarkQueueAdd is how fast work is accepted, each on disk before the next of
// its producer.
func BenchmarkQueueAdd(b *testing.B) {
	for _, producers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			q := openQueue(b, b.TempDir(), store.QueueOptions{LaneItems: 1 << 30, Items: 1 << 30, Bytes: 1 << 40})
			produce(b, q, producers)
		})
	}
}

// BenchmarkQueueCycle is the whole life of work: accepted, handed out, read and
// finished by 16 workers. The rate is of what was finished.
func BenchmarkQueueCycle(b *testing.B) {
	for _, producers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			q := openQueue(b, b.TempDir(), store.QueueOptions{LaneItems: 1 << 30, Items: 1 << 30})
			waits := newWaits()
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			var workers sync.WaitGroup
			var done atomic.Int64
			for range 16 {
				workers.Go(func() {
					for {
						lane, err := q.Next(ctx)
						if err != nil {
							return
						}
						for _, w := range q.Take(lane, 4) {
							it, err := w.Load(ctx)
							if err == nil {
								err = w.Done()
							}
							if err != nil {
								b.Error(err)
							}
							sent, _ := strconv.ParseInt(string(it.Meta), 10, 64)
							waits.add(time.Duration(time.Now().UnixNano() - sent))
							if done.Add(1) == int64(b.N) {
								cancel()
							}
						}
						q.Wake(lane)
					}
				})
			}
			produce(b, q, producers)
			workers.Wait()
			if err := q.Flush(b.Context()); err != nil {
				b.Error(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "done/s")
			waits.report(b, "start")
		})
	}
}

// produce adds b.N items of 1 KB to 100 lanes.
func produce(b *testing.B, q *store.Queue, producers int) {
	payload := make([]byte, 1<<10)
	rand.Read(payload)
	var ids atomic.Int64
	waits := newWaits()
	before := cpu(b)
	b.ResetTimer()
	var all sync.WaitGroup
	for range producers {
		all.Go(func() {
			for {
				id := ids.Add(1)
				if id > int64(b.N) {
					return
				}
				began := time.Now()
				_, err := q.Add(b.Context(), store.Item{
					ID: fmt.Sprintf("%032d", id), Lane: fmt.Sprintf("project/function-%d", id%100), Payload: payload,
					Meta: strconv.AppendInt(nil, began.UnixNano(), 10),
				})
				if err != nil {
					b.Error(err)
					return
				}
				waits.add(time.Since(began))
			}
		})
	}
	all.Wait()
	b.StopTimer()
	waits.report(b, "accept")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accept/s")
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N)/1e3, "cpu-us/op")
}

// waits are durations whose percentiles are reported.
type waits struct {
	mu  sync.Mutex
	all []time.Duration
}

func newWaits() *waits { return &waits{} }

func (w *waits) add(d time.Duration) {
	w.mu.Lock()
	w.all = append(w.all, d)
	w.mu.Unlock()
}

func (w *waits) report(b *testing.B, of string) {
	slices.Sort(w.all)
	b.ReportMetric(float64(w.all[len(w.all)/2].Microseconds()), of+"-p50-us")
	b.ReportMetric(float64(w.all[len(w.all)*99/100].Microseconds()), of+"-p99-us")
}

// cpu is what this process has used of the processors.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkQueueRebuild opens a queue in which 1,000,000 items of 1 KB wait, in
// 1,000 lanes; then it drains it. Run it with -benchtime=1x.
func BenchmarkQueueRebuild(b *testing.B) {
	const items, producers = 1_000_000, 32
	dir := b.TempDir()
	o := store.QueueOptions{Remember: time.Second}
	s := open(b, dir)
	q, err := s.OpenQueue(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 1<<10)
	rand.Read(payload)
	var ids atomic.Int64
	var all sync.WaitGroup
	for range producers {
		all.Go(func() {
			for id := ids.Add(1); id <= items; id = ids.Add(1) {
				if _, err := q.Add(b.Context(), store.Item{ID: fmt.Sprintf("%032d", id), Lane: fmt.Sprintf("lane-%d", id%1000), Payload: payload}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	frames := q.Stats().Frames
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	s, q = nil, nil
	debug.FreeOSMemory()
	for b.Loop() {
		began, used := time.Now(), cpu(b)
		s = open(b, dir)
		engine := time.Since(began)
		if q, err = s.OpenQueue(b.Context(), o); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(engine.Seconds(), "engine-s")
		b.ReportMetric((time.Since(began) - engine).Seconds(), "rebuild-s")
		b.ReportMetric((cpu(b) - used).Seconds(), "both-cpu-s")
		b.ReportMetric(memory(b, "VmRSS:"), "rss-MB")
		b.ReportMetric(memory(b, "VmHWM:"), "peak-MB")
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
	b.ReportMetric(float64(frames), "frames")
	b.ReportMetric(du(b, dir), "full-MB")
	if n := q.Stats().Waiting; n != items {
		b.Fatalf("%d wait, want %d", n, items)
	}
	began := time.Now()
	for _, lane := range q.Lanes() {
		for _, w := range q.Take(lane, items) {
			if err := w.Done(); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := q.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(began).Seconds(), "drain-s")
	for q.Stats().Bytes > 1<<20 {
		time.Sleep(10 * time.Millisecond)
	}
	b.ReportMetric(du(b, dir), "drained-MB")
}

// BenchmarkQueueNeighbour is how long one function's work waits, an item each
// 10 ms, while another's 200,000 items are accepted by 64 producers, fail, and
// fail again 3 s later. Run it with -benchtime=1x.
func BenchmarkQueueNeighbour(b *testing.B) {
	const items = 200_000
	q := openQueue(b, b.TempDir(), store.QueueOptions{})
	payload := make([]byte, 1<<10)
	rand.Read(payload)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	waits := newWaits()
	var failures atomic.Int64
	var workers, producers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for {
				lane, err := q.Next(ctx)
				if err != nil {
					return
				}
				for _, w := range q.Take(lane, 4) {
					it, err := w.Load(ctx)
					if sent, _ := strconv.ParseInt(string(it.Meta), 10, 64); sent > 0 {
						waits.add(time.Duration(time.Now().UnixNano() - sent))
						err = errors.Join(err, w.Done())
					} else {
						err = errors.Join(err, w.Retry(time.Now().Add(3*time.Second), w.Attempt+1, "it always fails"))
						failures.Add(1)
					}
					if err != nil && ctx.Err() == nil {
						b.Error(err)
					}
				}
				q.Wake(lane)
			}
		})
	}
	var ids atomic.Int64
	for range 64 {
		producers.Go(func() {
			for id := ids.Add(1); id <= items; id = ids.Add(1) {
				if _, err := q.Add(ctx, store.Item{ID: fmt.Sprint(id), Lane: "fails", Payload: payload}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	for id, tick := 0, time.NewTicker(10*time.Millisecond); failures.Load() < 2*items; id++ {
		<-tick.C
		if _, err := q.Add(ctx, store.Item{ID: fmt.Sprint(id), Lane: "works", Meta: strconv.AppendInt(nil, time.Now().UnixNano(), 10), Payload: payload}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	producers.Wait()
	cancel()
	workers.Wait()
	waits.report(b, "start")
	b.ReportMetric(float64(len(waits.all)), "samples")
}

// memory is what the kernel says of this process's memory, in MB.
func memory(b *testing.B, what string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc")
	}
	_, rest, _ := strings.Cut(string(status), what)
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) / 1e3
}

// du is what a directory takes on the disk, in MB.
func du(b *testing.B, dir string) float64 {
	var blocks int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // files go meanwhile
		}
		if info, err := d.Info(); err == nil {
			blocks += info.Sys().(*syscall.Stat_t).Blocks
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return float64(blocks) * 512 / 1e6
}
