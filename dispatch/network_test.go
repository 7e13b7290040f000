package dispatch_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/sandbox/fake"
)

// TestAnotherNetworkIsAnotherPool: what a project says reaches the sandbox, and an
// instance that was started under something else serves no call that comes later.
func TestAnotherNetworkIsAnotherPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, &script{invoke: sleeper(time.Second)})
		var boxes []*fake.Box
		var mu sync.Mutex
		b.driver.OnPark = func(x *fake.Box) {
			mu.Lock()
			boxes = append(boxes, x)
			mu.Unlock()
		}
		says := func(project lambent.Network) {
			b.mu.Lock()
			b.rev = b.rev.In(project)
			name := b.rev.Name
			b.mu.Unlock()
			b.Changed(name)
		}
		wantBody(t, b.call(t.Context()), "1")
		says(nil) // nothing new
		wantBody(t, b.call(t.Context()), "1")

		busy := make(chan *reply)
		go func() { busy <- b.call(context.Background()) }()
		synctest.Wait()
		says(lambent.Network{"none"})
		wantBody(t, b.call(t.Context()), "2") // while the first is busy, which may be free sooner
		wantBody(t, <-busy, "1")              // to its end
		synctest.Wait()
		if n := b.driver.Alive(); n != 1 {
			t.Errorf("%d sandboxes are left, want the one of now", n)
		}
		wantBody(t, b.call(t.Context()), "2")
		says(nil)
		synctest.Wait()
		if n := b.driver.Alive(); n != 0 {
			t.Errorf("%d idle sandboxes of what was said before are left", n)
		}
		wantBody(t, b.call(t.Context()), "3")
		var networks []string
		for _, x := range boxes {
			networks = append(networks, x.Task.Network.String())
		}
		if want := []string{"default", "none", "default"}; !slices.Equal(networks, want) {
			t.Errorf("sandboxes were told %q, want %q", networks, want)
		}
	})
}
