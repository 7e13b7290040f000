package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lambent"
)

// leaf is where the processes of a delegated group go: a group of version 2 may
// hold processes or control groups below it, not both.
const leaf = "server"

// findV2 finds the tree's place in the one hierarchy of version 2, and has the
// controllers enabled there.
func (t *Tree) findV2(top, name string) error {
	const op = "cgroup.Open"
	t.version = 2
	own, err := own()
	if err != nil {
		return lambent.Errorf(lambent.Unsupported, op, "cannot tell which control group this process is in: %w", err)
	}
	parent := filepath.Join(top, own[""])
	if filepath.Base(parent) == leaf {
		parent, t.beside = filepath.Dir(parent), true // moved by an earlier Open
	}
	if !delegated(parent) {
		parent, t.beside = top, t.beside && parent == top
	}
	has, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return lambent.Errorf(lambent.Unsupported, op, "cannot use control groups: %w", err)
	}
	var missing []string
	for _, controller := range enabled {
		if !slices.Contains(strings.Fields(string(has)), controller) {
			missing = append(missing, controller)
		}
	}
	if len(missing) > 0 {
		return lackOf(missing)
	}
	err = enable(parent)
	if errors.Is(err, unix.EBUSY) { // there are processes in it
		if err = moveDown(parent); err == nil {
			t.beside = true
			err = enable(parent)
		}
	}
	if err != nil {
		return lambent.Errorf(lambent.Unsupported, op, "cannot use control groups: %w", err).
			WithHint("systemd-run --property=Delegate=yes lambent serve")
	}
	t.dirs = []string{filepath.Join(parent, name)}
	for _, controller := range controllers {
		t.dir[controller] = t.dirs[0]
	}
	return nil
}

var enabled = []string{"cpu", "memory", "pids"}

// enable gives the groups below one its controllers.
func enable(dir string) error {
	return write(filepath.Join(dir, "cgroup.subtree_control"), "+"+strings.Join(enabled, " +"))
}

// delegated says whether systemd has left the inside of a group to its processes.
func delegated(dir string) bool {
	var value [1]byte
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		if n, err := unix.Getxattr(dir, name, value[:]); err == nil && n == 1 && value[0] == '1' {
			return true
		}
	}
	return false
}

// moveDown moves the processes of a group to its leaf: all of one unit, or this
// process where it is alone, as in a container.
func moveDown(dir string) error {
	pids, err := processes(dir)
	if err != nil {
		return err
	}
	if !delegated(dir) && !slices.Equal(pids, []int{os.Getpid()}) {
		return &os.PathError{Op: "use", Path: dir, Err: errors.New("other processes are in it")}
	}
	below := filepath.Join(dir, leaf)
	if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for _, pid := range pids {
		if err := write(filepath.Join(below, "cgroup.procs"), strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}
