//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What functions run asks for longer slices than others do, so that these go first.
func TestFunctionsYield(t *testing.T) {
	own, err := unix.SchedGetAttr(0, 0)
	if err != nil || own.Runtime == 0 {
		t.Skip("on this kernel threads ask for no slices: Linux 6.12 has them")
	}
	d := open(t, "")
	defer d.Close()
	spin(t, d, "p", 128)
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(time.Millisecond) {
		for pid := range spinning() {
			if a, err := unix.SchedGetAttr(pid, 0); err == nil && a.Runtime == 4e6 {
				if a.Runtime <= own.Runtime {
					t.Errorf("functions ask for %d ns, and others for %d", a.Runtime, own.Runtime)
				}
				return
			}
		}
	}
	t.Error("no process of a sandbox asks for 4 ms")
}

// spinning are the processes that compute in sandboxes.
func spinning() map[int]bool {
	pids := map[int]bool{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file)
		if pid, err := strconv.Atoi(strings.Split(file, "/")[2]); err == nil && strings.Contains(string(line), "while :; do :; done") {
			pids[pid] = true
		}
	}
	return pids
}
