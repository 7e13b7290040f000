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
	if total := machineMemory(); total > 0 {
		return max(least, total/2)
	}
	return unknown
}

// spareMB is how much memory functions may be promised together: all that the
// machine has but an eighth, and at least 512 MB less, for itself and the server. 0
// where that is not known.
func spareMB() int {
	total := machineMemory() >> 20
	if total == 0 {
		return 0
	}
	return int(max(total-max(total/8, 512), total/2))
}

// machineMemory is what the machine has in bytes; 0 if that cannot be told.
func machineMemory() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kb int64
	if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kb); err != nil {
		return 0
	}
	return kb << 10
}
