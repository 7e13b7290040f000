package build

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"lambent"
)

// copyAssets copies the source's files that are not Go's: templates, data,
// configuration. Links are copied as links.
func copyAssets(ctx context.Context, src, dst string) error {
	from, err := os.OpenRoot(src)
	if err != nil {
		return assetError(err)
	}
	defer from.Close()
	to, err := os.OpenRoot(dst)
	if err != nil {
		return assetError(err)
	}
	defer to.Close()
	err = fs.WalkDir(from.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return lambent.Errorf(lambent.Canceled, goOp, "given up during the build: %w", context.Cause(ctx))
		case d.IsDir() && (name == "vendor" || d.Name() == ".git"):
			return fs.SkipDir
		case d.IsDir(), !isAsset(name):
			return nil
		}
		if err := to.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			target, err := from.Readlink(name)
			if err != nil {
				return err
			}
			return to.Symlink(target, name)
		}
		return copyFile(from, to, name)
	})
	if err != nil {
		return assetError(err)
	}
	return nil
}

// isAsset reports whether a file goes beside the program. A bootstrap in the
// source is the one of an earlier build.
func isAsset(name string) bool {
	switch path.Base(name) {
	case "go.mod", "go.sum", "go.work", "go.work.sum":
		return false
	}
	return path.Ext(name) != ".go" && name != "bootstrap"
}

func copyFile(from, to *os.Root, name string) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return lambent.Errorf(lambent.Invalid, goOp, "%s is neither a file nor a link", name)
	}
	out, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|info.Mode()&0o111)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func assetError(err error) error {
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		return e
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return lambent.Errorf(lambent.NoSpace, goOp, "the server's disk is full: nothing was built")
	}
	return lambent.Errorf(lambent.Internal, goOp, "copying files beside the program: %w", err)
}
