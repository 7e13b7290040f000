package dispatch

import (
	"testing"

	"lambent"
)

type noLog struct{ Log }

// A deploy for which there is no place leaves no pool behind.
func TestRefusedPrepareLeavesNoPool(t *testing.T) {
	d := New(Config{Log: func(lambent.Name) Log { return noLog{} }})
	for range 10 {
		n := lambent.Name{Project: "p", Function: string(lambent.NewID())}
		c := lambent.Config{Runtime: "r", MemoryMB: 128}.WithDefaults()
		_ = d.Prepare(t.Context(), lambent.NewRevision(n, lambent.Latest, &c), nil)
	}
	left := 0
	d.pools.Range(func(_, _ any) bool { left++; return true })
	d.functions.Range(func(_, _ any) bool { left++; return true })
	if left > 0 || len(d.learnt.from) > 0 {
		t.Errorf("%d pools and functions, %d heard", left, len(d.learnt.from))
	}
}
