// Package runtimes knows what can run functions on this machine: the agents for
// Python and Node.js, which it carries, and the interpreters, which it looks for.
//
// An agent is the small program that is booted in a parked sandbox before any
// user's code is known, and then speaks Lambda's Runtime API for a handler; see
// DESIGN.md in this folder for its protocol. The package guarantees that a
// handler sees of an agent what it would see of AWS's own client.
//
// It starts no agent and serves none: that is a sandbox driver's and a guest's.
// It installs no interpreter, and never offers one under another version's name.
package runtimes

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"lambent"
)

//go:embed python/*.py python/site/*.py nodejs/*.cjs nodejs/*.js nodejs/*.mjs
var agents embed.FS

// Install writes the agents into a directory of dir that is named for their
// content, and returns that directory. Another release's agents, which parked
// sandboxes may be about to read, are left alone. Calling it again does nothing.
func Install(dir string) (string, error) {
	home := filepath.Join(dir, "agents-"+digest())
	if _, err := os.Stat(home); err == nil {
		return home, nil
	}
	fail := func(err error) (string, error) {
		return "", lambent.Errorf(lambent.Internal, "runtimes.Install", "agents into %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(err)
	}
	temp, err := os.MkdirTemp(dir, ".agents-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(temp)
	if err := os.CopyFS(temp, agents); err != nil {
		return fail(err)
	}
	// Every sandbox reads them, whatever user it runs as; nobody writes them.
	err = filepath.WalkDir(temp, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o444)
	})
	if err != nil {
		return fail(err)
	}
	// Whoever renames first wins; the content is the same.
	if err := os.Rename(temp, home); err != nil && !errors.Is(err, fs.ErrExist) {
		return fail(err)
	}
	return home, nil
}

// digest identifies the agents of this build.
func digest() string {
	h := sha256.New()
	err := fs.WalkDir(agents, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := agents.ReadFile(path)
		h.Write([]byte(path + "\x00"))
		h.Write(b)
		return err
	})
	if err != nil {
		panic("runtimes: embedded files can be read: " + err.Error())
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}
