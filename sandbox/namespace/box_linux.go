//go:build amd64 || arm64

package namespace

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/cgroup"
	"lambent/internal/netns"
	"lambent/sandbox"
)

var (
	_ sandbox.Sandbox    = (*box)(nil)
	_ sandbox.Freezer    = (*box)(nil)
	_ sandbox.Settler    = (*box)(nil)
	_ sandbox.Sharer     = (*box)(nil)
	_ sandbox.Witness    = (*box)(nil)
	_ sandbox.Terminator = (*box)(nil)
)

const (
	parkedMemory = 128 << 20 // until a function's limit is known; most have the default, and then this is it
	processes    = 1024      // AWS's limit on processes and threads together
	fullCPU      = 1769      // MB of memory that come with one processor, as on AWS
	wholeCPU     = 1000      // the share of one processor, until the code has started
	aheadCPU     = 50        // of boots and ends that nobody waits for
)

// A box is one sandbox. The fields without a comment are set by make, before the
// box is handed out.
type box struct {
	driver *Driver
	id     string
	slot   *slot
	net    *netns.Net // the slot's
	group  *cgroup.Group
	agent  net.Conn // nil: no agent
	line   *os.File // its connection once more, of which Go's poller does not hear
	output *os.File // read end; the reader closes it
	start  net.Conn // says what to run, and hears why that failed
	status *os.File // hears of the init
	pidfd  *os.File // of the init
	pid    int      // of the init; 0: none yet
	mounts *os.File // the mount namespace

	refused func() (syscall.Errno, error) // what hear has heard

	limits cgroup.Limits // but for part
	share  float64       // of the processor, once the code has started
	part   float64       // of that or of another share, that it has

	destroy sync.Once
	done    chan struct{}
	exit    sandbox.Exit // written before done is closed

	mu      sync.Mutex    // guards what follows, and the group's reading from its removal
	policy  *netns.Policy // nil: not assigned, or the default
	removed bool
	cpuUS   int64 // last read
	peak    int64
}

func newBox(d *Driver) *box {
	var raw [16]byte
	rand.Read(raw[:])
	b := &box{driver: d, id: hex.EncodeToString(raw[:]), part: 1, done: make(chan struct{})}
	b.refused = sync.OnceValues(b.hear)
	return b
}

func (b *box) ID() string            { return b.id }
func (b *box) Output() *os.File      { return b.output }
func (b *box) Done() <-chan struct{} { return b.done }
func (b *box) Exit() sandbox.Exit    { return b.exit }
func (b *box) Agent() net.Conn       { return b.agent }

// make builds the sandbox and boots the runtime's agent in it, if it has one: now,
// or in Start. The process that waits for what to run has the agent's descriptor.
func (b *box) make(r *root, rt lambent.Runtime) (err error) {
	d := b.driver
	if b.slot, err = d.slots.take(); err != nil {
		return err
	}
	b.net = b.slot.net
	if b.group, err = d.groups.Make(fmt.Sprint(b.slot.number)); err != nil {
		return err
	}
	b.limits = cgroup.Limits{MemoryBytes: parkedMemory, Pids: processes, CPU: wholeCPU}
	if rt.Ahead {
		b.limits.CPU = aheadCPU
	}
	if err := b.limit(); err != nil {
		return err
	}
	if err := b.fork(r, len(rt.Boot) > 0); err != nil {
		return lambent.Errorf(lambent.Internal, "namespace.Park", "cannot make a sandbox: %w", err)
	}
	go b.watch()
	if b.mounts, err = os.Open(fmt.Sprintf("/proc/%d/ns/mnt", b.pid)); err != nil {
		return lambent.Errorf(lambent.Internal, "namespace.Park", "%w", err)
	}
	if len(rt.Boot) > 0 && !rt.BootLate {
		if err := b.run("/", rt.Boot, envList(rt.Env)); err != nil {
			return err
		}
		errno, err := b.refused()
		if errno != 0 {
			err = errno
		}
		if err != nil {
			return lambent.Errorf(lambent.Internal, "namespace.Park", "cannot run %s: %w", rt.Boot[0], err)
		}
		if rt.Ahead { // not before: what the init does holds locks that others wait for
			b.limits.Idle = true
			return b.limit()
		}
	}
	return nil
}

// fork starts the init in everything that it is to be born in. init/init.c says
// what each descriptor is.
func (b *box) fork(r *root, agent bool) (err error) {
	d := b.driver
	var inside []*os.File // what the child gets; closed here
	defer func() {
		for _, f := range inside {
			f.Close()
		}
	}()
	keep := func(f *os.File, err error) (*os.File, error) {
		if err == nil {
			inside = append(inside, f)
		}
		return f, err
	}
	var stdout, status, start, agentInside *os.File
	if b.output, stdout, err = sandbox.OutputPipe(); err != nil {
		return err
	}
	inside = append(inside, stdout)
	if b.status, status, err = sandbox.OutputPipe(); err != nil {
		return err
	}
	inside = append(inside, status)
	if b.start, start, err = sandbox.SocketPair(); err != nil {
		return err
	}
	inside = append(inside, start)
	if agent {
		if b.line, agentInside, err = sandbox.Sockets(); err != nil {
			return err
		}
		inside = append(inside, agentInside)
		if b.agent, err = net.FileConn(b.line); err != nil {
			return err
		}
	}
	pidfd := -1
	err = d.threads.do(func(t *thread) error {
		tmp, err := keep(b.slot.disk.mount())
		if err != nil {
			return err
		}
		var files []uintptr
		for _, f := range []*os.File{d.null, stdout, stdout, agentInside, status, start, b.slot.users, tmp, d.filter, d.init} {
			if f == nil {
				files = append(files, ^uintptr(0)) // closed
			} else {
				files = append(files, f.Fd())
			}
		}
		attr := &syscall.ProcAttr{
			Files: files, Env: []string{},
			Sys: &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
				UseCgroupFD: b.group.FD() >= 0, CgroupFD: b.group.FD(), PidFD: &pidfd,
			},
		}
		return t.inNetwork(b.net.File(), func() error {
			if err := b.group.Join(); err != nil {
				return err
			}
			err := t.inMounts(r.mounts, func() (err error) {
				b.pid, err = syscall.ForkExec("/proc/self/fd/9", []string{"init"}, attr)
				return err
			})
			return errors.Join(err, b.group.Leave())
		})
	})
	if pidfd >= 0 {
		b.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	}
	return err
}

// steps are those of init.c.
var steps = []string{
	"", "descriptors", "/proc", "hiding parts of /proc", "/tmp", "host name", "limits", "keyring", "user namespace", "groups", "bounding set", "ids", "capabilities",
	"parent-death signal", "no_new_privs", "seccomp", "fork",
}

// watch hears what the init says, until it ends.
func (b *box) watch() {
	var last syscall.WaitStatus
	told := false
	for {
		var m [6]byte
		if _, err := io.ReadFull(b.status, m[:]); err != nil {
			break // its end was closed by its death
		}
		value := binary.LittleEndian.Uint32(m[2:])
		switch m[0] {
		case 'X':
			last, told = syscall.WaitStatus(value), true
		case 'E':
			b.driver.log.Error("a sandbox cannot be made", "step", steps[min(int(m[1]), len(steps)-1)], "error", syscall.Errno(value))
		}
	}
	// The kernel lets process 1 go when nothing else is left of its namespace.
	var ws syscall.WaitStatus
	_ = again(func() error { _, err := syscall.Wait4(b.pid, &ws, 0, nil); return err })
	if !told {
		last = ws
	}
	b.exit.Code = last.ExitStatus()
	if last.Signaled() {
		b.exit.Signal = last.Signal()
	}
	b.exit.Exec, _ = b.refused() // nobody has the other end any more: it does not block
	kills, err := b.group.OOMKills()
	b.exit.OOM = err == nil && kills > 0
	close(b.done)
}

// run tells the waiting process what to run.
func (b *box) run(dir string, argv, env []string) error {
	var text []byte
	for _, list := range [][]string{{dir}, argv, env} {
		for _, s := range list {
			text = append(append(text, s...), 0)
		}
	}
	m := make([]byte, 0, 12+len(text))
	for _, n := range []int{len(text), len(argv), len(env)} {
		m = binary.LittleEndian.AppendUint32(m, uint32(n))
	}
	if _, err := b.start.Write(append(m, text...)); err != nil {
		return lambent.Errorf(lambent.Internal, "namespace", "cannot run %s: %w", argv[0], err)
	}
	return nil
}

// hear waits until what run has named is executed, or cannot be, and returns why
// not: 0 if it is, or if the process has ended before. It is for refused to call.
func (b *box) hear() (syscall.Errno, error) {
	_ = b.start.SetReadDeadline(time.Now().Add(10 * time.Second))
	var errno [4]byte
	switch _, err := io.ReadFull(b.start, errno[:]); {
	case err == nil:
		return syscall.Errno(binary.LittleEndian.Uint32(errno[:])), nil
	case errors.Is(err, io.EOF): // closed by exec, or by the end that Done tells of
		return 0, nil
	default:
		return 0, err
	}
}

// Inside is where the code of every sandbox finds things.
func (d *Driver) Inside() sandbox.Paths {
	return sandbox.Paths{Task: taskDir, Opt: optDir, Tmp: tmpDir}
}

// Paths implements sandbox.Sandbox.
func (b *box) Paths(t sandbox.Task) sandbox.Paths { return b.driver.Inside().For(t) }

// Assign implements sandbox.Sandbox.
func (b *box) Assign(_ context.Context, t sandbox.Task) error {
	return b.assign(t, b.driver.code)
}

func (b *box) assign(t sandbox.Task, from place) error {
	const op = "namespace.Assign"
	// Its share of the processor is a whole one until Settle: loading code is a burst.
	b.limits.Idle = false
	b.limits.MemoryBytes, b.limits.CPU, b.share = int64(t.MemoryMB)<<20, wholeCPU, float64(t.MemoryMB)*1000/fullCPU
	if err := b.limit(); err != nil {
		return err
	}
	if err := b.slot.disk.grow(t.TmpMB); err != nil {
		return err
	}
	policy, err := b.net.Allow(t.Network)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.policy = policy
	b.mu.Unlock()
	trees := map[string]string{taskDir: t.Code}
	if t.Opt != "" {
		trees[optDir] = t.Opt
	}
	err = b.driver.threads.do(func(th *thread) error {
		mounts := map[string]*os.File{}
		defer func() {
			for _, m := range mounts {
				m.Close()
			}
		}()
		for target, dir := range trees {
			f, err := from.directory(dir)
			if err != nil {
				return err
			}
			mounts[target], err = clone(f, readOnly)
			f.Close()
			if err != nil {
				return err
			}
		}
		return th.inMounts(b.mounts, func() error {
			for target, m := range mounts {
				if err := attach(m, target); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return lambent.Errorf(lambent.Internal, op, "the code cannot be put in place: %w", err)
	}
	var agent io.Writer
	if b.line != nil {
		agent = line{b.line}
	}
	if err := sandbox.Tell(agent, t.Start.Word); err != nil {
		return err
	}
	if len(t.Start.Argv) == 0 {
		return nil
	}
	return b.run(taskDir, t.Start.Argv, t.Start.Env)
}

// A line is written to without waiting. Whoever HandOver has given the connection to
// can have it block, which is a flag of what both have open.
type line struct{ socket *os.File }

func (l line) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var sent int
		err = again(func() (err error) {
			sent, err = unix.SendmsgN(int(l.socket.Fd()), b[n:], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			return err
		})
		n += sent
	}
	return n, err
}

// Settle implements sandbox.Settler.
func (b *box) Settle() error {
	b.limits.CPU = b.share
	return b.limit()
}

// Share implements sandbox.Sharer.
func (b *box) Share(part float64) error {
	b.part = part
	return b.limit()
}

func (b *box) limit() error {
	l := b.limits
	l.CPU *= b.part
	return b.group.Limit(l)
}

// Listen implements sandbox.Sandbox.
func (b *box) Listen(port int) (net.Listener, error) { return b.net.Listen(port) }

// Terminate implements sandbox.Terminator. Process 1 is the init, which lets signals
// be: the code's first process is number 2 to itself, and a child of the init.
func (b *box) Terminate() error {
	const op = "namespace.Terminate"
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", b.pid, b.pid))
	if err != nil && b.initAlive() {
		return lambent.Errorf(lambent.Unsupported, op, "this kernel does not list the children of a process: %w", err)
	}
	for _, child := range strings.Fields(string(list)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0) // a number may become another's: what this leads to does not
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil || !isSecond(status, b.pid) {
			continue
		}
		if !b.initAlive() { // and its number may have been another's
			return nil
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && err != unix.ESRCH {
			return lambent.Errorf(lambent.Internal, op, "%w", err)
		}
		return nil
	}
	return nil // it has ended
}

func (b *box) initAlive() bool {
	return unix.PidfdSendSignal(int(b.pidfd.Fd()), 0, nil, 0) == nil
}

// isSecond reports whether /proc's status is of a child of that parent that is number 2
// in a namespace below this one.
func isSecond(status []byte, parent int) bool {
	second, child := false, false
	for line := range bytes.Lines(status) {
		if numbers, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			list := bytes.Fields(numbers)
			second = len(list) >= 2 && string(list[len(list)-1]) == "2"
		}
		if number, ok := bytes.CutPrefix(line, []byte("PPid:")); ok {
			child = string(bytes.TrimSpace(number)) == strconv.Itoa(parent)
		}
	}
	return second && child
}

// Dial implements sandbox.Sandbox.
func (b *box) Dial(ctx context.Context, port int, patience time.Duration) (net.Conn, error) {
	return sandbox.Patiently(ctx, patience, func() (net.Conn, error) { return b.net.Dial(ctx, port) })
}

// Names returns the sockets inside at which the code asks for names, of which
// nothing is read here: package names does. They are valid until Destroy.
func (b *box) Names() (datagrams, streams syscall.Conn) { return b.net.Names() }

// Open lets the code connect to addresses that a name of its network policy leads
// to, as far as they may be opened by a name. It may be called at any time.
func (b *box) Open(name string, addresses []netip.Addr) error {
	b.mu.Lock()
	policy := b.policy
	b.mu.Unlock()
	return policy.Open(name, addresses)
}

// Stats implements sandbox.Sandbox.
func (b *box) Stats() (cpuUS, peakBytes int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.removed {
		var errPeak error
		b.cpuUS, err = b.group.CPU()
		b.peak, errPeak = b.group.PeakMemory()
		err = errors.Join(err, errPeak)
	}
	return b.cpuUS, b.peak, err
}

// OOMKilled implements sandbox.Witness.
func (b *box) OOMKilled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.removed {
		return false // Exit says what it says
	}
	kills, err := b.group.OOMKills()
	return err == nil && kills > 0
}

// HandOver returns the agent's connection, nil where there is none, for another process
// to hear of. This one does not any more: it would be woken by each message, too.
func (b *box) HandOver() *os.File {
	if b.agent != nil {
		b.agent.Close()
	}
	return b.line
}

// Meter is what Stats reads. It is valid until Destroy.
func (b *box) Meter() *cgroup.Meter { return &b.group.Meter }

// Freeze implements sandbox.Freezer.
func (b *box) Freeze() error { return b.group.Freeze() }

// Thaw implements sandbox.Freezer.
func (b *box) Thaw() error { return b.group.Thaw() }

// Destroy implements sandbox.Sandbox.
func (b *box) Destroy() (err error) {
	b.destroy.Do(func() { err = b.end() })
	return err
}

func (b *box) end() error {
	var errs []error
	if b.pid == 0 { // it was never born
		b.exit = sandbox.Exit{Signal: syscall.SIGKILL}
		close(b.done)
	} else {
		b.limits.Idle, b.limits.CPU, b.part = false, aheadCPU, 1 // giving memory back is work, too, and nobody waits for it
		_ = b.limit()
		_ = unix.PidfdSendSignal(int(b.pidfd.Fd()), unix.SIGKILL, nil, 0) // it may have ended
		errs = append(errs, b.group.Thaw())                               // in version 1 the frozen do not die
		select {
		case <-b.done:
		case <-time.After(10 * time.Second): // a thousand processes on a busy machine: they will
			go func() {
				<-b.done
				if err := b.free(); err != nil {
					b.driver.log.Error("a sandbox that took long to end cannot be given back", "error", err)
				}
			}()
			return errors.Join(append(errs, lambent.Errorf(lambent.Internal, "namespace.Destroy", "process %d does not end", b.pid))...)
		}
	}
	return errors.Join(append(errs, b.free())...)
}

// free gives back all that the sandbox had, once nothing runs in it.
func (b *box) free() error {
	var errs []error
	for _, c := range []io.Closer{b.agent, b.line, b.start, b.status, b.pidfd, b.mounts} {
		if c != nil {
			c.Close()
		}
	}
	if b.group != nil {
		_, _, _ = b.Stats() // what is asked for later
		b.mu.Lock()
		b.removed = true
		errs = append(errs, b.group.Remove())
		b.mu.Unlock()
	}
	if b.slot != nil {
		errs = append(errs, b.driver.slots.give(b.slot))
	}
	b.driver.mu.Lock()
	delete(b.driver.boxes, b)
	b.driver.mu.Unlock()
	return errors.Join(errs...)
}

func envList(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	return list
}
