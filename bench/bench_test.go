package bench_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"

	_ "github.com/aws/aws-lambda-go/lambda" // of testdata/go, where go mod tidy does not look
)

func TestMain(m *testing.M) {
	if at := os.Getenv(probeAt); at != "" {
		os.Exit(probe(at))
	}
	if to := os.Getenv(relayTo); to != "" {
		os.Exit(relay(os.Getenv(relayAt), to))
	}
	os.Exit(daemon.Main(m))
}

// payload is what every call sends, and gets back.
const payload = "hello, lambent"

// A language is one in which the echo is written.
type language struct {
	name, runtime, handler string
	files                  func(b *testing.B) []string // of the function
	bare                   func(b *testing.B) []string // argv of the floor; nil: none
}

var languages = []language{
	{"python", "python3", "app.handler", inData("python/app.py"), command("python3", "python/bare.py")},
	{"nodejs", "nodejs", "index.handler", inData("nodejs/index.mjs"), command("node", "nodejs/bare.mjs")},
	{"go", "provided.al2023", "", goProgram, func(b *testing.B) []string { return append(goProgram(b), "bare") }},
	{"shell", "provided.al2023", "", inData("shell/bootstrap"), nil},
}

func inData(file string) func(*testing.B) []string {
	return func(*testing.B) []string { return []string{filepath.Join("testdata", file)} }
}

func command(interpreter, file string) func(*testing.B) []string {
	return func(b *testing.B) []string {
		program, err := exec.LookPath(interpreter)
		if err != nil {
			b.Skip(err)
		}
		return []string{program, filepath.Join("testdata", file)}
	}
}

// goProgram builds the Go echo, once for each benchmark.
func goProgram(b *testing.B) []string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "bootstrap")
	cmd := exec.Command("go", "build", "-o", file, "./testdata/go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return []string{file}
}

// archive packs files, all of them executable, at its top.
func archive(b *testing.B, files ...string) *bytes.Buffer {
	b.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range files {
		h := &zip.FileHeader{Name: filepath.Base(f), Method: zip.Deflate}
		h.SetMode(0o755)
		w, err := z.CreateHeader(h)
		if err != nil {
			b.Fatal(err)
		}
		content, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			b.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		b.Fatal(err)
	}
	return &out
}

// directory packs the files of a directory. Links, such as those to commands of
// packages, are left out.
func directory(b *testing.B, dir string) *bytes.Buffer {
	b.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		w, err := z.Create(strings.TrimPrefix(path, dir+"/"))
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	})
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	return &out
}

// start starts a server with the echo, and returns the address to call.
func (l *language) start(b *testing.B, args ...string) (d *daemon.Daemon, addr string) {
	b.Helper()
	d = daemon.Start(b, filepath.Join(daemon.Dir(b), "data"), args...)
	l.deploy(b, d, "echo")
	return d, strings.TrimPrefix(d.URL, "http://")
}

// deploy deploys the echo under a name.
func (l *language) deploy(b *testing.B, d *daemon.Daemon, name string, change ...func(*client.DeployRequest)) {
	b.Helper()
	z := archive(b, l.files(b)...)
	code, err := d.PutCode(b.Context(), z, int64(z.Len()))
	if err != nil {
		b.Fatal(err)
	}
	r := &client.DeployRequest{
		Runtime: &l.runtime, Handler: &l.handler, Code: code.Digest, URL: &client.URLRequest{Policy: new(lambent.URLPublic)},
	}
	for _, f := range change {
		f(r)
	}
	if _, err := d.Deploy(b.Context(), name, r, nil); err != nil {
		b.Fatal(err)
	}
}

// startBare starts the floor, and returns its address.
func (l *language) startBare(b *testing.B) string {
	b.Helper()
	argv := l.bare(b)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return "127.0.0.1:" + strings.TrimSpace(port)
}

func caller(b *testing.B, addr, path string) *bench.Caller {
	b.Helper()
	c, err := bench.NewCaller(addr, path, payload)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// call makes n calls one after the other and appends how long each took.
func call(b *testing.B, c *bench.Caller, n int, to bench.Latencies) bench.Latencies {
	b.Helper()
	for range n {
		begun := time.Now()
		got, err := c.Call()
		if err != nil || string(got) != payload {
			b.Fatalf("got %q, %v", got, err)
		}
		to = append(to, time.Since(begun))
	}
	return to
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// BenchmarkWarm is one client's latency through a function's URL, over that of the
// same handler bare, in blocks that take turns; what a call costs our process; and,
// as root, what of it is the sandbox's, beside a server that isolates nothing.
func BenchmarkWarm(b *testing.B) {
	for _, l := range languages {
		if l.bare == nil {
			continue
		}
		b.Run(l.name, func(b *testing.B) {
			d, addr := l.start(b)
			ours, bare := caller(b, addr, "/fn/echo/"), caller(b, l.startBare(b), "/")
			call(b, ours, 500, nil)
			call(b, bare, 500, nil)
			var open *bench.Caller
			if os.Geteuid() == 0 {
				_, addr := l.start(b, "--driver", "process")
				open = caller(b, addr, "/fn/echo/")
				call(b, open, 500, nil)
			}
			const block = 250
			var with, without, unisolated bench.Latencies
			var cpu time.Duration
			b.ResetTimer()
			for done := 0; done < b.N; done += block {
				n := min(block, b.N-done)
				before := bench.CPU(d.PID())
				with = call(b, ours, n, with)
				cpu += bench.CPU(d.PID()) - before
				b.StopTimer()
				without = call(b, bare, n, without)
				if open != nil {
					unisolated = call(b, open, n, unisolated)
				}
				b.StartTimer()
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(us(without.Percentile(50)), "bare-p50-us")
			b.ReportMetric(us(with.Percentile(50)), "p50-us")
			b.ReportMetric(us(with.Percentile(99)), "p99-us")
			b.ReportMetric(us(with.Percentile(50)-without.Percentile(50)), "over-p50-us")
			b.ReportMetric(us(cpu)/float64(b.N), "cpu-us/call")
			if open != nil {
				b.ReportMetric(us(with.Percentile(50)-unisolated.Percentile(50)), "sandbox-p50-us")
			}
		})
	}
}

// BenchmarkLoad is what a number of clients get that call as fast as they are
// answered: the rate beside the bare handler's, latencies, what a call costs our
// processes and what it costs the functions', and whether our memory grows. With
// -benchtime 60s it is the test that nothing breaks and nothing leaks.
func BenchmarkLoad(b *testing.B) {
	for _, l := range languages {
		b.Run(l.name, func(b *testing.B) {
			d, addr := l.start(b)
			bare := ""
			if l.bare != nil {
				bare = l.startBare(b)
			}
			for _, clients := range []int{1, 8, 64} {
				b.Run(fmt.Sprint(clients), func(b *testing.B) {
					crowd(b, addr, "/fn/echo/", clients, 200+20*clients) // until all instances are there
					rss := bench.RSS(d.PID())
					var ours, floor crowdResult
					var platform, functions time.Duration
					b.ResetTimer()
					const block = 2000 // they take turns
					for done := 0; done < b.N; done += block {
						n := min(block, b.N-done)
						server := bench.Server(d.PID())
						p, all := bench.CPU(server...), bench.CPU(append(bench.Children(d.PID()), d.PID())...)
						ours.add(crowd(b, addr, "/fn/echo/", clients, n))
						p = bench.CPU(server...) - p
						platform, functions = platform+p, functions+bench.CPU(append(bench.Children(d.PID()), d.PID())...)-all-p
						if bare != "" {
							b.StopTimer()
							floor.add(crowd(b, bare, "/", clients, n))
							b.StartTimer()
						}
					}
					b.StopTimer()
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(ours.rate(), "calls/s")
					if bare != "" {
						b.ReportMetric(ours.rate()/floor.rate(), "of-bare")
						b.ReportMetric(us(floor.all.Percentile(50)), "bare-p50-us")
					}
					b.ReportMetric(us(ours.all.Percentile(50)), "p50-us")
					b.ReportMetric(us(ours.all.Percentile(99)), "p99-us")
					b.ReportMetric(us(platform)/float64(b.N), "cpu-us/call")
					b.ReportMetric(us(functions)/float64(b.N), "function-cpu-us/call")
					s, err := d.Server(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(s.Instances.Idle+s.Instances.Busy), "instances")
					b.ReportMetric(float64(rss)/(1<<20), "rss-MB-before")
					b.ReportMetric(float64(bench.RSS(d.PID()))/(1<<20), "rss-MB-after")
				})
			}
		})
	}
}

type crowdResult struct {
	took time.Duration
	all  bench.Latencies
}

func (r *crowdResult) add(more crowdResult) {
	r.took, r.all = r.took+more.took, append(r.all, more.all...)
}

// rate is in calls a second.
func (r *crowdResult) rate() float64 { return float64(len(r.all)) / r.took.Seconds() }

// crowd makes n calls by so many clients.
func crowd(b *testing.B, addr, path string, clients, n int) crowdResult {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	each := make([]bench.Latencies, clients)
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range clients {
		c := caller(b, addr, path)
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				if got, err := c.Call(); err != nil || string(got) != payload {
					b.Errorf("got %q, %v", got, err)
					return
				}
				each[i] = append(each[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	r := crowdResult{took: time.Since(begun)}
	for _, l := range each {
		r.all = append(r.all, l...)
	}
	if b.Failed() {
		b.FailNow()
	}
	return r
}

// BenchmarkStart is the time from exec to the first answer, and the memory then,
// of a server that has no functions, and of one that has 10,000.
func BenchmarkStart(b *testing.B) {
	for _, functions := range []int{0, 10_000} {
		b.Run(fmt.Sprint(functions), func(b *testing.B) {
			data := filepath.Join(daemon.Dir(b), "data")
			fill(b, data, functions)
			var ready bench.Latencies
			var rss int64
			for b.Loop() {
				d := daemon.Start(b, data)
				ready = append(ready, d.Ready)
				time.Sleep(2 * time.Second) // idle: what the start needed is given back
				rss = max(rss, bench.RSS(d.PID()))
				d.Kill()
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(ready.Percentile(50).Microseconds())/1000, "ready-ms")
			b.ReportMetric(float64(rss)/(1<<20), "rss-MB")
		})
	}
}

// fill deploys so many functions, which differ in their configuration.
func fill(b *testing.B, data string, n int) {
	b.Helper()
	d := daemon.Start(b, data)
	defer d.Kill()
	dir := b.TempDir()
	bootstrap := filepath.Join(dir, "bootstrap")
	if err := os.WriteFile(bootstrap, []byte("#!/bin/sh\n"), 0o755); err != nil {
		b.Fatal(err)
	}
	code, err := d.PutCode(b.Context(), io.Reader(archive(b, bootstrap)), -1)
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if _, err := d.Deploy(b.Context(), fmt.Sprintf("function-%05d", i), &client.DeployRequest{
					Runtime: new("provided.al2023"), Code: code.Digest, Check: new(false), MemoryMB: new(128 + int(i%1024)),
					Env: map[string]string{"LOG_LEVEL": "info", "TABLE": fmt.Sprintf("orders-%d", i)},
				}, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
