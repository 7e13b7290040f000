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

	"lambent/client"
	"lambent/test/daemon"
)

// divided starts a server that root divides, and returns its jail's process.
func divided(t *testing.T, data string, args ...string) (d *daemon.Daemon, jail int) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root, for sandboxes")
	}
	d = daemon.Start(t, data, append([]string{"--driver", "namespace", "--parked", "0"}, args...)...)
	pids := serverAndJail(d)
	if len(pids) != 2 {
		t.Fatalf("the server is processes %v", pids)
	}
	return d, pids[1]
}

// What hears strangers has no right of root's, and no way to one.
func TestServersRights(t *testing.T) {
	d, jail := divided(t, filepath.Join(daemon.Dir(t), "data"))
	status := func(pid int) map[string]string {
		t.Helper()
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(line, ":")
			fields[name] = strings.Join(strings.Fields(value), " ")
		}
		return fields
	}
	owner, err := os.Stat(d.Data)
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := owner.Sys().(*syscall.Stat_t).Uid, owner.Sys().(*syscall.Stat_t).Gid
	if uid == 0 || gid == 0 {
		t.Errorf("the data directory belongs to %d:%d", uid, gid)
	}
	const none = "0000000000000000"
	got := status(d.PID())
	for name, want := range map[string]string{
		"Uid": fmt.Sprintf("%d %[1]d %[1]d %[1]d", uid), "Gid": fmt.Sprintf("%d %[1]d %[1]d %[1]d", gid), "Groups": "",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1",
	} {
		if got[name] != want {
			t.Errorf("the server's %s is %q, want %q", name, got[name], want)
		}
	}
	if got := status(jail); got["Uid"] != "0 0 0 0" {
		t.Errorf("the jail's user is %q", got["Uid"])
	}
}

// A server without its jail can do nothing: it ends, and says so. Calls end with it, and
// what ran.
func TestJailIsKilled(t *testing.T) {
	data := filepath.Join(daemon.Dir(t), "data")
	d, jail := divided(t, data)
	code := upload(t, d, "app.py", "import time, subprocess\ndef handler(event, context):\n    subprocess.Popen(['sleep', '"+slept+"'])\n    time.sleep(event)\n")
	if _, err := d.Deploy(t.Context(), "sleeper", &client.DeployRequest{
		Runtime: new("python3"), Handler: new("app.handler"), Code: code, TimeoutMS: new(int64(600_000)),
	}, nil); err != nil {
		t.Fatal(err)
	}
	const calls = 3
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			out, err := d.Invoke(t.Context(), client.InvokeRequest{Name: "sleeper", Payload: strings.NewReader("500")}, io.Discard)
			if err == nil && out.Fault == "" {
				t.Error("a call succeeds without a sandbox")
			}
		})
	}
	eventually(t, func() (string, bool) {
		n := sleepers(d)
		return fmt.Sprint(n, " children run"), n >= calls
	})
	held := d.Holdings(t)
	if err := syscall.Kill(jail, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	state, said := d.Wait(t)
	wg.Wait()
	if state.ExitCode() <= 0 || !strings.Contains(said, "the process that makes sandboxes is gone") {
		t.Errorf("the server ended with %v, and said:\n%s", state, said)
	}
	eventually(t, func() (string, bool) {
		left := slices.DeleteFunc(held.Left(), func(what string) bool { return !strings.HasPrefix(what, "process ") })
		return fmt.Sprint("still there: ", left), len(left) == 0
	})
	again, _ := divided(t, data)
	again.Signal(syscall.SIGTERM)
	if state, said := again.Wait(t); state.ExitCode() != 0 {
		t.Errorf("the next server ended with %v, and said:\n%s", state, said)
	}
}
