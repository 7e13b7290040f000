package scale_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lambent/scale"
)

// serve gives n places away, and returns what each got in GB-ms.
func serve(f *scale.Fair, n int, cost func(project, function string) float64, weight func(project string) float64) map[string]float64 {
	got := map[string]float64{}
	for range n {
		project, function, ok := f.Next()
		if !ok {
			break
		}
		c := cost(project, function)
		f.Charge(project, function, c, weight(project))
		got[project] += c
		got[project+"/"+function] += c
	}
	return got
}

func one(string) float64 { return 1 }

func TestFairShares(t *testing.T) {
	var f scale.Fair
	if _, _, ok := f.Next(); ok {
		t.Fatal("somebody waits")
	}
	// Project a has one function with big instances, b two of which one is small.
	f.Wait("a", "big")
	f.Wait("b", "big")
	f.Wait("b", "small")
	cost := func(_, function string) float64 { return map[string]float64{"big": 1000, "small": 10}[function] }
	got := serve(&f, 10_000, cost, one)
	near := func(x, y string) {
		if d := math.Abs(got[x] - got[y]); d > 1000 {
			t.Errorf("%s got %v, %s got %v", x, got[x], y, got[y])
		}
	}
	near("a", "b")
	near("b/big", "b/small")

	heavy := func(p string) float64 { return map[string]float64{"a": 3, "b": 1}[p] }
	got = serve(&f, 10_000, cost, heavy)
	if r := got["a"] / got["b"]; r < 2.9 || r > 3.1 {
		t.Errorf("with the weights 3 and 1 they share %.2f to 1", r)
	}
}

func TestFairSavesNothingUp(t *testing.T) {
	var f scale.Fair
	f.Wait("busy", "f")
	for range 1000 {
		f.Next()
		f.Charge("busy", "f", 100, 1)
	}
	f.Wait("late", "f")
	got := serve(&f, 100, func(string, string) float64 { return 100 }, one)
	if got["busy"] < 4900 || got["busy"] > 5100 {
		t.Errorf("one that comes late and one that was there get %v and %v", got["late"], got["busy"])
	}
	f.Leave("busy", "f")
	f.Leave("late", "f")
	f.Charge("busy", "f", 1e9, 1) // nobody wanted it
	f.Wait("busy", "f")
	f.Wait("late", "f")
	got = serve(&f, 100, func(string, string) float64 { return 100 }, one)
	if got["busy"] < 4900 || got["busy"] > 5100 {
		t.Errorf("after a time that nobody competed: %v and %v", got["late"], got["busy"])
	}
}

// TestFairBehind: who has had less than a function is looked for among other projects, and in its
// own only where no other waits: a place that is given up is for whichever project is next.
func TestFairBehind(t *testing.T) {
	var f scale.Fair
	f.Wait("a", "one")
	f.Wait("a", "two")
	f.Charge("a", "one", 100, 1)
	if !f.Behind("a", "one", 99) || f.Behind("a", "one", 101) || f.Behind("a", "two", 0) {
		t.Error("the other function of the project has had 100 less")
	}
	f.Wait("b", "f")
	f.Charge("b", "f", 100, 1)
	if f.Behind("a", "one", 99) {
		t.Error("another project is next, and has had as much")
	}
}

// TestFairIsWithinOneOfEach: whoever waits all the time gets, of each while, its
// share but for one service of each (the theorem of start-time fair queueing).
func TestFairIsWithinOneOfEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f scale.Fair
		names := []string{"a", "b", "c", "d"}[:rapid.IntRange(2, 4).Draw(t, "projects")]
		cost := rapid.SliceOfN(rapid.Float64Range(1, 1000), len(names), len(names)).Draw(t, "costs")
		of := map[string]float64{}
		for i, n := range names {
			of[n] = cost[i]
			f.Wait(n, "f")
		}
		got := serve(&f, rapid.IntRange(1, 300).Draw(t, "places"), func(p, _ string) float64 { return of[p] }, one)
		for _, x := range names {
			for _, y := range names {
				if d := got[x] - got[y]; d > of[x]+of[y]+1e-6 {
					t.Fatalf("%s got %v, %s got %v: costs are %v and %v", x, got[x], y, got[y], of[x], of[y])
				}
			}
		}
	})
}

func TestGreedyDual(t *testing.T) {
	var g scale.GreedyDual
	big := &scale.Standing{Uses: 10, Cold: 100 * ms, GB: 1}
	small := &scale.Standing{Uses: 10, Cold: 100 * ms, GB: 0.125}
	quick := &scale.Standing{Uses: 10, Cold: 2 * ms, GB: 0.125}
	if g.Priority(quick) >= g.Priority(big) || g.Priority(big) >= g.Priority(small) {
		t.Errorf("quick %v, big %v, small %v", g.Priority(quick), g.Priority(big), g.Priority(small))
	}
	for now := time.Second; g.Priority(quick) < g.Priority(small); now += time.Second { // quick is evicted and used, small is not used
		g.Evicted(now, g.Priority(quick))
		quick.Uses++
		quick.Last = now
		if now > 24*time.Hour {
			t.Fatal("what was dear once is never evicted")
		}
	}

	dear := &scale.Standing{Uses: 10, Cold: 100 * ms, GB: 0.125}
	for now := 25 * time.Hour; ; now += time.Second { // of those that come once each
		once := &scale.Standing{Uses: 1, Last: now, Cold: 100 * ms, GB: 0.125}
		if g.Priority(once) > g.Priority(dear) {
			break
		}
		if g.Evicted(now, g.Priority(once)); now > 26*time.Hour {
			t.Fatal("what is not used any more does not age")
		}
	}
}
