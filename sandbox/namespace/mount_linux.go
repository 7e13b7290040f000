//go:build amd64 || arm64

package namespace

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lambent"
)

// Attributes of what sandboxes see of the host: not to be written, and no way to
// gain rights by it. Devices are the exception that needs itself.
const (
	readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	device   = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	writable = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
)

// clone returns a detached mount of what an open descriptor (O_PATH will do) of
// the calling thread's namespace is, with these attributes, and of all that is
// mounted below it.
func clone(of *os.File, attributes uint64) (*os.File, error) {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.OpenTree(int(of.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: of.Name(), Err: err}
	}
	f := os.NewFile(uintptr(fd), of.Name())
	err = again(func() error {
		return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attributes, Propagation: unix.MS_PRIVATE})
	})
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "mount_setattr", Path: of.Name(), Err: err}
	}
	return f, nil
}

// open opens what is at an absolute path, in the namespace of the calling thread,
// without following any symbolic link: not those on the way, which fail with
// ELOOP, and not the last, which is opened itself. What others can write below the
// path cannot lead out of it.
func open(path string, flags int) (*os.File, error) {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
			Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC), Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// A place is a directory on the host below which things must lie, however often
// its owner changes what is there; the empty one is everywhere. Its owner may be who
// owns the directory above, too, and put a symbolic link in the place's place: the last
// of its names is not followed.
type place struct{ name, real string }

func placeAt(dir string) (place, error) {
	if dir == "" {
		return place{}, nil
	}
	above, err := filepath.EvalSymlinks(filepath.Dir(dir))
	return place{dir, filepath.Join(above, filepath.Base(dir))}, err
}

// path returns the path of something in the place without symbolic links before
// the place's end.
func (p place) path(name string) (string, error) {
	if p.name == "" {
		return filepath.EvalSymlinks(name)
	}
	rest, err := filepath.Rel(p.name, name)
	if err != nil || !filepath.IsLocal(rest) || rest == "." {
		return "", lambent.Errorf(lambent.Forbidden, "namespace", "%s is not below %s", name, p.name)
	}
	return filepath.Join(p.real, rest), nil
}

// holds reports whether something lies in the place, as its path has it.
func (p place) holds(name string) bool {
	_, err := p.path(name)
	return err == nil
}

// directory opens a directory in the place.
func (p place) directory(name string) (*os.File, error) {
	path, err := p.path(name)
	if err != nil {
		return nil, err
	}
	return open(path, unix.O_PATH|unix.O_DIRECTORY)
}

// attach puts a detached mount at target in the namespace of the calling thread.
func attach(mount *os.File, target string) error {
	err := again(func() error {
		return unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	})
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// bind shows source, without symbolic links on the way, at target.
func bind(source, target string, attributes uint64) error {
	f, err := open(source, unix.O_PATH)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := clone(f, attributes)
	if err != nil {
		return err
	}
	defer m.Close()
	return attach(m, target)
}
