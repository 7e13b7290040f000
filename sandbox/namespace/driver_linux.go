//go:build amd64 || arm64

package namespace

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/internal/cgroup"
	"lambent/internal/netns"
	"lambent/sandbox"
)

var _ sandbox.Driver = (*Driver)(nil)

// A Driver makes sandboxes out of Linux namespaces. It needs root.
type Driver struct {
	agents  string
	code    place
	rootsAt place
	known   func(interpreter string) bool // nil: each is
	dir     *os.File                      // for the files of disks
	log     *slog.Logger
	lease   *lease
	init    *os.File // the first program of sandboxes
	filter  *os.File // their system call filter
	null    *os.File
	threads *threads
	groups  *cgroup.Tree
	nets    *netns.Nets
	slots   *slots

	rootMu sync.Mutex // guards roots, and is held while one is made
	roots  map[string]*root

	compiling sync.WaitGroup
	making    sync.WaitGroup // boxes that are being made; added to with mu held

	mu     sync.Mutex // guards what follows
	boxes  map[*box]struct{}
	closed bool
}

var errClosed = lambent.Errorf(lambent.Unavailable, "namespace", "the sandbox driver is closed")

// New opens the driver: it removes what an earlier one that was killed has left,
// and makes one sandbox, so that what this machine cannot do is known now and not
// at the first call. The error is Unsupported where the machine cannot.
func New(o Options) (_ *Driver, err error) {
	const op = "namespace.New"
	if os.Geteuid() != 0 {
		return nil, lambent.Errorf(lambent.Unsupported, op, "sandboxes of namespaces need root")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Driver{agents: o.Agents, known: o.Interpreters, log: o.Logger, roots: map[string]*root{}, boxes: map[*box]struct{}{}}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	if d.dir, err = os.Open(o.Dir); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, op, "the directory for disks: %w", err)
	}
	if d.code, err = placeAt(o.Code); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, op, "the directory of code: %w", err)
	}
	if d.rootsAt, err = placeAt(o.Roots); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, op, "the directory of roots: %w", err)
	}
	if d.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "%w", err)
	}
	rules, err := filter()
	if err != nil {
		return nil, err
	}
	if d.filter, err = memoryFile("filter", rules); err != nil {
		return nil, err
	}
	if d.init, err = initFile(); err != nil {
		return nil, err
	}
	if d.lease, err = takeLease(); err != nil {
		return nil, err
	}
	if d.groups, err = cgroup.Open(fmt.Sprintf("lambent-%d", d.lease.server)); err != nil {
		return nil, err
	}
	if o.Yield {
		if err := d.groups.Yield(); err != nil {
			return nil, err
		}
	}
	if d.nets, err = netns.Open(netns.Options{Server: d.lease.server, Log: d.log}); err != nil {
		return nil, err
	}
	// As many builders as processors: more would only make each sandbox take longer.
	if d.threads, err = startThreads(max(2, runtime.NumCPU())); err != nil {
		return nil, err
	}
	d.slots = &slots{lease: d.lease, init: d.init, dir: d.dir, threads: d.threads, nets: d.nets}
	return d, d.rehearse()
}

// initFile returns the first program of sandboxes. A memory file cannot be
// executed while it is open for writing: it is opened again.
func initFile() (*os.File, error) {
	f, err := memoryFile("init", initProgram)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// rehearse makes a sandbox, all the way.
func (d *Driver) rehearse() error {
	const op = "namespace.New"
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// The first program serves as the function, too: with this argument it exits.
	code := filepath.Join(workshopDir, "rehearsal")
	err := d.threads.do(func(*thread) error {
		return errors.Join(os.Mkdir(code, 0o755), os.WriteFile(filepath.Join(code, "bootstrap"), initProgram, 0o755))
	})
	if err != nil {
		return lambent.Errorf(lambent.Internal, op, "%w", err)
	}
	s, err := d.Park(ctx, lambent.Runtime{Name: "provided"})
	if err != nil {
		return err
	}
	defer s.Output().Close()
	err = s.(*box).assign(sandbox.Task{Code: code, MemoryMB: 128, TmpMB: diskMB, Start: sandbox.Start{Argv: []string{"./bootstrap", "rehearsal"}}}, place{})
	if err == nil {
		select {
		case <-s.Done():
			if e := s.Exit(); e != (sandbox.Exit{}) {
				err = lambent.Errorf(lambent.Unsupported, op, "the first sandbox failed: %v", e)
			}
		case <-ctx.Done():
			err = lambent.Errorf(lambent.Unsupported, op, "the first sandbox does not end")
		}
	}
	return errors.Join(err, s.Destroy())
}

// Isolation implements sandbox.Driver.
func (d *Driver) Isolation() string {
	return fmt.Sprintf("isolated by namespaces, seccomp and control groups (v%d) of this machine's kernel, which all functions share", d.groups.Version())
}

// Meters is the version of the control groups that sandboxes' meters read.
func (d *Driver) Meters() int { return d.groups.Version() }

// Attend runs f on a thread of the driver's, on which most that the driver is asked
// is done at once and not handed to another. It returns when f does, or an error if
// there can be no such thread.
func (d *Driver) Attend(f func()) error { return d.threads.attend(f) }

// Park implements sandbox.Driver.
func (d *Driver) Park(ctx context.Context, rt lambent.Runtime) (sandbox.Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := d.root(rt)
	if err != nil {
		return nil, err
	}
	b, err := d.park(r, rt)
	if err != nil {
		return nil, err
	}
	d.compile(r, rt)
	return b, nil
}

func (d *Driver) park(r *root, rt lambent.Runtime) (*box, error) {
	b := newBox(d)
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.making.Add(1)
	}
	d.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	defer d.making.Done()
	err := b.make(r, rt)
	d.mu.Lock()
	d.boxes[b] = struct{}{} // from here on Close destroys it, which waits for this
	d.mu.Unlock()
	if err != nil {
		_ = b.Destroy()
		if b.output != nil {
			b.output.Close()
		}
		return nil, err
	}
	return b, nil
}

// root returns the root file system of a runtime's sandboxes, made at its first use.
func (d *Driver) root(rt lambent.Runtime) (*root, error) {
	show, err := visible(rt)
	if err != nil {
		return nil, err
	}
	key := strings.Join([]string{rt.Root, show, rt.Packages, rt.PackagesAt}, "\x00")
	d.rootMu.Lock()
	r := d.roots[key]
	d.rootMu.Unlock()
	if r != nil {
		return r, nil
	}
	if show != "" && !d.mayShow(show, rt.Boot[0]) { // which may take long, and holds up nobody
		return nil, lambent.Errorf(lambent.Forbidden, "namespace.Park", "functions may not see %s: %s is none of the interpreters on the server's PATH", show, rt.Boot[0]).
			WithHint("PATH=%s:$PATH lambent serve", filepath.Dir(rt.Boot[0]))
	}
	d.rootMu.Lock()
	defer d.rootMu.Unlock()
	if r := d.roots[key]; r != nil {
		return r, nil
	}
	for _, dir := range []*string{&rt.Root, &rt.Packages} {
		if *dir != "" {
			if *dir, err = d.rootsAt.path(*dir); err != nil {
				return nil, err
			}
		}
	}
	d.forgetRoots()
	r, err = makeRoot(d.threads, d.agents, show, rt)
	if err == nil {
		r.of = []string{rt.Root, rt.Packages}
		d.roots[key] = r
	}
	return r, err
}

// mayShow reports whether a directory of the host's, in which a program lies, may be put
// into sandboxes.
func (d *Driver) mayShow(dir, program string) bool {
	if d.known == nil {
		return true
	}
	return d.rootsAt.name != "" && d.rootsAt.holds(dir) || d.known(filepath.Clean(program))
}

// forgetRoots lets go of those whose directories were removed: the sandboxes that
// they were copied to have what they need, and none is being made of them, because
// whoever parks one keeps its directories meanwhile. The caller holds rootMu.
func (d *Driver) forgetRoots() {
	for key, r := range d.roots {
		if r.compiling == 0 && slices.ContainsFunc(r.of, func(dir string) bool {
			_, err := os.Lstat(dir)
			return dir != "" && errors.Is(err, fs.ErrNotExist)
		}) {
			_ = r.close()
			r.gone = true
			delete(d.roots, key)
		}
	}
}

// Close implements sandbox.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.making.Wait() // what is half made cannot be destroyed
	d.mu.Lock()
	boxes := make([]*box, 0, len(d.boxes))
	for b := range d.boxes {
		boxes = append(boxes, b)
	}
	d.mu.Unlock()
	var errs []error
	for _, b := range boxes {
		errs = append(errs, b.Destroy())
	}
	d.compiling.Wait()
	if d.slots != nil {
		errs = append(errs, d.slots.close())
	}
	if d.threads != nil {
		d.threads.close()
	}
	for _, r := range d.roots {
		errs = append(errs, r.close())
	}
	if d.nets != nil {
		errs = append(errs, d.nets.Close())
	}
	if d.groups != nil {
		errs = append(errs, d.groups.Close())
	}
	for _, f := range []*os.File{d.init, d.filter, d.null, d.dir} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if d.lease != nil {
		errs = append(errs, d.lease.close())
	}
	return errors.Join(errs...)
}
