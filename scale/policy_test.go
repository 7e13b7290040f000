package scale_test

import (
	"encoding"
	"testing"
	"time"

	"lambent/scale"
)

type policy interface {
	scale.Policy
	encoding.BinaryMarshaler
	encoding.BinaryUnmarshaler
}

// kept is the idle times at which a policy wants an instance, in minutes.
func kept(p scale.Policy, level int, c scale.Cost) (from, until int) {
	from = -1
	for m := range 24 * 60 {
		if want, _ := p.Want(level, time.Duration(m)*time.Minute, c); want {
			if from < 0 {
				from = m
			}
			until = m + 1
		}
	}
	return from, until
}

func TestHistogramFollowsThePaper(t *testing.T) {
	c := scale.Cost{Cold: 100 * ms, GB: 1}
	h := scale.NewHistogram()
	if from, until := kept(h, 1, c); from != 0 || until != 10 {
		t.Errorf("of what it does not know it keeps minutes %d to %d", from, until)
	}
	for range 100 {
		h.Used(1, 30*time.Minute+30*time.Second, false)
	}
	if from, until := kept(h, 1, c); from != 27 || until != 35 {
		t.Errorf("of what comes each 30 min it keeps minutes %d to %d", from, until)
	}
	for i := range 100 {
		h.Used(1, time.Duration(i%60)*time.Minute, false)
	}
	h = scale.NewHistogram()
	for i := range 600 {
		h.Used(1, time.Duration(i%60)*time.Minute, false)
	}
	if from, until := kept(h, 1, c); from != 0 || until != 10 {
		t.Errorf("of what comes whenever it likes it keeps minutes %d to %d", from, until)
	}
}

func TestThriftSpendsWhereItPays(t *testing.T) {
	cost := func(cold time.Duration, gb float64) scale.Cost { return scale.Cost{Cold: cold, GB: gb} }
	length := func(p *scale.Thrift, level int, c scale.Cost) int {
		from, until := kept(p, level, c)
		return until - max(from, 0)
	}
	fresh := func(c scale.Cost) int { return length(scale.NewThrift(scale.DefaultRate), 1, c) }
	if dear, cheap := fresh(cost(500*ms, 1)), fresh(cost(50*ms, 1)); dear <= cheap {
		t.Errorf("a start of 500 ms is kept for %d min, one of 50 ms for %d", dear, cheap)
	}
	if small, big := fresh(cost(100*ms, 0.125)), fresh(cost(100*ms, 4)); small <= big {
		t.Errorf("a small one is kept for %d min, a big one for %d", small, big)
	}
	p := scale.NewThrift(scale.DefaultRate)
	for range 50 {
		p.Used(1, 30*time.Minute+30*time.Second, false)
	}
	c := cost(200*ms, 1)
	for m, want := range map[int]bool{10: false, 20: false, 30: true, 40: false} {
		if got, _ := p.Want(1, time.Duration(m)*time.Minute+30*time.Second, c); got != want {
			t.Errorf("what comes each 30 min is wanted after %d: %v", m, got)
		}
	}
	if first, ninth := length(p, 1, c), length(p, 9, c); first == ninth {
		t.Error("what is learnt of one level holds for all")
	}
	if got, _ := p.Want(9, 30*time.Minute+30*time.Second, c); !got {
		t.Error("nothing is learnt for a level of which nothing is known")
	}
	for _, at := range []struct { // keeping it until it is used, on average, is worth 47 ms for 1 GB
		cold time.Duration
		gb   float64
		want bool
	}{{48 * ms, 1, false}, {60 * ms, 1, true}, {60 * ms, 2, false}} {
		if got, _ := p.Want(1, 30*time.Minute+30*time.Second, cost(at.cold, at.gb)); got != at.want {
			t.Errorf("what comes each 30 min, has %g GB and starts in %v is started ahead: %v", at.gb, at.cold, got)
		}
	}
}

// TestThriftKeepsOverShortPauses: an instance is not ended where that saves less than the start
// ahead costs.
func TestThriftKeepsOverShortPauses(t *testing.T) {
	for later, want := range map[time.Duration]bool{time.Minute: true, 10 * time.Minute: false} {
		p := scale.NewThrift(scale.DefaultRate)
		for range 50 {
			p.Used(1, 10*time.Second, false)
			p.Used(1, later, false)
		}
		if got, _ := p.Want(1, (10*time.Second+later)/2, scale.Cost{Cold: 500 * ms, GB: 1}); got != want {
			t.Errorf("what comes after 10 s or %v is wanted in between: %v", later, got)
		}
	}
}

// TestThriftForgets: what was true of thousands of uses counts no more once it has not been for
// as many hundreds.
func TestThriftForgets(t *testing.T) {
	p, c := scale.NewThrift(scale.DefaultRate), scale.Cost{Cold: 500 * ms, GB: 1}
	for range 5100 {
		p.Used(1, 20*time.Minute, false)
	}
	if _, until := kept(p, 1, c); until < 20 {
		t.Errorf("what comes each 20 min is kept until minute %d", until)
	}
	for range 2500 {
		p.Used(1, 5*time.Minute, false)
	}
	if _, until := kept(p, 1, c); until < 5 || until > 15 {
		t.Errorf("what comes each 5 min by now is kept until minute %d", until)
	}
}

// TestThriftKeepsForSurprises: an instance that a forecast would have had started in
// time is not kept for that.
func TestThriftKeepsForSurprises(t *testing.T) {
	c := scale.Cost{Cold: 500 * ms, GB: 1}
	foreseen, surprising := scale.NewThrift(scale.DefaultRate), scale.NewThrift(scale.DefaultRate)
	for range 100 {
		foreseen.Used(1, 5*time.Minute, true)
		surprising.Used(1, 5*time.Minute, false)
	}
	if _, until := kept(surprising, 1, c); until < 5 {
		t.Errorf("what comes each 5 min, and is not foreseen, is kept until minute %d", until)
	}
	if from, until := kept(foreseen, 1, c); from >= 0 && until >= 5 {
		t.Errorf("what is foreseen is kept for minutes %d to %d", from, until)
	}
}

func TestStateOfPolicies(t *testing.T) {
	for _, mk := range []func() policy{
		func() policy { return scale.NewHistogram() },
		func() policy { return scale.NewThrift(scale.DefaultRate) },
	} {
		p, q := mk(), mk()
		for i := range 300 {
			p.Used(1+i%3, time.Duration(i%7)*time.Minute, i%5 == 0)
		}
		b, err := p.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := q.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		c := scale.Cost{Cold: 200 * ms, GB: 0.5}
		for m := range 100 {
			a, au := p.Want(1, time.Duration(m)*time.Minute, c)
			b, bu := q.Want(1, time.Duration(m)*time.Minute, c)
			if a != b || au != bu {
				t.Errorf("%T: after %d min %v, %v; what it was read back to says %v, %v", p, m, a, au, b, bu)
			}
		}
		for n := range b {
			if err := q.UnmarshalBinary(b[:n]); err == nil {
				t.Errorf("%T takes %d bytes of %d", q, n, len(b))
			}
		}
		if again, _ := q.MarshalBinary(); string(again) != string(b) {
			t.Errorf("%T: what it refused has changed it", q)
		}
	}
}

func FuzzState(f *testing.F) {
	p := scale.NewThrift(1)
	p.Used(1, time.Minute, false)
	b, _ := p.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range []policy{scale.NewHistogram(), scale.NewThrift(1)} {
			if p.UnmarshalBinary(b) == nil {
				p.Used(1, time.Minute, false)
				p.Want(1, time.Minute, scale.Cost{Cold: ms, GB: 1})
			}
		}
	})
}
