package dispatch

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// Processors are full while hardly any of their time is idle, and until a third of it is.
func TestFull(t *testing.T) {
	s, now, idle := &balance{idle: time.Hour}, time.Duration(0), time.Hour
	for i, c := range []struct {
		part float64 // of the processors' time
		full bool
	}{{0.5, false}, {0.2, false}, {0.1, true}, {0.3, true}, {0.4, false}, {0.3, false}, {0, true}} {
		now += lookEvery
		idle += time.Duration(c.part * float64(lookEvery) * float64(runtime.NumCPU()))
		if s.fillLocked(now, idle); s.full.Load() != c.full {
			t.Errorf("look %d, %v idle: full is %v", i, c.part, !c.full)
		}
	}
	now += lookEvery
	if s.fillLocked(now, 0); s.full.Load() {
		t.Error("it is full though nobody knows")
	}
	// A look that a project's first instance brings on comes before the clock has ticked.
	s.fillLocked(now+lookEvery, idle)
	idle += lookEvery
	s.fillLocked(now+2*lookEvery, idle)
	if s.fillLocked(now+2*lookEvery+lookAfter, idle); s.full.Load() {
		t.Error("it is full, as the clock stands still for a moment")
	}
	if _, err := os.Stat("/proc/uptime"); err == nil && idled() == 0 {
		t.Error("nobody knows")
	}
}
