package dispatch_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/sandbox/fake"
)

// keptLog keeps the lines of a function's log.
type keptLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *keptLog) Line(_ time.Time, _, _ string, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(text))
}

// with returns the lines that begin so.
func (l *keptLog) with(prefix string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.lines), func(s string) bool { return !strings.HasPrefix(s, prefix) })
}

// TestFixedEnvIsAMissByDesign: whose environment only works at exec gets a sandbox
// of its own making, and everybody else a parked one.
func TestFixedEnvIsAMissByDesign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &keptLog{}
		b := newBench(t, &script{}, func(c *dispatch.Config) {
			c.Parked = 4
			c.Log = func(lambent.Name) dispatch.Log { return log }
			c.Runtime = func(string) (lambent.Runtime, error) {
				return lambent.Runtime{Name: "r", Guest: "script", Boot: []string{"agent"}, LateBoot: []string{"late"}, FixedEnv: []string{"LD_*", "NODE_OPTIONS"}}, nil
			}
		})
		running := map[*fake.Box]bool{} // booted in Park: nobody calls Start here
		var mu sync.Mutex
		b.driver.Program = func(x *fake.Box) int {
			mu.Lock()
			running[x] = true
			mu.Unlock()
			<-x.Killed
			return 0
		}
		env := func(env map[string]string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			c := *b.rev.Config
			c.Env = env
			b.rev = lambent.NewRevision(b.rev.Name, b.rev.Version, &c)
		}
		const line = "INIT Runtime: r booted at this start, for what it reads only then: "
		b.call(t.Context()) // fills the lot
		synctest.Wait()
		time.Sleep(time.Second)
		if s := b.Snapshot(); s.Parked != 2 || len(log.with(line)) != 0 {
			t.Fatalf("%+v, log %q", s, log.with(line))
		}
		made := b.driver.Parked()
		env(map[string]string{"NODE_OPTIONS": "x", "LD_PRELOAD": "y", "LOG_LEVEL": "z"})
		for range 3 {
			if r := b.call(t.Context()); r.err != nil {
				t.Fatal(r.err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n, s := b.driver.Parked()-made, b.Snapshot(); n != 1 || s.Parked != 2 {
			t.Errorf("%d sandboxes were made for one start, and %d are parked", n, s.Parked)
		}
		mu.Lock()
		if late := made + 1 - len(running); late != 1 {
			t.Errorf("%d sandboxes were left unbooted, want 1", late)
		}
		mu.Unlock()
		if got := log.with("INIT"); !slices.Equal(got, []string{line + "LD_PRELOAD, NODE_OPTIONS"}) {
			t.Errorf("the log has %q", got)
		}
		env(map[string]string{"LOG_LEVEL": "z", "XLD_PRELOAD": "", "NODE_OPTIONS2": ""}) // nothing of the kind
		if r := b.call(t.Context()); r.err != nil {
			t.Fatal(r.err)
		}
		if s := b.Snapshot(); s.Parked != 1 || len(log.with("INIT")) != 1 {
			t.Errorf("%d are parked, want one of them taken; log %q", s.Parked, log.with("INIT"))
		}
	})
}
