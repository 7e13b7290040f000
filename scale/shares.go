package scale

import (
	"math"
	"time"
)

// Shares divides the processors of a node between the projects whose instances
// compute. The kernel divides them between instances, by weights that go by memory,
// and so who has more instances has more. Shares looks at what each instance has
// computed lately, and says how much of its weight each is to have, so that
// projects get the same, and who cannot use that leaves it to the others.
//
// Weights are only lowered. Who has had less than another lately weighs more, up to
// [boost] times as much: one whose calls are short finds the processor free when it
// comes, however many compute, and pays for it once it computes as much as they do.
// An instance that is new, and whoever begins to compute, needs nothing done.
//
// The zero value is ready. Its memory is bounded by the projects of the last look.
type Shares struct {
	had map[string]float64 // processors that each project has filled lately
}

// A Share is an instance's part of a node's processors. The host fills in what it
// is about, hands it to each [Shares.Look], and reads Part.
type Share struct {
	Project string
	Weight  float64       // that it has where nothing is lowered
	Used    time.Duration // CPU time since the last look

	// Part is how much of its weight it is to have: above 0, at most 1.
	Part float64

	rate float64 // processors that it has filled lately
}

// Of a tenth of a second, so much of what is known is new. A project is known by a third
// of a second, and an instance, of which there may be so many that each has its
// turn seldom, by a whole one.
const (
	newOfProject  = 0.25
	newOfInstance = 0.1
)

func fresh(of float64, took time.Duration) float64 {
	return 1 - math.Pow(1-of, float64(took)/float64(100*time.Millisecond))
}

// boost bounds what a project weighs more that has had less. It does so by the third
// power: what is wrong with the weights (instances that wait are taken for such
// that compute, processors that not everybody can be on) shows by its fourth root,
// and with a fourth of each look new it is right at once and does not swing.
const (
	boost = 32
	power = 3
)

// Look takes what each instance has computed for so long, and sets its part.
func (s *Shares) Look(took time.Duration, all []*Share) {
	if took <= 0 || len(all) == 0 {
		return
	}
	newOfInstance, newOfProject := fresh(newOfInstance, took), fresh(newOfProject, took)
	projects := map[string]*project{}
	for _, i := range all {
		now := float64(i.Used) / float64(took)
		i.rate += newOfInstance * (now - i.rate)
		p := projects[i.Project]
		if p == nil {
			p = &project{least: i.Weight}
			projects[i.Project] = p
		}
		p.used += now
		p.sum += i.rate
		p.squares += i.rate * i.rate / i.Weight
		p.least = min(p.least, i.Weight)
	}
	had := map[string]float64{}
	most := 0.0
	for name, p := range projects {
		had[name] = s.had[name] + newOfProject*(p.used-s.had[name])
		most = max(most, had[name])
	}
	s.had = had
	// The project whose weight is the least for what it is to be keeps it; the others'
	// are lowered to that.
	unit := math.Inf(1)
	for name, p := range projects {
		p.weighs = boost
		if h := had[name]; h > 0 {
			p.weighs = min(boost, math.Pow(most/h, power))
		}
		unit = min(unit, p.has()/p.weighs)
	}
	for _, i := range all {
		p := projects[i.Project]
		i.Part = min(1, unit*p.weighs/p.has())
	}
}

// A project in a look.
type project struct {
	used, sum, squares float64
	least              float64 // weight of an instance
	weighs             float64 // in relation to others
}

// has is what the instances of the project weigh together that compute. Those that
// do have as much for their weight as each other; who has next to nothing does not count.
func (p *project) has() float64 {
	if p.squares == 0 {
		return p.least
	}
	return max(p.least, p.sum*p.sum/p.squares)
}
