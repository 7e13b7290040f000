// Command init is the first program in the machines of tests: it makes a system of one, does the
// job, says how that ended and switches off.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lambent/test/machine"
)

func main() {
	if err := serve(); err != nil {
		fmt.Println("init:", err) // on the console
	}
	unix.Sync()
	fmt.Println("init: cannot switch off:", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)) // which QEMU is told not to do
	select {}
}

func serve() error {
	argv, err := os.ReadFile("/argv")
	if err != nil {
		return err
	}
	if err := mount("devtmpfs", "/dev", "devtmpfs"); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := enterRoot(); err != nil {
		return err
	}
	out, err := os.OpenFile("/dev/vport0p1", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := exec.Command("busybox", "ip", "link", "set", "lo", "up").Run(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	status, err := do(strings.Split(string(argv), "\x00"), out)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\n%s%d\n", machine.ExitLine, status)
	return err
}

func loadModules() error {
	paths, err := filepath.Glob("/modules/*") // sorted
	if err != nil {
		return err
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
			return fmt.Errorf("%s: %w", path, err)
		}
		f.Close()
	}
	return nil
}

// enterRoot makes the image the root. By a move, as the root that the kernel makes
// cannot be pivoted away from, and drivers of sandboxes do pivot.
func enterRoot() error {
	const root = "/newroot"
	for end := time.Now().Add(10 * time.Second); !there("/dev/vda"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("there is no disk")
		}
	}
	for _, m := range []struct{ source, target, kind string }{
		{"/dev/vda", "", "ext4"},
		{"proc", "/proc", "proc"},
		{"sysfs", "/sys", "sysfs"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2"},
		{"devtmpfs", "/dev", "devtmpfs"},
		{"devpts", "/dev/pts", "devpts"},
		{"tmpfs", "/dev/shm", "tmpfs"},
		{"tmpfs", "/run", "tmpfs"},
	} {
		if m.target == "/dev/pts" || m.target == "/dev/shm" {
			_ = os.Mkdir(root+m.target, 0o755)
		}
		if err := mount(m.source, root+m.target, m.kind); err != nil {
			return err
		}
	}
	if err := unix.Mount("/job", root+"/job", "", unix.MS_BIND, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if err := unix.Chroot("."); err != nil {
		return os.NewSyscallError("chroot", err)
	}
	for name, target := range map[string]string{"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"} {
		if err := os.Symlink("/proc/self/fd"+target, "/dev/"+name); err != nil {
			return err
		}
	}
	return os.Setenv("PATH", "/usr/bin:/usr/sbin")
}

func mount(source, target, kind string) error {
	if err := unix.Mount(source, target, kind, 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// do runs the job and waits for it, and for each orphan until then, as is the first
// process's duty.
func do(argv []string, out *os.File) (status int, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir: "/job", Files: []*os.File{null, out, out},
		Env: []string{"PATH=/usr/bin:/usr/sbin", "HOME=/root", "LAMBENT_TEST_REQUIRE=1"},
	})
	if err != nil {
		return 0, err
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err != nil && err != unix.EINTR:
			return 0, err
		case pid != p.Pid:
		case ws.Signaled():
			return 128 + int(ws.Signal()), nil
		default:
			return ws.ExitStatus(), nil
		}
	}
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
