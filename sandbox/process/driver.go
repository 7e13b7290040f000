// Package process is the sandbox driver that needs nothing: a sandbox is a
// process group with rlimits and a directory for temporary files. It works
// without root and on macOS.
//
// It is NOT ISOLATED. A function sees the host's files and network as its user
// does. Started as root on Linux, every sandbox runs under a user id of its own,
// so that functions cannot signal, trace or read one another, nor read what only
// root may; started otherwise, all of them run as the server's user. Memory is
// limited by a watcher that looks every 50 ms. No process of a sandbox outlives
// Destroy or the server, except (without root) one that left its process group.
package process

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"lambent"
	"lambent/sandbox"
)

var _ sandbox.Driver = (*Driver)(nil)

// Options configure a Driver.
type Options struct {
	// Dir is where sandboxes keep their temporary files; it is emptied first. It
	// must be reachable by any user if the driver runs as root.
	Dir string
}

// A Driver runs functions as plain processes.
type Driver struct {
	dir    string
	users  *userRange // nil: everything runs as the server's user
	reaper *reaper
	ports  ports
	forks  chan func() // run on one thread that lives as long as the driver

	mu     sync.Mutex // guards what follows
	boxes  map[*box]struct{}
	closed bool
	wake   chan struct{} // tells the memory watcher that there is a box to watch
	done   chan struct{} // closed by Close
}

// New opens the driver.
func New(o Options) (*Driver, error) {
	const op = "process.New"
	if err := os.RemoveAll(o.Dir); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "cannot empty the sandbox directory: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o711); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "cannot make the sandbox directory: %w", err)
	}
	closeInheritedOnExec()
	users, err := leaseUsers()
	if err != nil {
		return nil, err
	}
	r, err := startReaper()
	if err != nil {
		users.close()
		return nil, err
	}
	d := &Driver{
		dir: o.Dir, users: users, reaper: r, forks: make(chan func()), boxes: map[*box]struct{}{},
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	d.ports.next = rand.IntN(lastPort - firstPort + 1) // away from those of another server
	go d.forkLoop()
	go d.watchMemory()
	return d, nil
}

// Isolation implements sandbox.Driver.
func (d *Driver) Isolation() string {
	s := "NOT ISOLATED: functions are plain processes that see this machine's files and network as "
	if d.users != nil {
		return s + "an unprivileged user of their own does"
	}
	return s + "this server's user does"
}

// Unprivileged reports whether functions run under other users than the server's,
// so that what they need must be readable and executable by anyone.
func (d *Driver) Unprivileged() bool { return d.users != nil }

// forkLoop owns the thread that forks every child. A parent-death signal is sent
// when the forking *thread* ends, and Go ends threads at will.
func (d *Driver) forkLoop() {
	runtime.LockOSThread()
	for {
		select {
		case f := <-d.forks:
			f()
		case <-d.done:
			return
		}
	}
}

// onForkThread runs f there and waits for it.
func (d *Driver) onForkThread(f func() error) error {
	result := make(chan error, 1)
	select {
	case d.forks <- func() { result <- f() }:
		return <-result
	case <-d.done:
		return errClosed
	}
}

var errClosed = lambent.Errorf(lambent.Unavailable, "process", "the sandbox driver is closed")

// Park implements sandbox.Driver.
func (d *Driver) Park(ctx context.Context, rt lambent.Runtime) (sandbox.Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := d.newBox(rt)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.boxes[b] = struct{}{}
	}
	d.mu.Unlock()
	if closed {
		err = errClosed
	} else if len(rt.Boot) > 0 {
		err = b.boot()
	}
	if err != nil {
		_ = b.Destroy()
		b.output.Close()
		return nil, err
	}
	return b, nil
}

func (d *Driver) newBox(rt lambent.Runtime) (_ *box, err error) {
	const op = "process.Park"
	var raw [16]byte
	crand.Read(raw[:])
	b := &box{driver: d, id: hex.EncodeToString(raw[:]), runtime: rt, uid: -1, done: make(chan struct{})}
	b.dir = filepath.Join(d.dir, b.id)
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "cannot make a sandbox's directory: %w", err)
	}
	if d.users != nil {
		if b.uid, err = d.users.take(); err != nil {
			return nil, err
		}
		if err := os.Chown(b.dir, b.uid, b.uid); err != nil {
			return nil, lambent.Errorf(lambent.Internal, op, "cannot give a sandbox its directory: %w", err)
		}
	}
	if b.output, b.stdout, err = sandbox.OutputPipe(); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "cannot make a pipe: %w", err)
	}
	return b, nil
}

// Close implements sandbox.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	boxes := make([]*box, 0, len(d.boxes))
	for b := range d.boxes {
		boxes = append(boxes, b)
	}
	d.mu.Unlock()
	var errs []error
	for _, b := range boxes {
		errs = append(errs, b.Destroy())
	}
	close(d.done)
	errs = append(errs, d.reaper.close(), d.users.close(), os.RemoveAll(d.dir))
	return errors.Join(errs...)
}

// watchMemory ends sandboxes that are over their limit. It sleeps while there is
// none.
func (d *Driver) watchMemory() {
	const every = 50 * time.Millisecond
	for {
		select {
		case <-d.wake:
		case <-d.done:
			return
		}
		for watched := true; watched; {
			select {
			case <-time.After(every):
			case <-d.done:
				return
			}
			d.mu.Lock()
			boxes := make([]*box, 0, len(d.boxes))
			for b := range d.boxes {
				if b.limitBytes.Load() > 0 {
					boxes = append(boxes, b)
				}
			}
			d.mu.Unlock()
			for _, b := range boxes {
				b.checkMemory()
			}
			watched = len(boxes) > 0
		}
	}
}
