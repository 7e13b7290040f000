package dispatch_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/guest"
)

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
		n.Changed(n.minimum("a", "ready", 2))
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

// However many start ahead, others' calls do not wait for all of them.
func TestStartsAheadLeaveTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.Starts = 2 })
		n.driver.ParkErr = func() error { time.Sleep(time.Second); return nil } // a boot
		n.function("a", "ready", 128)
		n.Changed(n.minimum("a", "ready", 20))
		synctest.Wait()
		n.function("b", "called", 128)
		begun := time.Now()
		if n.call("b", "called"); time.Since(begun) > time.Second {
			t.Errorf("the call is answered after %v", time.Since(begun))
		}
		time.Sleep(time.Minute)
		if got := n.Snapshot(); got.Idle < 20 {
			t.Errorf("%+v", got)
		}
	})
}

// A call whose own function starts ahead does not wait for all others that do.
func TestStartsAheadAreWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{}, func(c *dispatch.Config) { c.Starts = 2 })
		n.driver.ParkErr = func() error { time.Sleep(time.Second); return nil } // a boot
		n.function("a", "many", 128)
		n.function("a", "called", 128)
		n.Changed(n.minimum("a", "many", 6))
		synctest.Wait()
		n.Changed(n.minimum("a", "called", 1))
		synctest.Wait()
		begun := time.Now()
		if n.call("a", "called"); time.Since(begun) > time.Second {
			t.Errorf("the call is answered after %v", time.Since(begun))
		}
		time.Sleep(time.Minute)
		if got := n.Snapshot(); got.Idle < 7 {
			t.Errorf("%+v", got)
		}
	})
}

// The minimum of code that crashes is not tried without end at the first pause.
func TestMinBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{init: func(context.Context, int) error {
			time.Sleep(10 * time.Millisecond)
			return &lambent.Fault{Kind: lambent.FaultInit, Type: "Boom"}
		}}
		b := newBench(t, s)
		b.scaling.MinInstances = 1
		b.Changed(b.rev.Name)
		time.Sleep(10 * time.Minute)
		if n := s.starts.Load(); n > 40 {
			t.Errorf("%d starts in ten minutes", n)
		}
	})
}

// What an alias leads to has the minimum before its first call, and until the alias leads
// elsewhere; one that is called by its number has none.
func TestMinimumOfWhatAliasesLeadTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		n := newNode(t, s)
		names := n.two("f", &lambent.Scaling{MinInstances: 2}, nil)
		head := lambent.Name{Project: "default", Function: "f"}
		n.function("default", "f", 128)
		latest := n.targets[head]
		latest.Scaling = n.targets[names[0]].Scaling
		n.targets[head] = latest
		live := names[0]
		n.led = func(lambent.Name) ([]lambent.Target, error) {
			return []lambent.Target{latest, n.targets[live]}, nil
		}
		ready := func(say string, idle int) {
			t.Helper()
			n.Changed(head)
			time.Sleep(time.Hour)
			if got := n.Snapshot(); got.Idle != idle {
				t.Errorf("%s: %+v, want %d idle", say, got, idle)
			}
		}
		ready("an alias of version 1", 4)
		r := &reply{}
		if err := n.Invoke(t.Context(), &lambent.Invocation{ID: lambent.NewID(), Target: names[1]}, r); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if got := n.Snapshot(); got.Idle != 4 {
			t.Errorf("version 2 was called: %+v", got)
		}
		live = names[1]
		ready("it leads to version 2", 4)
		begun := s.starts.Load()
		if err := n.Invoke(t.Context(), &lambent.Invocation{ID: lambent.NewID(), Target: names[1]}, r); err != nil || s.starts.Load() != begun {
			t.Errorf("a call of what is ready starts one: %v", err)
		}
	})
}

// What is started for the minimum is initialised as AWS's provisioned concurrency, and the
// first call there says what that took: it is neither slower for it nor billed.
func TestInitTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		s := &script{init: func(context.Context, int) error { time.Sleep(time.Second); return nil }, invoke: sleeper(5 * time.Second)}
		s.unit = func(u guest.Unit) { told = append(told, u.InitType) }
		b := newBench(t, s)
		b.scaling.MinInstances = 1
		b.Changed(b.rev.Name)
		time.Sleep(time.Minute)
		go b.call(t.Context())
		synctest.Wait()
		b.call(t.Context())
		b.call(t.Context())
		if want := []string{lambent.InitProvisioned, lambent.InitOnDemand}; !slices.Equal(told, want) {
			t.Errorf("instances are told %q, want %q", told, want)
		}
		type record struct {
			kind        string
			cold        bool
			init, ahead int64
		}
		var got []record
		for _, u := range b.records() {
			got = append(got, record{u.InitType, u.Cold, u.InitUS, u.AheadUS})
		}
		want := []record{
			{lambent.InitProvisioned, false, 0, 1_000_000},
			{lambent.InitOnDemand, true, 1_000_000, 0},
			{lambent.InitOnDemand, false, 0, 0},
		}
		if !slices.Equal(got, want) {
			t.Errorf("records are %+v, want %+v", got, want)
		}
	})
}

// The trial of a function with a minimum is of the minimum.
func TestTrialIsOfTheMinimum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for least, want := range map[int]string{0: lambent.InitOnDemand, 1: lambent.InitProvisioned} {
			var told string
			b := newBench(t, &script{unit: func(u guest.Unit) { told = u.InitType }})
			if err := b.Prepare(t.Context(), b.rev, &lambent.Scaling{MinInstances: least}); err != nil || told != want {
				t.Errorf("with a minimum of %d: %q, %v", least, told, err)
			}
		}
	})
}
