package dispatch_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
)

// A crowd at a function that is done in no time is served by the first instances
// that are there: the starts that have not begun by then are let be.
func TestStartsThatNobodyNeedsAreLetBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(20 * time.Millisecond); return nil }, invoke: sleeper(10 * time.Microsecond)}
		b := newBench(t, s, func(c *dispatch.Config) { c.Starts = 2 })
		b.driver.ParkErr = func() error { time.Sleep(20 * time.Millisecond); return nil } // a boot
		for _, r := range b.many(64) {
			if r.err != nil || r.ended != 1 {
				t.Errorf("%v, %d ends", r.err, r.ended)
			}
		}
		time.Sleep(time.Second)
		if n := s.starts.Load(); n > 6 {
			t.Errorf("%d starts for what the first can do", n)
		}
		if got := b.Snapshot(); got.Starting != 0 || got.Busy != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// Calls that take long have an instance each, as soon as there can be.
func TestABurstOfLongCallsHasAnInstanceEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(10 * time.Millisecond); return nil }, invoke: sleeper(time.Second)}
		b := newBench(t, s)
		for range 2 { // and once it is known how long they take
			begun := time.Now()
			b.many(100)
			if took := time.Since(begun); took > 1100*time.Millisecond {
				t.Errorf("a hundred calls took %v", took)
			}
		}
		if n := s.starts.Load(); n != 100 {
			t.Errorf("%d starts", n)
		}
	})
}

// An init that crashes is not tried again with every call: meanwhile its last error
// is the answer.
func TestACrashingInitIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		s := &script{init: func(context.Context, int) error {
			time.Sleep(10 * time.Millisecond)
			if broken {
				return &lambent.Fault{Kind: lambent.FaultInit, Type: "Boom"}
			}
			return nil
		}}
		b := newBench(t, s)
		begun := time.Now()
		for time.Since(begun) < time.Minute {
			r := b.call(t.Context())
			if r.result.Fault == nil || r.result.Fault.Type != "Boom" {
				t.Fatalf("got %v, %v", r.err, r.result.Fault)
			}
			time.Sleep(time.Millisecond)
		}
		if n := s.starts.Load(); n < 5 || n > 15 {
			t.Errorf("%d starts in a minute", n)
		}
		billed := 0
		for _, u := range b.records() {
			if u.BilledMS > 0 {
				billed++
			}
		}
		if n := int(s.starts.Load()); billed != n {
			t.Errorf("%d records are billed, of %d starts", billed, n)
		}
		broken = false
		time.Sleep(time.Minute)
		wantBody(t, b.call(t.Context()), strconv.Itoa(int(s.starts.Load())))
	})
}

// What instances are promised together is never more than the node's memory, and
// idle ones give way, those first that are worth least.
func TestMemoryIsPromisedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MemoryMB = 1024 })
		n.function("a", "small", 128)
		n.function("a", "big", 1024)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { n.call("a", "small") })
		}
		synctest.Wait()
		if got := n.driver.Alive(); got != 8 {
			t.Errorf("%d instances of 128 MB in 1024", got)
		}
		wg.Wait()
		begun := time.Now()
		if r := n.call("a", "big"); r.err != nil {
			t.Error(r.err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("%v until the idle ones gave way", took)
		}
		synctest.Wait()
		if got := n.driver.Alive(); got != 1 {
			t.Errorf("%d instances beside one that has all the memory", got)
		}
	})
}

// A project that floods the node does not keep another out, and has as much of it
// as the other while both want more.
func TestProjectsShareTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: sleeper(100 * time.Millisecond)}, func(c *dispatch.Config) { c.MaxInstances = 10 })
		n.function("a", "flood", 128)
		n.function("b", "other", 128)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		flood := func(project, function string, clients int) {
			for range clients {
				wg.Go(func() {
					for ctx.Err() == nil {
						n.call(project, function)
					}
				})
			}
		}
		flood("a", "flood", 200)
		time.Sleep(10 * time.Second)
		begun := time.Now()
		if r := n.call("b", "other"); r.err != nil {
			t.Error(r.err)
		}
		if took := time.Since(begun); took > 500*time.Millisecond {
			t.Errorf("beside a flood a call takes %v", took)
		}
		flood("b", "other", 50)
		time.Sleep(5 * time.Second)
		before := n.served()
		time.Sleep(60 * time.Second)
		after := n.served()
		a, o := after["flood"]-before["flood"], after["other"]-before["other"]
		if share := float64(o) / float64(a+o); share < 0.48 || share > 0.52 {
			t.Errorf("%d and %d calls: the share is %.3f", a, o, share)
		}
		cancel()
		wg.Wait()
	})
}

// A node is a dispatcher with functions of several projects.
type node struct {
	*bench
	targets map[lambent.Name]lambent.Target // written before there are calls
}

func newNode(t *testing.T, s *script, change ...func(*dispatch.Config)) *node {
	n := &node{targets: map[lambent.Name]lambent.Target{}}
	n.bench = newBench(t, s, append(change, func(c *dispatch.Config) {
		c.Resolve = func(name lambent.Name) (lambent.Target, error) { return n.targets[name], nil }
	})...)
	return n
}

func (n *node) function(project, name string, memoryMB int) {
	c := lambent.Config{Runtime: "r", MemoryMB: memoryMB, Timeout: 10 * time.Second}.WithDefaults()
	full := lambent.Name{Project: project, Function: name}
	n.targets[full] = lambent.Target{Revision: lambent.NewRevision(full, lambent.Latest, &c), Scaling: &lambent.Scaling{}}
}

func (n *node) call(project, function string) *reply {
	r := &reply{}
	r.err = n.Invoke(context.Background(), &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: project, Function: function}}, r)
	return r
}

// served counts the calls of each function.
func (n *node) served() map[string]int {
	counts := map[string]int{}
	for _, u := range n.records() {
		counts[u.Function]++
	}
	return counts
}

// What is learnt of a function's callers outlives a deploy, the pool and the server,
// and ends with the function.
func TestHabitsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		learning := func(c *dispatch.Config) { c.KeepAlive = nil }
		slow := func(context.Context, int) error { time.Sleep(500 * time.Millisecond); return nil }
		b := newBench(t, &script{init: slow}, learning)
		for range 20 { // every five minutes
			b.call(t.Context())
			time.Sleep(5 * time.Minute)
		}
		first := b.Learnt()
		if len(first) != 1 || len(first["default/f"]) < 5 {
			t.Fatalf("learnt %v", first)
		}
		b.deploy("another")
		b.Changed(b.rev.Name)
		b.call(t.Context())
		synctest.Wait()
		if again := b.Learnt(); string(again["default/f"]) != string(first["default/f"]) {
			t.Errorf("a deploy has made %v of %v", again, first)
		}

		other := newBench(t, &script{init: slow}, learning, func(c *dispatch.Config) { c.Learnt = first })
		cold := 0
		for range 5 {
			other.call(t.Context())
			time.Sleep(5 * time.Minute)
		}
		for _, u := range other.records() {
			if u.Cold {
				cold++
			}
		}
		if cold > 1 {
			t.Errorf("%d of 5 calls were cold, though it is known when they come", cold)
		}
		other.mu.Lock()
		name := other.rev.Name
		other.rev = nil
		other.mu.Unlock()
		other.Changed(name)
		synctest.Wait()
		if left := other.Learnt(); len(left) != 0 {
			t.Errorf("of a function that is not there: %v", left)
		}
	})
}

// As many instances as are to be ready are, without a call, and after one died.
func TestMinInstancesAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error { time.Sleep(time.Second); return nil }}
		b := newBench(t, s)
		b.scaling.MinInstances = 2
		b.Changed(b.rev.Name)
		time.Sleep(5 * time.Second)
		if got := b.Snapshot(); got.Idle != 2 {
			t.Fatalf("%+v", got)
		}
		begun := time.Now()
		b.many(2)
		if took := time.Since(begun); took > 0 {
			t.Errorf("a call at what is ready takes %v", took)
		}
		for _, u := range b.records() {
			if u.Cold {
				t.Error("it is billed as a cold start")
			}
		}
		time.Sleep(24 * time.Hour)
		if got := b.Snapshot(); got.Idle != 2 {
			t.Errorf("a day later: %+v", got)
		}
		s.invoke = func(_ context.Context, in *scripted, _ *lambent.Invocation, _ lambent.Reply) error {
			go in.sandbox.Destroy()
			return errors.New("gone")
		}
		b.call(t.Context())
		time.Sleep(5 * time.Second)
		if got := b.Snapshot(); got.Idle != 2 {
			t.Errorf("after one has ended: %+v", got)
		}
		b.mu.Lock()
		b.scaling.MinInstances = 0
		b.mu.Unlock()
		b.Changed(b.rev.Name)
		time.Sleep(time.Hour)
		if got := b.Snapshot(); got.Idle != 0 {
			t.Errorf("none is to be ready any more: %+v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) { // there is no place for all of them, until another has ended
		n := newNode(t, &script{invoke: sleeper(time.Second)}, func(c *dispatch.Config) { c.MaxInstances = 3 })
		n.function("a", "busy", 128)
		n.function("a", "ready", 128)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { n.call("a", "busy") })
		}
		synctest.Wait()
		name := lambent.Name{Project: "a", Function: "ready"}
		target := n.targets[name]
		target.Scaling = &lambent.Scaling{MinInstances: 2}
		n.targets[name] = target
		n.Changed(name)
		wg.Wait()
		n.function("a", "third", 128)
		for range 10 { // it may have the place of an idle one that nobody is promised
			n.call("a", "third")
		}
		time.Sleep(time.Hour)
		if got := n.Snapshot(); got.Idle != 2 {
			t.Errorf("%+v, want the two that are to be ready", got)
		}
	})
}

// What is larger than the node is refused, and keeps nobody else waiting.
func TestLargerThanTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.MemoryMB = 512 })
		n.function("a", "giant", 1024)
		n.function("a", "small", 512)
		if r := n.call("a", "giant"); !lambent.Is(r.err, lambent.Unavailable) {
			t.Errorf("got %v", r.err)
		}
		name := lambent.Name{Project: "a", Function: "giant"}
		if err := n.Prepare(t.Context(), n.targets[name].Revision, nil); !lambent.Is(err, lambent.Unavailable) {
			t.Errorf("a deploy: %v", err)
		}
		wantBody(t, n.call("a", "small"), "1")
	})
}
