// Package preload knows which of a runtime's packages are loaded while its sandboxes
// are parked, and whether a function's code brings the very same: then it cannot tell
// that they were loaded before it came, and may have them.
//
// It compares what interpreters find, by content, and never by what a version says. It
// loads nothing.
package preload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"lambent"
)

// File is where a directory of packages has its list.
const File = "preload.json"

// A List says what is loaded of a directory of packages, as a program that has loaded
// it tells (runtimes/nodejs/list.cjs, runtimes/python/list.py). Paths are relative to
// that directory, and so to the code's.
type List struct {
	Name string `json:"name"` // what it is, with its version
	// Files are what was read.
	Files []string `json:"files"`
	// Shared are directories in which code may have more than the packages do. In any
	// other, whatever is there besides could be found in the place of a file.
	Shared []string `json:"shared"`
	// Absent are names that were looked for and not found, without what may follow a
	// dot. They may be there for code that has them.
	Absent []string `json:"absent"`
	// Env has the variables that were asked for, with the values that they had; null:
	// they were not set. "DEBUG_*" is all that begin so.
	Env map[string]*string `json:"env"`
}

// Parse reads what a program tells, on the last line of what it prints: before it may
// be what the packages have printed.
func Parse(b []byte) (*List, error) {
	var l List
	b = bytes.TrimSpace(b)
	b = b[bytes.LastIndexByte(b, '\n')+1:]
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "preload.Parse", "the list cannot be read: %w", err)
	}
	for _, p := range slices.Concat(l.Files, l.Shared, l.Absent) {
		if !filepath.IsLocal(p) {
			return nil, lambent.Errorf(lambent.Invalid, "preload.Parse", "the list names %.100q, which is not below the packages", p)
		}
	}
	if l.Name == "" || len(l.Files) == 0 {
		return nil, lambent.Errorf(lambent.Invalid, "preload.Parse", "the list names nothing")
	}
	return &l, nil
}

// Read returns the list of a directory of packages.
func Read(packages string) (*List, error) {
	b, err := os.ReadFile(filepath.Join(packages, File))
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "preload.Read", "%w", err)
	}
	return Parse(b)
}

// Write keeps the list in a directory of packages.
func (l *List) Write(packages string) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(packages, File), b, 0o444)
}

// Differs returns a variable that a function finds otherwise than the packages did,
// when they were loaded, and they asked for it; "": there is none. Of secrets only the
// names are known.
func (l *List) Differs(env map[string]string, secrets []string) string {
	for _, name := range slices.Sorted(maps.Keys(l.Env)) {
		if prefix, all := strings.CutSuffix(name, "*"); all {
			for _, other := range slices.Concat(slices.Sorted(maps.Keys(env)), secrets) {
				if len(other) >= len(prefix) && strings.EqualFold(other[:len(prefix)], prefix) {
					return other
				}
			}
			continue
		}
		value, set := env[name]
		if had := l.Env[name]; slices.Contains(secrets, name) || set != (had != nil) || set && value != *had {
			return name
		}
	}
	return ""
}

// Same returns nil if a tree of code has what is loaded of the packages, where it is
// there, and nothing that would be found in its place; else what it is that differs.
func (l *List) Same(packages, tree string) error {
	folders := map[string]bool{}
	for _, f := range l.Files {
		for dir := path.Dir(f); dir != "." && !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
			if err := l.folder(packages, tree, dir); err != nil {
				return err
			}
		}
		if err := sameFile(filepath.Join(packages, f), filepath.Join(tree, f)); err != nil {
			return fmt.Errorf("%s %w", f, err)
		}
	}
	listed := map[string][]fs.DirEntry{}
	for _, name := range l.Absent {
		dir, base := path.Split(name)
		entries, ok := listed[dir]
		if !ok {
			entries, _ = os.ReadDir(filepath.Join(tree, dir)) // it is not there, and so neither is the name
			listed[dir] = entries
		}
		for _, e := range entries {
			if e.Name() == base || strings.HasPrefix(e.Name(), base+".") {
				return fmt.Errorf("%s is there, which the runtime's packages were loaded without", path.Join(dir, e.Name()))
			}
		}
	}
	return nil
}

// folder returns nil if a directory of the code's can be searched in the place of that
// of the packages. Links lead to other paths than the packages were loaded by.
func (l *List) folder(packages, tree, dir string) error {
	info, err := os.Lstat(filepath.Join(tree, dir))
	if err != nil {
		return fmt.Errorf("%s is not there", dir)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if slices.Contains(l.Shared, dir) {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(tree, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "__pycache__" { // what is in there is made of the files beside it
			continue
		}
		if _, err := os.Lstat(filepath.Join(packages, dir, e.Name())); err != nil {
			return fmt.Errorf("%s is more than the runtime's packages have there", path.Join(dir, e.Name()))
		}
	}
	return nil
}

func sameFile(ours, theirs string) error {
	a, err := os.Lstat(ours)
	if err != nil {
		return err
	}
	b, err := os.Lstat(theirs)
	switch {
	case err != nil:
		return errors.New("is not there")
	case !b.Mode().IsRegular():
		return errors.New("is not a file")
	case os.SameFile(a, b):
		return nil
	case a.Size() != b.Size():
		return errDiffers
	}
	x, err := os.ReadFile(ours)
	if err != nil {
		return err
	}
	y, err := os.ReadFile(theirs)
	if err != nil {
		return err
	}
	if !bytes.Equal(x, y) {
		return errDiffers
	}
	return nil
}

var errDiffers = errors.New("differs from the runtime's")
