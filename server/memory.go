package server

import (
	"fmt"
	"os"
	"runtime/debug"
)

// TuneMemory bounds the garbage that may pile up, unless the environment does: the
// live data of an idle server is some 20 MB, and the default lets as much again lie
// about after a burst.
func TuneMemory(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(75)
	}
	if getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit())
	}
}

// memoryLimit is half of the machine's memory: the rest is the functions'.
func memoryLimit() int64 {
	const least, unknown = 256 << 20, 1 << 30
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return unknown
	}
	var kb int64
	if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kb); err != nil {
		return unknown
	}
	return max(least, kb<<10/2)
}
