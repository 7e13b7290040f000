package test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

// processes calls f for each process that lives.
func processes(f func(pid int, cmdline []string, uid int)) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		status, err := os.ReadFile(dir + "/status")
		if err != nil || strings.Contains(string(status), "State:\tZ") {
			continue // it ended
		}
		uid := 0
		if _, after, ok := strings.Cut(string(status), "\nUid:"); ok {
			_, _ = fmt.Sscan(after, &uid) // a line of numbers, by the kernel
		}
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		pid, _ := strconv.Atoi(filepath.Base(dir))
		f(pid, strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00"), uid)
	}
}

// serverAndJail returns a server's process and, where it is divided, its jail's.
func serverAndJail(d *daemon.Daemon) []int {
	pids := []int{d.PID()}
	processes(func(pid int, cmdline []string, _ int) {
		if slices.Contains(cmdline, "jail") && slices.Contains(cmdline, d.Data) {
			pids = append(pids, pid)
		}
	})
	return pids
}

// leftovers lists what a server of that number has on the machine: its sandboxes'
// processes, control groups and interfaces. Slot 0 is the next server's own.
func leftovers(server int) (left []string) {
	const slots, users = 4096, 1 << 16 // as sandbox/namespace leases them
	first := 1<<28 + server*slots*users
	processes(func(pid int, cmdline []string, uid int) {
		if uid >= first+users && uid < first+slots*users {
			left = append(left, fmt.Sprint("process ", pid, cmdline))
		}
	})
	for _, pattern := range []string{"/sys/fs/cgroup/*/lambent-%d/*", "/sys/fs/cgroup/lambent-%d/*", "/sys/class/net/lam%d-*"} {
		found, _ := filepath.Glob(fmt.Sprintf(pattern, server))
		for _, f := range found {
			if fi, err := os.Stat(f); err == nil && fi.IsDir() && !strings.HasSuffix(f, "/0") && !strings.HasSuffix(f, "-0") {
				left = append(left, f)
			}
		}
	}
	return left
}

// numberOf returns the number of the server whose function runs, and how many of
// its children do.
func numberOf(t *testing.T) (server, children int) {
	t.Helper()
	server = -1
	processes(func(pid int, cmdline []string, _ int) {
		if !slices.Contains(cmdline, slept) {
			return
		}
		groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if m := regexp.MustCompile(`/lambent-(\d+)/`).FindSubmatch(groups); m != nil {
			server, _ = strconv.Atoi(string(m[1]))
			children++
		}
	})
	return server, children
}

// A server that is killed with fifty sandboxes alive, busy, idle and frozen, leaves
// nothing behind once the next one is ready, and that takes no longer than 2 s:
// whether the process that makes its sandboxes is killed with it or sees it go.
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
	data := filepath.Join(daemon.Dir(t), "data")
	d := daemon.Start(t, data, "--driver", "namespace")
	code := upload(t, d, "app.py", "import time, subprocess\ndef handler(event, context):\n    subprocess.Popen(['sleep', '"+slept+"'])\n    time.sleep(event)\n")
	if _, err := d.Deploy(t.Context(), "sleeper", &client.DeployRequest{
		Runtime: new("python3"), Handler: new("app.handler"), Code: code, TimeoutMS: new(int64(600_000)),
	}, nil); err != nil {
		t.Fatal(err)
	}
	call := func(n int, seconds string) *sync.WaitGroup {
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { // some are cut off
				_, _ = d.Invoke(t.Context(), client.InvokeRequest{Name: "sleeper", Payload: strings.NewReader(seconds)}, io.Discard)
			})
		}
		return &wg
	}
	call(60, "1").Wait()
	time.Sleep(1500 * time.Millisecond) // these are idle, and frozen
	busy := call(30, "500")
	server, children := numberOf(t)
	for deadline := time.Now().Add(time.Minute); children < 60+30; server, children = numberOf(t) {
		if time.Now().After(deadline) {
			t.Fatalf("%d children run after a minute", children)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if both {
		for _, pid := range serverAndJail(d)[1:] {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it is there: it has sandboxes
		}
	}
	d.Kill()
	busy.Wait()
	begun := time.Now()
	daemon.Start(t, data, "--driver", "namespace", "--parked", "0")
	ready := time.Since(begun)
	left := leftovers(server)
	for len(left) > 0 && time.Since(begun) < 2*time.Second {
		time.Sleep(10 * time.Millisecond)
		left = leftovers(server)
	}
	t.Logf("%d children; the next server was ready after %v, and nothing was left after %v", children, ready, time.Since(begun))
	for _, l := range left {
		t.Errorf("left behind: %s", l)
	}
}
