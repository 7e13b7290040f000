package scale_test

import (
	"slices"
	"testing"
	"time"

	"lambent/scale"
)

// TestForecastIsAheadOfABurst: where calls come faster than they end, instances are
// started for those that come next, and end soon after the last.
func TestForecastIsAheadOfABurst(t *testing.T) {
	const cold, run = 500 * ms, 10 * time.Second
	burst := func(forecast bool) (waited time.Duration) {
		p, h := newPool(func(c *scale.Config) { c.Policy, c.Forecast = scale.None{}, forecast })
		for _, b := range warm(t, p, h, 1, cold, run) {
			p.Gone(5*ms+cold+run, b)
		}
		now := time.Minute
		var begun []time.Duration // starts
		var busy []*box
		came := map[*call]time.Duration{}
		advance := func(to time.Duration) {
			for len(begun) > 0 && begun[0]+cold <= to {
				now, begun = begun[0]+cold, begun[1:]
				h.starts--
				p.Started(now, &box{}, cold)
			}
			for _, c := range h.served {
				waited += now - came[c]
				busy = append(busy, c.got)
			}
			now, h.served = to, nil
			p.Due(now)
			for len(begun) < h.starts {
				begun = append(begun, now)
			}
		}
		h.served = nil
		for range 100 { // in 5 s
			if b, ok := p.Take(now); ok {
				busy = append(busy, b)
			} else {
				c := &call{}
				came[c] = now
				p.Wait(now, scale.Never, c)
			}
			advance(now)
			advance(now + 50*ms)
		}
		if s := p.Stats(); s.Idle+s.Starting > 60 {
			t.Errorf("at the end of a burst of 20 in a second: %+v", s)
		}
		advance(now + cold)
		for _, b := range busy {
			p.Free(now, b, run)
		}
		for p.Next() != scale.Never && now < time.Hour {
			advance(max(now, p.Next()))
		}
		if s := p.Stats(); s.Idle > 0 || s.Starting > 0 || now > 90*time.Second {
			t.Errorf("at %v: %+v", now, s)
		}
		return waited
	}
	if with, without := burst(true), burst(false); with > without/4 {
		t.Errorf("they wait for %v; without a forecast for %v", with, without)
	}
}

// TestForecastIsNotForThese: calls that come one by one; and short ones, for which
// an instance that is busy is sooner than one that starts.
func TestForecastIsNotForThese(t *testing.T) {
	for _, c := range []struct{ run, each time.Duration }{{100 * ms, time.Second}, {5 * ms, 10 * ms}} {
		p, h := newPool(func(c *scale.Config) { c.Forecast = true })
		warm(t, p, h, 1, 100*ms, c.run)
		for now := time.Minute; now < 2*time.Minute; now += c.each {
			b, ok := p.Take(now)
			if !ok {
				t.Fatal("nothing is idle")
			}
			p.Due(now)
			p.Free(now+c.run, b, c.run)
		}
		if h.ahead > 0 {
			t.Errorf("of %v each %v: %d start ahead", c.run, c.each, h.ahead)
		}
	}
}

// TestForecastIsNotForALine: while somebody is in line for whom another instance is
// not worth its start, none is started for those that come later. Else, where
// processors are what is short, clients that call again at once would have one each.
func TestForecastIsNotForALine(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Forecast = true })
	warm(t, p, h, 1, 20*ms, 2*ms)
	now := time.Minute
	b, _ := p.Take(now)
	p.Wait(now, scale.Never, &call{})
	for range 1000 {
		now += 2 * ms
		p.Free(now, b, 2*ms)
		p.Wait(now, scale.Never, &call{})
		p.Due(now)
	}
	if h.starts > 0 {
		t.Errorf("%d start, %d of them ahead", h.starts, h.ahead)
	}
}

// surge is a pool with 20 idle instances, whose starts take half a second and whose runs
// take ten, in the midst of a burst that will need more: one call each 50 ms.
type surge struct {
	*pool
	*host
	cfg scale.Config
	now time.Duration
}

func newSurge(t *testing.T) *surge {
	s := &surge{now: time.Minute}
	s.pool, s.host = newPool(func(c *scale.Config) {
		c.Forecast = true
		s.cfg = *c
	})
	warm(t, s.pool, s.host, 20, 500*ms, 10*time.Second)
	s.Due(30 * time.Second)
	s.asked = 0
	return s
}

// calls has n more come.
func (s *surge) calls(t *testing.T, n int) {
	t.Helper()
	for range n {
		if _, ok := s.Take(s.now); !ok {
			t.Fatal("nothing is idle")
		}
		s.until(s.now + 50*ms)
	}
}

func (s *surge) until(t time.Duration) {
	for ; s.Next() <= t; s.Due(s.now) {
		s.now = max(s.now, s.Next())
	}
	s.now = t
}

// TestForecastIsSpurned: a node that has no place for a start ahead is not asked for one
// with each call, but after a while; and at once where another start has shown that
// they can be had.
func TestForecastIsSpurned(t *testing.T) {
	s := newSurge(t)
	s.places = 0
	s.calls(t, 19)
	if s.asked != 1 {
		t.Fatalf("asked %d times in a second", s.asked)
	}
	s.places = 2
	s.until(s.now + 5*time.Second)
	if s.ahead != 2 || s.asked != 4 {
		t.Fatalf("%d start when there are two places, and it was asked %d times", s.ahead, s.asked)
	}
	s.places = -1
	s.Started(s.now, &box{}, 500*ms)
	if s.calls(t, 1); s.ahead < 4 {
		t.Errorf("%d start ahead when there are more", s.ahead)
	}
}

// TestForecastIsNotWhereFull: what starts ahead takes no processor from who runs.
func TestForecastIsNotWhereFull(t *testing.T) {
	s := newSurge(t)
	s.full = true
	if s.calls(t, 19); s.ahead > 0 {
		t.Errorf("%d start ahead though processors are full", s.ahead)
	}
}

// seen is a policy that remembers what it is told.
type seen struct {
	scale.Fixed
	foreseen []bool
}

func (s *seen) Used(_ int, _ time.Duration, foreseen bool) { s.foreseen = append(s.foreseen, foreseen) }

// TestForeseen: a policy is told which uses were foreseen for as long as a start takes: those
// late in a burst, and not its first.
func TestForeseen(t *testing.T) {
	told := &seen{Fixed: scale.Fixed(10 * time.Minute)}
	p, h := newPool(func(c *scale.Config) { c.Policy, c.Forecast = told, true })
	warm(t, p, h, 100, 500*ms, 10*time.Second)
	for now := time.Minute; now < 65*time.Second; now += 50 * ms {
		if _, ok := p.Take(now); !ok {
			t.Fatal("nothing is idle")
		}
	}
	if f := told.foreseen; len(f) != 100 || slices.Contains(f[:10], true) || !f[99] { // 10 in a start's time
		t.Errorf("foreseen: %v", f)
	}
}

// TestForecastIsForAMinute: whatever starts take, what no call comes for ends in two minutes.
func TestForecastIsForAMinute(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Policy, c.Forecast = scale.None{}, true })
	boxes := warm(t, p, h, 1, 20*time.Second, time.Minute)
	p.Gone(2*time.Minute, boxes[0])
	now := 2 * time.Minute
	for range 10 {
		wait(t, p, now)
		now += 100 * ms
	}
	for p.Due(now); h.starts > 0; h.starts-- {
		p.Started(now, &box{}, 20*time.Second)
	}
	for _, c := range h.served[1:] {
		p.Free(now, c.got, 100*ms)
	}
	for ; p.Next() != scale.Never; p.Due(now) {
		now = max(now, p.Next())
	}
	if s := p.Stats(); s.Idle > 0 || now < 3*time.Minute || now > 5*time.Minute {
		t.Errorf("%+v at %v", s, now)
	}
}

// TestForecastIsNotForWhatFails: where starts fail, more are not tried with each call.
func TestForecastIsNotForWhatFails(t *testing.T) {
	s := newSurge(t)
	for range 19 {
		s.calls(t, 1)
		for ; s.starts > 0; s.starts-- {
			s.Failed(s.now, false)
		}
	}
	if s.ahead == 0 || s.ahead > 5 {
		t.Errorf("%d starts ahead fail in a second", s.ahead)
	}
}

// TestForecastEnds: once there is to be none, nothing is kept for one.
func TestForecastEnds(t *testing.T) {
	s := newSurge(t)
	s.calls(t, 19)
	if s.ahead == 0 {
		t.Fatal("nothing starts ahead")
	}
	for ; s.starts > 0; s.starts-- {
		s.Started(s.now, &box{}, 500*ms)
	}
	s.cfg.Policy, s.cfg.Forecast = scale.None{}, false
	s.Set(s.cfg)
	if s.until(s.now); s.Stats().Idle > 0 {
		t.Errorf("%+v", s.Stats())
	}
}

// TestForecastIsOfWhatMayBe: a pool that may have no more instances is not asked with each
// call whether it wants some.
func TestForecastIsOfWhatMayBe(t *testing.T) {
	s := newSurge(t)
	s.calls(t, 17)
	for ; s.starts > 0; s.starts-- {
		s.Started(s.now, &box{}, 500*ms)
	}
	s.cfg.Max = 20
	s.Set(s.cfg)
	s.until(s.now)
	for _, b := range s.ended {
		s.Gone(s.now, b)
	}
	for range 3 {
		if _, ok := s.Take(s.now); !ok {
			t.Fatal("nothing is idle")
		}
		if s.Next() <= s.now {
			t.Fatalf("%+v, of which there may be 20: it wants to be asked", s.Stats())
		}
	}
}

// TestForecastOutlivesLongStarts: that starts took longer says nothing of how fast calls
// have come.
func TestForecastOutlivesLongStarts(t *testing.T) {
	p, h := newPool(func(c *scale.Config) { c.Forecast = true })
	b := warm(t, p, h, 8, 10*time.Second, 2*time.Second)[0]
	now := time.Minute
	var busy []*box
	call := func() {
		now += time.Second
		for ; len(busy) == 2; busy = busy[1:] {
			p.Free(now, busy[0], 2*time.Second)
		}
		b, ok := p.Take(now)
		if !ok {
			t.Fatal("nothing is idle")
		}
		busy = append(busy, b)
		p.Due(now)
	}
	for range 60 {
		call()
	}
	for range 60 {
		p.Died(b)
		p.Gone(now, b)
		b = &box{}
		p.Begin()
		p.Started(now, b, 100*ms)
	}
	if call(); h.ahead > 0 {
		t.Errorf("%d start ahead of one call in a second", h.ahead)
	}
}
