package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
)

const (
	freezing = time.Second     // a process that waits for a disk does not freeze
	dying    = 5 * time.Second // or die
)

// Freeze suspends every process of the group and returns when none runs. If that
// takes too long they all run on, and the error is Unavailable.
func (g *Group) Freeze() error {
	const op = "cgroup.Freeze"
	file, value, state, frozen := "freezer.state", "FROZEN", "freezer.state", "FROZEN"
	if g.tree.version == 2 {
		file, value, state, frozen = "cgroup.freeze", "1", "cgroup.events", "frozen 1"
	}
	err := write(g.file("freezer", file), value)
	done := err == nil && await(freezing, func() bool {
		var b []byte
		b, err = os.ReadFile(g.file("freezer", state)) // in version 1 this makes it try again
		return err != nil || strings.Contains(string(b), frozen)
	})
	if err != nil {
		return lambent.Errorf(lambent.Internal, op, "cannot freeze control group %s: %w", g.name, errors.Join(err, g.Thaw()))
	}
	if !done {
		return errors.Join(lambent.Errorf(lambent.Unavailable, op, "control group %s does not freeze", g.name), g.Thaw())
	}
	return nil
}

// Thaw lets the processes of a frozen group run on, and does nothing to another.
func (g *Group) Thaw() error {
	file, value := "freezer.state", "THAWED"
	if g.tree.version == 2 {
		file, value = "cgroup.freeze", "0"
	}
	if err := write(g.file("freezer", file), value); err != nil {
		return lambent.Errorf(lambent.Internal, "cgroup.Thaw", "cannot thaw control group %s: %w", g.name, err)
	}
	return nil
}

// Kill ends every process of the group, frozen or forking, and returns when there
// is none; their parents may still have to wait for them. Nothing new can run in
// the group afterwards.
func (g *Group) Kill() error {
	const op = "cgroup.Kill"
	// Where there is no cgroup.kill (version 1, and 2 before Linux 5.14) one reads
	// who is there and signals each, and who forks fast enough gets away. Not if
	// nobody may fork: then who is read are the last.
	err := write(g.file("pids", "pids.max"), "0")
	if g.tree.version == 2 && err == nil {
		err = write(g.file("pids", "cgroup.kill"), "1")
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return lambent.Errorf(lambent.Internal, op, "cannot kill in control group %s: %w", g.name, err)
	}
	var left []int
	gone := await(dying, func() bool {
		left, err = g.signal()
		return err != nil || len(left) == 0
	})
	if err != nil {
		return lambent.Errorf(lambent.Internal, op, "cannot kill in control group %s: %w", g.name, err)
	}
	if !gone {
		return lambent.Errorf(lambent.Unavailable, op, "processes %v of control group %s do not die", left, g.name)
	}
	return nil
}

// signal kills who is in the group now, and returns who that was.
func (g *Group) signal() (pids []int, err error) {
	for _, dir := range g.tree.dirs {
		here, err := processes(filepath.Join(dir, g.name))
		if err != nil {
			return nil, err
		}
		for _, pid := range here {
			// 0 is a process that this one cannot see, and would be this one's group.
			if pid > 0 && pid != os.Getpid() {
				_ = unix.Kill(pid, unix.SIGKILL) // it may be gone
			}
		}
		pids = append(pids, here...)
	}
	if g.tree.version == 1 && len(pids) > 0 { // where the frozen do not die
		if err := g.Thaw(); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// Remove removes the group, in which nothing may run any more. It is the end of
// the group, also where it fails; Close of the tree tries once more.
func (g *Group) Remove() error {
	for _, f := range []*os.File{g.dir, g.cpu, g.peak, g.oom} {
		if f != nil {
			f.Close()
		}
	}
	var errs []error
	for _, dir := range g.tree.dirs {
		errs = append(errs, rmdir(filepath.Join(dir, g.name)))
	}
	return errors.Join(errs...)
}
