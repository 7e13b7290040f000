package cgroup

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
)

// A Tree is a directory of groups. Its methods may be called concurrently, but
// for Close.
type Tree struct {
	version int
	dir     map[string]string // of each controller; version 2 has all in one
	dirs    []string          // each of them once
	beside  bool              // version 2: this process's group, and nobody else's, is beside the tree
	home    []*os.File        // version 1: the lists of threads in the groups where this process is, for each of dirs
}

// controllers are what a tree needs of version 1. In version 2 the accounting of
// CPU and the freezer are in every group, whatever its controllers.
var controllers = []string{"memory", "cpu", "cpuacct", "pids", "freezer"}

// Open makes the tree of that name, a file's, at the top of the hierarchy; in
// version 2 below this process's own group where a systemd unit delegates one
// to it (Delegate=yes). What is left in the tree of earlier is killed and
// removed first, so no two may be open under one name. The error is Unsupported
// where the machine offers no groups.
func Open(name string) (_ *Tree, err error) {
	const op = "cgroup.Open"
	two, one, err := mounts()
	if err != nil {
		return nil, lambent.Errorf(lambent.Unsupported, op, "cannot tell what control groups there are: %w", err)
	}
	t := &Tree{dir: map[string]string{}}
	defer func() {
		if err != nil {
			t.letGo()
		}
	}()
	if two != "" {
		err = t.findV2(two, name)
	} else {
		err = t.findV1(one, name)
	}
	if err != nil {
		return nil, err
	}
	for _, dir := range t.dirs {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, lambent.Errorf(lambent.Unsupported, op, "cannot make control groups: %w", err)
		}
	}
	if t.version == 2 {
		err = enable(t.dirs[0])
	} else {
		// Groups have it from the one above. It is all that keeps memory out of swap that
		// the kernel does not count: see limitMemory.
		err = write(filepath.Join(t.dir["memory"], "memory.swappiness"), "0")
	}
	if err != nil {
		return nil, lambent.Errorf(lambent.Unsupported, op, "cannot use control groups: %w", err)
	}
	if err := t.sweep(); err != nil {
		return nil, err
	}
	return t, nil
}

// Yield gives the tree a quarter of the weight of this process's group, where the two
// are alone beside each other, as in a unit of systemd's with a version 2 that is left
// to it: for a process that serves all groups of the tree, needs little, and is what
// each waits for. Elsewhere it does nothing: the tree would yield to every other
// program of the machine, too.
func (t *Tree) Yield() error {
	if !t.beside {
		return nil
	}
	if err := write(filepath.Join(t.dir["cpu"], "cpu.weight"), "25"); err != nil {
		return lambent.Errorf(lambent.Unsupported, "cgroup.Yield", "cannot use control groups: %w", err)
	}
	return nil
}

// mounts finds where version 2 is mounted, if it has the memory controller (in
// the hybrid of both it has none), and each controller of version 1.
func mounts() (two string, one map[string]string, err error) {
	// Of this thread, not of the process's first: that one may have ended, as far as
	// Go is concerned, in another mount namespace.
	b, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil {
		return "", nil, err
	}
	one = map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		switch dir := f[1]; f[2] {
		case "cgroup2":
			has, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
			if err == nil && two == "" && slices.Contains(strings.Fields(string(has)), "memory") {
				two = dir
			}
		case "cgroup":
			for _, option := range strings.Split(f[3], ",") {
				if slices.Contains(controllers, option) && one[option] == "" {
					one[option] = dir
				}
			}
		}
	}
	return two, one, nil
}

// own returns the paths of this process's groups below the mounts: by controller,
// and of version 2 by the empty name.
func own() (map[string]string, error) {
	b, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3); len(f) == 3 {
			for _, controller := range strings.Split(f[1], ",") {
				paths[controller] = f[2]
			}
		}
	}
	return paths, nil
}

// Version is that of the kernel's interface: 1 or 2.
func (t *Tree) Version() int { return t.version }

// sweep ends and removes every group in the tree.
func (t *Tree) sweep() error {
	var errs []error
	names := map[string]bool{}
	for _, dir := range t.dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, lambent.Errorf(lambent.Internal, "cgroup.sweep", "%w", err))
		}
		for _, e := range entries {
			if e.IsDir() {
				names[e.Name()] = true
			}
		}
	}
	for name := range names {
		g := &Group{tree: t, name: name}
		errs = append(errs, g.Kill(), g.Remove())
	}
	return errors.Join(errs...)
}

// Close removes the tree, with every group that is left in it and the processes
// there.
func (t *Tree) Close() error {
	errs := []error{t.sweep()}
	for _, dir := range t.dirs {
		errs = append(errs, rmdir(dir))
	}
	t.letGo()
	return errors.Join(errs...)
}

func (t *Tree) letGo() {
	for _, home := range t.home {
		home.Close()
	}
	t.home = nil
}

// rmdir removes a group's directory. For a moment after its last process has
// gone the kernel may still call it busy.
func rmdir(dir string) error {
	const op = "cgroup.Remove"
	var err error
	gone := await(time.Second, func() bool {
		err = again(func() error { return unix.Rmdir(dir) })
		return err != unix.EBUSY
	})
	if gone && (err == nil || err == unix.ENOENT) {
		return nil
	}
	return lambent.Errorf(lambent.Internal, op, "cannot remove control group %s: %w", dir, err)
}

// write writes to a file of a group.
func write(file, value string) error {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err == nil {
		err = again(func() error { _, err := unix.Write(fd, []byte(value)); return err })
		unix.Close(fd)
	}
	if err != nil {
		return &os.PathError{Op: "write " + value, Path: file, Err: err}
	}
	return nil
}

// processes lists who is in a group. There is nobody in one that does not exist.
func processes(dir string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
		return nil, err
	}
	var pids []int
	for _, line := range bytes.Fields(b) {
		pid, err := strconv.Atoi(string(line))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// again repeats a system call that a signal cut short. Go's own signals do: each
// write that has the kernel reclaim memory returns early for one.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// await asks until the answer is yes or the time is over. It polls: version 1
// has no other way, and version 2 holds back its second notification in 10 ms,
// which is longer than all that is awaited here takes.
func await(limit time.Duration, yes func() bool) bool {
	for pause, end := 20*time.Microsecond, time.Now().Add(limit); ; pause = min(2*pause, 2*time.Millisecond) {
		if yes() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(pause)
	}
}
