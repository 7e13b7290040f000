package replay

import (
	"time"

	"lambent/scale"
)

// minutes is the coarse way to look at a trace, that of most papers: a function
// has one instance, which serves any number of invocations at a time, and what is
// not on the minute is not seen. An instance is in use in each minute with an
// invocation. In the kth minute after that it has been idle for k-1; it is there
// if the policy says so of that idle time. It is charged for each such minute that
// has no invocation, to the end of the trace, and a start is cold if it is not
// there in the minute of the invocation. A minute's first invocation alone waits.
func (r *Result) minutes(c *Contender, f *Function, minutes int) {
	const minute = int64(minuteUS)
	policy, mb := c.New(), f.memoryMB()
	cost := scale.Cost{Cold: c.Start + c.Init, GB: float64(mb) / 1024}
	last := -1
	idle := func(to int) {
		for m := last + 1; m < to; m++ {
			if want, _ := policy.Want(1, time.Duration(m-last-1)*time.Minute, cost); want {
				p := r.minute(time.Duration(m) * time.Minute)
				p.idle += int64(mb) * minute
				p.instances += minute
				r.IdleMinutes++
			}
		}
	}
	for _, n := range f.until(minutes) {
		m := int(n.Minute)
		cold := true
		if last < 0 {
			r.FirstTouches++
			r.NewPeaks++
		} else {
			idle(m)
			age := time.Duration(m-last-1) * time.Minute
			want, _ := policy.Want(1, age, cost)
			cold = !want
			policy.Used(1, age, false)
		}
		p := r.minute(time.Duration(m) * time.Minute)
		p.instances += minute
		p.busy += int64(mb) * minute
		p.Invocations += int64(n.N)
		r.Invocations += int64(n.N)
		if cold {
			r.ColdStarts++
			p.ColdStarts++
			p.Delay += cost.Cold
			r.delays.add(cost.Cold)
		}
		r.delays.addN(0, int64(n.N)-boolean(cold))
		last = m
	}
	if last >= 0 {
		idle(minutes)
	}
}

func boolean(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
