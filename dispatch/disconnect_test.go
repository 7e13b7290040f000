package dispatch_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
)

// onDisconnect deploys with that.
func (b *bench) onDisconnect(d lambent.OnDisconnect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := *b.rev.Config
	c.OnDisconnect = d
	b.rev = lambent.NewRevision(b.rev.Name, lambent.Latest, &c)
}

// A caller who is gone takes its call along where that is said, and else it runs on.
// Either way it is metered.
func TestCallerGoneDuringTheRun(t *testing.T) {
	for _, c := range []struct {
		said    lambent.OnDisconnect
		outcome string
		billed  int64
		alive   int
	}{{"", lambent.OutcomeOK, 5000, 1}, {lambent.DisconnectCancel, string(lambent.FaultCanceled), 2000, 0}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, &script{invoke: sleeper(5 * time.Second)})
			b.onDisconnect(c.said)
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(2*time.Second, cancel)
			b.call(ctx)
			synctest.Wait()
			if u := b.records()[0]; u.Outcome != c.outcome || u.BilledMS != c.billed {
				t.Errorf("%q: %+v", c.said, u)
			}
			if n := b.driver.Alive(); n != c.alive {
				t.Errorf("%q: %d instances are left, want %d", c.said, n, c.alive)
			}
			wantBody(t, b.call(t.Context()), map[int]string{1: "1", 0: "2"}[c.alive])
		})
	}
}

// deaf is a reply that takes nothing.
type deaf struct{ reply }

func (d *deaf) Write([]byte) (int, error) { return 0, errors.New("the client is gone") }

// Whoever takes nothing of a stream any more is gone, whatever its context says.
func TestCallerWhoTakesNothingIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: func(ctx context.Context, _ *scripted, _ *lambent.Invocation, out lambent.Reply) error {
			_ = out.Begin(200, nil)
			for ctx.Err() == nil {
				_, _ = out.Write([]byte("more"))
				time.Sleep(time.Second)
			}
			return ctx.Err()
		}})
		b.onDisconnect(lambent.DisconnectCancel)
		r := &deaf{}
		_ = b.Invoke(context.Background(), &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}}, r)
		if u := b.records()[0]; u.Outcome != string(lambent.FaultCanceled) || u.RunUS != 1_000_000 || r.ended != 1 {
			t.Errorf("%+v, %d ends", u, r.ended)
		}
	})
}

// Who is gone in line costs no run, in either mode, and those behind it are served.
func TestCallerGoneInLineCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Second)})
		b.scaling.MaxInstances = 1
		go b.call(context.Background())
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		for range 5 {
			go func() {
				if r := b.call(ctx); !lambent.Is(r.err, lambent.Canceled) {
					t.Errorf("got %v", r.err)
				}
			}()
		}
		synctest.Wait()
		last := make(chan *reply)
		go func() { last <- b.call(context.Background()) }()
		synctest.Wait()
		time.Sleep(time.Second / 2)
		cancel()
		wantBody(t, <-last, "1")
		if n := len(b.records()); n != 2 {
			t.Errorf("%d records, want those of the two that ran", n)
		}
	})
}
