package bench_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
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
// instance. The floor (bare-boots-ms) is what the machine takes to boot as many bare
// interpreters, which do nothing.
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
			b.ReportMetric(us(boots(l.bareExec(b), size))/1000, "bare-boots-ms")
		})
	}
}

// boots is how long it takes to boot something so many times, on every processor at once.
func boots(boot func() time.Duration, times int) time.Duration {
	begun := time.Now()
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(times))
	for range runtime.NumCPU() {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				boot()
			}
		})
	}
	wg.Wait()
	return time.Since(begun)
}

// probeAt is the variable that makes this program a probe: a client in a process of
// its own, which calls the function at that URL 200 times a second until its input
// ends, and writes down how long each refusal took, in nanoseconds. Hundreds of
// clients in one process wait for one another, and for its memory to be collected;
// this one waits for the server.
const probeAt = "LAMBENT_BENCH_PROBE"

func probe(at string) int {
	addr, path, _ := strings.Cut(at, "/")
	c, err := bench.NewCaller(addr, "/"+path, payload)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	defer out.Flush()
	for tick := time.Tick(5 * time.Millisecond); ; {
		select {
		case <-ended:
			return 0
		case <-tick:
		}
		begun := time.Now()
		if _, err := c.Call(); refusal(err) {
			fmt.Fprintln(out, int64(time.Since(begun)))
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
}

func refusal(err error) bool { return err != nil && strings.Contains(err.Error(), " 429 ") }

// startProbe begins one, and returns what ends it and has what it saw.
func startProbe(b *testing.B, at string) (end func() bench.Latencies) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), probeAt+"="+at), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return func() (seen bench.Latencies) {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
		for line := range strings.Lines(out.String()) {
			ns, _ := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			seen = append(seen, time.Duration(ns))
		}
		return seen
	}
}

// BenchmarkOverload offers ten times what a function with eight instances can do:
// what it still does, over its peak, and how fast the rest is refused, as a client
// of its own sees it and as the crowd itself does. -benchtime is how long, in units
// of a second.
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
					case refusal(err):
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
	before, stolen := bench.RSS(d.PID()), bench.Stolen()
	seen := startProbe(b, addr+"/fn/nap/")
	warm := make(chan int64, 1) // once all clients have their connections
	time.AfterFunc(length/4, func() { warm <- bench.RSS(d.PID()) })
	b.ResetTimer()
	done, refused := offer(clients, time.Duration(float64(clients)/(10*rate)*float64(time.Second)), length)
	b.StopTimer()
	probed := seen()
	b.ReportMetric(100*float64(bench.Stolen()-stolen)/float64(length), "%stolen")
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
	b.ReportMetric(us(probed.Percentile(50)), "429-p50-us")
	b.ReportMetric(us(probed.Percentile(99)), "429-p99-us")
	b.ReportMetric(us(refused.Percentile(99)), "429-crowd-p99-us")
	b.ReportMetric(us(recovery)/1000, "recovery-ms")
	b.ReportMetric(float64(before)/(1<<20), "rss-MB-before")
	b.ReportMetric(float64(<-warm)/(1<<20), "rss-MB-quarter")
	b.ReportMetric(float64(bench.RSS(d.PID()))/(1<<20), "rss-MB-after")
}
