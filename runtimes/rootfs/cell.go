package rootfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// A cell is where programs run that the server needs and does not trust. As root
// on Linux they run as a user who owns nothing, and, in a root file system, see
// nothing but that, read-only, and have no network. Elsewhere there are no root
// file systems, and they run as the server does.
type cell struct {
	root    string // their root directory; empty: the host's
	tmp     string // a directory of the host that they may write; with a root it is their /tmp
	network bool
	uid     int // as which they run; 0: the server's
}

// cellUser is nobody on any system: the one below those that sandboxes get.
const cellUser = 1<<20 - 1

const maxSaid = 64 << 10

// run runs a program until it ends, and returns what it printed.
func (c *cell) run(ctx context.Context, argv, env []string, progress io.Writer) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	out, said := &limited{left: maxSaid}, &limited{left: maxSaid, also: progress}
	cmd.Stdout, cmd.Stderr = out, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = c.do(cmd)
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // children that stayed
	}
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSlow) {
		err = canceled(ctx)
	}
	return out.Bytes(), said.Bytes(), err
}

var errSlow = errors.New("it takes too long")

// limited keeps the beginning of what is written.
type limited struct {
	bytes.Buffer
	left int
	also io.Writer // gets as much, too; nil: nobody
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.Buffer.Write(p[:n])
	if l.also != nil && n > 0 {
		_, _ = l.also.Write(p[:n]) // who no longer listens ends nothing
	}
	return len(p), nil
}
