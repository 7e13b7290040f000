//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"lambent"
	"lambent/sandbox"
	"lambent/scale"
)

// TestShares: projects get the same of the processors, however many of their sandboxes
// compute and whatever memory they have, and one that cannot use so much gets what it
// can use.
func TestShares(t *testing.T) {
	for _, c := range []struct{ many, manyMB, few, fewMB int }{
		{8, 128, 1, 128}, {9, 128, 2, 1769}, {8, 1769, 2, 128},
	} {
		t.Run(fmt.Sprintf("%d of %d MB, %d of %d", c.many, c.manyMB, c.few, c.fewMB), func(t *testing.T) {
			d := open(t, "")
			defer d.Close()
			var all []*spinner
			for i := range c.many + c.few {
				if i < c.many {
					all = append(all, spin(t, d, "many", c.manyMB))
				} else {
					all = append(all, spin(t, d, "few", c.fewMB))
				}
			}
			processors := float64(runtime.NumCPU())
			want := min(0.5, float64(c.few)/processors)
			var shares scale.Shares
			look(t, &shares, all, 2*time.Second)
			const long = 4 * time.Second
			tried := 0
			for range 4 {
				used := look(t, &shares, all, long)
				sum := used["few"] + used["many"]
				got := used["few"].Seconds() / sum.Seconds()
				t.Logf("%.4f of %.2f processors", got, sum.Seconds()/long.Seconds())
				if sum.Seconds() < 0.97*long.Seconds()*processors {
					continue // another program had a processor, and who has but one to be on got less: it says nothing either way
				}
				if math.Abs(got-want) <= 0.02*want {
					return
				}
				if tried++; tried == 2 {
					t.Fatalf("%.4f, want %.4f", got, want)
				}
			}
			t.Skip("other programs compute on this machine")
		})
	}
}

type spinner struct {
	scale.Share
	sandbox sandbox.Sandbox
	cpuUS   int64
}

// spin has a sandbox compute.
func spin(t *testing.T, d sandbox.Driver, project string, memoryMB int) *spinner {
	t.Helper()
	b, err := d.Park(t.Context(), lambent.Runtime{Name: "provided"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Output().Close() })
	task := sandbox.Task{Code: codeDir(t), MemoryMB: memoryMB, TmpMB: 512, Start: sandbox.Start{Argv: []string{"/bin/sh", "-c", "while :; do :; done"}, Env: []string{"PATH=/bin"}}}
	if err := b.Assign(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	if err := b.(sandbox.Settler).Settle(); err != nil {
		t.Fatal(err)
	}
	return &spinner{Share: scale.Share{Project: project, Weight: float64(memoryMB)}, sandbox: b}
}

// look does for so long what whoever runs sandboxes does, and returns what each
// project has computed meanwhile.
func look(t *testing.T, shares *scale.Shares, all []*spinner, long time.Duration) map[string]time.Duration {
	t.Helper()
	const every = 100 * time.Millisecond
	used := map[string]time.Duration{}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range long / every {
		<-tick.C
		var list []*scale.Share
		for _, s := range all {
			cpu, _, err := s.sandbox.Stats()
			if err != nil {
				t.Fatal(err)
			}
			s.Used, s.cpuUS = time.Duration(cpu-s.cpuUS)*time.Microsecond, cpu
			used[s.Project] += s.Used
			list = append(list, &s.Share)
		}
		shares.Look(every, list)
		for _, s := range all {
			if err := s.sandbox.(sandbox.Sharer).Share(s.Part); err != nil {
				t.Fatal(err)
			}
		}
	}
	return used
}
