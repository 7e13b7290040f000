package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"lambent"
	"lambent/runtimes"
	"lambent/sandbox"
)

// The usual places of interpreters in a root file system, after those of its PATH:
// AWS's images have theirs in the first.
var usualPlaces = []string{"/var/lang/bin", "/usr/local/bin", "/usr/bin", "/bin", "/opt/bin"}

// libraryPath is the variable that an image's interpreter may need.
const libraryPath = "LD_LIBRARY_PATH"

// identify finds the interpreter of a runtime in its tree, runs it to see which
// version it is, and notes it in a. search is a PATH. What is of another version is
// not taken.
func (s *Store) identify(ctx context.Context, a *Added, search string) error {
	const op = "rootfs.identify"
	family, err := runtimes.Family(a.Name)
	if err != nil || family == "" {
		return err
	}
	root, err := os.OpenRoot(s.Path(a.Tree))
	if err != nil {
		return err
	}
	defer root.Close()
	var others []string
	for _, file := range candidates(root, a, search) {
		name, version, err := s.ask(ctx, family, file, a)
		switch {
		case lambent.Is(err, lambent.Canceled):
			return err
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
func (s *Store) ask(ctx context.Context, family, file string, a *Added) (name, version string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errSlow)
	defer cancel()
	var out []byte
	err = s.run(ctx, s.booted(a, file, runtimes.Probe(family)...), func(r io.Reader) (err error) {
		out, err = io.ReadAll(io.LimitReader(r, maxSaid))
		return err
	})
	if line := lastLine(out); err != nil && line != "" {
		err = fmt.Errorf("%w: %s", err, line)
	}
	if err != nil && strings.Contains(err.Error(), syscall.ENOEXEC.Error()) {
		return "", "", errors.New("is for another kind of processor")
	}
	if line, _, _ := strings.Cut(string(out), "\n"); err == nil && family == "nodejs" {
		out = []byte(line + "\n" + file) // where it is, we know
	}
	return runtimes.Told(family, out, err)
}

// booted is a runtime that runs a program of the tree, with arguments, instead of
// an agent.
func (s *Store) booted(a *Added, program string, args ...string) lambent.Runtime {
	rt := lambent.Runtime{Name: a.Name, Env: map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}}
	maps.Copy(rt.Env, a.Env)
	if a.Rooted {
		rt.Root = s.Path(a.Tree)
	} else if a.Tree != nil {
		program = filepath.Join(s.Path(a.Tree), program)
	}
	rt.Boot = append([]string{program}, args...)
	return rt
}

// run boots a runtime in a sandbox, where it may do what a function may, and hands
// what it prints to read. It returns once nothing of it is left.
func (s *Store) run(ctx context.Context, rt lambent.Runtime, read func(io.Reader) error) error {
	if s.o.Driver == nil {
		return errors.New("there are no sandboxes to run it in")
	}
	sb, err := s.o.Driver.Park(ctx, rt)
	if err != nil {
		return err
	}
	defer sb.Output().Close()
	defer sb.Destroy() // it is not needed any more, however its end is reported
	stop := context.AfterFunc(ctx, func() { _ = sb.Destroy() })
	defer stop()
	err = read(sb.Output())
	if err == nil {
		select {
		case <-sb.Done():
		case <-ctx.Done():
		}
	}
	switch {
	case errors.Is(context.Cause(ctx), errSlow):
		return errSlow
	case ctx.Err() != nil:
		return canceled(ctx)
	case err != nil:
		return err
	}
	if e := sb.Exit(); e != (sandbox.Exit{}) {
		return errors.New(e.String())
	}
	return nil
}
