package dispatch_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// Who is refused is told why, with the number and the flag that it is for, what helps, and
// when to come again.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		scaling lambent.Scaling
		config  func(*dispatch.Config)
		runs    time.Duration // of each call
		calls   int           // that are there before
		within  time.Duration // of the caller; 0: any
		waits   time.Duration // until it is told
		message string
		hint    string
		reason  string
		again   time.Duration
	}{
		{
			name: "queue full", scaling: lambent.Scaling{MaxInstances: 1}, config: func(c *dispatch.Config) { c.MaxQueue = 3 }, runs: 2 * time.Second, calls: 4,
			message: "3 invocations of f wait already, as many as may",
			hint:    "let more run at a time (lambent deploy --max, which is 1), or more wait (lambent serve --max-queue, which is 3)", again: 8 * time.Second,
		},
		{
			name: "queue full, reserved", scaling: lambent.Scaling{Reserved: new(2)}, config: func(c *dispatch.Config) { c.MaxQueue = 1 }, runs: 2 * time.Second, calls: 3,
			message: "1 invocations of f wait already, as many as may",
			hint:    "let more run at a time (lambent deploy --reserved, which is 2), or more wait (lambent serve --max-queue, which is 1)",
			reason:  "ReservedFunctionConcurrentInvocationLimitExceeded", again: 2 * time.Second,
		},
		{
			name: "queue full, server", config: func(c *dispatch.Config) { c.MaxQueue, c.MaxInstances = 1, 1 }, runs: 2 * time.Second, calls: 2,
			message: "1 invocations of f wait already, as many as may",
			hint:    "let more run at a time (lambent serve --memory, --max-instances), or more wait (lambent serve --max-queue, which is 1)", again: 4 * time.Second,
		},
		{
			name: "too long", scaling: lambent.Scaling{MaxInstances: 1}, runs: 9 * time.Second, calls: 4,
			message: "an invocation of f would wait for longer than 30s: 3 wait already",
			hint:    "let more run at a time: lambent deploy --max, which is 1", again: 6 * time.Second,
		},
		{
			name: "too late", scaling: lambent.Scaling{MaxInstances: 1}, runs: 4 * time.Second, calls: 2, within: time.Second,
			message: "f could not begin before its caller's deadline: 1 invocations wait", again: 8 * time.Second,
		},
		{
			name: "stopped", scaling: lambent.Scaling{Reserved: new(0)},
			message: "the function's reserved concurrency is 0: it is stopped", hint: "lambent deploy --reserved -1",
			reason: "ReservedFunctionConcurrentInvocationLimitExceeded", again: time.Minute,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, &script{invoke: sleeper(c.runs)}, func(cfg *dispatch.Config) {
					if c.config != nil {
						c.config(cfg)
					}
				})
				if b.scaling = c.scaling; c.calls > 0 {
					b.call(t.Context()) // it is known how long they take
				}
				ctx, cancel := context.WithCancel(t.Context())
				for range c.calls {
					go b.call(ctx)
					synctest.Wait()
				}
				begun := time.Now()
				inv := &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}}
				if c.within > 0 {
					inv.Deadline = begun.Add(c.within)
				}
				err := b.Invoke(t.Context(), inv, &reply{})
				e, ok := errors.AsType[*lambent.Error](err)
				if !ok || e.Kind != lambent.Throttled || e.Message != c.message || e.Hint != c.hint || e.Reason != c.reason || e.RetryAfter != c.again {
					t.Errorf("got %+v, want %q (%s), %q, after %v", e, c.message, c.hint, c.reason, c.again)
				}
				if waited := time.Since(begun); waited != c.waits {
					t.Errorf("it is told after %v, want %v", waited, c.waits)
				}
				cancel()
			})
		})
	}
	t.Run("no place", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t, &script{}, func(c *dispatch.Config) { c.MaxInstances = 1 })
			n.function("a", "kept", 128)
			n.function("a", "f", 256)
			n.Changed(n.minimum("a", "kept", 1))
			synctest.Wait()
			err := n.call("a", "f").err
			e, ok := errors.AsType[*lambent.Error](err)
			message := "this server has had no room for an instance of a/f (256 MB) in 30s: other functions keep it"
			hint := "lower what they keep ready or reserve (lambent deploy --min, --reserved), or start the server with more: lambent serve --memory, --max-instances"
			if !ok || e.Kind != lambent.Throttled || e.Message != message || e.Hint != hint || e.RetryAfter != time.Second {
				t.Errorf("got %+v, want %q (%s)", e, message, hint)
			}
		})
	})
}
