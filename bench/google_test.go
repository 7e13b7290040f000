package bench_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// BenchmarkColdGoogle is one client's latency where every call is a cold start of a
// function of Google's that was compiled: in Go, whose program starts in a sandbox that
// was parked, and in Java.
func BenchmarkColdGoogle(b *testing.B) {
	for _, l := range []language{
		{name: "go", runtime: "google-go", handler: "Echo", files: func(*testing.B) []string {
			return []string{"testdata/gcf-go/go.mod", "testdata/gcf-go/echo.go"}
		}},
		{name: "java", runtime: "google-java", handler: "Echo", files: javaEcho},
	} {
		b.Run(l.name, func(b *testing.B) {
			d := daemon.Start(b, filepath.Join(daemon.Dir(b), "data"), "--keep-alive", "0", "--parked", "4")
			l.deploy(b, d, "echo", func(r *client.DeployRequest) {
				r.MemoryMB, r.TimeoutMS = new(256), new(int64(60_000))
				if l.name == "go" {
					r.Code, r.Source, r.Build = "", r.Code, "go"
				}
			})
			ours, server := caller(b, strings.TrimPrefix(d.URL, "http://"), "/fn/echo/"), bench.Server(d.PID())
			time.Sleep(time.Second) // until as many are parked as will be
			rest(server)
			var cold bench.Latencies
			b.ResetTimer()
			for range b.N {
				cold = call(b, ours, 1, cold)
				rest(server)
			}
			b.StopTimer()
			reportCold(b, d, "echo", cold)
		})
	}
}

// javaEcho compiles the echo against the invoker, which lies beside it.
func javaEcho(b *testing.B) []string {
	b.Helper()
	invoker, err := filepath.Glob("../.venv/java-function-invoker-*[0-9]/*.jar")
	if err != nil || len(invoker) == 0 {
		b.Skip("java-function-invoker is not installed: tools/setup.sh test")
	}
	dir := b.TempDir()
	cmd := exec.Command("javac", "-cp", invoker[0], "-d", dir, "testdata/gcf-java/Echo.java")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Skipf("javac: %v\n%s", err, out)
	}
	return []string{filepath.Join(dir, "Echo.class"), invoker[0]}
}
