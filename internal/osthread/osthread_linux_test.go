package osthread_test

import (
	"errors"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lambent/internal/osthread"
)

// However many threads are used up, none is the first, and the process is what it
// was.
func TestDo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	before, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			err := osthread.Do(func() error {
				if unix.Gettid() == unix.Getpid() {
					return errors.New("the first thread is used")
				}
				if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
					return err
				}
				mine, err := os.Readlink("/proc/thread-self/ns/uts")
				if err == nil && mine == before {
					err = errors.New("no namespace of its own")
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if ns, err := os.Readlink("/proc/self/ns/uts"); err != nil || ns != before {
		t.Errorf("the process is in %s, %v; it was in %s", ns, err, before)
	}
}
