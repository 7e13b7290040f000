package bench_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// installed returns a directory with the function and its framework, as tools/setup.sh
// has installed it.
func (f *framework) installed(b *testing.B) string {
	b.Helper()
	found, _ := filepath.Glob("../.venv/functions-framework-" + strings.TrimSuffix(f.language, "js") + "-*[0-9]")
	if len(found) == 0 {
		b.Skip("the framework is not installed: tools/setup.sh test")
	}
	dir := b.TempDir()
	if err := os.CopyFS(dir, os.DirFS(found[len(found)-1])); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, f.source), []byte(f.text), 0o644); err != nil {
		b.Fatal(err)
	}
	return dir
}

// serve starts the framework by itself, and returns its address.
func (f *framework) serve(b *testing.B, dir string, env ...string) string {
	b.Helper()
	interpreter, err := exec.LookPath(map[string]string{"nodejs": "node", "python": "python3"}[f.language])
	if err != nil {
		b.Skip(err)
	}
	addr := freeAddr(b)
	start(b, f.command(interpreter, dir, addr, env...), addr)
	return addr
}

// start starts a server that listens at addr, until the benchmark is over.
func start(b *testing.B, cmd *exec.Cmd, addr string) {
	b.Helper()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // its workers, too
		_ = cmd.Wait()
	})
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		if time.Since(begun) > 30*time.Second {
			b.Fatalf("%s does not listen", cmd.Path)
		}
	}
}

// Of the program of the benchmarks, started again as a relay: where it listens, and where
// what it is sent goes.
const relayAt, relayTo = "LAMBENT_BENCH_RELAY_AT", "LAMBENT_BENCH_RELAY_TO"

// relay passes on what clients send, and what they are answered.
func relay(at, to string) int {
	l, err := net.Listen("tcp", at)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return 1
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer server.Close()
			go pass(client, server)
			pass(server, client)
		}()
	}
}

// pass writes to one what it reads from another, until that ends. It does not splice,
// which would take two calls for a read and a write.
func pass(to, from net.Conn) {
	defer to.Close()
	for buf := make([]byte, 16<<10); ; {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// startRelay starts a relay as a process, and returns its address.
func startRelay(b *testing.B, to string) string {
	b.Helper()
	at := freeAddr(b)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), relayAt+"="+at, relayTo+"="+to)
	cmd.Stderr = os.Stderr
	start(b, cmd, at)
	return at
}

// BenchmarkServers is a function of Google's by its framework, over the framework by
// itself, in blocks that take turns: latencies and rates of 1 and 64 clients at one
// instance, and what a call costs our processes. What is over the bare framework's
// stands beside what a relay takes that reads nothing of what it passes on: that is
// the least for whoever stands between a client and a server.
func BenchmarkServers(b *testing.B) {
	for _, f := range functionsFrameworks {
		b.Run(f.language, func(b *testing.B) {
			dir := f.installed(b)
			d := daemon.Start(b, filepath.Join(daemon.Dir(b), "data"))
			// THREADS is how many requests Python's serves at a time.
			f.deploy(b, d, "echo", "google-"+f.language, dir, map[string]string{"THREADS": "64"}, func(r *client.DeployRequest) {
				r.MemoryMB, r.Concurrency, r.TimeoutMS = new(1769), new(80), new(int64(30_000))
			})
			addr, bare := strings.TrimPrefix(d.URL, "http://"), f.serve(b, dir, "THREADS=64")
			relayed := startRelay(b, bare)
			for _, clients := range []int{1, 64} {
				b.Run(fmt.Sprint(clients), func(b *testing.B) {
					crowd(b, addr, "/fn/echo/", clients, 200+20*clients)
					crowd(b, bare, "/", clients, 200+20*clients)
					var ours, floor, relay crowdResult
					var platform time.Duration
					const block = 1000 // they take turns
					b.ResetTimer()
					for done := 0; done < b.N; done += block {
						n := min(block, b.N-done)
						before := bench.CPU(bench.Server(d.PID())...)
						ours.add(crowd(b, addr, "/fn/echo/", clients, n))
						platform += bench.CPU(bench.Server(d.PID())...) - before
						b.StopTimer()
						floor.add(crowd(b, bare, "/", clients, n))
						relay.add(crowd(b, relayed, "/", clients, n))
						b.StartTimer()
					}
					b.StopTimer()
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(ours.rate(), "calls/s")
					b.ReportMetric(ours.rate()/floor.rate(), "of-bare")
					b.ReportMetric(us(floor.all.Percentile(50)), "bare-p50-us")
					b.ReportMetric(us(floor.all.Percentile(99)), "bare-p99-us")
					b.ReportMetric(us(ours.all.Percentile(50)), "p50-us")
					b.ReportMetric(us(ours.all.Percentile(50)-floor.all.Percentile(50)), "over-p50-us")
					b.ReportMetric(us(relay.all.Percentile(50)-floor.all.Percentile(50)), "relay-over-p50-us")
					b.ReportMetric(us(ours.all.Percentile(99)), "p99-us")
					b.ReportMetric(us(platform)/float64(b.N), "cpu-us/call")
				})
			}
		})
	}
}
