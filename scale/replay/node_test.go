package replay_test

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lambent"
	"lambent/scale/replay"
)

// busy draws some minutes of some functions of several projects, with pauses, and
// with minutes in which they want more than one instance.
func busy(t *rapid.T) *replay.Trace {
	trace := &replay.Trace{Minutes: rapid.IntRange(1, 8).Draw(t, "minutes")}
	for k := range rapid.IntRange(1, 6).Draw(t, "functions") {
		f := replay.Function{Name: fmt.Sprint("f", k), Project: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "project")}
		f.MB = float64(rapid.SampledFrom([]int{100, 128, 500, 1000}).Draw(t, "MB"))
		run := float64(rapid.SampledFrom([]int{1, 50, 1000, 20_000}).Draw(t, "run ms"))
		for i := range f.RunMS {
			f.RunMS[i] = run * float64(i+1)
		}
		for m := range trace.Minutes {
			if n := rapid.SampledFrom([]int32{0, 0, 1, 3, 40}).Draw(t, "invocations"); n > 0 {
				f.Counts = append(f.Counts, replay.Count{Minute: int32(m), N: n})
			}
		}
		trace.Functions = append(trace.Functions, f)
	}
	return trace
}

func contenders(t *rapid.T) []replay.Contender {
	init := time.Duration(rapid.IntRange(0, 3000).Draw(t, "init ms")) * ms
	concurrency := rapid.SampledFrom([]int{1, 1, 3}).Draw(t, "concurrency")
	var cs []replay.Contender
	for _, p := range []string{"default", "fixed:1m", "histogram", "none"} {
		c, err := replay.Parse(p, 5*ms, init)
		if err != nil {
			t.Fatal(err)
		}
		c.Concurrency = concurrency
		cs = append(cs, c)
	}
	return cs
}

// TestBounds: what instances are promised is never more than the node has, and
// everybody is served whose function fits. (Run fails if an invocation is not.)
func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trace := busy(t)
		o := replay.Options{Seed: rapid.Uint64().Draw(t, "seed"), MemoryMB: rapid.IntRange(1, 4000).Draw(t, "memory"), MaxInstances: rapid.IntRange(0, 5).Draw(t, "instances")}
		rs, err := replay.Run(context.Background(), trace, o, contenders(t))
		if err != nil {
			t.Fatal(err)
		}
		var large, served, refused int64
		for _, f := range trace.Functions {
			fits := int(f.MB) <= o.MemoryMB
			if !fits {
				large++
			}
			for _, c := range f.Counts {
				if fits {
					served += int64(c.N)
				} else {
					refused += int64(c.N)
				}
			}
		}
		for _, r := range rs {
			if r.PeakMB > o.MemoryMB {
				t.Errorf("%s: %d MB are promised, of %d", r.Name, r.PeakMB, o.MemoryMB)
			}
			if r.Invocations != served || r.TooLarge != large || r.Refused != refused {
				t.Errorf("%s: %d served, %d functions too large, %d refused; want %d, %d, %d", r.Name, r.Invocations, r.TooLarge, r.Refused, served, large, refused)
			}
			if o.MaxInstances > 0 && r.Peak > float64(o.MaxInstances) {
				t.Errorf("%s: %.2f instances, of %d", r.Name, r.Peak, o.MaxInstances)
			}
			if r.PlaceDelayS > r.DelayS {
				t.Errorf("%s: of %.3f s of delay %.3f s are for places", r.Name, r.DelayS, r.PlaceDelayS)
			}
		}
	})
}

// TestRoomForAll: a node as large as what they want at most together changes
// nothing for anybody.
func TestRoomForAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trace, cs := busy(t), contenders(t)
		o := replay.Options{Seed: rapid.Uint64().Draw(t, "seed")}
		play := func(memoryMB int) []*replay.Result {
			o.MemoryMB = memoryMB
			rs, err := replay.Run(context.Background(), trace, o, cs)
			if err != nil {
				t.Fatal(err)
			}
			return rs
		}
		apart, together := play(0), play(1e9)
		for i, r := range together {
			peak := r.PeakMB
			exact := play(max(peak, 1000))[i] // with less none of some would fit
			for _, r := range []*replay.Result{r, exact} {
				if r.PeakMB != peak {
					t.Errorf("%s: a peak of %d MB, and of %d", r.Name, r.PeakMB, peak)
				}
				r.PeakMB = 0
				if !reflect.DeepEqual(r, apart[i]) {
					t.Errorf("%s: %+v\nwant %+v", r.Name, r, apart[i])
				}
			}
		}
	})
}

// TestScarceMemoryIsShared: who waits for places gets as much as who floods the
// node, idle instances give way, and it costs delay.
func TestScarceMemoryIsShared(t *testing.T) {
	trace := small()
	for i := range trace.Functions {
		trace.Functions[i].Project = trace.Functions[i].Name
	}
	r := run(t, trace, replay.Options{Seed: 1, MemoryMB: 1100}, 0, "fixed:24h")[0]
	free := run(t, trace, replay.Options{Seed: 1}, 0, "fixed:24h")[0]
	if r.Evicted == 0 || r.Yielded == 0 || r.ColdStarts <= free.ColdStarts || r.DelayS <= free.DelayS {
		t.Errorf("%d evicted, %d yielded; %d cold starts and %.1f s of delay, of %d and %.1f on a node with room", r.Evicted, r.Yielded, r.ColdStarts, r.DelayS, free.ColdStarts, free.DelayS)
	}
	if r.PlaceDelayS < r.DelayS/2 || free.PlaceDelayS != 0 || free.Evicted != 0 {
		t.Errorf("of %.1f s of delay %.1f s are for places; with room %.1f", r.DelayS, r.PlaceDelayS, free.PlaceDelayS)
	}
}

// TestProcessorsChangeNothing: any number of them gives the same result.
func TestProcessorsChangeNothing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, o := range []replay.Options{{Functions: 60}, {Functions: 60, Coarse: true}, {Functions: 20, MemoryMB: 3000}} {
		var first []*replay.Result
		o.Minutes = 30
		for _, n := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(n)
			told := 0
			o.Progress = func(done, of int) {
				if told++; done != told || of < done {
					t.Errorf("%d of %d are done, told for the %dth time", done, of, told)
				}
			}
			rs := run(t, small(), o, 0, "default", "fixed:10m@150ms", "histogram")
			if first == nil {
				first = rs
			} else if !reflect.DeepEqual(rs, first) {
				t.Errorf("%+v: another result with %d processors", o, n)
			}
			if want := map[bool]int{false: 60, true: 3 * 30}[o.MemoryMB > 0]; told != want {
				t.Errorf("progress is told %d times, want %d", told, want)
			}
		}
	}
}

func TestStopsTogether(t *testing.T) {
	for _, o := range []replay.Options{{}, {MemoryMB: 2000}} {
		ctx, cancel := context.WithCancel(context.Background())
		o.Progress = func(int, int) { cancel() }
		c, err := replay.Parse("default", 5*ms, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := replay.Run(ctx, small(), o, []replay.Contender{c}); !lambent.Is(err, lambent.Canceled) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := replay.Run(context.Background(), small(), replay.Options{Coarse: true, MemoryMB: 1}, nil); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("%v", err)
	}
}

// Whoever cancels while those in line at midnight are still being served is told so.
func TestCancelAtTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := replay.Options{MemoryMB: 1100, MaxInstances: 1, Progress: func(done, of int) {
		if done == of {
			cancel()
		}
	}}
	c, err := replay.Parse("default", 5*ms, 0)
	if err != nil {
		t.Fatal(err)
	}
	day := small()
	for i := range day.Functions {
		day.Functions[i].RunMS = [7]float64{60000, 60000, 60000, 60000, 60000, 60000, 60000}
	}
	if _, err = replay.Run(ctx, day, o, []replay.Contender{c}); !lambent.Is(err, lambent.Canceled) {
		t.Errorf("got %v", err)
	}
}
