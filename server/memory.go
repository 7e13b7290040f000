package server

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// TuneMemory bounds the garbage that may pile up, unless the environment does: the
// live data of an idle server is some 10 MB, and the default lets as much again lie
// about after a burst.
func TuneMemory(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(restPercent)
	}
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit())
	}
}

// How much garbage may pile up: at rest a part of what is alive, and under load, where
// with that little there are nine collections a second, each of which delays the calls
// of some milliseconds, so many bytes.
const (
	restPercent = 75
	loadBytes   = 32 << 20
)

// garbage is how much may pile up now.
type garbage struct {
	ours   bool // to bound, and not the environment's
	loaded bool
	told   int       // percent, if it is loaded
	busy   time.Time // when there was last a load
}

// look goes by how many processors have been busy.
func (g *garbage) look(busy float64, now time.Time) {
	switch {
	case !g.ours:
	case busy > 0.2:
		g.busy = now
		if n := loadPercent(); !g.loaded || n > 2*g.told || g.told > 2*n {
			g.loaded, g.told = true, n
			debug.SetGCPercent(n)
		}
	case g.loaded && now.Sub(g.busy) > narrowAfter:
		g.loaded = false
		debug.SetGCPercent(restPercent)
	}
}

// loadPercent is loadBytes as a part of what is alive.
func loadPercent() int {
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(alive)
	return max(restPercent, int(100*loadBytes/max(alive[0].Value.Uint64(), loadBytes/4)))
}

// memoryLimit is half of the machine's memory: the rest is the functions'.
func memoryLimit() int64 {
	const least, unknown = 256 << 20, 1 << 30
	if total := machineMemory(); total > 0 {
		return max(least, total/2)
	}
	return unknown
}

// A shares is how a machine's memory is divided, in MB: nobody is promised what is another's.
type shares struct {
	functions int // what instances may be promised together
	build     int // of one build
	builds    int // at a time
	server    int // of this process, of what is parked unless that is told to be more, and of the system
	bodies    int // of that, of requests (see internal/intake)
}

// share divides so many MB. Functions have half at least.
func share(total int) shares {
	s := shares{build: min(max(total/16, min(total/4, 512)), 2048), builds: 2, server: min(max(total/16, 512), total/4)}
	if total < 3<<10 {
		s.builds = 1
	}
	s.functions, s.bodies = total-s.builds*s.build-s.server, s.server/4
	return s
}

// Most that is parked of a runtime, unless it is told; and the MB that one takes, of Python or
// Node.js (BenchmarkParked). An image's interpreter, or a framework that is loaded, takes more.
const (
	defaultParked = 16
	parkedMB      = 6
)

// beside is what of the functions' memory is left beside so many of a runtime that are parked.
func (s shares) beside(parked int) int {
	if s.functions == 0 {
		return 0 // no bound
	}
	return s.functions - max(0, parked-defaultParked)*parkedMB
}

// memoryShares is that for this machine. Where it is not known what it has, functions have no
// bound together, and the rest is for one of 32 GB.
func memoryShares() shares {
	if total := int(machineMemory() >> 20); total > 0 {
		return share(total)
	}
	s := share(32 << 10)
	s.functions = 0
	return s
}

// machineMemory is what the machine has in bytes, or the control groups in which this process
// is may have; 0 if that cannot be told.
func machineMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kb int64
	if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kb); err != nil {
		return 0
	}
	return min(kb<<10, groupMemory())
}
