// Package vm runs the tests of other packages again in small virtual machines: with
// control groups of version 2, which a machine to work on need not have, and with
// the kernels of the oldest Debian that sandboxes are to work on and of the next.
//
//	go test ./test/vm -v -run 'V2/6.1$/cgroup'                  one package on one kernel
//	go test ./test/vm -v -run 'V2/6.1$/cgroup' -args -only Kill  some of its tests
//
// The machine is QEMU's, and emulated: that there is a /dev/kvm does not mean that
// it can run a kernel that nobody tried. For what sandboxes do it is 5 to 20 times
// slower than the host, so a test that runs here holds nothing to milliseconds.
package vm

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// packages are those whose tests run in the machine.
var packages = []string{"internal/cgroup", "internal/netns", "sandbox/namespace"}

// elsewhere are tests that are left to the host: one needs a compiler, one would
// make 65,000 files, a minute's work in here, to learn what ext4 does, and one holds
// shares of real processors to the hundredth.
const elsewhere = "^TestTheInitIsItsSource$|^TestEscape$/^while/^files$|^TestShares$"

// kernels are what tools/setup.sh fetches.
var kernels = []string{"6.1", "6.12"}

// limit is for the tests of one package on one kernel.
const limit = 4 * time.Minute

var only = flag.String("only", "", "run only these tests inside, as go test's -run does")

func TestMain(m *testing.M) {
	if os.Getpid() == 1 && os.Args[0] == "/init" {
		beInit() // in the machine
	}
	os.Exit(m.Run())
}

func TestV2(t *testing.T) {
	need(t)
	root, programs := makeRoot(t), build(t)
	on := func(kernel string) machine {
		return machine{kernel: filepath.Join(cache, "linux-"+kernel), root: root, init: programs[self]}
	}
	// What these tests rest on: that a failure inside is one here.
	t.Run("status", func(t *testing.T) {
		for script, want := range map[string]int{
			"exit 7":                      7,
			"echo c >/proc/sysrq-trigger": noStatus, // the kernel panics
		} {
			var out bytes.Buffer
			if status := on(kernels[0]).run(t, time.Minute, &out, []string{"/bin/sh", "-c", script}, nil); status != want {
				t.Errorf("%s: %d, not %d\n%s", script, status, want, &out)
			}
		}
	})
	for _, kernel := range kernels {
		t.Run(kernel, func(t *testing.T) {
			for _, pkg := range packages {
				t.Run(filepath.Base(pkg), func(t *testing.T) {
					argv := []string{"/job/test", "-test.v", "-test.timeout=" + limit.String(), "-test.skip=" + elsewhere}
					if *only != "" {
						argv = append(argv, "-test.run="+*only)
					}
					files := map[string]string{"test": programs[pkg], probe: programs[probe]}
					if data := filepath.Join("../..", pkg, "testdata"); exists(data) {
						files["testdata"] = data
					}
					status := on(kernel).run(t, limit+time.Minute, t.Output(), argv, files)
					if status == noStatus {
						// One kernel in some twenty panics in code that has nothing to do
						// with ours, of flags that no instruction could have set: QEMU 7.2.
						t.Log("the machine died; once more")
						status = on(kernel).run(t, limit+time.Minute, t.Output(), argv, files)
					}
					if status != 0 {
						t.Errorf("status %d", status)
					}
				})
			}
		})
	}
}

// need skips where something is missing, or fails if nothing may.
func need(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes minutes")
	}
	var missing []string
	if runtime.GOARCH != "amd64" {
		missing = append(missing, "an amd64 processor")
	}
	for _, program := range append([]string{qemu, "mke2fs", "busybox", "ldd"}, copied...) {
		if find(program) == "" {
			missing = append(missing, program)
		}
	}
	for _, kernel := range kernels {
		if !exists(filepath.Join(cache, "linux-"+kernel, "vmlinuz")) {
			missing = append(missing, "Linux "+kernel)
		}
	}
	if missing == nil {
		return
	}
	const mend = "needs %s: tools/setup.sh test"
	if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
		t.Fatalf(mend, strings.Join(missing, ", "))
	}
	t.Skipf(mend, strings.Join(missing, ", "))
}
