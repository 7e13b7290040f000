package scale

import (
	"math"
	"time"
)

// A forecast is how many calls there are about to be at a time, by how many there
// are and how fast they have come of late, as if each ended whenever it likes
// (the M/M/∞ queue). Idle times say nothing of what a burst needs for the first time
// in hours, or ever. The zero value is ready.
type forecast struct {
	horizon time.Duration
	rate    float64       // of arrivals before the last, in a nanosecond; the older the less they count
	next    float64       // with the last
	at      time.Duration // of the last

	high, before int             // the most that was forecast, in the window up to until and in the one before
	until        time.Duration   // a forecast holds at least up to there
	since        []time.Duration // by calls - 1: when it was first forecast that there are so many, if it still is
}

// leastHorizon is how far a forecast looks ahead, unless a start takes longer: to
// have an instance for half a second costs next to nothing.
const leastHorizon = time.Second / 2

const (
	forecastPast   = 4   // horizons, over which arrivals fade
	forecastWindow = 16  // horizons, and a minute at the most: to end an instance, and start it again, costs more than to keep it for a while
	forecastMargin = 2.5 // standard deviations: an instance too many for seconds costs much less than one too few
)

// arrived tells of an arrival, where a start takes so long. It does not count for
// its own rate: as arrivals at random see it, that is the mean.
func (f *forecast) arrived(now, start time.Duration) {
	f.horizon = max(start, leastHorizon)
	past := float64(forecastPast * f.horizon)
	f.rate = f.next * math.Exp(-float64(now-f.at)/past)
	f.next = f.rate + 1/past
	f.at = now
}

// of makes a forecast where there are n calls, each of which takes so long.
func (f *forecast) of(n int, run time.Duration) int {
	steady := f.rate * float64(run) // calls at a time, if they go on to come as fast
	stay := math.Exp(-float64(f.horizon) / float64(run))
	mean := steady + (float64(n)-steady)*stay
	variance := (1 - stay) * (steady + float64(n)*stay)
	return int(min(math.Round(mean+forecastMargin*math.Sqrt(variance)), math.MaxInt32))
}

// hold has a forecast hold for a while.
func (f *forecast) hold(now time.Duration, calls int) {
	had := f.calls(now)
	f.high = max(f.high, calls)
	for had < calls {
		if had == len(f.since) {
			f.since = append(f.since, 0)
		}
		f.since[had] = now
		had++
	}
}

// calls is the highest forecast that holds.
func (f *forecast) calls(now time.Duration) int {
	if now >= f.until {
		window := min(forecastWindow*f.horizon, time.Minute)
		if f.before = f.high; now-f.until >= window {
			f.before = 0
		}
		f.high, f.until = 0, now+window
	}
	return max(f.high, f.before)
}

// ago is for how long it has been forecast that there are n calls; 0: it is not.
func (f *forecast) ago(now time.Duration, n int) time.Duration {
	if n > f.calls(now) {
		return 0
	}
	return now - f.since[n-1]
}
