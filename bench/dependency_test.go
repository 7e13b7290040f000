package bench_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// A dependent is a language's echo that loads an SDK first, and makes a client of it.
type dependent struct {
	language
	dependency string   // among the packages of the runtime
	execute    []string // what the interpreter executes a module's text with
}

var dependents = []dependent{
	{language{"python", "python3", "dependency.handler", inData("python/dependency.py"), nil}, "boto3", []string{"-B", "-c"}},
	{language{"nodejs", "nodejs", "dependency.handler", inData("nodejs/dependency.mjs"), nil}, "@aws-sdk/client-s3", []string{"--input-type=module", "-e"}},
}

// BenchmarkColdDependency is one client's latency where every call is a cold start, in
// a sandbox that was parked, of a function with a dependency that is slow to load.
// Calls of the same echo without it take turns with them: dependency is what the code
// takes longer for having it. The floor is the bare interpreter, executed to load the
// function's module with the same packages.
func BenchmarkColdDependency(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for i, l := range dependents {
		b.Run(l.name, func(b *testing.B) {
			d := daemon.Start(b, filepath.Join(daemon.Dir(b), "data"), "--keep-alive", "0", "--parked", "4")
			addr, bare := strings.TrimPrefix(d.URL, "http://"), l.bareImport(b, d)
			l.deploy(b, d, "with")
			languages[i].deploy(b, d, "without")
			with, without := caller(b, addr, "/fn/with/"), caller(b, addr, "/fn/without/")
			server := bench.Server(d.PID())
			pause := func() { rest(server) } // until another is parked
			call(b, with, 2, nil)            // the files are read
			time.Sleep(time.Second)          // until as many are parked as will be
			var cold, plain, floor bench.Latencies
			b.ResetTimer()
			for i := range b.N {
				cold = call(b, with, 1, cold)
				pause()
				plain = call(b, without, 1, plain)
				pause()
				if i%4 == 0 {
					floor = append(floor, bare())
					pause()
				}
			}
			b.StopTimer()
			reportCold(b, d, "with", cold)
			b.ReportMetric(us(plain.Percentile(50)), "without-p50-us")
			theirs, _ := split(b, d, "with")
			least, _ := split(b, d, "without")
			b.ReportMetric(us(theirs.Percentile(50)-least.Percentile(50)), "dependency-p50-us")
			b.ReportMetric(us(floor.Percentile(50)), "bare-import-p50-us")
		})
	}
}

// bareImport adds the dependency to the runtime of the server's machine, and returns
// what executes its interpreter once, beside the packages, to load the function's
// module.
func (l *dependent) bareImport(b *testing.B, d *daemon.Daemon) func() time.Duration {
	b.Helper()
	list, err := d.Runtimes(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var rt client.Runtime
	for _, r := range list {
		if strings.HasPrefix(r.Name, l.runtime) {
			rt = r // the newest is the last
		}
	}
	if rt.Name == "" {
		b.Skipf("the machine has no %s that any user can run", l.runtime)
	}
	if _, err := d.AddRuntime(b.Context(), &client.RuntimeRequest{Name: rt.Name, From: "host", Packages: &[]string{l.dependency}}, nil, nil); err != nil {
		b.Skip(err) // it says what is missing: pip, npm, or their registry
	}
	packages, _ := filepath.Glob(filepath.Join(d.Data, "roots", "trees", "*"))
	if len(packages) != 1 {
		b.Fatalf("the packages are in %q", packages)
	}
	module, err := os.ReadFile(l.files(b)[0])
	if err != nil {
		b.Fatal(err)
	}
	interpreter, _, _ := strings.Cut(rt.Note, " ") // "/usr/bin/node (22.1.0)"
	return execution(b, packages[0], append(append([]string{interpreter}, l.execute...), string(module))...)
}
