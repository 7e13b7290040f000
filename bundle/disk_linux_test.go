package bundle_test

import "syscall"

// mountSmall mounts a file system of two megabytes; it takes root.
func mountSmall(dir string) error { return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m") }

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
