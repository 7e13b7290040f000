package control_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/control"
	"lambent/store"
)

// Resolving goes on, and is never wrong, while everything changes.
func TestResolveHammer(t *testing.T) {
	ctx := t.Context()
	c := open(t)
	deploy(t, c, "f", 0, true)
	if _, err := c.SetAlias(ctx, named("f:live"), lambent.Alias{Version: "1"}, ""); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := uint64(0)
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				runtime.Gosched()
				target, err := c.Resolve(named("f"))
				if err != nil {
					t.Error(err)
					return
				}
				var now uint64
				fmt.Sscan(target.Revision.Config.Env["N"], &now)
				if now < last {
					t.Errorf("latest went back from %d to %d", last, now)
				}
				last = now
				for _, name := range []string{"f:1", "f:live"} {
					target, err := c.Resolve(named(name))
					if err != nil || target.Revision.Config.Env["N"] != "0" && name == "f:1" {
						t.Errorf("%s resolves to %+v, %v", name, target.Revision, err)
						return
					}
				}
				if _, err := c.Resolve(named("come-and-go")); err != nil && !lambent.Is(err, lambent.NotFound) {
					t.Error(err)
				}
				if _, _, err := c.List("default", "", 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := 1; n <= 40; n++ {
		f := deploy(t, c, "f", n, true)
		alias := lambent.Alias{Version: fmt.Sprint(f.LastVersion), Other: "1", Weight: 0.5}
		if _, err := c.SetAlias(ctx, named("f:live"), alias, ""); err != nil {
			t.Fatal(err)
		}
		deploy(t, c, "come-and-go", n, true)
		if err := c.Delete(ctx, named("come-and-go"), ""); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
}

func TestResolveDoesNotAllocate(t *testing.T) {
	c := open(t)
	deploy(t, c, "f", 1, true)
	if _, err := c.SetAlias(t.Context(), named("f:live"), lambent.Alias{Version: "1"}, ""); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"f", "f:1", "f:live"} {
		name := named(s)
		if n := testing.AllocsPerRun(100, func() { c.Resolve(name) }); n != 0 {
			t.Errorf("resolving %s allocates %v times", s, n)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	c := open(b)
	for n := range 100 {
		deploy(b, c, fmt.Sprintf("f%d", n), n, n == 0)
	}
	for _, s := range []string{"f50", "f0:1"} {
		name := named(s)
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := c.Resolve(name); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// With 10,000 functions the store opens, and the directory fills, within the
// time of a start, and in little memory. The figures are logged, not judged:
// the machine decides them.
func TestTenThousandFunctions(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 10,000 functions")
	}
	const functions = 10_000
	dir := t.TempDir()
	t.Run("deploy", func(t *testing.T) { // what it holds is given back at its end
		c := openControl(t, everything(openStore(t, dir)))
		start := time.Now()
		for n := range functions {
			config := config(n)
			config.Env["TABLE_NAME"], config.Env["LOG_LEVEL"] = "orders-production", "info"
			if _, err := c.Deploy(t.Context(), control.DeployRequest{Name: named(fmt.Sprintf("function-%d", n)), Config: config}); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d deploys took %v", functions, time.Since(start))
	})

	before := heapBytes()
	start := time.Now()
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	opened := time.Since(start)
	c := openControl(t, everything(s))
	t.Logf("the store opened in %v, with the directory filled after %v", opened, time.Since(start))
	t.Logf("%d bytes of heap for each function, engine included", (heapBytes()-before)/functions)
	before = heapBytes()
	for n := range functions {
		resolve(t, c, fmt.Sprintf("function-%d", n))
	}
	t.Logf("%d bytes more for each function that is used", (heapBytes()-before)/functions)
	start = time.Now()
	if _, _, err := c.List(lambent.DefaultProject, "", 100); err != nil {
		t.Fatal(err)
	}
	t.Logf("listing the first 100 took %v", time.Since(start))
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
