package scale

import "time"

// GreedyDual finds which idle instance is worth least where memory is short:
// keeping a function's instances is like keeping objects of different sizes and
// costs in a cache (Fuerst and Sharma, "FaasCache", ASPLOS 2021). The priority of
// a function is
//
//	clock + uses x cold start / size
//
// and the clock is the priority of the last that was evicted, as of the
// function's last use: so what is not used any more ages, however dear it was.
// The zero value is ready.
type GreedyDual struct {
	clock float64
	at    time.Duration // of the last eviction
}

// A Standing is what GreedyDual knows of one function.
type Standing struct {
	Uses int           // invocations
	Last time.Duration // when the last one began
	Cold time.Duration // what a start takes
	GB   float64       // that an instance takes

	clock  float64
	looked bool
}

// Priority returns what an idle instance of the function is worth; that with the
// lowest priority is to be evicted. It is meant to be called for each function
// with idle instances whenever something is to be evicted, and brings the
// function's clock up to date: its use costs nothing while memory suffices.
func (g *GreedyDual) Priority(s *Standing) float64 {
	if !s.looked || s.Last >= g.at {
		s.clock, s.looked = g.clock, true
	}
	return s.clock + float64(s.Uses)*s.Cold.Seconds()/max(s.GB, 1.0/1024)
}

// Evicted tells that the instance with that priority was evicted.
func (g *GreedyDual) Evicted(now time.Duration, priority float64) {
	g.clock, g.at = max(g.clock, priority), now
}
