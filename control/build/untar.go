package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"lambent"
)

// untar writes what a sandbox has answered with into a directory that it makes. The
// archive is a stranger's: nothing of it leads out of the directory, and only files,
// directories and links are taken. Whether the tree can be deployed is the store's to
// judge.
func untar(ctx context.Context, r io.ReadSeeker, dir string, maxBytes int64, maxFiles int) error {
	const op = "build.untar"
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return diskError(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return diskError(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return diskError(err)
	}
	defer root.Close()
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return lambent.Errorf(lambent.Broken, op, "the build's result broke off: %w", err)
		case ctx.Err() != nil:
			return ended(ctx)
		}
		if maxBytes -= h.Size; maxBytes < 0 {
			return lambent.Errorf(lambent.TooLarge, op, "what the build makes is over the limit of a function's size").
				WithHint("leave out what the function does not need, or have the runtime bring it: lambent runtime add RUNTIME --packages ...")
		}
		if maxFiles--; maxFiles < 0 {
			return lambent.Errorf(lambent.TooLarge, op, "what the build makes has more files than a function may have").
				WithHint("leave out what the function does not need, or have the runtime bring it: lambent runtime add RUNTIME --packages ...")
		}
		if err := entry(root, h, t); err != nil {
			var full *lambent.Error
			if full, _ = diskError(err).(*lambent.Error); full.Kind == lambent.NoSpace {
				return full
			}
			return lambent.Errorf(lambent.Broken, op, "the build's result has %.200q, which cannot be taken: %w", h.Name, err)
		}
	}
}

// Bounds of names, as bundle has them.
const (
	maxName  = 4096 // bytes
	maxDepth = 128  // directories
)

func entry(root *os.Root, h *tar.Header, content io.Reader) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if !fs.ValidPath(name) || len(name) > maxName || strings.Count(name, "/") > maxDepth {
		return fs.ErrInvalid
	}
	if h.Typeflag == tar.TypeDir { // each is said before what is in it: that is how they are counted
		if err := root.Mkdir(name, 0o755); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|fs.FileMode(h.Mode)&0o111)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(path.Clean(strings.TrimLeft(h.Linkname, "/")), name)
	}
	return errors.New("it is neither a file, a directory nor a link")
}

// diskError tells a full disk from what is the platform's own trouble.
func diskError(err error) error {
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		return e
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return lambent.Errorf(lambent.NoSpace, "build", "the server's disk is full: nothing was built")
	}
	return lambent.Errorf(lambent.Internal, "build", "%w", err)
}
