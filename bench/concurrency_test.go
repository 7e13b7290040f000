package bench_test

import (
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
)

// BenchmarkConcurrency is 64 clients at one instance that serves 64 at a time, over
// one that serves one, in blocks that take turns: the rates, and what a call costs
// our process and the instance.
func BenchmarkConcurrency(b *testing.B) {
	const clients = 64
	for _, l := range languages {
		if l.bare == nil { // its client takes one at a time
			continue
		}
		b.Run(l.name, func(b *testing.B) {
			d, addr := l.start(b)
			at := func(name string, n int) string {
				l.deploy(b, d, name, func(r *client.DeployRequest) {
					r.MemoryMB, r.Concurrency, r.Scaling = new(1769), &n, &client.ScalingRequest{MaxInstances: new(1)}
				})
				path := "/fn/" + name + "/"
				crowd(b, addr, path, clients, 20*clients)
				return path
			}
			paths := [2]string{at("one", 1), at("many", clients)}
			const block = 2000
			var n [2]int
			var took, ours, inside [2]time.Duration
			b.ResetTimer()
			for done := 0; done < b.N; done += block {
				for i, path := range paths {
					calls := min(block, b.N-done)
					us, children := bench.CPU(d.PID()), bench.CPU(bench.Children(d.PID())...)
					r := crowd(b, addr, path, clients, calls)
					ours[i] += bench.CPU(d.PID()) - us
					inside[i] += bench.CPU(bench.Children(d.PID())...) - children
					took[i] += r.took
					n[i] += calls
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, name := range []string{"one", "many"} {
				b.ReportMetric(float64(n[i])/took[i].Seconds(), name+"-calls/s")
				b.ReportMetric(us(ours[i])/float64(n[i]), name+"-cpu-us/call")
				b.ReportMetric(us(inside[i])/float64(n[i]), name+"-inside-us/call")
			}
		})
	}
}
