package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
)

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
