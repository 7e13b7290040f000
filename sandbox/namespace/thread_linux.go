//go:build amd64 || arm64

package namespace

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/osthread"
)

// Threads are long-lived threads of the operating system that work in namespaces
// of their own choosing: they enter a sandbox's and come back. A child that one of
// them forks gets its parent-death signal only when the server itself dies,
// because they never end while it lives (Go ends threads at will).
//
// All of them live in one mount namespace, the workshop: a copy of the host's in
// which the driver mounts what the host need not see, on a small tmpfs at
// workshopDir. What the host mounts later appears there too.
type threads struct {
	work     chan func(*thread)
	workshop *os.File // the mount namespace
	closing  chan struct{}
	running  sync.WaitGroup

	lent sync.Map // of *thread by its kernel's number: those that attend has lent
}

// A thread is handed to the function that runs on it.
type thread struct {
	all  *threads
	host *os.File // the network namespace that it comes back to
}

// startThreads starts n threads; the first one makes the workshop.
func startThreads(n int) (*threads, error) {
	ts := &threads{work: make(chan func(*thread)), closing: make(chan struct{})}
	ready := make(chan error)
	for i := range n {
		ts.running.Go(func() {
			_ = osthread.Do(func() error {
				t, err := ts.enter(i == 0)
				ready <- err
				if err == nil {
					t.loop()
					t.host.Close()
				}
				return nil
			})
		})
		if err := <-ready; err != nil {
			ts.close()
			return nil, lambent.Errorf(lambent.Unsupported, "namespace.New", "cannot make a mount namespace: %w", err)
		}
	}
	return ts, nil
}

func (ts *threads) enter(first bool) (*thread, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // or setns refuses
		return nil, os.NewSyscallError("unshare", err)
	}
	if first {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return nil, os.NewSyscallError("unshare", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return nil, os.NewSyscallError("mount", err)
		}
		if err := unix.Mount("lambent", workshopDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=4m"); err != nil {
			return nil, os.NewSyscallError("mount", err)
		}
		ns, err := os.Open("/proc/thread-self/ns/mnt")
		if err != nil {
			return nil, err
		}
		ts.workshop = ns
	} else if err := unix.Setns(int(ts.workshop.Fd()), unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("setns", err)
	}
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	return &thread{all: ts, host: host}, nil
}

func (t *thread) loop() {
	for {
		select {
		case f := <-t.all.work:
			f(t)
		case <-t.all.closing:
			return
		}
	}
}

// attend runs f on a thread of its own, on which do does at once what it is asked.
func (ts *threads) attend(f func()) error {
	return osthread.Do(func() error {
		t, err := ts.enter(false)
		if err != nil {
			return err
		}
		defer t.host.Close()
		ts.lent.Store(unix.Gettid(), t)
		defer ts.lent.Delete(unix.Gettid())
		f()
		return nil
	})
}

// do runs f on a thread and waits for it.
func (ts *threads) do(f func(*thread) error) error {
	// Who is on a thread of ours is locked to it. Handing over to another and back
	// would wake two, which takes longer than most of what is done here.
	if t, ok := ts.lent.Load(unix.Gettid()); ok {
		return f(t.(*thread))
	}
	result := make(chan error, 1)
	select {
	case ts.work <- func(t *thread) { result <- f(t) }:
		return <-result
	case <-ts.closing:
		return errClosed
	}
}

// inMounts runs f in another mount namespace.
func (t *thread) inMounts(ns *os.File, f func() error) error {
	if err := t.setns(ns, unix.CLONE_NEWNS); err != nil {
		return err
	}
	err := f()
	t.comeBack(t.all.workshop, unix.CLONE_NEWNS)
	return err
}

// inNetwork runs f in another network namespace.
func (t *thread) inNetwork(ns *os.File, f func() error) error {
	if err := t.setns(ns, unix.CLONE_NEWNET); err != nil {
		return err
	}
	err := f()
	t.comeBack(t.host, unix.CLONE_NEWNET)
	return err
}

func (t *thread) setns(ns *os.File, kind int) error {
	return os.NewSyscallError("setns", again(func() error { return unix.Setns(int(ns.Fd()), kind) }))
}

// comeBack cannot fail: a thread that is left in a sandbox's namespace would do
// there what it is asked next.
func (t *thread) comeBack(ns *os.File, kind int) {
	if err := t.setns(ns, kind); err != nil {
		panic("namespace: a thread cannot come back from a sandbox: " + err.Error())
	}
}

func (ts *threads) close() {
	close(ts.closing)
	ts.running.Wait()
	if ts.workshop != nil {
		ts.workshop.Close()
	}
}

// again repeats a system call that a signal cut short: Go sends itself some.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
