package scale

import (
	"encoding/binary"
	"math"
	"math/bits"
	"time"
)

// Thrift keeps an instance where and for as long as its memory is worth it. What
// is saved is a cold start's delay, if the instance is used; what is spent is its
// memory, until then or until it ends. Rate is how many GB-s of idle memory one
// second of delay is worth. How likely it is that an instance is used is learnt,
// for each level (see [Pool]) and each idle time, from how often one that had
// been idle for so long was.
//
// So code with a long init is kept longer than code that starts in no time,
// small instances longer than big ones, those that a burst left behind no longer
// than bursts come again; and what is called every ten minutes is ended, and
// started ahead of the next call, if that is cheaper than waiting for it.
//
// For what it knows its choice is the best: the idle time is cut into steps, and
// the choice at each is found from the last one backwards (dynamic programming).
type Thrift struct {
	Rate float64 // GB-s for a second

	all    habit // of all levels: what is expected of one that is not known
	levels []habit
}

// DefaultRate is the price at which the default policy spends memory: a second of
// delay is worth a GB for 25 minutes. RATIONALE.md has what it gives.
const DefaultRate = 1_500

// NewThrift returns one that has seen nothing.
func NewThrift(rate float64) *Thrift { return &Thrift{Rate: rate} }

// Idle times are cut into steps: those of 0.13 s up to a second, and then eight to
// each doubling, up to some ten hours.
const (
	steps     = 128
	stepShift = 27 // 2^27 ns are 0.134 s
)

// stepOf returns the step of an idle time, or steps beyond the last.
func stepOf(t time.Duration) int {
	u := uint64(max(t, 0)) >> stepShift
	if u < 8 {
		return int(u)
	}
	octave := bits.Len64(u) - 4
	return min(8*(octave+1)+int(u>>octave)&7, steps)
}

// startOf returns the first idle time of a step.
func startOf(step int) time.Duration {
	if step < 8 {
		return time.Duration(step) << stepShift
	}
	return time.Duration(8+step%8) << (step/8 - 1 + stepShift)
}

// A habit is what is known of some levels.
type habit struct {
	seen      [steps + 1]uint16 // idle times that ended in each step; those beyond last
	surprises [steps + 1]uint16 // of them, those whose end was not foreseen
	n         uint32
	cost      Cost               // of the plan
	due       uint32             // when n is so many the plan is made anew; 0: there is none
	plan      [steps / 64]uint64 // whether there is to be one, by step
}

const (
	priorUsed   = 0.03 // share of idle instances that are used within a step, where nothing is known: as if times were spread evenly over all orders of magnitude
	priorWeight = 1    // of what is expected, in samples
	aheadPrice  = 0.1  // of a start ahead, in delays of as long: nobody waits for it, but processors work
	memory      = 512  // samples; then the older count for half
)

// Used implements Policy.
func (t *Thrift) Used(level int, idle time.Duration, foreseen bool) {
	s := stepOf(idle)
	t.all.add(s, foreseen)
	t.habit(level).add(s, foreseen)
}

func (h *habit) add(step int, foreseen bool) {
	h.seen[step]++
	if !foreseen {
		h.surprises[step]++
	}
	if h.n++; h.n >= memory {
		h.n = 0
		for i := range h.seen {
			h.seen[i] /= 2
			h.surprises[i] = min((h.surprises[i]+1)/2, h.seen[i])
			h.n += uint32(h.seen[i])
		}
		h.due = min(h.due, h.n+h.n/4)
	}
}

// habit returns that of a level. Close levels share one: demand that needs 100
// instances wavers by about the root of that, 10, so levels are counted by their
// roots.
func (t *Thrift) habit(level int) *habit {
	g := 0
	if level > 1 {
		g = int(2 * (math.Sqrt(float64(level)) - 1))
	}
	for len(t.levels) <= g {
		t.levels = append(t.levels, habit{})
	}
	return &t.levels[g]
}

// Want implements Policy.
func (t *Thrift) Want(level int, idle time.Duration, c Cost) (bool, time.Duration) {
	h := t.habit(level)
	if h.n >= h.due || c.GB != h.cost.GB || abs(c.Cold-h.cost.Cold) > h.cost.Cold/8 {
		h.decide(&t.all, t.Rate, c)
	}
	s := stepOf(idle)
	if s >= steps {
		return false, Never
	}
	// The first step from s on that is otherwise.
	other := ^h.plan[s/64]
	want := other>>(s%64)&1 == 0
	for w, skip := s/64, s%64; w < len(h.plan); w, skip = w+1, 0 {
		if other = h.plan[w]; want {
			other = ^other
		}
		if other = other >> skip << skip; other != 0 {
			return want, startOf(64*w + bits.TrailingZeros64(other))
		}
	}
	if want {
		return true, startOf(steps)
	}
	return false, Never
}

// decide makes the plan. A step's chances are those of the habit, and while it has few
// samples those of all levels, and while those are few those of anything. Any use ends
// the idle time, but only one that would be a surprise is worth having kept the instance.
func (h *habit) decide(all *habit, rate float64, c Cost) {
	h.cost, h.due = c, h.n+h.n/4+1
	saved := rate * c.Cold.Seconds()
	// What is to come from a step on is worth so much with an instance and without,
	// from the last step backwards; then the way from the first step forwards.
	var keep, drop [steps]float64
	var with, without float64
	left, allLeft := float64(h.seen[steps]), float64(all.seen[steps]) // idle times that end after the step
	for s := steps - 1; s >= 0; s-- {
		n, allN := float64(h.seen[s]), float64(all.seen[s])
		chance := func(of, ofAll float64) float64 {
			expected := (ofAll + priorWeight*priorUsed) / (allLeft + allN + priorWeight)
			return (of + priorWeight*expected) / (left + n + priorWeight)
		}
		used, surprised := chance(n, allN), chance(float64(h.surprises[s]), float64(all.surprises[s]))
		left += n
		allLeft += allN
		width := (startOf(s+1) - startOf(s)).Seconds()
		keep[s] = surprised*saved - c.GB*width*(1-used/2) + (1-used)*with
		drop[s] = (1 - used) * without
		with, without = max(keep[s], drop[s]), max(keep[s]-aheadPrice*saved, drop[s])
	}
	h.plan = [steps / 64]uint64{}
	have := true
	for s := range steps {
		if have {
			have = keep[s] > drop[s]
		} else {
			have = keep[s]-aheadPrice*saved > drop[s]
		}
		if have {
			h.plan[s/64] |= 1 << (s % 64)
		}
	}
}

func abs(d time.Duration) time.Duration { return max(d, -d) }

const thriftVersion = 2

// MarshalBinary implements encoding.BinaryMarshaler. Rate is not part of it.
func (t *Thrift) MarshalBinary() ([]byte, error) {
	b := []byte{thriftVersion}
	b = binary.AppendUvarint(b, uint64(len(t.levels)))
	b = t.all.append(b)
	for i := range t.levels {
		b = t.levels[i].append(b)
	}
	return b, nil
}

// append writes, of each step with samples, how many without there are before, how
// many samples and how many surprises.
func (h *habit) append(b []byte) []byte {
	skip := uint64(0)
	for s, n := range h.seen {
		if n == 0 {
			skip++
			continue
		}
		b = binary.AppendUvarint(b, skip)
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(h.surprises[s]))
		skip = 0
	}
	return binary.AppendUvarint(b, uint64(len(h.seen))) // the end: no step is so far
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. After an error nothing
// has changed.
func (t *Thrift) UnmarshalBinary(b []byte) error {
	r := reader{b: b}
	r.version(thriftVersion)
	n := r.count()
	if r.bad || n > maxHabits {
		return errState
	}
	var all habit
	all.read(&r)
	levels := make([]habit, n)
	for i := range levels {
		levels[i].read(&r)
	}
	if err := r.end(); err != nil {
		return err
	}
	t.all, t.levels = all, levels
	return nil
}

const maxHabits = 1000 // of levels up to 250,000

func (h *habit) read(r *reader) {
	for s := uint32(0); ; s++ {
		skip := r.count()
		if r.bad || skip == uint32(len(h.seen)) {
			return
		}
		if s += skip; s >= uint32(len(h.seen)) {
			r.bad = true
			return
		}
		h.seen[s] = uint16(min(r.count(), memory))
		h.surprises[s] = min(uint16(min(r.count(), memory)), h.seen[s])
		h.n += uint32(h.seen[s])
	}
}
