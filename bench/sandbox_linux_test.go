package bench_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/bench"
	"lambent/runtimes"
	"lambent/sandbox"
	"lambent/sandbox/namespace"
	"lambent/test/daemon"
)

// A maker parks sandboxes of one kind by the driver alone, without a server.
type maker struct {
	driver  *namespace.Driver
	runtime lambent.Runtime
	nothing string // a directory without code
}

// eachKind runs a benchmark with what is parked: an init that waits for a program,
// and the interpreters.
func eachKind(b *testing.B, f func(b *testing.B, m *maker)) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	dir := daemon.Dir(b)
	agents, err := runtimes.Install(dir)
	if err != nil {
		b.Fatal(err)
	}
	found, _ := runtimes.Discover(b.Context(), runtimes.Options{Agents: namespace.AgentsInside, Unprivileged: true, Accepts: namespace.Accepts})
	for _, kind := range []string{"init", "python3", "nodejs"} {
		b.Run(kind, func(b *testing.B) {
			m := &maker{runtime: lambent.Runtime{Name: "provided"}, nothing: b.TempDir()}
			for _, rt := range found {
				if strings.HasPrefix(rt.Name, kind) {
					m.runtime = rt
				}
			}
			if kind != "init" && len(m.runtime.Boot) == 0 {
				b.Skip("no interpreter for " + kind)
			}
			var err error
			if m.driver, err = namespace.New(namespace.Options{Dir: dir, Agents: agents}); err != nil {
				b.Skip(err)
			}
			b.Cleanup(func() {
				if err := m.driver.Close(); err != nil {
					b.Error(err)
				}
			})
			f(b, m)
		})
	}
}

// park returns a sandbox that is ready: its agent has said hello, or its init has
// looked for a program that is not there.
func (m *maker) park(ctx context.Context) (sandbox.Sandbox, error) {
	s, err := m.driver.Park(ctx, m.runtime)
	if err != nil {
		return nil, err
	}
	if s.Agent() != nil {
		return s, hello(s)
	}
	if err := s.Assign(ctx, sandbox.Task{Code: m.nothing, MemoryMB: 128, TmpMB: 512, Start: sandbox.Start{Argv: []string{"./none"}}}); err != nil {
		return s, err
	}
	<-s.Done()
	if s.Exit().Exec != syscall.ENOENT {
		return s, fmt.Errorf("it has run a program that is not there: %v", s.Exit())
	}
	return s, nil
}

// hello waits for the agent to be ready.
func hello(s sandbox.Sandbox) error {
	_, err := io.ReadFull(s.Agent(), make([]byte, len("LAMBENT/1\n")))
	return err
}

// BenchmarkSandboxes is how many sandboxes two workers make, wait for and destroy.
func BenchmarkSandboxes(b *testing.B) {
	eachKind(b, func(b *testing.B, m *maker) {
		var left atomic.Int64
		left.Store(int64(b.N))
		var wg sync.WaitGroup
		before := used(b)
		b.ResetTimer()
		for range 2 {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					s, err := m.park(b.Context())
					if err == nil {
						err = s.Destroy()
						s.Output().Close()
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sandboxes/s")
		b.ReportMetric(us(used(b)-before)/float64(b.N), "cpu-us/each")
	})
}

// used returns what this process has computed, and its children that have ended.
func used(b *testing.B) (cpu time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		cpu += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return cpu
}

// BenchmarkParked is what a hundred parked sandboxes need while nobody calls: memory
// of one, where pages that many have count once among all, and processor time.
func BenchmarkParked(b *testing.B) {
	const parked, watch = 100, 5 * time.Second
	eachKind(b, func(b *testing.B, m *maker) {
		for range parked {
			s, err := m.driver.Park(b.Context(), m.runtime) // an init that has tried a program is not as parked ones are
			if err == nil && s.Agent() != nil {
				if err = hello(s); err == nil {
					_, err = s.Agent().Write(make([]byte, 4)) // nobody waits: rehearse, as in a server
				}
			}
			if err != nil {
				b.Fatal(err)
			}
			defer s.Output().Close()
		}
		runtime.GC()
		time.Sleep(2 * time.Second)
		inside := bench.Children(os.Getpid())
		theirs := bench.CPU(inside...)
		ours := bench.CPU(os.Getpid()) // last and first: reading the others' takes a while
		time.Sleep(watch)
		ours = bench.CPU(os.Getpid()) - ours
		theirs = bench.CPU(inside...) - theirs
		b.ReportMetric(100*float64(ours+theirs)/float64(watch), "%-of-a-core")
		var memory int64
		for _, p := range inside {
			memory += bench.PSS(p)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(memory)/parked/(1<<20), "MB-each")
	})
}
