package gcf

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
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

const (
	// usualPort is $PORT where the network is the sandbox's own, as it is on Google's.
	usualPort = 8080

	// How long it is from one look whether the code listens to the next: at first, and
	// at most. A look costs 0.2 ms.
	firstLook, lastLook = time.Millisecond, 10 * time.Millisecond

	// A framework that was loaded ahead listens after some milliseconds: for so long
	// whoever looks first does not go away.
	closely = 20 * time.Millisecond

	// grace is what Google gives from SIGTERM to SIGKILL.
	grace = 10 * time.Second
)

// An instance is one process that listens, and the connections to it.
type instance struct {
	sandbox sandbox.Sandbox
	runtime lambent.Runtime
	limits  lambent.Limits
	agent   net.Conn      // of the framework, which waits to be told what it is to be; nil: there is none
	unit    guest.Unit    // set by Init
	port    int           // set by Init
	dead    chan struct{} // closed once nothing can be invoked any more

	mu     sync.Mutex // guards what follows
	idle   []kept     // connections that are open and not in use; the last used last
	inUse  map[*http1.Client]struct{}
	placed bool // the code has been started
	asked  bool // the code has been asked to end
	failed bool // an invocation did not come to its end: nothing is waited for
	ended  bool // dead is closed
}

func newInstance(sb sandbox.Sandbox, rt lambent.Runtime, limits lambent.Limits) *instance {
	return &instance{sandbox: sb, runtime: rt, limits: limits, dead: make(chan struct{}), inUse: map[*http1.Client]struct{}{}}
}

// Init implements guest.Instance.
func (in *instance) Init(ctx context.Context, u guest.Unit) (err error) {
	in.unit, in.port = u, usualPort
	if s, ok := in.sandbox.(sandbox.Sublet); ok {
		if in.port, err = s.Port(usualPort); err != nil {
			return err
		}
	}
	if len(in.command()) == 0 {
		return in.initFault("no command says what to run: runtime " + in.runtime.Name + " has none of its own (lambent deploy --command 'PROGRAM ARGUMENTS')")
	}
	go func() {
		<-in.sandbox.Done()
		in.end()
	}()
	if err := in.start(); err != nil {
		return err
	}
	in.mu.Lock()
	in.placed = true
	in.mu.Unlock()
	if err = in.listens(ctx); err != nil {
		in.fail()
	}
	return err
}

// codeInPlace is what an agent waits for before it becomes the framework.
const codeInPlace = "\n"

// Rehearse implements guest.Rehearser: an agent takes an assignment of no length for
// the sign.
func (in *instance) Rehearse() error {
	if in.agent == nil {
		return nil
	}
	_, err := in.agent.Write(make([]byte, 4))
	return err
}

// start has the code run: by the agent, which makes itself ready while the code is put
// in place, or as a process of its own.
func (in *instance) start() error {
	if in.agent == nil {
		return in.unit.Place(sandbox.Start{Argv: in.command(), Env: environ(in.environment())})
	}
	if _, err := in.agent.Write(in.assignment()); err != nil {
		<-in.sandbox.Done()
		return in.endedDuringInit()
	}
	return in.unit.Place(sandbox.Start{Word: codeInPlace})
}

// assignment frames what the agent is told: a length and JSON.
func (in *instance) assignment() []byte {
	body, err := json.Marshal(struct {
		Env  map[string]string `json:"env"`
		Task string            `json:"task"`
	}{in.environment(), in.unit.Paths.Task})
	if err != nil {
		panic("gcf: strings always have a JSON form: " + err.Error())
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// listens waits until the code accepts connections. It keeps the one that it made.
func (in *instance) listens(ctx context.Context) error {
	var patience time.Duration
	if in.runtime.Preloads != "" {
		patience = closely
	}
	for wait := firstLook; ; wait = min(wait+wait/2, lastLook) {
		nc, err := in.sandbox.Dial(ctx, in.port, patience)
		patience = 0
		if err == nil {
			in.keep(http1.NewClient(nc))
			return nil
		}
		look := time.NewTimer(wait)
		select {
		case <-look.C:
			continue
		case <-in.sandbox.Done():
			err = in.endedDuringInit()
		case <-ctx.Done():
			if err = ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
				err = in.Fault(lambent.FaultInit, nil)
			}
		}
		look.Stop()
		return err
	}
}

// endedDuringInit says how the process ended. What it wrote is in the log.
func (in *instance) endedDuringInit() error {
	exit := in.sandbox.Exit()
	switch errno := exit.Exec; errno {
	case 0:
	case syscall.ENOENT, syscall.EACCES, syscall.ENOEXEC:
		return in.initFault("the command cannot be executed: " + in.command()[0] + ": " + errno.Error())
	default:
		return lambent.Errorf(lambent.Internal, "gcf.Init", "%s cannot be executed: %w", in.command()[0], errno)
	}
	if exit.OOM {
		f := in.Fault(lambent.FaultMemory, nil)
		f.Kind = lambent.FaultInit
		return f
	}
	return in.initFault(notListening(in.port) + " It ended before that: " + ending(exit) + ".")
}

// Settle implements guest.Instance: there is always another connection to be had.
func (in *instance) Settle(done func(error)) {
	in.mu.Lock()
	ended := in.ended
	in.mu.Unlock()
	if ended {
		done(guest.ErrNotDelivered)
		return
	}
	done(nil)
}

// fail notes that the instance is not to be given time at its end.
func (in *instance) fail() {
	in.mu.Lock()
	in.failed = true
	in.mu.Unlock()
}

// end marks the instance dead and closes every connection.
func (in *instance) end() {
	in.mu.Lock()
	if in.ended {
		in.mu.Unlock()
		return
	}
	in.ended = true
	close(in.dead)
	idle := in.idle
	in.idle = nil
	var inUse []*http1.Client
	for c := range in.inUse {
		inUse = append(inUse, c)
	}
	in.mu.Unlock()
	for _, k := range idle {
		k.Close()
	}
	for _, c := range inUse {
		c.Close()
	}
}

// closeIdle closes the connections that are not in use.
func (in *instance) closeIdle() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, k := range in.idle {
		k.Close()
	}
	in.idle = nil
}

// Stop implements guest.Instance: the code is asked to end, and waited for; until then
// it may say so to who is connected. Code that has failed is not asked: what it holds
// is wanted by others.
func (in *instance) Stop(ctx context.Context) error {
	in.mu.Lock()
	ask := in.placed && !in.failed && !in.ended
	in.asked = ask
	in.mu.Unlock()
	defer in.end()
	if !ask {
		return nil
	}
	in.closeIdle() // servers wait for those
	if f, ok := in.sandbox.(sandbox.Freezer); ok {
		if err := f.Thaw(); err != nil {
			return err
		}
	}
	t, ok := in.sandbox.(sandbox.Terminator)
	if !ok || t.Terminate() != nil {
		return nil // it is killed, as it would be if it did not heed the signal
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	select {
	case <-in.sandbox.Done():
	case <-ctx.Done():
	}
	return nil
}
