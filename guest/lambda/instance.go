package lambda

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/internal/http1"
	"lambent/sandbox"
)

var (
	_ guest.Instance  = (*instance)(nil)
	_ guest.Rehearser = (*instance)(nil)
)

// responseSlack is what AWS allows a response over the payload limit:
// "maximum allowed payload size (6291556 bytes)".
const responseSlack = 100

// An instance is one runtime process's conversation. Each connection has a
// goroutine that reads requests and answers them at once, except for `next`: its
// connection is put aside (waiting) and whoever has an invocation writes it there.
// A response is handed to the invoking goroutine through the call's channel.
type instance struct {
	sandbox  sandbox.Sandbox
	runtime  lambent.Runtime
	limits   lambent.Limits
	listener net.Listener // nil for agents
	endpoint Endpoint     // set by Attach, if there is one
	api      string       // AWS_LAMBDA_RUNTIME_API
	unit     guest.Unit   // set by Init
	arn      string
	wrapper  string // that starts the runtime, if there is one; set by Init

	dead chan struct{} // closed once nothing can be invoked any more

	mu       sync.Mutex
	name     lambent.Name  // of the function, once it is known
	known    bool          // at the endpoint
	last     int           // hops of the last invocation
	conns    []*http1.Conn // open connections, closed by Stop
	waiting  []waiting     // connections that asked for the next invocation
	arrived  chan struct{} // has a token while connections wait that some invocation may not know of
	short    int           // invocations that found none
	wide     bool          // it is an agent with lanes, see lanes.go; set by Init
	lanes    int           // that it has, or was asked for
	left     chan struct{} // closed when conns becomes empty; nil: nobody waits for that
	calls    []*call       // invocations that the code has
	ready    chan struct{} // closed at the first `next`
	started  bool          // ready is closed
	initErr  *lambent.Fault
	initDone chan struct{} // closed when initErr is set
	settle   []func(error) // called back, each as a connection comes to wait, or at death
	ended    bool          // dead is closed
}

// A waiting connection's writer belongs to whoever takes it from the list.
type waiting struct {
	conn *http1.Conn
	out  *http1.Writer
}

// A call is one invocation that the code has.
type call struct {
	id       string
	root     string         // of its trace
	hops     int            // functions that led to it
	response chan *response // of capacity 1
	gone     bool           // nobody waits for it; guarded by the instance's mu
}

// A response is what the code posted for a call.
type response struct {
	contentType string
	body        []byte // of a buffered one
	fault       *lambent.Fault
	conn        *http1.Conn   // of a streamed one: the body is still to be read
	read        chan struct{} // closed once the invoking goroutine is done with conn
}

func newInstance(sb sandbox.Sandbox, rt lambent.Runtime, limits lambent.Limits) *instance {
	return &instance{
		sandbox: sb, runtime: rt, limits: limits, api: "127.0.0.1:9001",
		dead: make(chan struct{}), arrived: make(chan struct{}, 1),
		ready: make(chan struct{}), initDone: make(chan struct{}),
	}
}

// codeInPlace is what an agent waits for before it loads its code.
const codeInPlace = "\n"

// lastWords is how long a connection is read after its process has ended.
const lastWords = 200 * time.Millisecond

// Rehearse implements guest.Rehearser: an agent takes an assignment of no length
// for the sign. A program of the code has nothing to rehearse.
func (in *instance) Rehearse() error {
	agent := in.sandbox.Agent()
	if agent == nil {
		return nil
	}
	_, err := agent.Write(make([]byte, 4))
	return err
}

// Init implements guest.Instance.
func (in *instance) Init(ctx context.Context, u guest.Unit) error {
	in.unit, in.arn = u, u.Revision.Name.ARN()
	if err := in.openLanes(); err != nil {
		return err
	}
	env := in.environment()
	heard := make(chan struct{}) // closed once all that an agent said has been read
	go func() {
		<-in.sandbox.Done()
		// What it said last is in the connection still. A child that keeps the other
		// end open is not waited for.
		select {
		case <-heard:
		case <-time.After(lastWords):
		}
		in.hearLanes()
		in.end()
	}()
	if agent := in.sandbox.Agent(); agent != nil {
		c := http1.NewConn(agent)
		if !in.track(c) {
			return in.Fault(lambent.FaultExit, nil)
		}
		if in.runtime.BootLate {
			if err := u.Place(sandbox.Start{Argv: in.late(env), Env: environ(env)}); err != nil {
				return err
			}
			if err := booted(ctx, agent); err != nil {
				close(heard)
				return in.orExit(ctx, err)
			}
			// It has its environment, and what a wrapper has made of it.
			if _, err := agent.Write(append(in.assignment(nil, u), codeInPlace...)); err != nil {
				return in.exitedDuringInit()
			}
		} else { // it makes itself ready while its code is put in place
			if _, err := agent.Write(in.assignment(env, u)); err != nil {
				return in.exitedDuringInit()
			}
			if err := u.Place(sandbox.Start{Word: codeInPlace}); err != nil {
				return err
			}
		}
		go func() {
			in.serve(c)
			close(heard)
		}()
	} else {
		close(heard) // clients of the API wait for the answer to what they say
		if err := u.Place(sandbox.Start{Argv: []string{"./bootstrap"}, Env: environ(env)}); err != nil {
			return err
		}
	}
	select {
	case <-in.ready:
		return nil
	case <-in.initDone:
		return in.initErr
	case <-in.dead:
		return in.exitedDuringInit()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exitedDuringInit returns what the code said before its process ended, or else
// how it ended.
func (in *instance) exitedDuringInit() error {
	select {
	case <-in.initDone:
		return in.initErr
	case <-in.sandbox.Done():
	}
	<-in.dead
	select {
	case <-in.initDone:
		return in.initErr
	default:
	}
	if errno := in.sandbox.Exit().Exec; errno != 0 {
		return in.notRun(errno)
	}
	f := in.Fault(lambent.FaultExit, nil)
	f.Kind = lambent.FaultInit
	return f
}

// assignment frames what an agent is told: a length and JSON.
func (in *instance) assignment(env map[string]string, u guest.Unit) []byte {
	body, err := json.Marshal(struct {
		Env         map[string]string `json:"env"` // null: it was booted with it
		Handler     string            `json:"handler"`
		Task        string            `json:"task"`
		Opt         string            `json:"opt"`
		Concurrency int               `json:"concurrency"`
		Packages    string            `json:"packages,omitempty"` // of the runtime, where the boot does not name them
	}{env, u.Revision.Config.Handler, u.Paths.Task, u.Paths.Opt, u.Revision.Config.Concurrency, in.latePackages()})
	if err != nil {
		panic("lambda: strings always have a JSON form: " + err.Error())
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// notRun tells a missing or unusable program of the code, which is the code's fault,
// from what is ours.
func (in *instance) notRun(errno syscall.Errno) error {
	unusable := errno == syscall.ENOENT || errno == syscall.EACCES || errno == syscall.ENOEXEC
	switch {
	case !unusable, in.runtime.BootLate && in.wrapper == "":
		return lambent.Errorf(lambent.Internal, "lambda.Init", "runtime %s cannot be executed: %w", in.runtime.Name, errno)
	case in.runtime.BootLate:
		return wrapperFault(in.wrapper, errno)
	case errno == syscall.ENOENT:
		return newFault(lambent.FaultInit, "Runtime.InvalidEntrypoint", "", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
	}
	return newFault(lambent.FaultInit, "Runtime.InvalidEntrypoint", "", "fork/exec /var/task/bootstrap: "+errno.Error())
}

// track notes a connection so that Stop closes it, and reports whether the
// instance still lives.
func (in *instance) track(c *http1.Conn) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return false
	}
	in.conns = append(in.conns, c)
	return true
}

func (in *instance) untrack(c *http1.Conn) {
	in.mu.Lock()
	var settle func(error)
	defer func() {
		in.mu.Unlock()
		if settle != nil {
			settle(nil)
		}
	}()
	if i := slices.Index(in.conns, c); i >= 0 {
		in.conns = slices.Delete(in.conns, i, i+1)
	}
	in.waiting = slices.DeleteFunc(in.waiting, func(w waiting) bool { return w.conn == c })
	if in.wide && c.Net() != in.sandbox.Agent() { // another can be had in its place
		in.lanes--
		settle = in.settledLocked()
		in.signalLocked()
	}
	if in.left != nil && len(in.conns) == 0 {
		close(in.left)
		in.left = nil
	}
}

// wait puts a connection aside until there is an invocation.
func (in *instance) wait(c *http1.Conn) {
	w := waiting{c, c.HandOver()}
	in.mu.Lock()
	in.waiting = append(in.waiting, w)
	if !in.started {
		in.started = true
		close(in.ready)
	}
	settle := in.settledLocked()
	in.signalLocked()
	in.mu.Unlock()
	if settle != nil {
		settle(nil)
	}
}

// settledLocked takes the first of those that wait for the instance to be able to
// take another invocation, or nil.
func (in *instance) settledLocked() (settle func(error)) {
	if len(in.settle) > 0 {
		settle = in.settle[0]
		in.settle = slices.Delete(in.settle, 0, 1)
	}
	return settle
}

// signalLocked wakes one invocation that looks for a connection.
func (in *instance) signalLocked() {
	select {
	case in.arrived <- struct{}{}:
	default:
	}
}

// take returns the writer of a connection that waits, and registers the call.
func (in *instance) take(ctx context.Context, cl *call) (*http1.Writer, error) {
	for short := 0; ; short = 1 {
		in.mu.Lock()
		in.short -= short
		if n := len(in.waiting); n > 0 && !in.ended {
			w := in.waiting[n-1].out
			in.waiting = in.waiting[:n-1]
			in.calls, in.last = append(in.calls, cl), cl.hops
			if in.short > 0 && n > 1 { // a token may have stood for several
				in.signalLocked()
			}
			in.mu.Unlock()
			return w, nil
		}
		ended := in.ended
		in.short++
		more := in.widenLocked()
		in.mu.Unlock()
		if ended {
			return nil, guest.ErrNotDelivered
		}
		if more {
			in.widen()
		}
		select {
		case <-in.arrived:
		case <-in.dead:
		case <-ctx.Done():
			in.mu.Lock()
			in.short--
			in.mu.Unlock()
			return nil, ctx.Err()
		}
	}
}

// abandon ends the wait for a call's answer. One that comes later is refused; one
// that has come is let go.
func (in *instance) abandon(cl *call) {
	in.mu.Lock()
	cl.gone = true
	if i := slices.Index(in.calls, cl); i >= 0 {
		in.calls = slices.Delete(in.calls, i, i+1)
	}
	in.mu.Unlock()
	select {
	case r := <-cl.response:
		if r.read != nil {
			close(r.read)
		}
	default:
	}
}

// heeded reports whether there is somebody for the streamed answer that was just
// handed over. If there is not, it is taken back.
func (in *instance) heeded(cl *call) bool {
	in.mu.Lock()
	gone := cl.gone
	in.mu.Unlock()
	if !gone {
		return true
	}
	select {
	case <-cl.response:
		return false
	default:
		return true
	}
}

// claim finds the call that a response is for and takes it off the list: a call
// is answered once.
func (in *instance) claim(id []byte) *call {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, cl := range in.calls {
		if cl.id == string(id) {
			in.calls = slices.Delete(in.calls, i, i+1)
			return cl
		}
	}
	return nil
}

// failInit notes why the code could not be initialised; the first reason counts.
func (in *instance) failInit(f *lambent.Fault) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.initErr == nil && !in.started {
		in.initErr = f
		close(in.initDone)
	}
}

// Settle implements guest.Instance.
func (in *instance) Settle(done func(error)) {
	in.mu.Lock()
	settled, ended := len(in.waiting) > 0, in.ended
	if !settled && !ended {
		in.settle = append(in.settle, done)
	}
	in.mu.Unlock()
	switch {
	case ended:
		done(guest.ErrNotDelivered)
	case settled:
		done(nil)
	}
}

// end marks the instance dead and wakes everybody.
func (in *instance) end() {
	in.mu.Lock()
	if in.ended {
		in.mu.Unlock()
		return
	}
	in.ended = true
	close(in.dead)
	conns, settle := in.conns, in.settle
	in.conns, in.settle = nil, nil
	in.mu.Unlock()
	if in.listener != nil {
		in.listener.Close()
	}
	if in.endpoint.Close != nil {
		_ = in.endpoint.Close() // what it had is gone either way
	}
	for _, c := range conns {
		c.Close()
	}
	for _, done := range settle {
		done(guest.ErrNotDelivered)
	}
}

// Stop implements guest.Instance. Lambda gives a runtime without extensions no
// time and no signal at shutdown.
func (in *instance) Stop(context.Context) error {
	in.end()
	return nil
}
