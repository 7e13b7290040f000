package dispatch

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever overlaps: the shares add up to the time in which there was one, and to
// the processor time, to the microsecond; and who is alone has all of it.
func TestSharesAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for its clock
		for seed := range uint64(300) {
			r := rand.New(rand.NewPCG(seed, 0))
			type running struct {
				slice
				since time.Time
				alone bool
			}
			var (
				s     division
				cpu   = r.Int64N(1e6)
				boot  = cpu
				stats = func() int64 { return cpu }
				under []*running
				from  time.Time // of those that overlap

				union, issued, cpuIssued int64
			)
			s.cpu.start(cpu)
			end := func(i int) {
				u := under[i]
				under = append(under[:i], under[i+1:]...)
				share, busy, used, now := s.end(u.slice, stats(), 0)
				issued, cpuIssued = issued+share, cpuIssued+used
				if run := now.Sub(u.since).Microseconds(); u.alone && len(under) == 0 && share != max(1, run) {
					t.Fatalf("seed %d: %d us of %d that it was alone for", seed, share, run)
				} else if share > run+1 {
					t.Fatalf("seed %d: %d us of %d", seed, share, run)
				}
				if len(under) > 0 && busy != 0 || len(under) == 0 && busy != now.Sub(from).Microseconds() {
					t.Fatalf("seed %d: busy for %d us of %v, with %d to come", seed, busy, now.Sub(from), len(under))
				}
				if len(under) == 0 {
					union += now.Sub(from).Microseconds()
					if issued != union {
						t.Fatalf("seed %d: shares of %d us in %d us", seed, issued, union)
					}
					if cpuIssued != cpu-boot {
						t.Fatalf("seed %d: shares of %d us CPU of %d", seed, cpuIssued, cpu-boot)
					}
					return
				}
				if used := union + now.Sub(from).Microseconds(); issued > used {
					t.Fatalf("seed %d: %d us are issued of %d", seed, issued, used)
				}
			}
			for range r.IntN(60) {
				time.Sleep(time.Duration(1e5 + r.Int64N(1e8)))
				cpu += r.Int64N(1000)
				if len(under) > 0 && r.IntN(2) == 0 {
					end(r.IntN(len(under)))
					continue
				}
				came := &running{alone: len(under) == 0}
				for _, u := range under {
					u.alone = false
				}
				came.slice, came.since = s.begin(stats)
				if len(under) == 0 {
					from = came.since
				}
				under = append(under, came)
			}
			for len(under) > 0 {
				time.Sleep(time.Duration(1e5 + r.Int64N(1e8)))
				end(0)
			}
		}
	})
}

// One that goes on for days with no pause gives out what it uses, and no more is
// left for the last than what has not been given.
func TestSharesOfALongDay(t *testing.T) {
	var c clock
	c.start(0)
	const k, each = 7, int64(1000*time.Microsecond) + 333
	since := [k]uint64{}
	var issued int64
	for i := range 1_000_000 {
		c.advance(int64(i+1)*each, k)
		issued += c.issue(since[i%k], false, int64(time.Microsecond), 1)
		since[i%k] = c.v
	}
	// What is in flight has its own coming.
	if used := c.at / int64(time.Microsecond); issued > used || used-issued > k*each/int64(time.Microsecond) {
		t.Errorf("%d us are issued of %d", issued, used)
	}
}

// What has no record leaves its share to the others.
func TestSharesOfTheCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s division
		none := func() int64 { return 0 }
		a, _ := s.begin(none)
		b, _ := s.begin(none)
		time.Sleep(10 * time.Millisecond)
		s.cancel(b)
		time.Sleep(10 * time.Millisecond)
		if share, busy, _, _ := s.end(a, none(), 0); share != 20_000 || busy != 20_000 {
			t.Errorf("%d and %d us of 20000", share, busy)
		}
		c, _ := s.begin(none)
		time.Sleep(time.Millisecond)
		s.cancel(c)
		d, _ := s.begin(none)
		time.Sleep(time.Millisecond)
		if share, busy, _, _ := s.end(d, none(), 0); share != 1000 || busy != 1000 {
			t.Errorf("%d and %d us of 1000", share, busy)
		}
	})
}
