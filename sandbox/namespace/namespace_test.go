//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"os"
	"syscall"
	"testing"

	"lambent/sandbox"
	"lambent/sandbox/namespace"
	"lambent/sandbox/sandboxtest"
)

// needRoot skips where the driver cannot work.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root")
	}
}

// codeDir returns a directory that the users inside may read, wherever it lies.
func codeDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t testing.TB, agents string) *namespace.Driver {
	t.Helper()
	needRoot(t)
	d, err := namespace.New(namespace.Options{Dir: t.TempDir(), Agents: agents})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	needRoot(t)
	sandboxtest.Run(t, codeDir, func(t *testing.T) sandbox.Driver { return open(t, "") })
}

func TestEscape(t *testing.T) {
	needRoot(t)
	sandboxtest.Escape(t, codeDir, func(t *testing.T) sandbox.Driver { return open(t, "") })
	// The driver lives, and what filled a disk is gone from the host's.
	if held := spaceHeld(t); held > 256<<20 {
		t.Errorf("disks without a sandbox hold %d MB", held>>20)
	}
}

// spaceHeld is what files take that this process has open, such as those of disks.
func spaceHeld(t *testing.T) (bytes int64) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if fi, err := os.Stat("/proc/self/fd/" + fd.Name()); err == nil && fi.Mode().IsRegular() {
			bytes += fi.Sys().(*syscall.Stat_t).Blocks * 512
		}
	}
	return bytes
}
