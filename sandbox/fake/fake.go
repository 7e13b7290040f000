// Package fake is a sandbox driver that tests script: the "process" inside is a
// Go function. It exists to force what a real process does rarely (dying between
// two steps, never getting ready, failing to be assigned) and to run where time
// is synthetic: without output it does no system calls.
package fake

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"lambent"
	"lambent/sandbox"
)

var (
	_ sandbox.Driver  = (*Driver)(nil)
	_ sandbox.Freezer = (*Box)(nil)
	_ sandbox.Sharer  = (*Box)(nil)
)

// A Driver parks boxes. Its fields are set before the first Park and not changed.
type Driver struct {
	// Program runs in each box, from Park (with an agent) or Start (without, or with
	// one that boots late) on, and returns the exit status. It must return soon after Box.Killed closes.
	// Nil waits for that.
	Program func(*Box) int

	// ParkErr and AssignErr, if set, may fail these calls.
	ParkErr, AssignErr func() error

	// OnPark, if set, is told of each box.
	OnPark func(*Box)

	// Silent leaves out Output, which is a real pipe otherwise.
	Silent bool

	count atomic.Int64
	alive atomic.Int64
}

// Alive returns how many boxes are parked and not destroyed.
func (d *Driver) Alive() int { return int(d.alive.Load()) }

// Parked returns how many boxes were ever parked.
func (d *Driver) Parked() int { return int(d.count.Load()) }

// Isolation implements sandbox.Driver.
func (d *Driver) Isolation() string { return "fake: nothing is run" }

// Close implements sandbox.Driver.
func (d *Driver) Close() error { return nil }

// Park implements sandbox.Driver.
func (d *Driver) Park(ctx context.Context, rt lambent.Runtime) (sandbox.Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.ParkErr != nil {
		if err := d.ParkErr(); err != nil {
			return nil, err
		}
	}
	b := &Box{driver: d, id: fmt.Sprintf("fake%028d", d.count.Add(1)), done: make(chan struct{}), Killed: make(chan struct{}), Terminated: make(chan struct{})}
	if !d.Silent {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		b.output, b.Stdout = r, w
	}
	d.alive.Add(1)
	if d.OnPark != nil {
		d.OnPark(b)
	}
	if len(rt.Boot) > 0 {
		b.agent, b.Inside = net.Pipe()
		if !rt.BootLate {
			b.start()
		}
	}
	return b, nil
}

// A Box is a fake sandbox. What a Program sees is in its exported fields.
type Box struct {
	Inside     net.Conn      // the agent's descriptor 3, or nil
	Stdout     *os.File      // nil if the driver is silent
	Killed     chan struct{} // closed by Destroy
	Terminated chan struct{} // closed by Terminate
	Task       sandbox.Task  // after Assign

	// What the next calls of Stats return.
	CPUUS, PeakBytes atomic.Int64
	// OOM is what OOMKilled returns.
	OOM atomic.Bool
	// Part is what Share was told last; nil: nothing.
	Part atomic.Pointer[float64]
	// Frozen is set between Freeze and Thaw; Freezes counts them.
	Frozen  atomic.Bool
	Freezes atomic.Int64

	driver    *Driver
	id        string
	agent     net.Conn
	output    *os.File
	done      chan struct{}
	exit      sandbox.Exit
	running   atomic.Bool
	destroyed sync.Once
	terminate sync.Once
}

func (b *Box) ID() string            { return b.id }
func (b *Box) Agent() net.Conn       { return b.agent }
func (b *Box) Output() *os.File      { return b.output }
func (b *Box) Done() <-chan struct{} { return b.done }
func (b *Box) Exit() sandbox.Exit    { return b.exit }

func (b *Box) start() {
	b.running.Store(true)
	go func() {
		code := 0
		if b.driver.Program != nil {
			code = b.driver.Program(b)
		} else {
			<-b.Killed
		}
		b.exit = sandbox.Exit{Code: code}
		select {
		case <-b.Killed:
			b.exit = sandbox.Exit{Code: -1, Signal: syscall.SIGKILL}
		default:
		}
		b.closeInside()
		close(b.done)
	}()
}

func (b *Box) closeInside() {
	if b.Inside != nil {
		b.Inside.Close()
	}
	if b.Stdout != nil {
		b.Stdout.Close()
	}
}

// Assign implements sandbox.Sandbox.
func (b *Box) Assign(_ context.Context, t sandbox.Task) error {
	if b.driver.AssignErr != nil {
		if err := b.driver.AssignErr(); err != nil {
			return err
		}
	}
	b.Task = t
	if err := sandbox.Tell(b.agent, t.Start.Word); err != nil {
		return err
	}
	if len(t.Start.Argv) > 0 {
		b.start()
	}
	return nil
}

// Paths implements sandbox.Sandbox.
func (b *Box) Paths(t sandbox.Task) sandbox.Paths {
	return sandbox.Paths{Task: t.Code, Opt: t.Opt, Tmp: os.TempDir()}
}

// Listen implements sandbox.Sandbox.
func (b *Box) Listen(int) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// Port implements sandbox.Sublet: the network is the host's.
func (b *Box) Port(int) (int, error) {
	l, err := b.Listen(0)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Terminate implements sandbox.Terminator.
func (b *Box) Terminate() error {
	b.terminate.Do(func() { close(b.Terminated) })
	return nil
}

// Dial implements sandbox.Sandbox.
func (b *Box) Dial(ctx context.Context, port int, patience time.Duration) (net.Conn, error) {
	return sandbox.Patiently(ctx, patience, func() (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	})
}

// Stats implements sandbox.Sandbox.
func (b *Box) Stats() (cpuUS, peakBytes int64, err error) {
	return b.CPUUS.Load(), b.PeakBytes.Load(), nil
}

// OOMKilled implements sandbox.Witness.
func (b *Box) OOMKilled() bool { return b.OOM.Load() }

// Share implements sandbox.Sharer.
func (b *Box) Share(part float64) error { b.Part.Store(&part); return nil }

// Freeze implements sandbox.Freezer.
func (b *Box) Freeze() error {
	b.Freezes.Add(1)
	b.Frozen.Store(true)
	return nil
}

// Thaw implements sandbox.Freezer.
func (b *Box) Thaw() error { b.Frozen.Store(false); return nil }

// Destroy implements sandbox.Sandbox.
func (b *Box) Destroy() error {
	b.destroyed.Do(func() {
		close(b.Killed)
		if b.agent != nil {
			b.agent.Close()
		}
		if b.running.Load() {
			<-b.done
		} else {
			b.exit = sandbox.Exit{Code: -1, Signal: syscall.SIGKILL}
			b.closeInside()
			close(b.done)
		}
		b.driver.alive.Add(-1)
	})
	return nil
}
