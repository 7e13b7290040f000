package bench_test

import (
	"bufio"
	"fmt"
	"io/fs"
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

// A framework is one of Google's functions frameworks, with an echo for it.
type framework struct {
	language, dependency string
	prefix, suffix       string   // of AWS's names for the language's runtimes
	source, text         string   // the function
	argv                 []string // that runs it bare, after the interpreter
	changed              string   // a file of the framework's that a newline changes, and nothing else does
	fixed                string   // a variable that has the framework executed at each start, and changes nothing else
}

var functionsFrameworks = []framework{
	{
		"nodejs", "@google-cloud/functions-framework", "nodejs", ".x", "index.js", "exports.echo = (req, res) => res.send(req.rawBody);\n",
		[]string{"node_modules/@google-cloud/functions-framework/build/src/main.js"}, "node_modules/@google-cloud/functions-framework/package.json", "NODE_REDIRECT_WARNINGS",
	},
	{
		"python", "functions-framework", "python3.", "", "main.py", "def echo(request):\n    return request.get_data()\n",
		[]string{"-m", "functions_framework"}, "functions_framework/__init__.py", "PYTHONSTARTUP",
	},
}

// BenchmarkColdFramework is one client's latency where every call is a cold start of a
// function of Google's framework: with the framework loaded in the sandbox that was
// parked (ahead); with another than the code's own, which then is loaded (theirs); and
// without anything that was booted before (executed). The floor is the bare framework,
// from its execution to its first response.
func BenchmarkColdFramework(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for _, f := range functionsFrameworks {
		b.Run(f.language, func(b *testing.B) {
			d := daemon.Start(b, filepath.Join(daemon.Dir(b), "data"), "--keep-alive", "0", "--parked", "4")
			addr := strings.TrimPrefix(d.URL, "http://")
			rt, code := f.add(b, d)
			interpreter, _, _ := strings.Cut(rt.Note, " ")
			google := strings.ReplaceAll(strings.TrimSuffix(rt.Name, ".x"), ".", "")
			f.deploy(b, d, "ahead", google, code, nil)
			f.deploy(b, d, "executed", google, code, map[string]string{f.fixed: ""})
			bare := f.bare(b, interpreter, code)
			f.change(b, code)
			f.deploy(b, d, "theirs", google, code, nil)
			for _, name := range []string{"ahead", "theirs", "executed"} {
				b.Run(name, func(b *testing.B) {
					ours, server := caller(b, addr, "/fn/"+name+"/"), bench.Server(d.PID())
					call(b, ours, 2, nil)   // the files are read
					time.Sleep(time.Second) // until as many are parked as will be
					rest(server)
					var cold, floor bench.Latencies
					b.ResetTimer()
					for i := range b.N {
						cold = call(b, ours, 1, cold)
						rest(server)
						if i%8 == 0 {
							floor = append(floor, bare())
							rest(server)
						}
					}
					b.StopTimer()
					reportCold(b, d, name, cold)
					b.ReportMetric(us(floor.Percentile(50)), "bare-p50-us")
					b.ReportMetric(us(floor.Percentile(99)), "bare-p99-us")
				})
			}
		})
	}
}

// add adds the framework to the packages of the machine's newest runtime, and returns
// that, and a directory with the function and the same packages.
func (f *framework) add(b *testing.B, d *daemon.Daemon) (rt client.Runtime, code string) {
	b.Helper()
	list, err := d.Runtimes(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range list {
		if strings.HasPrefix(r.Name, f.prefix) && strings.HasSuffix(r.Name, f.suffix) {
			rt = r // the newest is the last
		}
	}
	if rt.Name == "" {
		b.Skipf("the machine has no %s that any user can run", f.language)
	}
	if _, err := d.AddRuntime(b.Context(), &client.RuntimeRequest{Name: rt.Name, From: "host", Packages: &[]string{f.dependency}}, nil, nil); err != nil {
		b.Skip(err) // it says what is missing: pip, npm, or their registry
	}
	packages, _ := filepath.Glob(filepath.Join(d.Data, "roots", "trees", "*"))
	if len(packages) != 1 {
		b.Fatalf("the packages are in %q", packages)
	}
	code = b.TempDir()
	err = fs.WalkDir(os.DirFS(packages[0]), ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || e.IsDir() && e.Name() != ".bin":
			return err
		case e.IsDir():
			return fs.SkipDir
		}
		text, err := os.ReadFile(filepath.Join(packages[0], path))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(code, path)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(code, path), text, 0o644)
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(code, f.source), []byte(f.text), 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	return rt, code
}

func (f *framework) deploy(b *testing.B, d *daemon.Daemon, name, runtime, code string, env map[string]string, change ...func(*client.DeployRequest)) {
	b.Helper()
	z := directory(b, code)
	put, err := d.PutCode(b.Context(), z, int64(z.Len()))
	if err != nil {
		b.Fatal(err)
	}
	r := &client.DeployRequest{
		Runtime: &runtime, Handler: new("echo"), Code: put.Digest, MemoryMB: new(256), Env: env, URL: &client.URLRequest{Policy: new(lambent.URLPublic)},
	}
	for _, c := range change {
		c(r)
	}
	out, err := d.Deploy(b.Context(), name, r, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%s: %s", name, out.Configuration.Framework)
}

// change makes the framework another than the runtime's.
func (f *framework) change(b *testing.B, code string) {
	b.Helper()
	file := filepath.Join(code, f.changed)
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// freeAddr returns an address of the loopback that nobody listens on.
func freeAddr(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// command is the framework bare, with the function in dir.
func (f *framework) command(interpreter, dir, addr string, env ...string) *exec.Cmd {
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(interpreter, f.argv...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "NODE_ENV=production", "FUNCTION_TARGET=echo", "PYTHONPATH=" + dir, "PORT=" + port}, env...)
	return cmd
}

// bare returns what executes the framework with the function, and says how long it was
// until that had answered.
func (f *framework) bare(b *testing.B, interpreter, code string) func() time.Duration {
	b.Helper()
	dir := b.TempDir() // the code is about to change
	if err := os.CopyFS(dir, os.DirFS(code)); err != nil {
		b.Fatal(err)
	}
	addr := freeAddr(b)
	return func() time.Duration {
		cmd := f.command(interpreter, dir, addr)
		begun := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Signal(os.Interrupt) // its workers, too
			_ = cmd.Wait()
		}()
		for {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				time.Sleep(500 * time.Microsecond)
				continue
			}
			defer c.Close()
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(payload), payload)
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || !strings.Contains(line, "200") {
				b.Fatalf("the bare framework answers %q, %v", line, err)
			}
			return time.Since(begun)
		}
	}
}
