package scale_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lambent/scale"
)

type tenant struct {
	scale.Claim
	has   int // instances
	wants bool
}

func newTenant(project string, k, memoryMB int) *tenant {
	return &tenant{Claim: scale.Claim{Project: project, Pool: fmt.Sprint("p", k), MemoryMB: memoryMB}}
}

// TestNodePromisesOnce: whatever is asked in whatever order, neither memory nor
// places are promised twice, and who wants a place has one in the end.
func TestNodePromisesOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := &scale.Node[*tenant]{MaxInstances: rapid.IntRange(1, 8).Draw(t, "instances"), MemoryMB: rapid.SampledFrom([]int{0, 1000, 3000}).Draw(t, "MB")}
		var all []*tenant
		for k := range rapid.IntRange(1, 5).Draw(t, "pools") {
			p := newTenant(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "project"), k, rapid.SampledFrom([]int{100, 700, 1000}).Draw(t, "size"))
			if !n.Holds(p.MemoryMB) {
				t.Fatalf("%d MB do not fit in %d", p.MemoryMB, n.MemoryMB)
			}
			all = append(all, p)
		}
		give := func() {
			for p, ok := n.Grant(); ok; p, ok = n.Grant() {
				if !p.wants {
					t.Fatal("who wants none is given a place")
				}
				if rapid.Bool().Draw(t, "takes it") {
					if !n.Admit(p, false) {
						t.Fatal("a place is kept, and not given")
					}
					p.has++
				}
				p.wants = false
				n.Return(p)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				p, ahead := rapid.SampledFrom(all).Draw(t, "pool"), rapid.Bool().Draw(t, "ahead")
				switch {
				case n.Admit(p, ahead):
					p.has++
				case !ahead:
					p.wants = true
					give()
				}
			},
			"leave": func(t *rapid.T) {
				if p := rapid.SampledFrom(all).Draw(t, "pool"); p.has > 0 {
					n.Yields(p, time.Second)
					p.has--
					n.Leave(p)
					give()
				}
			},
			"forget": func(t *rapid.T) {
				p := rapid.SampledFrom(all).Draw(t, "pool")
				p.wants = false
				n.Forget(p)
				give()
			},
			"": func(t *rapid.T) {
				instances, mb, waiting := 0, 0, 0
				for _, p := range all {
					instances += p.has
					mb += p.has * p.MemoryMB
					if p.wants {
						waiting++
					}
				}
				if instances > n.MaxInstances || n.MemoryMB > 0 && mb > n.MemoryMB {
					t.Fatalf("%d instances of %d, %d MB of %d", instances, n.MaxInstances, mb, n.MemoryMB)
				}
				if n.Waiting() != waiting {
					t.Fatalf("%d wait, want %d", n.Waiting(), waiting)
				}
			},
		})
		for range all {
			for _, p := range all {
				for ; p.has > 0; p.has-- {
					n.Leave(p)
				}
			}
			give()
		}
		if n.Waiting() > 0 {
			t.Fatalf("%d wait for places that all others have left", n.Waiting())
		}
	})
}

// TestPoolWantsNoMore: the host is told when nobody is in line any more for whom it
// had no place, and is asked again for the next.
func TestPoolWantsNoMore(t *testing.T) {
	p, h := newPool(nil)
	b := warm(t, p, h, 1, 5*ms, 50*ms)[0]
	h.places = 0
	p.Take(time.Second)
	first := wait(t, p, time.Second)
	if p.Leave(first); h.enough != 1 {
		t.Fatalf("told %d times after the only one in line left", h.enough)
	}
	wait(t, p, time.Second)
	if p.Free(2*time.Second, b, 50*ms); h.enough != 2 || h.starts != 0 {
		t.Fatalf("told %d times after the only one in line was served", h.enough)
	}
	h.places = 1
	if wait(t, p, 2*time.Second); h.starts != 1 || h.enough != 2 {
		t.Fatalf("%d starts, told %d times: there is a place again", h.starts, h.enough)
	}
}
