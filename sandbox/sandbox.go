// Package sandbox is the contract between the platform and what isolates
// functions: a driver parks sandboxes with a runtime booted in them, a parked
// sandbox is assigned one piece of code with its limits, runs it, and is
// destroyed. A sandbox never serves a second revision.
//
// The contract carries data and descriptors only, so that a privileged helper
// process can stand behind it. Child packages implement it; sandboxtest is the
// suite that every driver passes; Guard gives every driver the same manners.
// The package knows nothing of what is said over the descriptors: that is the
// guest's.
package sandbox

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"lambent"
)

// A Driver makes sandboxes of one kind. Its methods may be called concurrently.
type Driver interface {
	// Park makes a sandbox and boots the runtime's agent in it, if it has one that
	// is not to be booted late, without waiting for the agent to be ready: the
	// guest's Attach does that. Nothing of a user is in it yet.
	Park(context.Context, lambent.Runtime) (Sandbox, error)

	// Isolation says in one line what the driver promises, for `lambent doctor`
	// and the server's start-up message.
	Isolation() string

	// Close destroys every sandbox that is left and whatever the driver holds.
	Close() error
}

// A Task is what a parked sandbox is assigned.
type Task struct {
	Code     string // directory of the code's tree on the host; the code sees it read-only
	Opt      string // directory of the merged layers on the host; empty: none
	MemoryMB int
	TmpMB    int
	Network  lambent.Network // what the code may connect to; a driver that cannot hold it to that refuses any but the default
	Start    Start
}

// A Start is what happens in a sandbox once all that it is assigned is in place.
type Start struct {
	// What an agent that runs is told: it is written to its descriptor 3.
	Word string

	// What is run, with exactly this environment: a program of the code, or, of a
	// runtime that boots late, the agent, which then has its descriptor 3. A relative
	// Argv[0] is relative to Paths.Task, which is the working directory.
	Argv, Env []string
}

// Paths are where the code inside finds things.
type Paths struct {
	Task string // the code: /var/task where the driver can say so
	Opt  string // the layers: /opt
	Tmp  string // writable, of this sandbox alone
}

// For returns the paths for a task, which may have no layers.
func (p Paths) For(t Task) Paths {
	if t.Opt == "" {
		p.Opt = ""
	}
	return p
}

// An Exit says how the sandbox's first process ended.
type Exit struct {
	Exec   syscall.Errno  // why the task's program could not be executed, or 0: nothing of the code has run
	Code   int            // exit status; meaningless where Exec or Signal is set
	Signal syscall.Signal // that ended it, or 0
	OOM    bool           // it was ended for its memory limit
}

// String phrases the exit as "exit status 1" or "signal: killed".
func (e Exit) String() string {
	switch {
	case e.Exec != 0:
		return fmt.Sprintf("exec: %v", e.Exec)
	case e.Signal != 0:
		return fmt.Sprintf("signal: %v", e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// A Sandbox is one isolated process tree. After [Guard] its methods may be
// called concurrently; a bare driver's may not, except Agent, Output, Paths, Stats,
// Done and Exit.
type Sandbox interface {
	// ID is unique for the life of the server, and safe in a file name.
	ID() string

	// Paths says where the code of a task will find things. It costs nothing.
	Paths(Task) Paths

	// Assign puts the code and the limits in place, and then starts what the task says.
	// At most once. A program that cannot be executed is no error of
	// Assign's, which does not wait for that: it ends the sandbox, and Exit says why.
	Assign(context.Context, Task) error

	// Agent is the connection that the booted agent holds as its descriptor 3,
	// or nil for runtimes without an agent. Always the same value.
	Agent() net.Conn

	// Listen opens a TCP listener that the inside of the sandbox can reach: at that port
	// of the platform's address there, [RuntimeAPI] or [Endpoint], or, where the sandbox
	// has no network of its own, at another. Its Addr is what the inside must dial. There
	// is one for each port at a time; at one that has none nobody is met.
	Listen(port int) (net.Listener, error)

	// Dial connects to a port of 127.0.0.1 inside. While nobody listens there it tries
	// again, for as long as patience says, which is [MaxPatience] at most.
	Dial(ctx context.Context, port int, patience time.Duration) (net.Conn, error)

	// Output is the read end of the pipe that standard output and standard error
	// inside go to, in non-blocking mode. It reaches its end after Done. The
	// caller reads it, and must: a full pipe blocks the function. Destroy does
	// not close it; its reader does.
	Output() *os.File

	// Stats returns the CPU time used so far in us and the highest memory so
	// far in bytes, of everything inside; zero where the driver cannot tell.
	// It costs at most some us: it is called for each invocation.
	Stats() (cpuUS, peakBytes int64, err error)

	// Done is closed when the first process inside has ended, whatever ended it.
	Done() <-chan struct{}

	// Exit is valid once Done is closed.
	Exit() Exit

	// Destroy ends every process inside, waits for them and gives everything
	// back. Calling it again does nothing and returns nil.
	Destroy() error
}

// The ports at which the platform listens in a sandbox.
const (
	RuntimeAPI = 9001 // as on Lambda
	Endpoint   = 9002 // of AWS's services
)

// A Settler is a Sandbox whose code gets more of the processor while it starts
// than afterwards.
type Settler interface {
	// Settle tells that the code has started: from here on it has the share that
	// its memory comes with. At most once, after Assign.
	Settle() error
}

// A Sharer is a Sandbox that can be held to less of the processor than its memory
// comes with.
type Sharer interface {
	// Share holds the sandbox to a part of its share, above 0 and at most 1, until it
	// is told another. It takes nothing from whoever is alone. It may be called at
	// any time.
	Share(part float64) error
}

// A Witness is a Sandbox that sees what the kernel ends inside.
type Witness interface {
	// OOMKilled reports whether a process inside was ended for the memory limit,
	// be it the first, which Exit tells of, or one that the first lives on
	// without. It may be called at any time, and costs as little as Stats.
	OOMKilled() bool
}

// A Terminator is a Sandbox whose code can be asked to end.
type Terminator interface {
	// Terminate sends SIGTERM to the first process of the code, which does with it what
	// it likes: Done tells when it has ended. After Assign, at most until Destroy; what
	// is frozen takes it when it is thawed.
	Terminate() error
}

// A Sublet is a Sandbox whose network is shared with others: a port that one listens
// on is taken.
type Sublet interface {
	// Port returns a port that is for this sandbox's code to listen on, where it would
	// have liked another.
	Port(wanted int) (int, error)
}

// A Freezer is a Sandbox that can be suspended: no process inside runs between
// Freeze and Thaw.
type Freezer interface {
	Freeze() error
	Thaw() error
}
