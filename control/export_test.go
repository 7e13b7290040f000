package control

import "time"

// SetSweepAge makes Sweep as impatient as a test.
func SetSweepAge(d time.Duration) (restore func()) {
	old := sweepAge
	sweepAge = d
	return func() { sweepAge = old }
}
