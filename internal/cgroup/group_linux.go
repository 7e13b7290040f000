package cgroup

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"lambent"
)

// A Group holds the processes of one sandbox. CPU, PeakMemory and OOMKills may be
// called at any time before Remove; the rest is for one caller at a time.
type Group struct {
	tree   *Tree
	name   string
	limits Limits // as they are

	dir *os.File // version 2: held for FD
	Meter
}

// A Meter reads what a group has used. It is its own type because it needs no
// more than descriptors, which another process may hold: see Files. Its methods
// may be called concurrently.
type Meter struct {
	version        int
	cpu, peak, oom *os.File // held: an open costs more than the read
}

// NewMeter returns the meter of a group in another process, from its version and
// what Files returned there.
func NewMeter(version int, files []*os.File) (*Meter, error) {
	if (version != 1 && version != 2) || len(files) != 3 {
		return nil, lambent.Errorf(lambent.Internal, "cgroup.NewMeter", "version %d, %d files", version, len(files))
	}
	return &Meter{version, files[0], files[1], files[2]}, nil
}

// Files are the descriptors that the meter reads. They belong to it.
func (m *Meter) Files() []*os.File { return []*os.File{m.cpu, m.peak, m.oom} }

// Reopen returns a meter of the same group with descriptors of its own, for a process
// whose reading is not to hold up this one's.
func (m *Meter) Reopen() (*Meter, error) {
	own := &Meter{version: m.version}
	for _, f := range []struct{ own, of **os.File }{{&own.cpu, &m.cpu}, {&own.peak, &m.peak}, {&own.oom, &m.oom}} {
		var err error
		if *f.own, err = open((*f.of).Name()); err != nil {
			own.Close()
			return nil, lambent.Errorf(lambent.Internal, "cgroup.Reopen", "%w", err)
		}
	}
	return own, nil
}

// Close closes them.
func (m *Meter) Close() {
	for _, f := range m.Files() {
		if f != nil {
			f.Close()
		}
	}
}

// Limits are what the processes of a group may use together. Zero: no limit.
type Limits struct {
	MemoryBytes int64   // without swap: there is none for a group with a limit
	Pids        int     // processes and threads
	Idle        bool    // it has of the processors what nobody else wants, and gives way at once; CPU says nothing then
	CPU         float64 // share in thousandths of a processor, of which ten count at most: counts when others of the tree want it too
	QuotaCPU    int     // most that it gets in each 100 ms, in thousandths; not below 10
}

// Make makes a group, empty and without limits.
func (t *Tree) Make(name string) (_ *Group, err error) {
	g := &Group{tree: t, name: name, Meter: Meter{version: t.version}}
	defer func() {
		if err != nil {
			err = lambent.Errorf(lambent.Internal, "cgroup.Make", "cannot make control group %s: %w", name, err)
			if !errors.Is(err, os.ErrExist) { // or it is another's
				_ = g.Remove()
			}
		}
	}()
	for _, dir := range t.dirs {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	if t.version == 1 {
		g.cpu = g.open(&err, "cpuacct", "cpuacct.usage")
		g.peak = g.open(&err, "memory", "memory.max_usage_in_bytes")
		g.oom = g.open(&err, "memory", "memory.oom_control")
		return g, err
	}
	g.dir = g.open(&err, "memory", "")
	g.cpu = g.open(&err, "cpu", "cpu.stat")
	g.oom = g.open(&err, "memory", "memory.events")
	if g.peak = g.open(&err, "memory", "memory.peak"); errors.Is(err, os.ErrNotExist) {
		err = nil // before Linux 5.19 what is in use now has to do
		g.peak = g.open(&err, "memory", "memory.current")
	}
	if err == nil { // a sandbox with a hole in it is of no use to anyone
		err = write(g.file("memory", "memory.oom.group"), "1")
	}
	return g, err
}

func (g *Group) file(controller, name string) string {
	return filepath.Join(g.tree.dir[controller], g.name, name)
}

// open opens a file of the group for reading, unless something failed before.
func (g *Group) open(err *error, controller, name string) *os.File {
	if *err != nil {
		return nil
	}
	var f *os.File
	f, *err = open(g.file(controller, name))
	return f
}

// open opens a file for reading. Not os.Open, which would watch the descriptor for
// readiness.
func open(path string) (*os.File, error) {
	var fd int
	err := again(func() (err error) { fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); return err })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// FD is the group's descriptor for CLONE_INTO_CGROUP (CgroupFD of
// [syscall.SysProcAttr]), by which a child is born in it; -1 in version 1: see Join.
func (g *Group) FD() int {
	if g.dir == nil {
		return -1
	}
	return int(g.dir.Fd())
}

// Limit sets the limits; those that are so already cost nothing. A group that
// uses more memory than a new limit, and cannot give it up, keeps the old one:
// the error is Unavailable. (It is killed for what it takes later, not for this.)
func (g *Group) Limit(l Limits) error {
	now := &g.limits
	if l.MemoryBytes != now.MemoryBytes {
		if err := g.limitMemory(l.MemoryBytes); err != nil {
			return err
		}
		now.MemoryBytes = l.MemoryBytes
	}
	if l.Pids != now.Pids {
		if err := g.limit("pids", "pids.max", amount(int64(l.Pids), "max")); err != nil {
			return err
		}
		now.Pids = l.Pids
	}
	if l.Idle != now.Idle {
		if err := g.idle(l.Idle); err != nil {
			return err
		}
		now.Idle, now.CPU = l.Idle, -1 // the kernel has given it a share of its own
	}
	if l.CPU != now.CPU && !l.Idle {
		// As fine as the kernel's range allows, whose ends are two to the 18th and two, and 10,000 and one.
		file, share := "cpu.shares", min(max(2, math.Round(l.CPU*(1<<18)/10000)), 1<<18)
		if g.tree.version == 2 {
			file, share = "cpu.weight", min(max(1, math.Round(l.CPU)), 10000)
		}
		if err := g.limit("cpu", file, strconv.Itoa(int(share))); err != nil {
			return err
		}
		now.CPU = l.CPU
	}
	if l.QuotaCPU != now.QuotaCPU {
		file, quota := "cpu.cfs_quota_us", amount(int64(l.QuotaCPU)*100, "-1")
		if g.tree.version == 2 {
			file, quota = "cpu.max", amount(int64(l.QuotaCPU)*100, "max")
		}
		if err := g.limit("cpu", file, quota); err != nil { // the period is 100 ms unless said otherwise
			return err
		}
		now.QuotaCPU = l.QuotaCPU
	}
	return nil
}

func amount(n int64, none string) string {
	if n == 0 {
		return none
	}
	return strconv.FormatInt(n, 10)
}

func (g *Group) limit(controller, file, value string) error {
	if err := write(g.file(controller, file), value); err != nil {
		return lambent.Errorf(lambent.Internal, "cgroup.Limit", "cannot limit control group %s: %w", g.name, err)
	}
	return nil
}

// idle makes the group one of those that run when no other wants to, as SCHED_IDLE is for
// one thread, or ends that. Linux has it since 5.15; before, the least share is what is next to it.
func (g *Group) idle(is bool) error {
	err := g.limit("cpu", "cpu.idle", map[bool]string{true: "1", false: "0"}[is])
	switch {
	case !errors.Is(err, os.ErrNotExist):
		return err
	case !is:
		return nil // a share follows
	}
	if g.tree.version == 2 {
		return g.limit("cpu", "cpu.weight", "1")
	}
	return g.limit("cpu", "cpu.shares", "2")
}

// limitMemory limits memory, and swap to nothing where the kernel counts swap.
func (g *Group) limitMemory(bytes int64) error {
	if g.tree.version == 2 {
		return g.limitMemoryV2(bytes)
	}
	const memory, withSwap = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	order := []string{memory, withSwap} // memory alone is never to be the more
	if now := g.limits.MemoryBytes; bytes == 0 || now != 0 && bytes > now {
		slices.Reverse(order)
	}
	for _, file := range order {
		switch err := g.limit("memory", file, amount(bytes, "-1")); {
		case errors.Is(err, unix.EBUSY):
			return g.inUse(bytes)
		case err != nil && !(file == withSwap && errors.Is(err, os.ErrNotExist)):
			return err
		}
	}
	return nil
}

// limitMemoryV2 does as version 1 does, where a limit that cannot be kept is
// refused: memory.max would have the group killed at once. memory.high only
// reclaims, and comes first for a group that is above.
func (g *Group) limitMemoryV2(bytes int64) error {
	limit := amount(bytes, "max")
	if used, err := g.usedV2(); err != nil {
		return err
	} else if bytes != 0 && used > bytes {
		err := g.limit("memory", "memory.high", limit)
		if err == nil {
			used, err = g.usedV2()
		}
		if err := errors.Join(err, g.limit("memory", "memory.high", "max")); err != nil {
			return err
		}
		if used > bytes {
			return g.inUse(bytes)
		}
	}
	swap := "0"
	if bytes == 0 {
		swap = "max"
	}
	if err := g.limit("memory", "memory.swap.max", swap); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return g.limit("memory", "memory.max", limit)
}

func (g *Group) usedV2() (int64, error) {
	b, err := os.ReadFile(g.file("memory", "memory.current"))
	if err == nil {
		var n int64
		if n, err = strconv.ParseInt(string(b[:max(0, len(b)-1)]), 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, lambent.Errorf(lambent.Internal, "cgroup.Limit", "cannot read what control group %s uses: %w", g.name, err)
}

func (g *Group) inUse(limit int64) error {
	return lambent.Errorf(lambent.Unavailable, "cgroup.Limit", "what runs there already uses more than %d MB of memory", limit>>20)
}
