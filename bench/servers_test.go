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

	"lambent"
	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// A frameworkServer is one of Google's frameworks, with the echo written for it.
type frameworkServer struct {
	name, runtime string
	files         map[string]string
	bare          []string // argv of the floor, in the directory of the code
	env           []string // that the function has, and the floor
}

var frameworkServers = []frameworkServer{
	{"nodejs", "google-nodejs", map[string]string{
		"package.json": `{"dependencies":{"@google-cloud/functions-framework":"5.0.5"}}`,
		"index.js":     `require("@google-cloud/functions-framework").http("echo", (req, res) => res.send(req.rawBody))`,
	}, []string{"node", "node_modules/@google-cloud/functions-framework/build/src/main.js"}, []string{"NODE_ENV=production"}},
	{"python", "google-python", map[string]string{
		"main.py": "import functions_framework\n\n@functions_framework.http\ndef echo(request):\n    return request.get_data()\n",
	}, []string{"python3", "-m", "functions_framework"}, []string{"THREADS=64"}},
}

// code writes the echo with its framework, as tools/setup.sh has installed it.
func (f *frameworkServer) code(b *testing.B) string {
	b.Helper()
	installed, _ := filepath.Glob("../.venv/functions-framework-" + strings.TrimSuffix(f.name, "js") + "-*[0-9]")
	if len(installed) == 0 {
		b.Skip("the framework is not installed: tools/setup.sh test")
	}
	dir := b.TempDir()
	if err := os.CopyFS(dir, os.DirFS(installed[len(installed)-1])); err != nil {
		b.Fatal(err)
	}
	for name, text := range f.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// deploy deploys the echo, for a number of requests at a time in one instance.
func (f *frameworkServer) deploy(b *testing.B, d *daemon.Daemon, dir string, concurrency int) {
	b.Helper()
	z := directory(b, dir)
	code, err := d.PutCode(b.Context(), z, int64(z.Len()))
	if err != nil {
		b.Fatal(err)
	}
	env := map[string]string{}
	for _, kv := range f.env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	_, err = d.Deploy(b.Context(), "echo", &client.DeployRequest{
		Runtime: &f.runtime, Handler: new("echo"), Code: code.Digest, URL: &client.URLRequest{Policy: new(lambent.URLPublic)},
		MemoryMB: new(1769), Concurrency: &concurrency, TimeoutMS: new(int64(30_000)), Env: env,
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
}

// startBare starts the framework by itself, and returns its address.
func (f *frameworkServer) startBare(b *testing.B, dir string) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	program, err := exec.LookPath(f.bare[0])
	if err != nil {
		b.Skip(err)
	}
	cmd := exec.Command(program, f.bare[1:]...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PORT="+port, "FUNCTION_TARGET=echo", "PYTHONPATH="+dir), f.env...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // it was ended
	})
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		if time.Since(begun) > 30*time.Second {
			b.Fatal("the framework does not listen")
		}
	}
}

// BenchmarkServers is a function of Google's by its framework, over the framework by
// itself, in blocks that take turns: latencies and rates of 1 and 64 clients at one
// instance, and what a call costs our processes.
func BenchmarkServers(b *testing.B) {
	for _, f := range frameworkServers {
		b.Run(f.name, func(b *testing.B) {
			dir := f.code(b)
			d := daemon.Start(b, filepath.Join(daemon.Dir(b), "data"))
			f.deploy(b, d, dir, 80)
			addr, bare := strings.TrimPrefix(d.URL, "http://"), f.startBare(b, dir)
			for _, clients := range []int{1, 64} {
				b.Run(fmt.Sprint(clients), func(b *testing.B) {
					crowd(b, addr, "/fn/echo/", clients, 200+20*clients)
					crowd(b, bare, "/", clients, 200+20*clients)
					var ours, floor crowdResult
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
						b.StartTimer()
					}
					b.StopTimer()
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(ours.rate(), "calls/s")
					b.ReportMetric(ours.rate()/floor.rate(), "of-bare")
					b.ReportMetric(us(floor.all.Percentile(50)), "bare-p50-us")
					b.ReportMetric(us(ours.all.Percentile(50)), "p50-us")
					b.ReportMetric(us(ours.all.Percentile(50)-floor.all.Percentile(50)), "over-p50-us")
					b.ReportMetric(us(ours.all.Percentile(99)), "p99-us")
					b.ReportMetric(us(platform)/float64(b.N), "cpu-us/call")
				})
			}
		})
	}
}
