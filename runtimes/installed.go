package runtimes

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// askAgain is how long what wrappers have told is not asked for again.
const askAgain = 10 * time.Second

// Installed returns a function that reports whether a program is an interpreter of this
// machine: one that [Discover] would come to from the same path, whoever names it. The
// function may be called concurrently. What is found by its name is not run. Wrappers of
// version managers are, if nothing else is the program, as attr says, for what is behind
// them.
func Installed(path []string, attr *syscall.SysProcAttr) func(program string) bool {
	var mu sync.Mutex // guards what follows, and is held while wrappers run
	var asked time.Time
	var behind []string
	return func(program string) bool {
		files := candidates(path)
		for _, f := range files {
			if real, err := filepath.EvalSymlinks(f); err == nil && real == program {
				return true
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if asked.IsZero() || time.Since(asked) > askAgain {
			behind = nil
			for _, c := range identifyAll(context.Background(), files, attr) {
				if c.err == nil {
					behind = append(behind, c.path)
				}
			}
			asked = time.Now()
		}
		return slices.Contains(behind, program)
	}
}
