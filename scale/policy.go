package scale

import "time"

// A Policy says how long idle instances of one revision are worth their memory,
// and when one is worth a start ahead. It is asked by levels (see [Pool]): for
// how long has there been no use for a further instance beyond level-1 of them?
//
// A policy that also implements encoding.BinaryMarshaler and BinaryUnmarshaler
// can be kept over a restart.
type Policy interface {
	// Used tells that an instance of a level is wanted after so long without: a
	// sample of that level's idle time, whether or not one was there. If that was
	// foreseen there would have been one by then, without having been kept. It must
	// not allocate.
	Used(level int, idle time.Duration, foreseen bool)
	// Want says whether there is to be an instance of a level that has been idle for
	// so long, and up to which idle time that holds; then it is asked again. It must
	// not allocate as a rule.
	Want(level int, idle time.Duration, c Cost) (want bool, until time.Duration)
}

// A Cost is what is at stake.
type Cost struct {
	Cold time.Duration // what a start takes, init and all; 0: not known
	GB   float64       // that an instance takes
}

// Fixed keeps each instance for the same time, as most platforms do.
type Fixed time.Duration

// Used implements Policy.
func (Fixed) Used(int, time.Duration, bool) {}

// Want implements Policy.
func (f Fixed) Want(_ int, idle time.Duration, _ Cost) (bool, time.Duration) {
	if idle < time.Duration(f) {
		return true, time.Duration(f)
	}
	return false, Never
}

// None keeps nothing.
type None struct{}

// Used implements Policy.
func (None) Used(int, time.Duration, bool) {}

// Want implements Policy.
func (None) Want(int, time.Duration, Cost) (bool, time.Duration) { return false, Never }
