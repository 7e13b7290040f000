package replay

import (
	"math"
	"math/rand/v2"
	"time"

	"lambent/scale"
)

// A machine is an instance that there would be.
type machine struct {
	scale.Instance
	yields bool // its place is another's once it is free
}

type invocation struct {
	scale.Waiter
	arrived, runs time.Duration
	lacked        time.Duration // the replayer's then
}

type kind uint8

const (
	started kind = iota
	finished
)

type event struct {
	at   time.Duration
	runs time.Duration // of what is finished
	m    *machine      // that is finished
	seq  uint32        // of what is at the same time, the first comes first
	kind kind
}

// A replayer takes one function at a time through a pool, in virtual time. It is
// the pool's host.
type replayer struct {
	scale.Claim
	c     *Contender
	r     *Result
	node  *node // that it shares; nil: there is memory to spare
	order int   // of the node's

	f       *Function
	pool    *scale.Pool[*machine, *invocation]
	rng     *rand.Rand
	now     time.Duration
	end     time.Duration
	lead    time.Duration // of a start
	heap    []event
	seq     uint32
	ended   []*machine
	peak    int           // instances that there ever were
	idle    int           // of its instances, as the node knows
	spare   int           // its place among the node's that can be evicted from, + 1; 0: it is not there
	short   time.Duration // since when it waits for a place; -1: it does not
	lacking time.Duration // how long it has waited for places before

	arrival time.Duration // the next, or never
	counts  []Count       // of the minutes to come
	offsets []time.Duration
	minute  time.Duration // that they are of
	taken   int           // of them

	machines    []*machine    // to use again
	invocations []*invocation // to use again
}

// replay takes a function through the whole trace.
func (s *replayer) replay(f *Function, minutes int, seed uint64) {
	s.begin(f, minutes, seed)
	for s.arrival != scale.Never {
		s.until(s.arrival)
		s.arrive()
	}
	s.until(s.end)
	for s.pool.Stats().Waiting > 0 && len(s.heap) > 0 { // who is in line at midnight is served
		s.until(s.heap[0].at)
	}
}

// begin makes a function's pool, as of the start of the trace.
func (s *replayer) begin(f *Function, minutes int, seed uint64) {
	s.rng = rand.New(rand.NewPCG(seed, hash(f.Name)))
	s.f, s.now, s.end, s.seq, s.peak = f, 0, time.Duration(minutes)*time.Minute, 0, 0
	s.heap, s.ended, s.short, s.lacking = s.heap[:0], s.ended[:0], -1, 0
	s.lead = s.c.Start + s.c.Init
	s.Claim = scale.Claim{Project: f.Project, Pool: f.Name, MemoryMB: f.memoryMB()}
	cfg := scale.Default(s.MemoryMB)
	cfg.Policy, cfg.Max, cfg.Queue, cfg.QueueWait, cfg.FreezeAfter, cfg.Rate = s.c.New(), math.MaxInt32, math.MaxInt32, 0, 0, 0
	cfg.Concurrency, cfg.Forecast = max(s.c.Concurrency, 1), s.c.Forecast
	if s.node != nil {
		cfg.Max = min(cfg.Max, s.node.MaxInstances)
	}
	s.pool = scale.NewPool[*machine, *invocation](new(scale.Account), cfg, s)
	s.counts, s.offsets, s.taken = f.until(minutes), s.offsets[:0], 0
	s.look()
}

// look finds the next arrival.
func (s *replayer) look() {
	for s.taken == len(s.offsets) {
		if len(s.counts) == 0 {
			s.arrival = scale.Never
			return
		}
		s.minute, s.taken = time.Duration(s.counts[0].Minute)*time.Minute, 0
		s.spread(int(s.counts[0].N))
		s.counts = s.counts[1:]
	}
	s.arrival = s.minute + s.offsets[s.taken]
	s.taken++
}

// spread makes n times within a minute, in order: as they fall if each is as
// likely as any other, which is what a Poisson process of that many looks like.
// Sums of exponential gaps are such times, sorted already.
func (s *replayer) spread(n int) {
	s.offsets = s.offsets[:0]
	sum := 0.0
	for range n {
		sum += s.rng.ExpFloat64()
		s.offsets = append(s.offsets, time.Duration(sum*1e6))
	}
	scale := float64(time.Minute) / ((sum + s.rng.ExpFloat64()) * 1e6)
	for i, o := range s.offsets {
		s.offsets[i] = min(time.Duration(float64(o)*scale), time.Minute-1)
	}
}

// run returns the run time at a quantile, between the known ones on a line.
func (f *Function) run(u float64) time.Duration {
	for i := 1; i < len(runPercentiles); i++ {
		if lo, hi := runPercentiles[i-1], runPercentiles[i]; u <= hi {
			v := f.RunMS[i-1] + (f.RunMS[i]-f.RunMS[i-1])*(u-lo)/(hi-lo)
			return max(time.Duration(v*float64(time.Millisecond)), time.Microsecond)
		}
	}
	return time.Duration(f.RunMS[6] * float64(time.Millisecond))
}

// until lets everything happen that is due up to a time.
func (s *replayer) until(t time.Duration) {
	for s.due() <= t {
		s.happen()
	}
	s.advance(t)
}

// due is when something ends that is under way, or the pool wants to be asked.
func (s *replayer) due() time.Duration {
	next := s.pool.Next()
	if len(s.heap) > 0 {
		next = min(next, s.heap[0].at)
	}
	return next
}

// next is when anything happens.
func (s *replayer) next() time.Duration { return min(s.due(), s.arrival) }

// happen lets what is due next happen.
func (s *replayer) happen() {
	next := s.pool.Next()
	if len(s.heap) == 0 || next < s.heap[0].at {
		s.advance(next)
		s.pool.Due(s.now)
	} else {
		s.finish(s.pop())
	}
	s.tidy()
}

// finish ends a start or a run.
func (s *replayer) finish(e event) {
	s.advance(e.at)
	if e.kind == started {
		s.pool.Started(s.now, s.machine(), s.lead)
		return
	}
	if s.node != nil && s.node.Yields(s, e.runs, e.m.yields) {
		e.m.yields = true
		s.r.Yielded++
		s.pool.Died(e.m)
	}
	s.pool.Free(s.now, e.m, max(e.runs, 1))
}

// tidy tells the pool of the instances that it had ended.
func (s *replayer) tidy() {
	for len(s.ended) > 0 {
		m := s.ended[len(s.ended)-1]
		s.ended = s.ended[:len(s.ended)-1]
		s.pool.Gone(s.now, m)
		m.yields = false
		s.machines = append(s.machines, m)
		if s.node != nil {
			s.node.left(s)
		}
	}
}

// arrive has the next invocation arrive, which is now.
func (s *replayer) arrive() {
	runs := s.f.run(s.rng.Float64())
	s.look()
	s.r.Invocations++
	s.r.minute(s.now).Invocations++
	if m, ok := s.pool.Take(s.now); ok {
		s.r.delays.add(0)
		s.push(event{at: s.now + runs, runs: runs, m: m, kind: finished})
		return
	}
	var w *invocation
	if n := len(s.invocations); n > 0 {
		w = s.invocations[n-1]
		s.invocations = s.invocations[:n-1]
	} else {
		w = &invocation{}
	}
	w.arrived, w.runs, w.lacked = s.now, runs, s.lacked()
	s.pool.Wait(s.now, scale.Never, w) // its line has no end
}

// lacked is how long the function has waited for places so far.
func (s *replayer) lacked() time.Duration {
	if s.short < 0 {
		return s.lacking
	}
	return s.lacking + s.now - s.short
}

// Full implements scale.Host.
func (s *replayer) Full() bool { return false }

// Enough implements scale.Host.
func (s *replayer) Enough() {
	s.lacking, s.short = s.lacked(), -1
	s.node.Forget(s)
	s.node.free = true
}

// place gives the pool a place that it has waited for.
func (s *replayer) place() {
	s.lacking, s.short = s.lacked(), -1
	s.pool.Place(s.now)
}

// Start implements scale.Host. After the end of the trace nothing is started that
// nobody waits for.
func (s *replayer) Start(why scale.Cause) bool {
	ahead := why.Ahead()
	if ahead && s.now > s.end {
		return false
	}
	if s.node != nil && !s.node.admit(s, ahead) {
		if !ahead {
			s.short = s.now
		}
		return false
	}
	st := s.pool.Stats()
	if n := st.Idle + st.Busy + st.Starting + 1; n > s.peak {
		if s.peak == 0 {
			s.r.FirstTouches++
		}
		s.peak = n
		s.r.NewPeaks++
	}
	if ahead {
		s.r.Ahead++
	} else {
		s.r.ColdStarts++
		s.r.minute(s.now).ColdStarts++
	}
	s.push(event{at: s.now + s.lead, kind: started})
	return true
}

// Serve implements scale.Host.
func (s *replayer) Serve(w *invocation, m *machine) {
	d := s.now - w.arrived
	s.r.delays.add(d)
	at := s.r.minute(w.arrived)
	at.Delay += d
	at.PlaceDelay += s.lacked() - w.lacked
	s.push(event{at: s.now + w.runs, runs: w.runs, m: m, kind: finished})
	s.invocations = append(s.invocations, w)
}

// Refuse implements scale.Host: nobody is, as nothing crashes and nobody has a
// deadline.
func (s *replayer) Refuse(*invocation, scale.Refusal) {}

// End implements scale.Host.
func (s *replayer) End(m *machine) { s.ended = append(s.ended, m) }

// Freeze implements scale.Host.
func (s *replayer) Freeze(*machine) {}

func (s *replayer) machine() *machine {
	if n := len(s.machines); n > 0 {
		m := s.machines[n-1]
		s.machines = s.machines[:n-1]
		return m
	}
	return &machine{}
}

// advance lets time pass, up to the end of the trace as far as memory goes.
func (s *replayer) advance(t time.Duration) {
	from, to := min(s.now, s.end), min(t, s.end)
	s.now = max(s.now, t)
	if from >= to {
		return
	}
	st := s.pool.Stats()
	waste, used := int64(st.Idle+st.Starting), int64(st.Busy)
	if waste+used == 0 {
		return
	}
	mb := int64(s.MemoryMB)
	for from < to {
		next := min(to, from.Truncate(time.Minute)+time.Minute)
		us := next.Microseconds() - from.Microseconds()
		m := s.r.minute(from)
		m.instances += (waste + used) * us
		m.idle += waste * mb * us
		m.busy += used * mb * us
		from = next
	}
}

func (s *replayer) push(e event) {
	s.seq++
	e.seq = s.seq
	h := append(s.heap, e)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	s.heap = h
}

func (s *replayer) pop() event {
	h := s.heap
	top, n := h[0], len(h)-1
	h[0] = h[n]
	h = h[:n]
	for i := 0; ; {
		c := 2*i + 1
		if c >= n {
			break
		}
		if c+1 < n && h[c+1].before(&h[c]) {
			c++
		}
		if !h[c].before(&h[i]) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	s.heap = h
	return top
}

func (e *event) before(f *event) bool { return e.at < f.at || e.at == f.at && e.seq < f.seq }

// hash is FNV-1a.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
