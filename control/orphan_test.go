package control_test

import (
	"fmt"
	"sync"
	"testing"

	"lambent"
	"lambent/control"
)

// A version's key without a head that counts it is what a crash left. It is not
// a version, and does not stand in the way of the real one.
func TestOrphanIsTakenOver(t *testing.T) {
	for _, made := range []bool{false, true} {
		t.Run(fmt.Sprintf("function there %v", made), func(t *testing.T) {
			ctx := t.Context()
			s := openStore(t, t.TempDir())
			c := openControl(t, everything(s))
			if made {
				deploy(t, c, "f", 1, false)
			}
			if _, err := s.Create(ctx, "version.default.f.1", []byte(`{"number":1,"config":{"env":{"N":"666"}}}`)); err != nil {
				t.Fatal(err)
			}
			if made {
				_, err := c.Resolve(named("f:1"))
				wantKind(t, err, lambent.NotFound)
				if v, _, err := c.Versions(ctx, named("f"), 0, 0); err != nil || len(v) != 0 {
					t.Errorf("versions are %v, %v", v, err)
				}
			}
			if f := deploy(t, c, "f", 2, true); f.LastVersion != 1 {
				t.Errorf("version %d was published", f.LastVersion)
			}
			wantServes(t, c, "f", 2)
			wantServes(t, c, "f:1", 2)
		})
	}
}

// Two controls over one store stand for two processes: nothing but the
// compare-and-set is between them. Whoever is told that version n was published
// finds there exactly what it deployed, and no number is skipped.
func TestConcurrentDeploys(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, t.TempDir())
	controls := []*control.Control{openControl(t, everything(s)), openControl(t, everything(s))}
	const workers, each = 6, 8
	var mu sync.Mutex
	published := map[int]int{} // version -> configuration
	var wg sync.WaitGroup
	for w := range workers {
		c := controls[w%len(controls)]
		wg.Go(func() {
			for i := range each {
				n := w*1000 + i
				f, err := c.Deploy(ctx, control.DeployRequest{Name: named("f"), Config: config(n), Publish: true})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := c.Resolve(named(fmt.Sprintf("f:%d", f.LastVersion))); err != nil {
					t.Error(err)
				}
				mu.Lock()
				if other, twice := published[f.LastVersion]; twice {
					t.Errorf("version %d was published for configurations %d and %d", f.LastVersion, other, n)
				}
				published[f.LastVersion] = n
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(published) != workers*each {
		t.Fatalf("%d versions were published, want %d", len(published), workers*each)
	}
	for v := 1; v <= workers*each; v++ {
		n, ok := published[v]
		if !ok {
			t.Fatalf("version %d was skipped", v)
		}
		for _, c := range controls {
			wantServes(t, c, fmt.Sprintf("f:%d", v), n)
		}
	}
	wantServes(t, controls[0], "f", published[workers*each])
}

// Of concurrent deploys from one revision, exactly one wins.
func TestExpectedRevision(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, t.TempDir())
	controls := []*control.Control{openControl(t, everything(s)), openControl(t, everything(s))}
	f := deploy(t, controls[0], "f", 0, false)
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for n := 1; n <= 8; n++ {
		wg.Go(func() {
			_, err := controls[n%2].Deploy(ctx, control.DeployRequest{
				Name: named("f"), Config: config(n), Expect: f.RevisionID(), Publish: n%3 == 0,
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !lambent.Is(err, lambent.Stale) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won > 1 {
		t.Errorf("%d deploys from one revision won", won)
	}
}

func TestReferencesAndSweep(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, t.TempDir())
	c := openControl(t, everything(s))
	deploy(t, c, "f", 1, true)
	deploy(t, c, "f", 2, true)
	layered := config(3)
	layered.Layers, layered.CodeZip = []string{config(30).Code}, config(31).Code
	if _, err := c.Deploy(ctx, control.DeployRequest{Name: named("f"), Config: layered}); err != nil {
		t.Fatal(err)
	}
	deploy(t, c, "gone", 40, true)
	if err := c.Delete(ctx, named("gone"), ""); err != nil {
		t.Fatal(err)
	}
	used, err := c.References(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 3, 30, 31} {
		if !used[config(n).Code] {
			t.Errorf("code %d is in use, and not in the references", n)
		}
	}
	if len(used) != 5 {
		t.Errorf("%d references, want 5", len(used))
	}

	for _, orphan := range []string{"version.default.f.3", "version.default.gone.1"} {
		if _, err := s.Create(ctx, orphan, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Create(ctx, "head.default.gone", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(named("gone"))
	wantKind(t, err, lambent.NotFound)
	if n, err := c.Sweep(ctx); n != 0 || err != nil {
		t.Errorf("swept %d records that are young, %v", n, err)
	}
	defer control.SetSweepAge(0)()
	if n, err := c.Sweep(ctx); n != 3 || err != nil {
		t.Errorf("swept %d records, want 3; %v", n, err)
	}
	wantServes(t, c, "f:1", 1)
	wantServes(t, c, "f:2", 2)
}

// A placeholder, which a publisher of a new function may leave if it crashes, is
// no function, and gives way to one.
func TestPlaceholder(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, t.TempDir())
	for _, key := range []string{"head.default.f", "head.default.g"} {
		if _, err := s.Create(ctx, key, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	c := openControl(t, everything(s))
	_, err := c.Resolve(named("f"))
	wantKind(t, err, lambent.NotFound)
	if functions, _, err := c.List("default", "", 0); err != nil || len(functions) != 0 {
		t.Errorf("%d functions, %v", len(functions), err)
	}
	wantKind(t, c.Delete(ctx, named("f"), ""), lambent.NotFound)
	_, err = c.Publish(ctx, named("f"), "", "")
	wantKind(t, err, lambent.NotFound)
	if _, err := c.Create(ctx, control.DeployRequest{Name: named("f"), Config: config(1)}); err != nil {
		t.Fatal(err)
	}
	wantServes(t, c, "f", 1)
	deploy(t, c, "g", 2, true)
	wantServes(t, c, "g:1", 2)
}
