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
