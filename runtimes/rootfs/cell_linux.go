package rootfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"lambent/internal/osthread"
)

// do runs a command in the cell, to its end.
func (c *cell) do(cmd *exec.Cmd) error {
	if c.uid == 0 {
		if c.root != "" {
			return errors.New("programs of a root file system are run by a server that is root")
		}
		cmd.Dir = c.tmp
		return cmd.Run()
	}
	// The thread's mounts end with it, and the command with the server: it hears of
	// the end of the thread that started it.
	return osthread.Do(func() error {
		if err := c.enter(cmd); err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		if err := limit(cmd.Process.Pid); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // the first error is the one that counts
			return err
		}
		return cmd.Wait()
	})
}

// enter gives the thread mounts of its own, and the command what is not inherited.
func (c *cell) enter(cmd *exec.Cmd) error {
	a := cmd.SysProcAttr
	a.Credential = &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.uid)}
	a.Pdeathsig = syscall.SIGKILL
	if !c.network {
		a.Cloneflags |= syscall.CLONE_NEWNET
	}
	if c.root == "" {
		cmd.Dir = c.tmp
		return nil
	}
	a.Chroot, cmd.Dir = c.root, "/"
	a.Cloneflags |= syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := bind(c.root, c.root, unix.MS_RDONLY); err != nil {
		return err
	}
	if c.tmp == "" {
		return nil
	}
	return bind(c.tmp, filepath.Join(c.root, "tmp"), 0) // which is a directory: see ensureDirs
}

// bind makes a directory appear at another place.
func bind(from, to string, flags uintptr) error {
	return errors.Join(
		os.NewSyscallError("mount", unix.Mount(from, to, "", unix.MS_BIND, "")),
		os.NewSyscallError("mount", unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV|flags, "")),
	)
}

// limit bounds what a command takes of the machine, where the server may say so:
// in a container it may not. Time is the context's.
func limit(pid int) error {
	for resource, n := range map[int]uint64{
		unix.RLIMIT_CORE: 0, unix.RLIMIT_NPROC: 256, unix.RLIMIT_FSIZE: 1 << 30, unix.RLIMIT_DATA: 4 << 30,
	} {
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: n, Max: n}, nil); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EPERM) {
			return os.NewSyscallError("prlimit", err)
		}
	}
	return nil
}
