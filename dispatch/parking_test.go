package dispatch_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/guest"
	"lambent/sandbox/fake"
)

func TestParkedServeColdStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{}, func(c *dispatch.Config) { c.Parked, c.KeepAlive = 4, new(time.Duration(0)) })
		first := b.call(t.Context()) // a miss: nothing is parked for what nobody wanted
		wantBody(t, first, first.body.String())
		synctest.Wait()
		if n := b.driver.Parked(); n != 3 {
			t.Errorf("%d sandboxes made, want the call's and two that wait", n)
		}
		if n := b.Snapshot().Parked; n != 2 {
			t.Fatalf("%d parked after the first call, want 2", n)
		}
		before := b.driver.Parked()
		second := b.call(t.Context())
		wantBody(t, second, second.body.String())
		if second.body.String() == first.body.String() {
			t.Error("a sandbox has served twice, though none is kept")
		}
		synctest.Wait()
		if made := b.driver.Parked() - before; made != 0 {
			t.Errorf("%d sandboxes made beside the call that took one", made)
		}
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if made := b.driver.Parked() - before; made != 1 {
			t.Errorf("%d sandboxes made for one that was taken", made)
		}
		b.call(t.Context())
		b.call(t.Context())
		synctest.Wait()
		if n := b.Snapshot().Parked; n != 4 { // at once: the last one that waited was taken
			t.Errorf("%d parked after four calls, want 4", n)
		}
		for range 6 { // demand: as many as were wanted within two seconds wait, up to the limit
			b.call(t.Context())
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		if n := b.Snapshot().Parked; n != 4 {
			t.Errorf("%d parked after many calls, want the limit of 4", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := b.Snapshot().Parked; n != 2 {
			t.Errorf("%d parked after a minute without calls, want 2", n)
		}
		made := b.driver.Parked()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := b.Snapshot().Parked; n != 2 || b.driver.Parked() == made {
			t.Errorf("after hours %d are parked, %d of them new; want 2 that are not old", n, b.driver.Parked()-made)
		}
	})
}

func TestAWoundedParkedSandboxIsThrownAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{}, func(c *dispatch.Config) {
			c.Parked = 2
			c.Runtime = func(string) (lambent.Runtime, error) {
				return lambent.Runtime{Name: "r", Guest: "script", Boot: []string{"agent"}}, nil
			}
		})
		var boxes []*fake.Box
		var mu sync.Mutex
		b.driver.OnPark = func(x *fake.Box) {
			mu.Lock()
			boxes = append(boxes, x)
			mu.Unlock()
		}
		wound := make(chan *fake.Box)
		b.driver.Program = func(x *fake.Box) int {
			for {
				select {
				case hit := <-wound:
					if hit == x {
						return 1
					}
					wound <- hit
				case <-x.Killed:
					return 0
				}
			}
		}
		b.call(t.Context())
		synctest.Wait()
		wound <- boxes[slices.IndexFunc(boxes, func(x *fake.Box) bool { return x.Task.Code == "" })]
		synctest.Wait()
		if n := b.Snapshot().Parked; n != 1 {
			t.Errorf("%d parked after one died, want 1", n)
		}
		if n := b.driver.Alive(); n != 2 {
			t.Errorf("%d sandboxes exist, want the instance and the parked one", n)
		}
	})
}

func TestIdleInstancesAreFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box *fake.Box
		b := newBench(t, &script{}, func(c *dispatch.Config) { c.FreezeAfter = time.Second })
		b.driver.Program = func(x *fake.Box) int { <-x.Killed; return 0 }
		b.driver.OnPark = func(x *fake.Box) { box = x }
		for i := range 20 { // closely one after another
			if r := b.call(context.Background()); r.err != nil {
				t.Fatal(r.err)
			}
			if box.Frozen.Load() {
				t.Fatalf("frozen between calls, at the %dth", i)
			}
			time.Sleep(900 * time.Millisecond)
		}
		if n := box.Freezes.Load(); n != 0 {
			t.Errorf("frozen %d times between calls", n)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if !box.Frozen.Load() {
			t.Error("not frozen after two seconds of rest")
		}
		time.Sleep(10 * time.Second)
		if n := box.Freezes.Load(); n != 1 {
			t.Errorf("frozen %d times, want once", n)
		}
		wantBody(t, b.call(context.Background()), "1")
		if box.Frozen.Load() {
			t.Error("still frozen after a call")
		}
	})
}

// A choosing guest has what is loaded ahead serve the code that brings it.
type choosing struct{ guest.Guest }

func (choosing) Choose(rt lambent.Runtime, rev *lambent.Revision, tree string) lambent.Runtime {
	if tree != "/" {
		panic("another tree than the code's")
	}
	if rev.Config.Env["OWN"] != "" {
		return rt.Plain()
	}
	return rt
}

// TestParkedInMoreThanOneWay: what is parked for code of one kind neither serves nor
// displaces what is parked for code of another.
func TestParkedInMoreThanOneWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		b := newBench(t, s, func(c *dispatch.Config) {
			c.Parked, c.KeepAlive, c.Guests = 4, new(time.Duration(0)), map[string]guest.Guest{"script": choosing{s}}
			c.Runtime = func(string) (lambent.Runtime, error) {
				return lambent.Runtime{Name: "r", Guest: "script", Packages: "/p", PackagesAt: lambent.TaskInside, Preloads: "framework 1"}, nil
			}
		})
		own := func(env map[string]string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			c := *b.rev.Config
			c.Env = env
			b.rev = lambent.NewRevision(b.rev.Name, b.rev.Version, &c)
		}
		for round := range 3 {
			for i, env := range []map[string]string{nil, {"OWN": "1"}} {
				own(env)
				before := b.driver.Parked()
				a := b.call(t.Context())
				wantBody(t, a, a.body.String())
				synctest.Wait()
				if made := b.driver.Parked() - before; round > 0 && made != 0 {
					t.Errorf("round %d of %v: %d sandboxes were made, and none taken", round, env, made)
				}
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				if n, want := b.Snapshot().Parked, 2*(i+1); round == 0 && n != want || round > 0 && n < 4 {
					t.Errorf("round %d of %v: %d parked, want %d", round, env, n, want)
				}
			}
		}
	})
}
