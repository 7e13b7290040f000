package bench_test

import (
	"context"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lambent/bench"
	"lambent/client"
)

// BenchmarkNeighbour is one client's latency beside a function that takes all that
// there is of something, again and again, over its latency alone, in blocks that
// take turns.
func BenchmarkNeighbour(b *testing.B) {
	l := languages[0]
	for _, bomb := range []string{"nothing", "forks", "memory", "child", "disk", "files", "descriptors", "log"} {
		b.Run(bomb, func(b *testing.B) {
			d, addr := l.start(b)
			z := archive(b, filepath.Join("..", "server", "servertest", "bombs.py"))
			code, err := d.PutCode(b.Context(), z, int64(z.Len()))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := d.Deploy(b.Context(), "bomb", &client.DeployRequest{
				Runtime: &l.runtime, Handler: new("bombs.handler"), Code: code.Digest, MemoryMB: new(512), TimeoutMS: new(int64(2000)),
			}, nil); err != nil {
				b.Fatal(err)
			}
			c := caller(b, addr, "/fn/echo/")
			call(b, c, 500, nil)
			const block = 2000
			var alone, beside bench.Latencies
			bombs := 0
			b.ResetTimer()
			for done := 0; done < b.N; done += block {
				n := min(block, b.N-done)
				alone = call(b, c, n, alone)
				ctx, cancel := context.WithCancel(b.Context())
				dropped := make(chan int)
				go func() {
					n := 0
					for ; ctx.Err() == nil; n++ {
						_, _ = d.Invoke(ctx, client.InvokeRequest{Name: "bomb", Payload: strings.NewReader(strconv.Quote(bomb)), Length: -1}, io.Discard)
					}
					dropped <- n
				}()
				beside = call(b, c, n, beside)
				cancel()
				bombs += <-dropped
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(bombs), "bombs")
			b.ReportMetric(us(alone.Percentile(50)), "alone-p50-us")
			b.ReportMetric(us(beside.Percentile(50)), "p50-us")
			b.ReportMetric(us(alone.Percentile(99)), "alone-p99-us")
			b.ReportMetric(us(beside.Percentile(99)), "p99-us")
			b.ReportMetric(float64(beside.Percentile(99))/float64(alone.Percentile(99)), "p99-ratio")
			b.ReportMetric(float64(bench.RSS(d.PID()))/(1<<20), "rss-MB")
		})
	}
}
