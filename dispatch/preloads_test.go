package dispatch_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/guest"
)

// What was loaded ahead of packages that a runtime has not any more is not kept.
func TestOldPreloadsAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		var version atomic.Value
		version.Store("framework 1")
		b := newBench(t, s, func(c *dispatch.Config) {
			c.Parked, c.KeepAlive, c.Guests = 4, new(time.Duration(0)), map[string]guest.Guest{"script": choosing{s}}
			c.Runtime = func(string) (lambent.Runtime, error) {
				return lambent.Runtime{Name: "r", Guest: "script", Packages: "/p/" + version.Load().(string), PackagesAt: lambent.TaskInside, Preloads: version.Load().(string)}, nil
			}
		})
		for i, v := range []string{"framework 1", "framework 2", "framework 3", "framework 4", ""} { // runtime add, again and again
			version.Store(v)
			a := b.call(t.Context())
			wantBody(t, a, a.body.String())
			time.Sleep(3 * time.Hour)
			synctest.Wait()
			if n := b.Snapshot().Parked; n != 2 {
				t.Errorf("%d: %d parked for one runtime, want 2", i, n)
			}
		}
	})
}

// A deploy, with --timeout 1h, of a server that does not listen on $PORT.
func TestDeafServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{init: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }})
		c := *b.rev.Config
		c.Timeout = time.Hour
		begun := time.Now()
		err := b.Prepare(t.Context(), lambent.NewRevision(b.rev.Name, b.rev.Version, &c), nil)
		if took := time.Since(begun); err == nil || took > 16*time.Minute {
			t.Errorf("the trial took %v: %v", took, err)
		}
	})
}
