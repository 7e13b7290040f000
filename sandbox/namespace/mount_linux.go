//go:build amd64 || arm64

package namespace

import (
	"os"

	"golang.org/x/sys/unix"
)

// Attributes of what sandboxes see of the host: not to be written, and no way to
// gain rights by it. Devices are the exception that needs itself.
const (
	readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	device   = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	writable = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
)

// clone returns a detached mount of what lies at path in the namespace of the
// calling thread, with these attributes, itself and all that is mounted below.
func clone(path string, attributes uint64) (*os.File, error) {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	err = again(func() error {
		return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attributes, Propagation: unix.MS_PRIVATE})
	})
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return f, nil
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

// bind shows source at target.
func bind(source, target string, attributes uint64) error {
	m, err := clone(source, attributes)
	if err != nil {
		return err
	}
	defer m.Close()
	return attach(m, target)
}
