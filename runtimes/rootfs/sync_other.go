//go:build !linux

package rootfs

import "syscall"

// syncTree asks for everything to be put on the disk.
func syncTree(string) error { return syscall.Sync() }
