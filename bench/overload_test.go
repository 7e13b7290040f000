package bench_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// nap deploys a Python function that sleeps, with bounds of its own.
func nap(b *testing.B, d *daemon.Daemon, name, handler string, s *client.ScalingRequest) {
	b.Helper()
	l := languages[0]
	z := archive(b, l.files(b)...)
	code, err := d.PutCode(b.Context(), z, int64(z.Len()))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := d.Deploy(b.Context(), name, &client.DeployRequest{
		Runtime: &l.runtime, Handler: &handler, Code: code.Digest, Scaling: s, URL: &client.URLRequest{Policy: new(lambent.URLPublic)},
	}, nil); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBurst is so many calls at once, of 100 ms each, of a function without an
// instance.
func BenchmarkBurst(b *testing.B) {
	for _, size := range []int{100, 1000} {
		b.Run(map[int]string{100: "100", 1000: "1000"}[size], func(b *testing.B) {
			l := languages[0]
			d, addr := l.start(b)
			var all bench.Latencies
			var refused atomic.Int64
			for range b.N {
				nap(b, d, "nap", "app.nap", &client.ScalingRequest{KeepAliveMS: new(int64(0))})
				rest(bench.Server(d.PID()))
				callers := make([]*bench.Caller, size)
				for i := range callers {
					callers[i] = caller(b, addr, "/fn/nap/")
				}
				each := make(bench.Latencies, size)
				var wg sync.WaitGroup
				for i, c := range callers {
					wg.Go(func() {
						begun := time.Now()
						if _, err := c.Call(); err != nil {
							if !strings.Contains(err.Error(), " 429 ") {
								b.Error(err)
							}
							refused.Add(1)
						}
						each[i] = time.Since(begun)
						c.Close()
					})
				}
				wg.Wait()
				all = append(all, each...)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(us(all.Percentile(50))/1000, "p50-ms")
			b.ReportMetric(us(all.Percentile(99))/1000, "p99-ms")
			b.ReportMetric(float64(refused.Load())/float64(b.N), "refused/burst")
		})
	}
}

// BenchmarkOverload offers ten times what a function with eight instances can do:
// what it still does, over its peak, and how fast the rest is refused. -benchtime is
// how long, in units of a second.
func BenchmarkOverload(b *testing.B) {
	const instances, clients = 8, 400
	l := languages[0]
	d, addr := l.start(b, "--max-queue", "100")
	nap(b, d, "nap", "app.short_nap", &client.ScalingRequest{MaxInstances: new(instances)})
	offer := func(clients int, pause, length time.Duration) (done, refused bench.Latencies) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		end := time.Now().Add(length)
		for i := range clients {
			c := caller(b, addr, "/fn/nap/")
			wg.Go(func() {
				defer c.Close()
				var good, bad bench.Latencies
				next := time.Now().Add(pause * time.Duration(i) / time.Duration(clients))
				for time.Now().Before(end) {
					if wait := time.Until(next); wait > 0 {
						time.Sleep(wait)
					}
					next = next.Add(pause)
					begun := time.Now()
					_, err := c.Call()
					switch took := time.Since(begun); {
					case err == nil:
						good = append(good, took)
					case strings.Contains(err.Error(), " 429 "):
						bad = append(bad, took)
					default:
						b.Error(err)
						return
					}
				}
				mu.Lock()
				defer mu.Unlock()
				done, refused = append(done, good...), append(refused, bad...)
			})
		}
		wg.Wait()
		return done, refused
	}
	offer(2*instances, 0, 2*time.Second)
	const measure = 5 * time.Second
	peak, _ := offer(2*instances, 0, measure)
	rate := float64(len(peak)) / measure.Seconds()
	length := time.Duration(b.N) * time.Second
	before := bench.RSS(d.PID())
	b.ResetTimer()
	done, refused := offer(clients, time.Duration(float64(clients)/(10*rate)*float64(time.Second)), length)
	b.StopTimer()
	begun := time.Now()
	c := caller(b, addr, "/fn/nap/")
	if _, err := c.Call(); err != nil {
		b.Error(err)
	}
	recovery := time.Since(begun)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate, "peak/s")
	b.ReportMetric(float64(len(done)+len(refused))/length.Seconds()/rate, "offered/peak")
	b.ReportMetric(float64(len(done))/length.Seconds()/rate, "goodput/peak")
	b.ReportMetric(us(refused.Percentile(50)), "429-p50-us")
	b.ReportMetric(us(refused.Percentile(99)), "429-p99-us")
	b.ReportMetric(us(recovery)/1000, "recovery-ms")
	b.ReportMetric(float64(before)/(1<<20), "rss-MB-before")
	b.ReportMetric(float64(bench.RSS(d.PID()))/(1<<20), "rss-MB-after")
}
