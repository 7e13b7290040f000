package trigger_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"lambent"
	"lambent/trigger"
)

// What a source refuses is a dead letter that has run no code, in order with the rest, and
// is one again when it is redriven; published again it counts once.
func TestRefuse(t *testing.T) {
	t.Parallel()
	var ran atomic.Int32
	p := newOrdered(t, func(_ context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		inv.Started()
		ran.Add(int32(len(inv.Events)))
		return nil, nil
	})
	st := p.addBatch("f", lambent.Batch{Size: 10, Parallel: 1})
	sink := p.source.sink(st.ID)
	large := keyed("big", 0)
	for range 2 {
		if err := sink.Refuse(context.Background(), large, "it is 2000000 bytes"); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Publish(context.Background(), keyed("a", 0), keyed("a", 1)); err != nil {
		t.Fatal(err)
	}
	p.until("the rest is done", func() bool { return ran.Load() == 2 })
	p.until("it is dead", func() bool { return len(p.dead("f")) == 1 })
	if d := p.dead("f")[0]; d.Reason != "it is 2000000 bytes" || d.Trigger != st.ID {
		t.Errorf("%+v", d)
	}
	if n, err := p.broker.Redrive(t.Context(), name("f"), trigger.Query{}, false); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	p.until("it is dead again", func() bool { return len(p.dead("f")) == 1 })
	large.Data = make([]byte, 2<<20)
	if err := sink.Refuse(context.Background(), large, "x"); err == nil || !strings.Contains(err.Error(), "over the limit") {
		t.Error(err)
	}
	if n := ran.Load(); n != 2 {
		t.Errorf("%d have run", n)
	}
}
