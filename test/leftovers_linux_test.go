package test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent/client"
	"lambent/test/daemon"
)

// slept marks the children of the function below among all processes.
const slept = "987654321"

// serverAndJail returns a server's process and, where it is divided, its jail's.
func serverAndJail(d *daemon.Daemon) []int {
	pids := []int{d.PID()}
	for _, pid := range daemon.Descendants(d.PID()) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended
		if argv := strings.Split(string(cmdline), "\x00"); slices.Contains(argv, "jail") && slices.Contains(argv, d.Data) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sleepers counts the children of that function in a server's sandboxes.
func sleepers(d *daemon.Daemon) (n int) {
	for _, pid := range daemon.Descendants(d.PID()) {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended
		if strings.Contains(string(cmdline), slept) {
			n++
		}
	}
	return n
}

// eventually waits for what is bound to come, and says what there is instead.
func eventually(t *testing.T, what func() (string, bool)) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		said, ok := what()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a minute: %s", said)
		}
	}
}

// A server that is killed with sandboxes alive, busy, idle and frozen, leaves nothing
// behind of all that they are made of once the next one is ready: whether the process
// that makes its sandboxes is killed with it or sees it go. How long that takes,
// bench's AfterKill tells.
func TestKillLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "needs root, for sandboxes")
	}
	for _, c := range []struct {
		name string
		both bool
	}{{"the server", false}, {"the server and its jail", true}} {
		t.Run(c.name, func(t *testing.T) { killLeavesNothing(t, c.both) })
	}
}

func killLeavesNothing(t *testing.T, both bool) {
	const alive, busy = 50, 25
	data := filepath.Join(daemon.Dir(t), "data")
	d := daemon.Start(t, data, "--driver", "namespace")
	code := upload(t, d, "app.py", "import time, subprocess\ndef handler(event, context):\n    subprocess.Popen(['sleep', '"+slept+"'])\n    time.sleep(event)\n")
	if _, err := d.Deploy(t.Context(), "sleeper", &client.DeployRequest{
		Runtime: new("python3"), Handler: new("app.handler"), Code: code, TimeoutMS: new(int64(600_000)), Network: []string{"192.0.2.0/24:443"},
		Scaling: &client.ScalingRequest{MinInstances: new(alive)},
	}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() (string, bool) {
		n := d.Frozen(t)
		return fmt.Sprint(n, " are frozen"), n >= alive
	})
	var calls sync.WaitGroup
	for range busy {
		calls.Go(func() { // it is cut off
			_, _ = d.Invoke(t.Context(), client.InvokeRequest{Name: "sleeper", Payload: strings.NewReader("500")}, io.Discard)
		})
	}
	eventually(t, func() (string, bool) {
		n := sleepers(d)
		return fmt.Sprint(n, " children run"), n >= busy
	})
	held := d.Holdings(t)
	count := map[string]int{}
	for _, what := range held.Left() {
		kind, _, _ := strings.Cut(what, " ")
		count[kind]++
	}
	t.Logf("it has %v, and %d are frozen", count, d.Frozen(t))
	each := map[string]int{"process": 2, "namespace": 6, "group": 1, "interface": 1, "disk": 1, "policy": 1}
	if count["namespace"] == 0 {
		t.Log("this kernel cannot tell one namespace from a later one")
		delete(each, "namespace")
	}
	for kind, each := range each {
		if count[kind] < alive*each {
			t.Errorf("it has %d of kind %s, which are to be looked for: not %d", count[kind], kind, alive*each)
		}
	}
	if both {
		for _, pid := range serverAndJail(d)[1:] {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it is there: it has sandboxes
		}
	}
	begun := time.Now()
	d.Kill()
	calls.Wait()
	again := daemon.Start(t, data, "--driver", "namespace", "--parked", "0")
	var gone time.Duration
	eventually(t, func() (string, bool) {
		left := held.Left()
		gone = time.Since(begun)
		return "left behind: " + strings.Join(left, ", "), len(left) == 0
	})
	t.Logf("the next server was ready after %v, and nothing was left %v after the kill", again.Ready, gone)
}
