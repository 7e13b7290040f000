package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lambent"
)

// findV1 finds the tree in the hierarchies of version 1, of which each controller
// has its own, or shares one with others.
func (t *Tree) findV1(mounted map[string]string, name string) error {
	const op = "cgroup.Open"
	own, err := own()
	if err != nil {
		return lambent.Errorf(lambent.Unsupported, op, "cannot tell which control groups this process is in: %w", err)
	}
	var missing []string
	t.version = 1
	for _, controller := range controllers {
		top := mounted[controller]
		if top == "" {
			missing = append(missing, controller)
			continue
		}
		dir := filepath.Join(top, name)
		t.dir[controller] = dir
		if slices.Contains(t.dirs, dir) {
			continue
		}
		home, err := os.OpenFile(filepath.Join(top, own[controller], "tasks"), os.O_WRONLY, 0)
		if errors.Is(err, os.ErrNotExist) {
			// In a container the mount may begin below what /proc speaks of: there
			// the process is at the top of all that it can see.
			home, err = os.OpenFile(filepath.Join(top, "tasks"), os.O_WRONLY, 0)
		}
		if err != nil {
			return lambent.Errorf(lambent.Unsupported, op, "cannot use control groups: %w", err)
		}
		t.dirs = append(t.dirs, dir)
		t.home = append(t.home, home)
	}
	if len(missing) > 0 {
		return lackOf(missing)
	}
	return nil
}

func lackOf(missing []string) error {
	e := lambent.Errorf(lambent.Unsupported, "cgroup.Open", "no control groups here for %s", strings.Join(missing, ", "))
	if slices.Contains(missing, "memory") {
		return e.WithHint("boot the kernel with cgroup_enable=memory")
	}
	return e
}

// Join puts the calling thread, which must be locked, into the group, so that
// what it forks is born there. In version 2 the fork itself says where: see FD.
//
// A thread that moves itself, by "0" into tasks, is quick; a process that is
// moved waits until nobody on the machine is about to fork or exit.
func (g *Group) Join() error {
	if g.tree.version == 2 {
		return nil
	}
	for _, dir := range g.tree.dirs {
		if err := write(filepath.Join(dir, g.name, "tasks"), "0"); err != nil {
			return errors.Join(lambent.Errorf(lambent.Internal, "cgroup.Join", "cannot enter control group %s: %w", g.name, err), g.Leave())
		}
	}
	return nil
}

// Leave puts the calling thread back to where the process was when the tree was
// opened. A thread that is not back is limited, frozen and counted as the group
// is, so end it if this fails.
func (g *Group) Leave() error {
	var errs []error
	for _, home := range g.tree.home { // none in version 2
		if _, err := home.WriteString("0"); err != nil {
			errs = append(errs, lambent.Errorf(lambent.Internal, "cgroup.Leave", "cannot leave control group %s: %w", g.name, err))
		}
	}
	return errors.Join(errs...)
}
