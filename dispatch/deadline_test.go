package dispatch_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// within calls with a deadline of the caller's.
func (b *bench) within(d time.Duration) *reply {
	r := &reply{}
	r.err = b.Invoke(context.Background(), &lambent.Invocation{
		ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}, Arrived: time.Now(), Deadline: time.Now().Add(d),
	}, r)
	return r
}

// A caller whose deadline passes in line is told of it then, with where the time
// went, and its call never runs.
func TestDeadlinePassesInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(5 * time.Second)})
		b.scaling.MaxInstances = 1
		go b.call(context.Background())
		synctest.Wait()
		begun := time.Now()
		r := b.within(time.Second)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it was told after %v", took)
		}
		if !lambent.Is(r.err, lambent.Throttled) || !strings.HasSuffix(r.err.Error(), "could not begin before its caller's deadline, 1s after it came: queue 1000.00 ms, place 0.00 ms, init 0.00 ms, run 0.00 ms") {
			t.Errorf("got %v", r.err)
		}
		time.Sleep(20 * time.Second)
		if s := b.Snapshot(); s.Queued != 0 || len(b.records()) != 1 {
			t.Errorf("%+v and %d records: it ran after all", s, len(b.records()))
		}
	})
}

// One whose deadline passes while an instance starts for it learns that, too.
func TestDeadlinePassesInAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(2 * time.Second); return nil }}
		b := newBench(t, s)
		r := b.within(1500 * time.Millisecond)
		if !lambent.Is(r.err, lambent.Throttled) || !strings.HasSuffix(r.err.Error(), "1.5s after it came: queue 0.00 ms, place 0.00 ms, init 1500.00 ms, run 0.00 ms") {
			t.Errorf("got %v", r.err)
		}
		time.Sleep(5 * time.Second)
		if s := b.Snapshot(); s.Idle != 1 || s.Queued != 0 || len(b.records()) != 0 {
			t.Errorf("%+v, %d records", s, len(b.records()))
		}
	})
}

// A caller who is gone, or whose deadline has passed, costs no run, though an instance is
// idle.
func TestWhoIsTooLateTakesNoIdleInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{})
		wantBody(t, b.call(t.Context()), "1")
		if r := b.within(-time.Millisecond); !lambent.Is(r.err, lambent.Throttled) || r.ended != 0 || !strings.Contains(r.err.Error(), "could not begin before its caller's deadline") {
			t.Errorf("its deadline has passed: %v", r.err)
		}
		for _, end := range []func() (context.Context, context.CancelFunc){
			func() (context.Context, context.CancelFunc) { return context.WithTimeout(t.Context(), 0) },
			func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				return ctx, cancel
			},
		} {
			ctx, cancel := end()
			if r := b.call(ctx); !lambent.Is(r.err, lambent.Canceled) && !lambent.Is(r.err, lambent.Throttled) || r.ended != 0 {
				t.Errorf("it is gone: %v", r.err)
			}
			cancel()
		}
		if s := b.Snapshot(); s.Idle != 1 || len(b.records()) != 1 {
			t.Errorf("%+v and %d records: one has run", s, len(b.records()))
		}
	})
}

// A leaving caller is gone, and nobody has been told yet.
type leaving struct {
	context.Context
	gone atomic.Bool
}

func (l *leaving) Err() error {
	if l.gone.Load() {
		return context.Canceled
	}
	return nil
}

// Who is gone in the moment in which the line comes to them costs no run either, and the
// instance is the next one's.
func TestWhoIsGoneAtTheGrantCostsNoRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller := &leaving{Context: t.Context()}
		b := newBench(t, &script{invoke: func(_ context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			time.Sleep(time.Second)
			caller.gone.Store(true)
			answer(out, strconv.Itoa(in.n))
			return nil
		}})
		b.scaling.MaxInstances = 1
		var calls [3]chan *reply
		for k, ctx := range []context.Context{t.Context(), caller, t.Context()} {
			calls[k] = make(chan *reply, 1)
			go func() { calls[k] <- b.call(ctx) }()
			synctest.Wait()
		}
		wantBody(t, <-calls[0], "1")
		if r := <-calls[1]; !lambent.Is(r.err, lambent.Canceled) || r.ended != 0 {
			t.Errorf("%v, and %d answers", r.err, r.ended)
		}
		wantBody(t, <-calls[2], "1")
		if n := len(b.records()); n != 2 {
			t.Errorf("%d records, want 2", n)
		}
	})
}

// overrunning inits take so long each.
func overrunning(inits ...time.Duration) func(context.Context, int) error {
	return func(ctx context.Context, n int) error {
		select {
		case <-time.After(inits[min(n, len(inits))-1]):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// An init that overruns its 10 s is repeated as a part of the first invocation, under
// the function's timeout, as on Lambda.
func TestInitThatOverrunsIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &keptLog{}
		s := &script{init: overrunning(time.Hour, 4*time.Second), invoke: sleeper(5 * time.Second)}
		b := newBench(t, s, func(c *dispatch.Config) { c.Log = func(lambent.Name) dispatch.Log { return log } })
		wantBody(t, b.call(t.Context()), "2")
		u := b.records()[0]
		if !u.Cold || u.InitUS != 14_000_000 || u.RunUS != 5_000_000 || u.BilledMS != 19_000 {
			t.Errorf("usage %+v", u)
		}
		if got := log.with("INIT_REPORT "); len(got) != 1 || got[0] != "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout" {
			t.Errorf("the log has %q", got)
		}
	})
}

// What the repeated init has used of the timeout the handler has not.
func TestRepeatedInitCountsForTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &keptLog{}
		s := &script{init: overrunning(time.Hour, 7*time.Second), invoke: sleeper(5 * time.Second)}
		b := newBench(t, s, func(c *dispatch.Config) { c.Log = func(lambent.Name) dispatch.Log { return log } })
		r := b.call(t.Context())
		if r.result.Fault == nil || r.result.Fault.Kind != lambent.FaultTimeout {
			t.Fatalf("got %+v, %v", r.result.Fault, r.err)
		}
		if u := b.records()[0]; u.InitUS != 17_000_000 || u.RunUS != 3_000_000 {
			t.Errorf("usage %+v", u)
		}
		want := "the function's timeout: queue 0.00 ms, place 0.00 ms, init 17000.00 ms, run 3000.00 ms"
		if got := log.with("LIMIT "); len(got) != 1 || !strings.HasSuffix(got[0], want) {
			t.Errorf("the log has %q, want %q", got, want)
		}
		log.lines = nil
		s.init = nil // and the next instance is like any other
		s.invoke = sleeper(9 * time.Second)
		wantBody(t, b.call(t.Context()), "3")
	})
}

// One that overruns the function's timeout, too, is the call's timeout.
func TestRepeatedInitThatOverruns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &keptLog{}
		b := newBench(t, &script{init: overrunning(time.Hour)}, func(c *dispatch.Config) { c.Log = func(lambent.Name) dispatch.Log { return log } })
		begun := time.Now()
		r := b.call(t.Context())
		if r.result.Fault == nil || r.result.Fault.Kind != lambent.FaultTimeout || time.Since(begun) != 20*time.Second {
			t.Fatalf("got %+v, %v after %v", r.result.Fault, r.err, time.Since(begun))
		}
		if u := b.records()[0]; u.Outcome != "timeout" || u.InitUS != 20_000_000 || u.BilledMS != 20_000 || u.Guest != "script" {
			t.Errorf("usage %+v", u)
		}
		if got := log.with("INIT_REPORT "); len(got) != 2 || got[1] != "INIT_REPORT Init Duration: 10000.00 ms\tPhase: invoke\tStatus: timeout" {
			t.Errorf("the log has %q", got)
		}
	})
}

// A trial has no call: it is the init that is too slow.
func TestTrialOfAnInitThatOverruns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{init: overrunning(time.Hour)})
		err := b.Prepare(t.Context(), b.rev, nil)
		if f, ok := err.(*lambent.Fault); !ok || f.Kind != lambent.FaultInit {
			t.Errorf("got %v", err)
		}
	})
}
