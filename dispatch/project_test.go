package dispatch_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// limited gives the bench's project a limit that can be changed.
func limited(limit *atomic.Int64) func(*dispatch.Config) {
	return func(c *dispatch.Config) {
		resolve := c.Resolve
		c.Resolve = func(n lambent.Name) (lambent.Target, error) {
			t, err := resolve(n)
			t.Project = &lambent.Project{MaxConcurrency: int(limit.Load())}
			return t, err
		}
	}
}

func TestProjectsLimitRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limit atomic.Int64
		b := newBench(t, &script{invoke: sleeper(time.Second)}, limited(&limit))
		for range 3 { // counted, though nobody has said anything
			go b.call(context.Background())
		}
		synctest.Wait()
		limit.Store(4)
		go b.call(context.Background())
		synctest.Wait()
		r := b.call(t.Context())
		e, ok := errors.AsType[*lambent.Error](r.err)
		if !ok || e.Kind != lambent.Throttled || e.Reason != "ConcurrentInvocationLimitExceeded" || e.RetryAfter <= 0 {
			t.Errorf("the fifth: %v", r.err)
		}
		time.Sleep(2 * time.Second)
		for _, r := range b.many(4) {
			if r.err != nil {
				t.Error(r.err)
			}
		}
	})
}

// The hammer: however calls come, end and fail, there are never more than may be, and
// in the end there is room for all of them.
func TestProjectsLimitIsExact(t *testing.T) {
	const most = 7
	var limit, running, peak, served, refused atomic.Int64
	limit.Store(most)
	s := &script{invoke: func(ctx context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
		n := running.Add(1)
		defer running.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond) // work of any length
		switch rand.IntN(10) {
		case 0:
			_ = in.sandbox.Destroy() // as a crash does
			return errors.New("the code crashed")
		case 1:
			out.End(lambent.Result{Fault: &lambent.Fault{Kind: lambent.FaultHandler}})
			return nil
		}
		answer(out, "")
		return nil
	}}
	b := newBench(t, s, limited(&limit))
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for range 100 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(2000))*time.Microsecond)
				if rand.IntN(4) > 0 {
					ctx = context.Background()
				}
				switch r := b.call(ctx); {
				case r.err == nil:
					served.Add(1)
				case lambent.Is(r.err, lambent.Throttled):
					refused.Add(1)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if peak.Load() > most || served.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d at once, of %d; %d served, %d refused", peak.Load(), most, served.Load(), refused.Load())
	}
	// Nothing has leaked: all places are there, and no more.
	gate := make(chan struct{})
	var in atomic.Int64
	s.invoke = func(_ context.Context, _ *scripted, _ *lambent.Invocation, out lambent.Reply) error {
		in.Add(1)
		<-gate
		answer(out, "")
		return nil
	}
	replies := make(chan *reply, most+5)
	for range most + 5 {
		go func() { replies <- b.call(context.Background()) }()
	}
	for range 5 {
		if r := <-replies; !lambent.Is(r.err, lambent.Throttled) {
			t.Errorf("one more than %d: %v", most, r.err)
		}
	}
	close(gate)
	for range most {
		if r := <-replies; r.err != nil {
			t.Errorf("one of %d: %v", most, r.err)
		}
	}
}
