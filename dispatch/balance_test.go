package dispatch_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/sandbox"
	"lambent/sandbox/fake"
)

// computing answers after a second and a half, in which it has computed one.
func computing(ctx context.Context, in *scripted, _ *lambent.Invocation, out lambent.Reply) error {
	box := sandbox.Unwrap(in.sandbox).(*fake.Box)
	for range 150 {
		time.Sleep(10 * time.Millisecond)
		box.CPUUS.Add(6667)
	}
	answer(out, "")
	return nil
}

// parts returns what instances of so much memory were told that they are held to.
func (n *node) parts(boxes []*fake.Box, memoryMB int) (parts []float64) {
	for _, b := range boxes {
		if p := b.Part.Load(); b.Task.MemoryMB == memoryMB && p != nil {
			parts = append(parts, *p)
		}
	}
	return parts
}

// While several projects compute, the instances of the one that has more of them are
// held to as much as the other's have together, and to nothing when it is over.
func TestProjectsShareProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: computing})
		var boxes []*fake.Box
		var mu sync.Mutex
		n.driver.OnPark = func(b *fake.Box) {
			mu.Lock()
			defer mu.Unlock()
			boxes = append(boxes, b)
		}
		n.function("many", "f", 256)
		n.function("few", "f", 512)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { n.call("many", "f") })
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if got := n.parts(boxes, 256); len(got) != 0 {
			t.Errorf("alone it is held to %v", got)
		}
		wg.Go(func() { n.call("few", "f") })
		time.Sleep(20 * time.Millisecond) // it may not have to wait until somebody looks anyway
		synctest.Wait()
		got := n.parts(boxes, 256)
		if len(got) != 8 {
			t.Fatalf("%d instances are told what they are held to", len(got))
		}
		for _, p := range got {
			if p > 512.0/8/256/16 {
				t.Errorf("beside one that has had nothing, one of eight is held to %.4f", p)
			}
		}
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		sum := 0.0
		for _, p := range n.parts(boxes, 256) {
			sum += 256 * p
		}
		// The fake kernel gives each as much as it likes: who has had an eighth of the
		// others' weighs as much more as may be.
		if math.Abs(sum-512.0/32) > 0.05*512/32 {
			t.Errorf("together they weigh %.1f", sum)
		}
		if got := n.parts(boxes, 512); len(got) != 0 {
			t.Errorf("the other is held to %v", got)
		}
		wg.Wait()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, p := range n.parts(boxes, 256) {
			if p != 1 {
				t.Errorf("afterwards one is held to %.4f", p)
			}
		}
	})
}

// A lone call is nobody's business: nothing is looked at that could be in its way.
func TestNobodyLooksAtALoneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, &script{invoke: computing})
		var box *fake.Box
		n.driver.OnPark = func(b *fake.Box) { box = b }
		n.function("a", "f", 256)
		n.call("a", "f")
		n.function("b", "f", 256)
		n.call("b", "f")
		if p := box.Part.Load(); p != nil {
			t.Errorf("it is held to %v", *p)
		}
	})
}
