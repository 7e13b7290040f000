// Package replay plays a recorded day of functions back, in virtual time, to say
// what a keep-alive policy would have cost and saved: through the same
// [scale.Pool], the same policies and, where memory is bounded, the same
// [scale.Node] with which a server decides.
//
// Nothing is run, and no instance is real: starts take what they are said to, runs
// what the trace says. The same trace, seed and contenders give the same result to
// the last digit, on any number of processors. On a node with memory to spare
// functions are independent of one another, so they are taken one after the other
// and memory is bounded, however many there are. On one without they share it, in
// one virtual time, and all are there at once.
package replay

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/scale"
)

// A Contender is one way to run the day.
type Contender struct {
	Name        string
	New         func() scale.Policy // for one function
	Forecast    bool                // instances are started while demand grows, too
	Start       time.Duration       // the platform's part of a cold start
	Init        time.Duration       // the code's part
	Concurrency int                 // invocations at a time in one instance; 0 is 1
}

// Options are of a run.
type Options struct {
	Seed         uint64
	Minutes      int  // of the trace; 0: all of it
	Functions    int  // so many made up from the trace's; 0: those of the trace
	Coarse       bool // one instance for each function, on the minute (see RATIONALE.md)
	MemoryMB     int  // that instances are promised together, at most; 0: no bound
	MaxInstances int  // 0: no bound
	// Progress is told how much of how much is done, if it is not nil: functions, or
	// where a bound is given minutes of the trace, for each contender.
	Progress func(done, of int)
}

// A Result is what one contender did.
type Result struct {
	Name         string
	Invocations  int64
	ColdStarts   int64 // starts for an invocation that waited
	FirstTouches int64 // of those, a function's first ever
	NewPeaks     int64 // of those, of an instance more than the function ever had
	Ahead        int64 // starts for nobody yet
	Evicted      int64 // idle instances that gave way to others
	Yielded      int64 // instances that gave way after an invocation, to whom had had less of the node
	TooLarge     int64 // functions of which no instance fits on the node
	Refused      int64 // their invocations, which count nowhere else
	IdleMinutes  int64 // of instances; coarse runs only
	Minutes      []Minute
	IdleGBs      float64 // memory of instances that serve nobody, those that start among them
	BusyGBs      float64
	Peak         float64 // instances, in the minute with the most
	PeakMB       int     // memory at the moment with the most; only where it is bounded: functions have no common time else
	DelayS       float64 // all start delays
	PlaceDelayS  float64 // of those, while the node had no place for another instance

	delays distribution
}

// A Minute is a result's part in one minute of the trace.
type Minute struct {
	Invocations, ColdStarts, Evicted int64
	Delay, PlaceDelay                time.Duration

	// Whole numbers, whose sum is the same in whatever order they are added.
	instances  int64 // µs
	idle, busy int64 // MB x µs
}

const minuteUS = float64(time.Minute / time.Microsecond)

// Instances is how many there are, on average.
func (m *Minute) Instances() float64 { return float64(m.instances) / minuteUS }

// IdleGB is the memory of instances that serve nobody, on average.
func (m *Minute) IdleGB() float64 { return float64(m.idle) / 1024 / minuteUS }

// BusyGB is that of the others.
func (m *Minute) BusyGB() float64 { return float64(m.busy) / 1024 / minuteUS }

func (r *Result) minute(t time.Duration) *Minute {
	return &r.Minutes[min(int(t/time.Minute), len(r.Minutes)-1)]
}

// MeanDelay is the start delay of an invocation.
func (r *Result) MeanDelay() time.Duration {
	return time.Duration(r.DelayS / float64(max(r.Invocations, 1)) * float64(time.Second))
}

// Percentile is the start delay that such a share of invocations does not exceed,
// within 1 in 16.
func (r *Result) Percentile(share float64) time.Duration { return r.delays.percentile(share) }

// WarmShare is the share of invocations without a cold start, of those for which a
// policy could have avoided it: first touches are nobody's fault.
func (r *Result) WarmShare() float64 {
	n := r.Invocations - r.FirstTouches
	if n <= 0 {
		return 1
	}
	return 1 - float64(r.ColdStarts-r.FirstTouches)/float64(n)
}

// A day is what is played.
type day struct {
	Options
	trace      *Trace
	contenders []Contender
	functions  int
	told       progress
}

// Run plays a trace through each contender.
func Run(ctx context.Context, t *Trace, o Options, contenders []Contender) ([]*Result, error) {
	d := &day{Options: o, trace: t, contenders: contenders, functions: o.Functions}
	if o.Minutes == 0 || o.Minutes > t.Minutes {
		d.Minutes = t.Minutes
	}
	if d.functions == 0 {
		d.functions = len(t.Functions)
	}
	play, what := d.apart, "functions"
	d.told = progress{of: d.functions, tell: o.Progress}
	switch {
	case d.Minutes == 0 || len(t.Functions) == 0:
		return nil, lambent.Errorf(lambent.Invalid, "replay.Run", "the trace is empty")
	case o.MemoryMB > 0 || o.MaxInstances > 0:
		if o.Coarse {
			return nil, lambent.Errorf(lambent.Invalid, "replay.Run", "in a coarse replay memory and instances have no bound")
		}
		play, what = d.together, "minutes"
		d.told.of = d.Minutes * len(contenders)
	}
	results := play(ctx)
	unserved := func(r *Result) bool { return r.Invocations != r.delays.n }
	if ctx.Err() != nil && (d.told.done < d.told.of || slices.ContainsFunc(results, unserved)) {
		return nil, lambent.Errorf(lambent.Canceled, "replay.Run", "stopped after %d of %d %s", d.told.done, d.told.of, what)
	}
	for _, r := range results {
		if unserved(r) {
			return nil, lambent.Errorf(lambent.Internal, "replay.Run", "%s: %d invocations were never served", r.Name, r.Invocations-r.delays.n)
		}
		r.sum()
	}
	return results, nil
}

// function returns the kth.
func (d *day) function(k int) *Function {
	if d.Functions > 0 {
		return d.trace.another(d.Seed, k)
	}
	return &d.trace.Functions[k]
}

// results returns one for each contender, with nothing in it.
func (d *day) results() []*Result {
	rs := make([]*Result, len(d.contenders))
	for i := range rs {
		rs[i] = &Result{Name: d.contenders[i].Name, Minutes: make([]Minute, d.Minutes)}
	}
	return rs
}

// apart takes the functions one after the other, each through all contenders. A
// result has only sums of whole numbers until it is summed up, so that it does not
// matter which worker took which function.
func (d *day) apart(ctx context.Context) []*Result {
	results := d.results()
	var mu sync.Mutex // guards results
	each(ctx, d.functions, func(take func() (k int, ok bool)) {
		part := d.results()
		players := make([]replayer, len(part))
		for i := range players {
			players[i] = replayer{c: &d.contenders[i], r: part[i]}
		}
		for k, ok := take(); ok; k, ok = take() {
			f := d.function(k)
			for i := range players {
				if d.Coarse {
					part[i].minutes(&d.contenders[i], f, d.Minutes)
				} else {
					players[i].replay(f, d.Minutes, d.Seed)
				}
			}
			d.told.add(1)
		}
		mu.Lock()
		defer mu.Unlock()
		for i, r := range results {
			r.add(part[i])
		}
	})
	return results
}

// each has workers, one for each processor, take n pieces of work.
func each(ctx context.Context, n int, work func(take func() (k int, ok bool))) {
	var taken atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		workers.Go(func() {
			work(func() (int, bool) {
				k := int(taken.Add(1)) - 1
				return k, k < n && ctx.Err() == nil
			})
		})
	}
	workers.Wait()
}

// A progress is how far all workers are together.
type progress struct {
	of   int
	tell func(done, of int) // or nil

	mu   sync.Mutex // guards done, and is held while it is told
	done int
}

func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.tell != nil {
		p.tell(p.done, p.of)
	}
}

// add adds what another did of the same contender's.
func (r *Result) add(o *Result) {
	r.Invocations += o.Invocations
	r.ColdStarts += o.ColdStarts
	r.FirstTouches += o.FirstTouches
	r.NewPeaks += o.NewPeaks
	r.Ahead += o.Ahead
	r.IdleMinutes += o.IdleMinutes
	for i := range r.Minutes {
		m, n := &r.Minutes[i], &o.Minutes[i]
		m.Invocations += n.Invocations
		m.ColdStarts += n.ColdStarts
		m.Delay += n.Delay
		m.instances += n.instances
		m.idle += n.idle
		m.busy += n.busy
	}
	r.delays.merge(&o.delays)
}

// sum adds the minutes up.
func (r *Result) sum() {
	for i := range r.Minutes {
		m := &r.Minutes[i]
		r.IdleGBs += m.IdleGB() * 60
		r.BusyGBs += m.BusyGB() * 60
		r.DelayS += m.Delay.Seconds()
		r.PlaceDelayS += m.PlaceDelay.Seconds()
		r.Evicted += m.Evicted
		r.Peak = max(r.Peak, m.Instances())
	}
}

// another makes the kth function up: one of the trace's, at another time of day,
// with another size and another speed.
func (t *Trace) another(seed uint64, k int) *Function {
	rng := rand.New(rand.NewPCG(seed, uint64(k)))
	f := t.Functions[rng.IntN(len(t.Functions))]
	f.Name += string(rune('a'+k%26)) + time.Duration(k).String()
	shift := int32(rng.IntN(t.Minutes))
	counts := make([]Count, 0, len(f.Counts))
	late := 0 // the first that is moved past the end of the day comes first
	for late < len(f.Counts) && f.Counts[late].Minute+shift < int32(t.Minutes) {
		late++
	}
	for _, c := range f.Counts[late:] {
		counts = append(counts, Count{c.Minute + shift - int32(t.Minutes), c.N})
	}
	for _, c := range f.Counts[:late] {
		counts = append(counts, Count{c.Minute + shift, c.N})
	}
	f.Counts = counts
	size, speed := 0.5+rng.Float64(), 0.5+rng.Float64()
	f.MB *= size
	for i := range f.RunMS {
		f.RunMS[i] *= speed
	}
	return &f
}

// A distribution counts delays in bins of 1/16 of a power of two, in microseconds.
type distribution struct {
	bins [16 * 40]int64
	n    int64
}

func (d *distribution) add(t time.Duration) { d.addN(t, 1) }

func (d *distribution) addN(t time.Duration, n int64) {
	us := uint64(t.Microseconds())
	i := int(us)
	if us >= 16 {
		e := bits.Len64(us) - 5
		i = 16*(e+1) + int(us>>e)&15
	}
	d.bins[min(i, len(d.bins)-1)] += n
	d.n += n
}

func (d *distribution) merge(o *distribution) {
	for i, n := range o.bins {
		d.bins[i] += n
	}
	d.n += o.n
}

func (d *distribution) percentile(share float64) time.Duration {
	need := int64(share * float64(d.n))
	for i, n := range d.bins {
		if need -= n; need < 0 {
			us := i
			if i >= 16 {
				us = (16 + i%16) << (i/16 - 1)
			}
			return time.Duration(us) * time.Microsecond
		}
	}
	return 0
}
