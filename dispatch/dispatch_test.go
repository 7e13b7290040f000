package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/guest"
	"lambent/sandbox"
	"lambent/sandbox/fake"
)

// A script is a guest whose code is Go functions of the test's.
type script struct {
	init   func(ctx context.Context, n int) error // n counts starts from 1
	invoke func(ctx context.Context, in *scripted, inv *lambent.Invocation, out lambent.Reply) error
	says   string           // what it writes when it starts
	unit   func(guest.Unit) // sees what they are told
	starts atomic.Int32
}

type scripted struct {
	s       *script
	n       int
	sandbox sandbox.Sandbox
	settle  time.Duration // how long the instance is busy after its answer
}

func (s *script) Attach(_ context.Context, sb sandbox.Sandbox, _ lambent.Runtime) (guest.Instance, error) {
	return &scripted{s: s, n: int(s.starts.Add(1)), sandbox: sb}, nil
}

func (in *scripted) Init(ctx context.Context, u guest.Unit) error {
	if err := u.Place(sandbox.Start{}); err != nil {
		return err
	}
	if in.s.unit != nil {
		in.s.unit(u)
	}
	if in.s.says != "" {
		fmt.Fprint(sandbox.Unwrap(in.sandbox).(*fake.Box).Stdout, in.s.says)
	}
	if in.s.init != nil {
		return in.s.init(ctx, in.n)
	}
	return nil
}

func (in *scripted) Invoke(ctx context.Context, inv *lambent.Invocation, out lambent.Reply) error {
	if in.s.invoke != nil {
		return in.s.invoke(ctx, in, inv, out)
	}
	answer(out, strconv.Itoa(in.n))
	return nil
}

func (in *scripted) Settle(done func(error)) {
	if in.settle == 0 {
		done(nil)
		return
	}
	time.AfterFunc(in.settle, func() { done(nil) })
}

func (in *scripted) Fault(k lambent.FaultKind, _ *lambent.Invocation) *lambent.Fault {
	return &lambent.Fault{Kind: k, Type: "Test." + string(k)}
}

func (in *scripted) Stop(context.Context) error { return nil }

func answer(out lambent.Reply, body string) {
	_ = out.Begin(200, map[string][]string{"Content-Length": {strconv.Itoa(len(body))}})
	_, _ = out.Write([]byte(body))
	out.End(lambent.Result{})
}

// sleeper answers after a while, or ends at the deadline.
func sleeper(d time.Duration) func(context.Context, *scripted, *lambent.Invocation, lambent.Reply) error {
	return func(ctx context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
		select {
		case <-time.After(d):
			answer(out, strconv.Itoa(in.n))
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type nolog struct{}

func (nolog) Line(time.Time, string, string, []byte) {}

// A bench is a dispatcher with one function on the fake driver.
type bench struct {
	*dispatch.Dispatcher
	config dispatch.Config
	led    func(lambent.Name) ([]lambent.Target, error) // nil: latest alone
	driver *fake.Driver
	guest  *script

	mu      sync.Mutex
	rev     *lambent.Revision // nil: the function was deleted
	scaling lambent.Scaling
	usages  []lambent.Usage
	ledger  error // what Usage returns
}

func newBench(t *testing.T, s *script, change ...func(*dispatch.Config)) *bench {
	t.Helper()
	b := &bench{driver: &fake.Driver{Silent: true}, guest: s}
	b.deploy("1")
	cfg := dispatch.Config{
		Resolve: func(lambent.Name) (lambent.Target, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.rev == nil {
				return lambent.Target{}, lambent.Errorf(lambent.NotFound, "test", "deleted")
			}
			scaling := b.scaling
			return lambent.Target{Revision: b.rev, Scaling: &scaling}, nil
		},
		Led: func(n lambent.Name) ([]lambent.Target, error) {
			if b.led != nil {
				return b.led(n)
			}
			t, err := b.config.Resolve(n)
			return []lambent.Target{t}, err
		},
		Usage: func(u *lambent.Usage) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.ledger == nil {
				b.usages = append(b.usages, *u)
			}
			return b.ledger
		},
		Runtime: func(string) (lambent.Runtime, error) { return lambent.Runtime{Name: "r", Guest: "script"}, nil },
		Tree:    func(*lambent.Revision, lambent.Runtime) (string, error) { return "/", nil },
		Log:     func(lambent.Name) dispatch.Log { return nolog{} },
		Driver:  sandbox.Guard(b.driver), Guests: map[string]guest.Guest{"script": s},
		Limits: lambent.DefaultLimits(), KeepAlive: new(time.Minute), MaxInstances: 100, MaxQueue: 1000, Starts: 100,
	}
	for _, f := range change {
		f(&cfg)
	}
	b.config = cfg
	b.Dispatcher = dispatch.New(cfg)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
		if n := b.driver.Alive(); n != 0 {
			t.Errorf("%d sandboxes are left", n)
		}
	})
	return b
}

// records returns what the ledger has.
func (b *bench) records() []lambent.Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.usages)
}

// deploy makes another revision the function's.
func (b *bench) deploy(description string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := lambent.Config{Runtime: "r", Description: description, Timeout: 10 * time.Second}.WithDefaults()
	b.rev = lambent.NewRevision(lambent.Name{Project: "default", Function: "f"}, lambent.Latest, &c)
}

// A reply records an answer.
type reply struct {
	body   bytes.Buffer
	status int
	ended  int
	result lambent.Result
	err    error
}

func (r *reply) Begin(status int, _ map[string][]string) error { r.status = status; return nil }
func (r *reply) Write(b []byte) (int, error)                   { return r.body.Write(b) }
func (r *reply) End(res lambent.Result)                        { r.ended++; r.result = res }

func (b *bench) call(ctx context.Context) *reply {
	r := &reply{}
	r.err = b.Invoke(ctx, &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}}, r)
	return r
}

// many makes n calls at once and waits for them.
func (b *bench) many(n int) []*reply {
	replies := make([]*reply, n)
	var wg sync.WaitGroup
	for i := range replies {
		wg.Go(func() { replies[i] = b.call(context.Background()) })
	}
	wg.Wait()
	return replies
}

func wantBody(t *testing.T, r *reply, want string) {
	t.Helper()
	if r.err != nil || r.result.Fault != nil || r.ended != 1 || r.body.String() != want {
		t.Errorf("got %q, fault %v, error %v, %d ends, want %q", r.body.String(), r.result.Fault, r.err, r.ended, want)
	}
}

func TestTheHottestServesAndTheRestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Second)})
		b.many(5)
		if s := b.Snapshot(); s.Idle != 5 || s.Busy != 0 {
			t.Fatalf("after five at once: %+v", s)
		}
		first := b.call(t.Context()).body.String()
		for range 50 { // a call each two seconds: one instance serves them all
			time.Sleep(time.Second)
			wantBody(t, b.call(t.Context()), first)
		}
		time.Sleep(15 * time.Second)
		if s := b.Snapshot(); s.Idle != 1 {
			t.Errorf("a minute after the five: %+v, want the hot one alone", s)
		}
		time.Sleep(time.Minute)
		if s := b.Snapshot(); s.Idle != 0 || b.driver.Alive() != 0 {
			t.Errorf("after the keep-alive: %+v, %d sandboxes", s, b.driver.Alive())
		}
	})
}

func TestKeepAliveZeroServesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{})
		zero := time.Duration(0)
		b.scaling.KeepAlive = &zero
		for i := range 3 {
			wantBody(t, b.call(t.Context()), strconv.Itoa(i+1))
		}
		synctest.Wait()
		if n := b.driver.Alive(); n != 0 {
			t.Errorf("%d sandboxes are kept", n)
		}
	})
}

// hesitation is how long calls of a function that is not known wait for one instance,
// before another is started.
const hesitation = 5 * time.Millisecond

func TestMaximumInstancesQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Second)})
		b.scaling.MaxInstances = 2
		start := time.Now()
		for _, r := range b.many(10) {
			if r.err != nil {
				t.Error(r.err)
			}
		}
		if took := time.Since(start); took != 5*time.Second+hesitation {
			t.Errorf("ten calls of 1 s on two instances took %v", took)
		}
		if n := b.driver.Parked(); n != 2 {
			t.Errorf("%d instances were started", n)
		}
	})
}

func TestWhicheverFreesFirstServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{invoke: sleeper(time.Second)}
		s.init = func(context.Context, int) error { time.Sleep(5 * time.Second); return nil }
		b := newBench(t, s)
		b.call(t.Context()) // one instance, idle at 6 s
		start := time.Now()
		for _, r := range b.many(2) {
			wantBody(t, r, "1")
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v, want 2 s: the busy instance is free before the starting one", took)
		}
	})
}

func TestTheNodesLimitMovesBetweenFunctions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MaxInstances = 1 })
		wantBody(t, b.call(t.Context()), "1")
		b.deploy("2") // another pool; the old one is idle and makes room
		wantBody(t, b.call(t.Context()), "2")
		if n := b.driver.Alive(); n > 1 {
			t.Errorf("%d sandboxes at once", n)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MaxQueue = 3 })
		b.scaling.MaxInstances = 1
		b.call(t.Context())
		refused := 0
		for _, r := range b.many(10) {
			if lambent.Is(r.err, lambent.Throttled) {
				refused++
			} else if r.err != nil {
				t.Error(r.err)
			}
		}
		if refused != 6 { // one runs, three wait
			t.Errorf("%d of 10 were refused", refused)
		}
	})
}

func TestTimeoutEndsTheInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Hour)})
		start := time.Now()
		r := b.call(t.Context())
		if r.err != nil || r.result.Fault == nil || r.result.Fault.Kind != lambent.FaultTimeout {
			t.Fatalf("got %+v, %v", r.result, r.err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
		if b.driver.Alive() != 0 {
			t.Error("the instance lives on")
		}
		if u := b.records()[0]; u.Outcome != "timeout" || u.BilledMS != 10_000 || !u.Cold {
			t.Errorf("usage %+v", u)
		}
	})
}

// A sandbox has one revision in its life: what served one is never given another's
// code, be the function deployed again, rolled back, or called by several names.
func TestASandboxNeverServesASecondRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		served := map[string]string{} // by sandbox
		tree := ""
		s := &script{}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			code := sandbox.Unwrap(in.sandbox).(*fake.Box).Task.Code
			mu.Lock()
			if before, ok := served[in.sandbox.ID()]; ok && before != code {
				t.Errorf("a sandbox had the code %q, and now %q", before, code)
			}
			served[in.sandbox.ID()] = code
			mu.Unlock()
			time.Sleep(time.Millisecond) // so that four at once need four sandboxes
			answer(out, code)
			return nil
		}
		b := newBench(t, s, func(c *dispatch.Config) {
			c.Parked = 4
			c.Tree = func(*lambent.Revision, lambent.Runtime) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				return tree, nil
			}
		})
		for round := range 20 {
			code := fmt.Sprintf("/code/%d", round%3) // 0 comes again, as by a rollback
			mu.Lock()
			tree = code
			mu.Unlock()
			b.deploy(fmt.Sprint(round % 3))
			for _, r := range b.many(4) {
				wantBody(t, r, code)
			}
		}
		if len(served) < 3*4 {
			t.Errorf("%d sandboxes served three revisions, four at once", len(served))
		}
	})
}

func TestInitThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}
		b := newBench(t, s)
		r := b.call(t.Context())
		if r.err != nil || r.result.Fault == nil || r.result.Fault.Kind != lambent.FaultTimeout { // as on Lambda: it is repeated in the call
			t.Fatalf("got %+v, %v", r.result, r.err)
		}
		if u := b.records()[0]; u.InitUS != 20_000_000 || u.RunUS != 0 {
			t.Errorf("usage %+v", u)
		}
	})
}

func TestInitErrorIsOneCallersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{invoke: sleeper(time.Second)}
		s.init = func(_ context.Context, n int) error {
			time.Sleep(time.Second)
			if n == 1 {
				return &lambent.Fault{Kind: lambent.FaultInit, Type: "Boom"}
			}
			return nil
		}
		b := newBench(t, s)
		faults := 0
		for _, r := range b.many(4) {
			if r.err != nil {
				t.Error(r.err)
			}
			if r.result.Fault != nil {
				faults++
			}
		}
		if faults != 1 || len(b.records()) != 4 {
			t.Errorf("%d faults, %d records", faults, len(b.records()))
		}
	})
}

// What code says that does not start is in the log's end, which is for those who asked.
func TestWhatIsSaidAtInit(t *testing.T) {
	for name, init := range map[string]func(context.Context, int) error{
		"init":    func(context.Context, int) error { return &lambent.Fault{Kind: lambent.FaultInit, Type: "Boom"} },
		"timeout": overrunning(time.Hour),
	} {
		b := newWideBench(t, 1, func(c *dispatch.Config) {
			c.Limits.InitTimeout, c.Limits.MaxTimeout = 20*time.Millisecond, 20*time.Millisecond
		})
		b.driver.Silent, b.guest.init, b.guest.says = false, init, "no module x\nnor any"
		var wg sync.WaitGroup
		asked := b.send(&wg, 0, "")
		wg.Wait()
		want := "no module x\nnor any\nSTART RequestId: "
		if r := asked.result; r.Fault == nil || string(r.Fault.Kind) != name || !strings.HasPrefix(string(r.LogTail), want) {
			t.Errorf("%s: fault %+v, log %q, want %q", name, r.Fault, r.LogTail, want)
		}
		if r := b.call(t.Context()).result; r.Fault == nil || r.LogTail != nil {
			t.Errorf("%s: who did not ask has %+v, %q", name, r.Fault, r.LogTail)
		}
	}
}

// An instance that dies takes the call that it has with it, and no other.
func TestCrashTakesNoQueuedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			time.Sleep(time.Second)
			if in.n == 1 {
				go in.sandbox.Destroy()
				return errors.New("the connection broke")
			}
			answer(out, "ok")
			return nil
		}
		b := newBench(t, s)
		b.scaling.MaxInstances = 1
		exits := 0
		for _, r := range b.many(5) {
			switch {
			case r.err != nil:
				t.Error(r.err)
			case r.result.Fault != nil && r.result.Fault.Kind == lambent.FaultExit:
				exits++
			default:
				wantBody(t, r, "ok")
			}
		}
		if exits != 1 {
			t.Errorf("%d calls ended with the instance", exits)
		}
	})
}

// A child that the kernel took: whatever the runtime answers then, the call had too
// little memory, and no other call gets what is left of the sandbox.
func TestOutOfMemoryBesideTheRuntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			sandbox.Unwrap(in.sandbox).(*fake.Box).OOM.Store(in.n == 1)
			answer(out, strconv.Itoa(in.n))
			return nil
		}
		b := newBench(t, s)
		r := b.call(t.Context())
		if f := r.result.Fault; r.err != nil || f == nil || f.Kind != lambent.FaultMemory || r.body.Len() != 0 {
			t.Errorf("got %q, fault %v, error %v, want out of memory", r.body.String(), f, r.err)
		}
		wantBody(t, b.call(t.Context()), "2")
		if u := b.records(); len(u) != 2 || u[0].Outcome != string(lambent.FaultMemory) || u[1].Outcome != lambent.OutcomeOK {
			t.Errorf("records %+v", u)
		}
	})
}

func TestUndeliveredRunsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			if in.n < 3 {
				return guest.ErrNotDelivered
			}
			answer(out, "third")
			return nil
		}
		b := newBench(t, s)
		wantBody(t, b.call(t.Context()), "third")
		if len(b.records()) != 1 {
			t.Errorf("%d records for one call", len(b.records()))
		}
	})
}

// An idle instance whose process ends is not offered to anybody.
func TestDeathWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sb sandbox.Sandbox
		s := &script{}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			sb = in.sandbox
			answer(out, strconv.Itoa(in.n))
			return nil
		}
		b := newBench(t, s)
		wantBody(t, b.call(t.Context()), "1")
		if err := sb.Destroy(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := b.Snapshot(); got.Idle != 0 {
			t.Errorf("%+v", got)
		}
		wantBody(t, b.call(t.Context()), "2")
	})
}

func TestDeployDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(5 * time.Second)})
		b.scaling.MaxInstances = 1
		b.many(1)
		var wg sync.WaitGroup
		old := make([]*reply, 2) // one runs, one waits, on the old revision
		for i := range old {
			wg.Go(func() { old[i] = b.call(t.Context()) })
		}
		time.Sleep(time.Second)
		b.deploy("2")
		b.Changed(lambent.Name{Project: "default", Function: "f"})
		wantBody(t, b.call(t.Context()), "2")
		wg.Wait()
		for _, r := range old {
			wantBody(t, r, "1")
		}
		synctest.Wait()
		if got := b.Snapshot(); got.Idle != 1 || b.driver.Alive() != 1 {
			t.Errorf("%+v, %d sandboxes: the old revision's instance must be gone", got, b.driver.Alive())
		}
	})
}

// A rollback leads to a revision whose last instance is still about to end.
func TestRollbackToADrainingRevision(t *testing.T) {
	for name, prepare := range map[string]bool{"on trial": true, "at once": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{invoke: sleeper(5 * time.Second)}
				b := newBench(t, s)
				var wg sync.WaitGroup
				wg.Go(func() { wantBody(t, b.call(t.Context()), "1") })
				time.Sleep(time.Second)
				b.deploy("other")
				b.Changed(b.rev.Name)
				b.deploy("1")
				if prepare {
					if err := b.Prepare(t.Context(), b.rev, nil); err != nil {
						t.Fatal(err)
					}
				}
				b.Changed(b.rev.Name)
				for range 3 {
					wantBody(t, b.call(t.Context()), "2")
				}
				wg.Wait()
				if n := s.starts.Load(); n != 2 {
					t.Errorf("%d starts, want 2: the revision's instances must serve again", n)
				}
			})
		})
	}
}

func TestPrepareLeavesAWarmInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
		b := newBench(t, s)
		if err := b.Prepare(t.Context(), b.rev, &b.scaling); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		wantBody(t, b.call(t.Context()), "1")
		if took := time.Since(start); took != 0 {
			t.Errorf("the call took %v", took)
		}
		if b.records()[0].Cold {
			t.Error("a start that nobody waited for is billed")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{init: func(context.Context, int) error { return &lambent.Fault{Type: "Boom"} }})
		err := b.Prepare(t.Context(), b.rev, nil)
		if f, ok := errors.AsType[*lambent.Fault](err); !ok || f.Type != "Boom" {
			t.Errorf("got %v", err)
		}
	})
}

// The answer's end waits for the usage record; without it there is no answer.
func TestNoAnswerWithoutARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{})
		b.ledger = lambent.Errorf(lambent.NoSpace, "test", "full")
		r := b.call(t.Context())
		if !lambent.Is(r.err, lambent.NoSpace) || r.ended != 0 || r.body.Len() != 0 || r.status != 0 {
			t.Errorf("got %v, %d ends, status %d, body %q", r.err, r.ended, r.status, r.body.String())
		}
		b.mu.Lock()
		b.ledger = nil
		b.mu.Unlock()
		wantBody(t, b.call(t.Context()), "1")
	})
}

func TestACallerWhoLeavesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(5 * time.Second)})
		b.scaling.MaxInstances = 1
		go b.call(context.Background())
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if r := b.call(ctx); !lambent.Is(r.err, lambent.Canceled) {
			t.Errorf("got %v", r.err)
		}
		time.Sleep(time.Minute / 2)
		if len(b.records()) != 1 {
			t.Errorf("%d calls ran", len(b.records()))
		}
	})
}

// A grant and the end of the caller's patience at one moment: the instance must
// not be lost between them.
func TestACallerWhoLeavesAsItIsGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Millisecond)})
		b.scaling.MaxInstances = 1
		for range 3000 {
			var calls sync.WaitGroup
			calls.Go(func() { b.call(t.Context()) })
			synctest.Wait() // it runs, for a millisecond
			for range 3 {
				calls.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
					defer cancel()
					b.call(ctx)
				})
			}
			calls.Wait()
			synctest.Wait()
			if s := b.Snapshot(); s.Busy != 0 || s.Queued != 0 {
				t.Fatalf("nobody calls, and there are %+v", s)
			}
		}
	})
}

// A caller who leaves while the call runs does not stop it, as on Lambda.
func TestACallerWhoLeavesARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(5 * time.Second)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantBody(t, b.call(ctx), "1")
	})
}

func TestSettlingInstanceIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			in.settle = 100 * time.Millisecond
			answer(out, strconv.Itoa(in.n))
			return nil
		}
		b := newBench(t, s)
		for range 5 { // each call comes while the instance is not yet free
			wantBody(t, b.call(t.Context()), "1")
		}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			in.settle = time.Hour
			answer(out, strconv.Itoa(in.n))
			return nil
		}
		wantBody(t, b.call(t.Context()), "1")
		start := time.Now()
		wantBody(t, b.call(t.Context()), "2")
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v, want a start's time of patience and a start", took)
		}
	})
}

func TestCloseLetsCallsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(5 * time.Second)})
		done := make(chan *reply, 1)
		go func() { done <- b.call(context.Background()) }()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
		wantBody(t, <-done, "1")
		if r := b.call(t.Context()); !lambent.Is(r.err, lambent.Unavailable) {
			t.Errorf("after Close: %v", r.err)
		}
	})
}

func TestCloseCutsOffAfterTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, _ lambent.Reply) error {
			<-in.sandbox.Done()
			return errors.New("gone")
		}
		b := newBench(t, s)
		done := make(chan *reply, 1)
		go func() { done <- b.call(context.Background()) }()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Close(ctx); !lambent.Is(err, lambent.Canceled) || !strings.Contains(err.Error(), "1 invocations") {
			t.Errorf("got %v", err)
		}
		if r := <-done; r.result.Fault == nil {
			t.Errorf("got %+v, %v", r.result, r.err)
		}
	})
}

// TestHammer has callers, crashes, deploys and evictions all at once: each call is
// answered once, and nothing is left.
func TestHammer(t *testing.T) {
	s := &script{}
	s.init = func(_ context.Context, n int) error {
		if n%17 == 0 {
			return &lambent.Fault{Kind: lambent.FaultInit, Type: "Boom"}
		}
		return nil
	}
	var served atomic.Int32
	s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
		switch n := served.Add(1); {
		case n%41 == 0:
			go in.sandbox.Destroy()
			return errors.New("gone")
		case n%37 == 0:
			return guest.ErrNotDelivered
		}
		answer(out, "ok")
		return nil
	}
	b := newBench(t, s, func(c *dispatch.Config) { c.MaxInstances, c.KeepAlive = 5, new(time.Millisecond) })
	const callers, calls = 16, 300
	var answered atomic.Int32
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range calls {
				r := b.call(context.Background())
				if r.err != nil || r.ended != 1 {
					t.Errorf("error %v, %d ends", r.err, r.ended)
				}
				answered.Add(1)
			}
		})
	}
	stop := make(chan struct{})
	var deploys sync.WaitGroup
	deploys.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				b.deploy(fmt.Sprint(i))
				b.Changed(lambent.Name{Project: "default", Function: "f"})
			}
		}
	})
	wg.Wait()
	close(stop)
	deploys.Wait()
	if len(b.records()) != callers*calls {
		t.Errorf("%d records for %d answers", len(b.records()), answered.Load())
	}
}
