package rootfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncTree puts everything below dir on the disk: one call for some ten thousand
// files, at the price of waiting for what others have written on that disk too.
func syncTree(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}
