package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"lambent"
	"lambent/runtimes"
)

// The usual places of interpreters in a root file system, after those of its PATH:
// AWS's images have theirs in the first.
var usualPlaces = []string{"/var/lang/bin", "/usr/local/bin", "/usr/bin", "/bin", "/opt/bin"}

// libraryPath is the variable that an image's interpreter may need.
const libraryPath = "LD_LIBRARY_PATH"

// identify finds the interpreter of a runtime in a directory, runs it to see which
// version it is, and notes it in a. search is a PATH. What is of another version
// is not taken.
func (s *Store) identify(ctx context.Context, a *Added, dir, search string) error {
	const op = "rootfs.identify"
	family, err := runtimes.Family(a.Name)
	if err != nil || family == "" {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var others []string
	for _, file := range candidates(root, a, search) {
		name, version, err := s.ask(ctx, family, dir, file, a)
		switch {
		case ctx.Err() != nil:
			return canceled(ctx)
		case err != nil:
			others = append(others, fmt.Sprintf("%s %v", file, err))
			continue
		case name != a.Name:
			others = append(others, fmt.Sprintf("%s is %s %s", file, family, version))
			continue
		}
		a.Program, a.Version = file, version
		return nil
	}
	if len(others) == 0 {
		return lambent.Errorf(lambent.Invalid, op, "there is no %s in %s: no file is named like one in %s", a.Name, a.From, strings.Join(places(search), ", "))
	}
	return lambent.Errorf(lambent.Invalid, op, "there is no %s in %s, and nothing runs on another version: %s", a.Name, a.From, strings.Join(others, "; "))
}

// places are the directories where interpreters may be.
func places(search string) []string {
	var list []string
	for _, dir := range append(strings.Split(search, ":"), usualPlaces...) {
		if path.IsAbs(dir) && !slices.Contains(list, path.Clean(dir)) && len(list) < 32 {
			list = append(list, path.Clean(dir))
		}
	}
	return list
}

// candidates returns the files that are named like the interpreter, each once.
func candidates(root *os.Root, a *Added, search string) []string {
	var list []string
	for _, dir := range places(search) {
		for _, name := range runtimes.Programs(a.Name) {
			file, err := program(root, path.Join(dir, name))
			if err == nil && !slices.Contains(list, file) && len(list) < 16 {
				list = append(list, file)
			}
		}
	}
	return list
}

// ask runs an interpreter to be told what it is.
func (s *Store) ask(ctx context.Context, family, dir, file string, a *Added) (name, version string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errSlow)
	defer cancel()
	c, argv0 := s.cellFor(a, dir), file
	if !a.Rooted {
		argv0 = path.Join(dir, file)
	}
	out, said, err := c.run(ctx, append([]string{argv0}, runtimes.Probe(family)...), environment(a.Env), nil)
	if errors.Is(err, syscall.ENOEXEC) {
		return "", "", errors.New("is for another kind of processor")
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n"); err != nil && line != "" {
		err = fmt.Errorf("%w: %.200s", err, line)
	}
	if family == "nodejs" && err == nil { // without /proc it cannot tell where it is; we know
		line, _, _ := strings.Cut(string(out), "\n")
		out = []byte(line + "\n" + file)
	}
	return runtimes.Told(family, out, err)
}

// cellFor is where the interpreter of what is being added runs.
func (s *Store) cellFor(a *Added, dir string) *cell {
	c := &cell{uid: cellID()}
	if a.Rooted {
		c.root = dir
	}
	return c
}

// cellID is as whom cells run.
func cellID() int {
	if os.Geteuid() == 0 {
		return cellUser
	}
	return 0
}

func environment(more map[string]string, list ...string) []string {
	env := append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/tmp"}, list...)
	for k, v := range more {
		env = append(env, k+"="+v)
	}
	return env
}
