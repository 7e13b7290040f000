//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"os"
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
