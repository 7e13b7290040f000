package scale

import "time"

// An average is an exponentially weighted moving one with the weight 1/8, as that
// of round trips in TCP (RFC 6298). Zero: there was no sample.
type average time.Duration

func (a *average) add(d time.Duration) {
	d = max(d, 1)
	if *a == 0 {
		*a = average(d)
		return
	}
	*a += (average(d) - *a) / 8
}

// A bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Duration // when tokens was so many
	filled bool          // it has been: it is full at first
}

// fill adds what has come since the last time.
func (b *bucket) fill(now time.Duration, rate float64, burst int) {
	if !b.filled {
		b.tokens, b.filled = float64(burst), true
	}
	b.tokens = min(float64(burst), b.tokens+rate*(now-b.at).Seconds())
	b.at = now
}

// next is when there is a token.
func (b *bucket) next(rate float64) time.Duration {
	return b.at + time.Duration((1-b.tokens)/rate*float64(time.Second)) + 1
}

// A pace is how fast a pool could serve if nothing stood in the way: by the
// shortest of the last runs, as TCP BBR takes the shortest of the last round trips
// for what the path alone costs (Cardwell et al., ACM Queue 2016). An average will
// not do: where processors are what is short, it grows with the number of
// instances, and asks for more of them.
type pace struct {
	now, before time.Duration // the shortest of this window and of the one before
	n           int           // runs in this window
}

const (
	paceWindow = 16
	longWindow = 1024
)

// add adds a run, where so many are a window.
func (p *pace) add(ran time.Duration, window int) {
	if p.n == window {
		*p = pace{before: p.now}
	}
	ran = max(ran, 1)
	if p.n++; p.now == 0 || ran < p.now {
		p.now = ran
	}
}

func (p *pace) known() bool { return p.now > 0 || p.before > 0 }

func (p *pace) shortest() time.Duration {
	switch {
	case p.before == 0 || p.now > 0 && p.now < p.before:
		return p.now
	default:
		return p.before
	}
}

// of is how long so many busy instances need to come to the nth in line.
func (p *pace) of(n, busy int) time.Duration {
	return time.Duration(float64(n) * float64(p.shortest()) / float64(busy))
}
