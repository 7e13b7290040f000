package dispatch_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// reserve has a function's invocations set aside.
func (n *node) reserve(project, function string, calls int) lambent.Name {
	name := lambent.Name{Project: project, Function: function}
	n.mu.Lock()
	t := n.targets[name]
	t.Scaling = &lambent.Scaling{Reserved: &calls}
	n.targets[name] = t
	n.mu.Unlock()
	n.Changed(name)
	synctest.Wait()
	return name
}

// flood has so many callers of a function of project b who never stop, until it is told to.
func (n *node) flood(ctx context.Context, callers int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if n.call("b", "flood").err != nil {
					time.Sleep(time.Second)
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// What is reserved is there while another function floods the node, by instances and by
// memory, also once its instances had ended; and others have the rest.
func TestReservedIsSetAside(t *testing.T) {
	for _, bound := range []func(*dispatch.Config){
		func(c *dispatch.Config) { c.MaxInstances = 4 },
		func(c *dispatch.Config) { c.MemoryMB = 4 * 128 },
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t, &script{invoke: sleeper(5 * time.Second)}, bound)
			n.function("a", "kept", 128)
			n.function("b", "flood", 128)
			n.reserve("a", "kept", 2)
			stop := n.flood(t.Context(), 20)
			for range 3 {
				time.Sleep(5 * time.Minute)
				if got := n.Snapshot(); got.Busy != 2 {
					t.Errorf("%+v: the flood is to have what is not reserved", got)
				}
				begun := time.Now()
				var calls sync.WaitGroup
				for range 2 {
					calls.Go(func() {
						if r := n.call("a", "kept"); r.err != nil || time.Since(begun) > 5100*time.Millisecond {
							t.Errorf("%v after %v", r.err, time.Since(begun))
						}
					})
				}
				calls.Wait()
			}
			n.reserve("a", "kept", 0) // stopped: others may have all
			time.Sleep(time.Minute)
			if got := n.Snapshot(); got.Busy != 4 {
				t.Errorf("%+v: nothing is reserved any more", got)
			}
			if r := n.call("a", "kept"); !lambent.Is(r.err, lambent.Throttled) || !strings.Contains(r.err.Error(), "stopped") {
				t.Errorf("a function that is stopped: %v", r.err)
			}
			stop()
		})
	}
}

// What is reserved while others have it is there once their calls have ended.
func TestReservedDuringAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MaxInstances = 2 })
		n.function("a", "kept", 128)
		n.function("b", "flood", 128)
		stop := n.flood(t.Context(), 10)
		time.Sleep(time.Minute)
		n.reserve("a", "kept", 1)
		for range 3 {
			begun := time.Now()
			if r := n.call("a", "kept"); r.err != nil || time.Since(begun) > 3*time.Second {
				t.Errorf("%v after %v", r.err, time.Since(begun))
			}
			time.Sleep(5 * time.Minute)
		}
		stop()
	})
}

// A minimum is set aside, too: it is there though others would have all places.
func TestMinimumIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		s.invoke = func(_ context.Context, in *scripted, inv *lambent.Invocation, out lambent.Reply) error {
			time.Sleep(time.Second)
			answer(out, "")
			if inv.Target.Function == "kept" {
				go in.sandbox.Destroy() // and another is to be there
			}
			return nil
		}
		n := newNode(t, s, func(c *dispatch.Config) { c.MaxInstances = 2 })
		n.function("a", "kept", 128)
		n.function("b", "flood", 128)
		n.Changed(n.minimum("a", "kept", 1))
		synctest.Wait()
		stop := n.flood(t.Context(), 10)
		for range 5 {
			time.Sleep(time.Minute)
			begun := time.Now()
			if r := n.call("a", "kept"); r.err != nil || time.Since(begun) > time.Second {
				t.Errorf("%v after %v", r.err, time.Since(begun))
			}
		}
		stop()
	})
}

// More than the server has cannot be set aside.
func TestWhatCannotBeReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.MaxInstances, c.MemoryMB = 10, 2048 })
		n.function("a", "has", 128)
		n.reserve("a", "has", 4)
		for _, c := range []struct {
			f    lambent.Function
			fits bool
		}{
			{lambent.Function{Scaling: lambent.Scaling{Reserved: new(6)}, Latest: lambent.Config{MemoryMB: 256}}, true},
			{lambent.Function{Scaling: lambent.Scaling{Reserved: new(7)}, Latest: lambent.Config{MemoryMB: 128}}, false},
			{lambent.Function{Scaling: lambent.Scaling{Reserved: new(60)}, Latest: lambent.Config{MemoryMB: 128, Concurrency: 10}}, true},
			{lambent.Function{Scaling: lambent.Scaling{Reserved: new(61)}, Latest: lambent.Config{MemoryMB: 128, Concurrency: 10}}, false},
			{lambent.Function{Scaling: lambent.Scaling{Reserved: new(2)}, Latest: lambent.Config{MemoryMB: 1024}}, false},
			{lambent.Function{Scaling: lambent.Scaling{MinInstances: 4}, Latest: lambent.Config{MemoryMB: 128}, Aliases: map[string]lambent.Alias{"live": {Version: "1"}}}, false},
			{lambent.Function{Scaling: lambent.Scaling{MinInstances: 4, MaxInstances: 6}, Latest: lambent.Config{MemoryMB: 128}, Aliases: map[string]lambent.Alias{"live": {Version: "1"}}}, true},
			{lambent.Function{Name: lambent.Name{Project: "a", Function: "has"}, Scaling: lambent.Scaling{Reserved: new(10)}, Latest: lambent.Config{MemoryMB: 128}}, true},
		} {
			if err := n.CanKeep(&c.f); c.fits != (err == nil) || err != nil && !lambent.Is(err, lambent.Invalid) {
				t.Errorf("%+v of %d MB: %v", c.f.Scaling, c.f.Latest.MemoryMB, err)
			}
		}
		err := n.CanKeep(&lambent.Function{Name: lambent.Name{Project: "a", Function: "more"}, Scaling: lambent.Scaling{Reserved: new(7)}, Latest: lambent.Config{MemoryMB: 128}})
		want := "a/more would have 7 instances of 128 MB set aside, reserved or always ready, beside others' 4 with 512 MB: this server has 10 instances and 2048 MB"
		if lambent.UserMessage(err) != want {
			t.Errorf("it says\n%s, want\n%s", lambent.UserMessage(err), want)
		}
	})
}
