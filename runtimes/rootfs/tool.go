package rootfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// installerUser is as whom pip and npm run where the server is root: nobody on any
// system, the one below those that sandboxes of the driver process get.
const installerUser = 1<<20 - 1

const maxSaid = 64 << 10

var errSlow = errors.New("it takes too long")

// asInstaller gives a directory to those who install into it.
func asInstaller(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(dir, installerUser, installerUser)
}

// runTool runs a program of the host in a directory, to its end, and returns what it
// printed, which progress gets, too.
func runTool(ctx context.Context, dir string, argv, env []string, progress io.Writer) ([]byte, error) {
	said := &limited{left: maxSaid, also: progress}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: installerUser, Gid: installerUser}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // children that stayed
	}
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSlow) {
		err = canceled(ctx)
	}
	return said.Bytes(), err
}

// limited keeps the beginning of what is written.
type limited struct {
	bytes.Buffer
	left int
	also io.Writer // gets as much, too
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.Buffer.Write(p[:n])
	if n > 0 {
		_, _ = l.also.Write(p[:n]) // who no longer listens ends nothing
	}
	return len(p), nil
}
