package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"lambent"
	"lambent/sandbox"
)

var (
	_ sandbox.Sandbox    = (*box)(nil)
	_ sandbox.Terminator = (*box)(nil)
	_ sandbox.Sublet     = (*box)(nil)
)

// A box is one process group. The fields without a comment are set before the
// box is handed out.
type box struct {
	driver  *Driver
	id      string
	dir     string // of this sandbox alone, removed with it
	uid     int    // -1: the server's
	runtime lambent.Runtime
	agent   net.Conn
	inside  *os.File // the agent's end of that, until Assign boots it; nil: it has it
	output  *os.File // read end; the reader closes it
	stdout  *os.File // write end; closed once the child has it

	task       sandbox.Paths
	pid        atomic.Int64 // of the first process, which leads its group; 0: none yet
	limitBytes atomic.Int64
	peakBytes  atomic.Int64
	oom        atomic.Bool
	port       atomic.Int64 // that was taken for it; 0: none
	ended      atomic.Bool  // the first process has: its number may become another's
	stats      statsReader

	destroy sync.Once
	finish  sync.Once // closes done
	done    chan struct{}
	exit    sandbox.Exit // written before done is closed
}

func (b *box) ID() string            { return b.id }
func (b *box) Agent() net.Conn       { return b.agent }
func (b *box) Output() *os.File      { return b.output }
func (b *box) Done() <-chan struct{} { return b.done }
func (b *box) Exit() sandbox.Exit    { return b.exit }

// boot starts the runtime's agent with one end of a socket pair as descriptor 3,
// or leaves that to Assign.
func (b *box) boot() (err error) {
	if b.agent, b.inside, err = sandbox.SocketPair(); err != nil {
		return lambent.Errorf(lambent.Internal, "process.Park", "cannot make a socket pair: %w", err)
	}
	if b.runtime.BootLate {
		return nil
	}
	env := append([]string{"TMPDIR=" + b.dir, "HOME=" + b.dir}, envList(b.runtime.Env)...)
	return b.spawn(b.runtime.Boot, env, b.dir)
}

// Paths implements sandbox.Sandbox.
func (b *box) Paths(t sandbox.Task) sandbox.Paths {
	return sandbox.Paths{Task: t.Code, Opt: t.Opt, Tmp: b.dir}
}

// Assign implements sandbox.Sandbox. The tree is used where it lies: its files
// belong to the server's user and are read-only to everybody.
func (b *box) Assign(_ context.Context, t sandbox.Task) error {
	if fi, err := os.Stat(t.Code); err != nil || !fi.IsDir() {
		return lambent.Errorf(lambent.Internal, "process.Assign", "the code's tree %s is not there", t.Code)
	}
	if !t.Network.IsDefault() {
		return lambent.Errorf(lambent.Unsupported, "process.Assign", "the driver process cannot hold code to the network %q", t.Network)
	}
	b.task = b.Paths(t)
	b.limitBytes.Store(int64(t.MemoryMB) << 20)
	select {
	case b.driver.wake <- struct{}{}:
	default:
	}
	if err := sandbox.Tell(b.agent, t.Start.Word); err != nil {
		return err
	}
	if len(t.Start.Argv) == 0 {
		return nil
	}
	argv := slices.Clone(t.Start.Argv)
	if !filepath.IsAbs(argv[0]) {
		argv[0] = filepath.Join(b.task.Task, argv[0])
	}
	err := b.spawn(argv, t.Start.Env, b.task.Task)
	if errors.As(err, &b.exit.Exec) {
		b.end()
		return nil
	}
	return err
}

func (b *box) spawn(argv, env []string, dir string) error {
	cmd := &exec.Cmd{
		Path: argv[0], Args: argv, Env: env, Dir: dir,
		Stdout: b.stdout, Stderr: b.stdout,
		SysProcAttr: childAttr(b.uid),
	}
	if b.inside != nil {
		cmd.ExtraFiles = []*os.File{b.inside}
	}
	err := b.driver.onForkThread(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		b.pid.Store(int64(cmd.Process.Pid))
		b.driver.reaper.add(cmd.Process.Pid)
		return nil
	})
	b.stdout.Close()
	b.closeInside()
	if err != nil {
		return lambent.Errorf(lambent.Internal, "process", "cannot run %s: %w", argv[0], err)
	}
	limitChild(cmd.Process.Pid, b.uid >= 0)
	b.stats.open(cmd.Process.Pid)
	go b.wait(cmd)
	return nil
}

// wait turns the end of the first process into the end of the whole group.
func (b *box) wait(cmd *exec.Cmd) {
	pid := cmd.Process.Pid
	awaitEnd(pid)
	b.kill()
	b.ended.Store(true)
	b.driver.reaper.remove(pid)
	_ = cmd.Wait() // the state says everything
	b.exit = sandbox.Exit{Code: cmd.ProcessState.ExitCode(), OOM: b.oom.Load()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		b.exit.Signal = ws.Signal()
	}
	b.end()
}

// end tells that nothing runs any more, or will. What ended it is in exit.
func (b *box) end() { b.finish.Do(func() { close(b.done) }) }

// Listen implements sandbox.Sandbox: there is one network, the host's.
func (b *box) Listen(int) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// Port implements sandbox.Sublet.
func (b *box) Port(int) (int, error) {
	port, err := b.driver.ports.take()
	b.port.Store(int64(port))
	return port, err
}

// Terminate implements sandbox.Terminator.
func (b *box) Terminate() error {
	if pid := int(b.pid.Load()); pid != 0 && !b.ended.Load() {
		return syscall.Kill(pid, syscall.SIGTERM)
	}
	return nil
}

// Dial implements sandbox.Sandbox.
func (b *box) Dial(ctx context.Context, port int, patience time.Duration) (net.Conn, error) {
	return sandbox.Patiently(ctx, patience, func() (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	})
}

// Stats implements sandbox.Sandbox.
func (b *box) Stats() (cpuUS, peakBytes int64, err error) {
	cpuUS, rss, err := b.stats.read()
	return cpuUS, b.raisePeak(rss), err
}

func (b *box) raisePeak(rss int64) int64 {
	for {
		peak := b.peakBytes.Load()
		if rss <= peak {
			return peak
		}
		if b.peakBytes.CompareAndSwap(peak, rss) {
			return rss
		}
	}
}

// checkMemory ends the group if everything in it together is over the limit.
func (b *box) checkMemory() {
	pid := int(b.pid.Load())
	if pid == 0 || b.ended.Load() {
		return
	}
	rss := treeRSS(pid)
	b.raisePeak(rss)
	if rss <= b.limitBytes.Load() {
		return
	}
	b.oom.Store(true)
	b.kill()
}

// kill ends the whole process group.
func (b *box) kill() {
	if pid := int(b.pid.Load()); pid != 0 && !b.ended.Load() {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// Destroy implements sandbox.Sandbox.
func (b *box) Destroy() (err error) {
	b.destroy.Do(func() {
		if pid := int(b.pid.Load()); pid != 0 {
			b.kill()
			select {
			case <-b.done:
			case <-time.After(10 * time.Second):
				err = lambent.Errorf(lambent.Internal, "process.Destroy", "process %d does not end", pid)
			}
		} else {
			if b.exit == (sandbox.Exit{}) {
				b.exit.Signal = syscall.SIGKILL
			}
			b.end()
		}
		b.release()
		b.driver.mu.Lock()
		delete(b.driver.boxes, b)
		b.driver.mu.Unlock()
	})
	return err
}

// release gives back what newBox took.
func (b *box) release() {
	if b.agent != nil {
		b.agent.Close()
	}
	b.closeInside()
	if b.stdout != nil {
		b.stdout.Close()
	}
	b.stats.close()
	b.driver.ports.give(int(b.port.Load()))
	if b.uid >= 0 && clearUser(b.uid) {
		b.driver.users.give(b.uid)
	}
	_ = os.RemoveAll(b.dir) // Close removes what is left
}

func (b *box) closeInside() {
	if b.inside != nil {
		b.inside.Close()
		b.inside = nil
	}
}

func envList(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, fmt.Sprintf("%s=%s", k, v))
	}
	return list
}
