package namespace_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// compiler is the version of gcc that has built what is checked in.
const compiler = "12.2.0"

// The binaries of the first program are what its source says: whoever has that
// compiler gets the same bytes.
func TestTheInitIsItsSource(t *testing.T) {
	for arch, cc := range map[string]string{"amd64": "gcc", "arm64": "aarch64-linux-gnu-gcc"} {
		t.Run(arch, func(t *testing.T) {
			version, err := exec.Command(cc, "-dumpfullversion").Output()
			target, _ := exec.Command(cc, "-dumpmachine").Output()
			want := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
			if got := strings.TrimSpace(string(version)); err != nil || got != compiler || !strings.HasPrefix(string(target), want) {
				missing(t, "needs "+cc+" "+compiler+" for "+want+", there is "+got+" for "+strings.TrimSpace(string(target)))
			}
			out := t.TempDir()
			if log, err := exec.Command("init/build.sh", out).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			built, err := os.ReadFile(filepath.Join(out, "init-"+arch))
			if err != nil {
				t.Fatal(err)
			}
			kept, err := os.ReadFile("init/init-" + arch)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(built, kept) {
				t.Errorf("init-%s is not what init.c gives: run init/build.sh", arch)
			}
		})
	}
}

// missing skips a test for something that is not there, or fails it in CI.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
