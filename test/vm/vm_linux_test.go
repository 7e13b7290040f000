// Package vm runs the tests of other packages again in small virtual machines, on the
// kernels of the oldest Debian that sandboxes are to work on and of the next.
//
//	go test ./test/vm -v -run 'V2/6.1$/cgroup'                  one package on one kernel
//	go test ./test/vm -v -run 'V2/6.1$/cgroup' -args -only Kill  some of its tests
package vm

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lambent/test/machine"
)

// packages are those whose tests run in the machine.
var packages = []string{"internal/cgroup", "internal/netns", "sandbox/namespace"}

// elsewhere are tests that are left to the host: one needs a compiler, one would
// make 65,000 files, a minute's work in here, to learn what ext4 does, two hold
// shares of real processors to the hundredth, and two need certificates and time zones.
const elsewhere = "^TestTheInitIsItsSource$|^TestEscape$/^while/^files$|^TestShares$|^TestShareByMemory$|^TestCertificatesOfTheMachine$|^TestTimeZones$"

// limit is for the tests of one package on one kernel.
const limit = 4 * time.Minute

var only = flag.String("only", "", "run only these tests inside, as go test's -run does")

func TestV2(t *testing.T) {
	machine.Need(t)
	var sources []string
	tests := map[string]string{}
	for _, pkg := range packages {
		sources = append(sources, "lambent/"+pkg)
		tests[pkg] = machine.Compile(t, "lambent/"+pkg, "test", "-c")
	}
	machine.Watch(t, sources...)
	probe := machine.Compile(t, "../../sandbox/sandboxtest/testdata/probe.go", "build") // which sandboxtest compiles where it can
	m := machine.New(t, nil)
	run := func(t *testing.T, kernel string, limit time.Duration, out io.Writer, argv []string, files map[string]string) int {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		m.Kernel = kernel
		return m.Run(ctx, t, out, argv, files)
	}
	// What these tests rest on: that a failure inside is one here.
	t.Run("status", func(t *testing.T) {
		for script, want := range map[string]int{
			"exit 7":                      7,
			"echo c >/proc/sysrq-trigger": machine.Died, // the kernel panics
		} {
			var out bytes.Buffer
			if status := run(t, machine.Kernels[0], time.Minute, &out, []string{"/bin/sh", "-c", script}, nil); status != want {
				t.Errorf("%s: %d, not %d\n%s", script, status, want, &out)
			}
		}
	})
	for _, kernel := range machine.Kernels {
		t.Run(kernel, func(t *testing.T) {
			for _, pkg := range packages {
				t.Run(filepath.Base(pkg), func(t *testing.T) {
					argv := []string{"/usr/bin/env", "LAMBENT_TEST_PROBE=/job/probe", "/job/test", "-test.v", "-test.timeout=" + limit.String(), "-test.skip=" + elsewhere}
					if *only != "" {
						argv = append(argv, "-test.run="+*only)
					}
					files := map[string]string{"test": tests[pkg], "probe": probe}
					data := filepath.Join("../..", pkg, "testdata")
					if _, err := os.Stat(data); err == nil {
						files["testdata"] = data
					}
					status := run(t, kernel, limit+time.Minute, t.Output(), argv, files)
					if status == machine.Died {
						// One kernel in some twenty panics in code that has nothing to do
						// with ours, of flags that no instruction could have set: QEMU 7.2.
						t.Log("the machine died; once more")
						status = run(t, kernel, limit+time.Minute, t.Output(), argv, files)
					}
					if status != 0 {
						t.Errorf("status %d", status)
					}
				})
			}
		})
	}
}
