package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// seal makes a directory that was filled into what a tree is, whoever filled it:
// files, directories and links that belong to the server's user, which nobody else
// may write, and no device. It returns what the tree is: its digest is the sha256
// of a manifest that has, depth first and in the order of names, one record for
// each directory ("d", mode, path), file ("f", mode, time, path, sha256) and link
// ("l", target, path), every field ended by a NUL. The time of a file is in it
// because compiled Python depends on it. more is what everybody may do with all of it, too.
func (s *Store) seal(ctx context.Context, dir string, more fs.FileMode) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	t := &Tree{}
	sum, buf := sha256.New(), make([]byte, 128<<10)
	record := func(fields ...any) {
		for _, f := range fields {
			fmt.Fprint(sum, f)
			sum.Write([]byte{0})
		}
	}
	record("lambent root 1")
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return canceled(ctx)
		}
		fi, err := root.Lstat(name)
		if err != nil {
			return err
		}
		if err := own(root, name); err != nil {
			return err
		}
		perm := fi.Mode().Perm()&0o755 | more
		switch {
		case fi.IsDir():
			perm |= 0o700 | more>>2 // who may read a directory may pass through it
			if name == "." {
				perm = 0o755
			}
			record("d", perm, name)
			return root.Chmod(name, perm)
		case fi.Mode()&fs.ModeSymlink != 0:
			target, err := root.Readlink(name)
			record("l", target, name)
			t.Files++
			return err
		case !fi.Mode().IsRegular():
			return root.Remove(name)
		}
		perm |= 0o400
		if err := root.Chmod(name, perm); err != nil {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		content := sha256.New()
		n, err := io.CopyBuffer(content, struct{ io.Reader }{f}, buf)
		record("f", perm, fi.ModTime().Unix(), name, hex.EncodeToString(content.Sum(nil)))
		t.Files++
		t.Bytes += n
		return err
	})
	if err != nil {
		return nil, err
	}
	t.Digest = hex.EncodeToString(sum.Sum(nil))
	return t, syncTree(dir)
}

// own gives a name to the server's user.
func own(root *os.Root, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return root.Lchown(name, 0, 0)
}

// program finds an executable file in a root file system as a process in it would,
// and returns its path without links, from the root on.
func program(root *os.Root, name string) (string, error) {
	at, err := walk(root, name, nil)
	if err != nil {
		return "", err
	}
	fi, err := root.Lstat(at)
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o001 == 0 {
		return "", &fs.PathError{Op: "execute", Path: name, Err: syscall.EACCES}
	}
	return path.Join("/", at), nil
}
