// Package osthread runs code on a thread of its own, for code that changes what
// Linux keeps for each thread, such as its namespaces, and does not change it back.
package osthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs f on a thread that ends with it, and returns what f returns. It is never
// the process's first thread: that one cannot end, and /proc/self shows the mounts
// and the root directory that it has.
func Do(f func() error) error {
	done := make(chan error, 1)
	go start(f, done)
	return <-done
}

func start(f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		ended := make(chan struct{})
		go func() { // on another thread, as long as this one is taken
			defer close(ended)
			start(f, done)
		}()
		<-ended
		runtime.UnlockOSThread()
		return
	}
	done <- f() // never unlocked: the thread ends with its goroutine
}
