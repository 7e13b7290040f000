// Package replay plays a recorded day of functions back, in virtual time, to say
// what a keep-alive policy would have cost and saved: through the same
// [scale.Pool] and the same policies with which a server decides.
//
// Nothing is run, and no instance is real: starts take what they are said to, runs
// what the trace says. The same trace, seed and contenders give the same result to
// the last digit. Functions are independent of one another, as on a node with
// memory to spare, so they are taken one after the other and memory is bounded,
// however many there are.
package replay

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"time"

	"lambent"
	"lambent/scale"
)

// A Contender is one way to run the day.
type Contender struct {
	Name        string
	New         func() scale.Policy // for one function
	Start       time.Duration       // the platform's part of a cold start
	Init        time.Duration       // the code's part
	Concurrency int                 // invocations at a time in one instance; 0 is 1
}

// Options are of a run.
type Options struct {
	Seed      uint64
	Minutes   int  // of the trace; 0: all of it
	Functions int  // so many made up from the trace's; 0: those of the trace
	Coarse    bool // one instance for each function, on the minute (see RATIONALE.md)
	// Progress is told how many functions of how many are done, if it is not nil.
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
	IdleMinutes  int64 // of instances; coarse runs only
	Minutes      []Minute
	IdleGBs      float64 // memory of instances that serve nobody, those that start among them
	BusyGBs      float64
	Peak         float64       // instances, in the minute with the most
	Delay        time.Duration // all start delays

	delays distribution
}

// A Minute is a result's part in one minute of the trace.
type Minute struct {
	Invocations, ColdStarts int64
	Delay                   time.Duration
	Instances               float64 // on average
	IdleGBs, BusyGBs        float64
}

func (r *Result) minute(t time.Duration) *Minute {
	return &r.Minutes[min(int(t/time.Minute), len(r.Minutes)-1)]
}

// MeanDelay is the start delay of an invocation.
func (r *Result) MeanDelay() time.Duration {
	return time.Duration(float64(r.Delay) / float64(max(r.Invocations, 1)))
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

// Run plays a trace through each contender.
func Run(ctx context.Context, t *Trace, o Options, contenders []Contender) ([]*Result, error) {
	minutes := t.Minutes
	if o.Minutes > 0 {
		minutes = min(minutes, o.Minutes)
	}
	if minutes == 0 || len(t.Functions) == 0 {
		return nil, lambent.Errorf(lambent.Invalid, "replay.Run", "the trace is empty")
	}
	results := make([]*Result, len(contenders))
	players := make([]replayer, len(contenders))
	for i := range contenders {
		results[i] = &Result{Name: contenders[i].Name, Minutes: make([]Minute, minutes)}
		players[i] = replayer{c: &contenders[i], r: results[i]}
	}
	n := o.Functions
	if n == 0 {
		n = len(t.Functions)
	}
	for k := range n {
		if err := ctx.Err(); err != nil {
			return nil, lambent.Errorf(lambent.Canceled, "replay.Run", "stopped after %d of %d functions", k, n)
		}
		f := &t.Functions[k%len(t.Functions)]
		if o.Functions > 0 {
			f = t.another(o.Seed, k)
		}
		for i := range contenders {
			if o.Coarse {
				results[i].minutes(&contenders[i], f, minutes)
			} else {
				players[i].replay(f, minutes, o.Seed)
			}
		}
		if o.Progress != nil {
			o.Progress(k+1, n)
		}
	}
	for _, r := range results {
		r.sum()
	}
	return results, nil
}

// sum adds the minutes up.
func (r *Result) sum() {
	for i := range r.Minutes {
		m := &r.Minutes[i]
		r.IdleGBs += m.IdleGBs
		r.BusyGBs += m.BusyGBs
		r.Delay += m.Delay
		r.Peak = max(r.Peak, m.Instances)
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
