package server

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
)

func TestProcessorsFollowWhatIsComputed(t *testing.T) {
	p := &processors{all: 6, n: 1}
	begun := time.Now()
	for i, step := range []struct {
		busy  float64 // processors
		after time.Duration
		want  int
	}{
		{0.85, 0, 1},                      // they come by with one
		{0.95, 10 * time.Millisecond, 2},  // they do not
		{1.9, 20 * time.Millisecond, 4},   //
		{3.7, 30 * time.Millisecond, 6},   // all
		{6, 40 * time.Millisecond, 6},     //
		{1, 500 * time.Millisecond, 6},    // not for long enough
		{2.7, 900 * time.Millisecond, 6},  // half of them would be too few
		{1, 1800 * time.Millisecond, 6},   //
		{1, 1950 * time.Millisecond, 3},   // half, rounded up
		{0.1, 2 * time.Second, 3},         // one step at a time
		{0.1, 2960 * time.Millisecond, 2}, //
		{0.1, 3970 * time.Millisecond, 1}, //
		{0.1, 10_000 * time.Millisecond, 1},
	} {
		if p.n = p.want(step.busy, begun.Add(step.after)); p.n != step.want {
			t.Fatalf("step %d: %d processors, want %d", i, p.n, step.want)
		}
	}
}

func garbagePercent() uint64 {
	now := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(now)
	return now[0].Value.Uint64()
}

// TestProcessorsOfAServer changes the whole test program's: it is not parallel.
func TestProcessorsOfAServer(t *testing.T) {
	all := runtime.GOMAXPROCS(0)
	if all == 1 {
		t.Skip("needs two processors")
	}
	wait := func(want func(int) bool, what string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !want(runtime.GOMAXPROCS(0)); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	p := newProcessors(true)
	defer debug.SetGCPercent(debug.SetGCPercent(restPercent))
	defer p.close()
	wait(func(n int) bool { return n == 1 }, "an idle program keeps several processors")
	p.enter(light)
	p.enter(light)
	time.Sleep(5 * lookAfter)
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("%d processors for two calls that compute nothing", n)
	}
	var done atomic.Bool
	for range 2 {
		go func() {
			for !done.Load() {
			}
		}()
	}
	wait(func(n int) bool { return n > 1 }, "one processor is full, and there is no other")
	wait(func(int) bool { return garbagePercent() > restPercent }, "under load, garbage is collected as at rest")
	done.Store(true)
	p.leave(light)
	p.leave(light)
	wait(func(n int) bool { return n == 1 && !p.watching.Load() }, "it goes on watching")
	if n := garbagePercent(); n != restPercent {
		t.Errorf("at rest %d%% of garbage may pile up", n)
	}
	p.close()
	if n := runtime.GOMAXPROCS(0); n != all {
		t.Errorf("%d processors at the end, want %d", n, all)
	}
}

// What may pile up follows what is alive. It changes the whole test program's bound: it
// is not parallel.
func TestGarbageFollowsWhatIsAlive(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(restPercent))
	g, now := garbage{ours: true}, time.Now()
	runtime.GC()
	g.look(1, now)
	held := make([]byte, 256<<20)
	runtime.GC()
	g.look(1, now.Add(time.Second))
	if n := garbagePercent(); n != restPercent {
		t.Errorf("beside 256 MB that are alive %d%% of garbage may pile up", n)
	}
	runtime.KeepAlive(held)
}
