// Package bundle keeps functions' code: it verifies archives and directories,
// unpacks them, and stores the trees below one directory under the digest of
// their content.
//
// What it guarantees:
//   - A tree is named by what is in it (paths, kinds, executable bits, contents):
//     the same content in another order or with other times is stored once.
//   - A tree appears whole or not at all, and is on the disk before Put returns.
//   - Nothing in a tree leads out of it, whatever the archive said. Archives that
//     try are refused with the entry and the rule; nothing of them is kept.
//   - Files are readable by everyone and writable by no one (0444, or 0555 where
//     executable), directories are 0755 of the server's user: a function under
//     another user cannot change them.
//
// What it does not do: it does not know functions, so it cannot tell which trees
// are still needed (control can; see [Store.List] and [Store.Remove]), and it
// does not watch for damage of the disk below it.
package bundle

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"lambent"
	"lambent/internal/atomicfile"
)

// A Tree is what was put.
type Tree struct {
	Digest    string // hex sha256 of the content: see [Store.Path]
	ZipDigest string // hex sha256 of the archive: see [Store.Zip]
	ZipSize   int64  // bytes
	Size      int64  // bytes in all files, unpacked
	Files     int    // files and links, not directories
}

// A Store is a directory of trees and of the archives that they came from. Its
// methods may be called concurrently, but only one process may have a Store
// open on a directory (the server's lock on its data directory sees to that).
//
//	trees/DIGEST/   a tree; the time of this one directory says when it was last put
//	zips/DIGEST     an archive, likewise
//	tmp/, trash/    what is coming and going; emptied by Open
type Store struct {
	dir    string
	limits lambent.Limits
	mu     sync.Mutex // orders landing against removal; held for renames only
}

// The directories of a store.
const (
	treesDir = "trees"
	zipsDir  = "zips"
	tmpDir   = "tmp"
	trashDir = "trash"
)

// Open opens the store below dir, makes it where it is missing, and removes
// what an interrupted run left half-done.
func Open(dir string, limits lambent.Limits) (*Store, error) {
	const op = "bundle.Open"
	s := &Store{dir: dir, limits: limits}
	for _, d := range []string{tmpDir, trashDir} {
		if err := os.RemoveAll(s.path(d)); err != nil {
			return nil, fileError(op, dir, err)
		}
	}
	for d, perm := range map[string]fs.FileMode{treesDir: 0o755, zipsDir: 0o700, tmpDir: 0o700, trashDir: 0o700} {
		if err := os.MkdirAll(s.path(d), perm); err != nil {
			return nil, fileError(op, dir, err)
		}
	}
	// Functions run under other users and must get through, whatever the umask.
	for _, d := range []string{dir, s.path(treesDir)} {
		info, err := os.Stat(d)
		if err == nil && info.Mode().Perm()&0o755 != 0o755 {
			err = os.Chmod(d, 0o755)
		}
		if err != nil {
			return nil, fileError(op, dir, err)
		}
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		return nil, fileError(op, dir, err)
	}
	return s, nil
}

// Path returns the directory of a tree. It is for reading only.
func (s *Store) Path(digest string) (string, error) { return s.find(treesDir, "code", digest) }

// Zip returns the file of an archive. It is for reading only.
func (s *Store) Zip(digest string) (string, error) { return s.find(zipsDir, "archive", digest) }

// Has reports whether the store holds a tree.
func (s *Store) Has(digest string) bool {
	_, err := s.Path(digest)
	return err == nil
}

func (s *Store) find(kind, noun, digest string) (string, error) {
	const op = "bundle.Path"
	if !isDigest(digest) {
		return "", lambent.Errorf(lambent.Invalid, op, "%s %.70q is not a sha256 digest of 64 hexadecimal digits", noun, digest)
	}
	path := s.path(kind, digest)
	switch _, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return "", lambent.Errorf(lambent.NotFound, op, "%s %s is not in the store", noun, digest)
	case err != nil:
		return "", fileError(op, s.dir, err)
	}
	return path, nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// An Item is one thing in the store, as [Store.List] found it.
type Item struct {
	Digest string
	Zip    bool      // an archive rather than a tree
	Put    time.Time // when it was last put
}

// List returns everything that the store holds, in no order that means anything.
// A collector should leave what was put within the last minutes: a deploy refers
// to a tree only some time after it has put it.
func (s *Store) List() ([]Item, error) {
	var items []Item
	for _, kind := range []string{treesDir, zipsDir} {
		entries, err := os.ReadDir(s.path(kind))
		if err != nil {
			return nil, fileError("bundle.List", s.dir, err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) || !isDigest(e.Name()) {
				continue // removed meanwhile, or not ours
			}
			if err != nil {
				return nil, fileError("bundle.List", s.dir, err)
			}
			items = append(items, Item{Digest: e.Name(), Zip: kind == zipsDir, Put: info.ModTime()})
		}
	}
	return items, nil
}

// Remove removes an item, at once for every onlooker. The caller says by it that
// nothing refers to the item; if someone has put the same content since List
// saw it, the item stays and the error is Stale, because that caller is about to
// refer to it. An item that is gone already is no error.
func (s *Store) Remove(item Item) error {
	const op = "bundle.Remove"
	if !isDigest(item.Digest) {
		return lambent.Errorf(lambent.Invalid, op, "%.70q is not a sha256 digest of 64 hexadecimal digits", item.Digest)
	}
	kind := treesDir
	if item.Zip {
		kind = zipsDir
	}
	bin, err := os.MkdirTemp(s.path(trashDir), "")
	if err != nil {
		return fileError(op, s.dir, err)
	}
	defer os.RemoveAll(bin) // what is left of it, Open removes

	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.path(kind, item.Digest)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fileError(op, s.dir, err)
	case !info.ModTime().Equal(item.Put):
		return lambent.Errorf(lambent.Stale, op, "%s was put again at %s", item.Digest, info.ModTime().UTC().Format(time.RFC3339))
	}
	if err := os.Rename(path, filepath.Join(bin, item.Digest)); err != nil {
		return fileError(op, s.dir, err)
	}
	return nil
}

// fileError phrases a failure of the disk below dir. A full disk is for the
// caller to know; anything else is the platform's own trouble.
func fileError(op, dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return lambent.Errorf(lambent.NoSpace, op, "no space is left on the disk of the server's code %s: nothing was stored", dir).
			WithHint("df -h %s", dir)
	}
	return lambent.Errorf(lambent.Internal, op, "%w", err)
}
