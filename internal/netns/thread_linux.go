package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// within runs f on a thread that is in the namespace. A thread that cannot come
// home afterwards is never used again: it ends with the goroutine that holds it.
func (n *Nets) within(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := enter(ns); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		err := f()
		if enter(n.home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// unshared runs f on a thread in a new namespace, which it returns even if f fails.
func (n *Nets) unshared(f func(ns *os.File) error) (*os.File, error) {
	var ns *os.File
	err := n.within(n.home, func() (err error) {
		if err := retry(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		return f(ns)
	})
	return ns, err
}

func enter(ns *os.File) error {
	return retry(func() error { return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) })
}

// retry repeats a system call that Go's preemption signal interrupts.
func retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
