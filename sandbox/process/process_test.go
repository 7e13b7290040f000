package process_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/sandbox"
	"lambent/sandbox/process"
	"lambent/sandbox/sandboxtest"
)

// publicDir returns a directory that any user can reach: t.TempDir is not, below
// a private parent.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lambent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T) sandbox.Driver {
	t.Helper()
	d, err := process.New(process.Options{Dir: filepath.Join(publicDir(t), "run")})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) { sandboxtest.Run(t, publicDir, open) }

// A process that leaves its group survives the group's end; as root it does not
// survive its user's.
func TestDaemonisedChildEnds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for user ids of their own")
	}
	d := open(t)
	defer d.Close()
	b := start(t, d, "setsid sleep 1000 & echo up; wait")
	if err := b.Destroy(); err != nil {
		t.Fatal(err)
	}
	_ = b.Output().SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(b.Output()); err != nil {
		t.Errorf("the process that left its group lives on: %v", err)
	}
}

func start(t *testing.T, d sandbox.Driver, script string) sandbox.Sandbox {
	t.Helper()
	b, err := d.Park(t.Context(), lambent.Runtime{Name: "provided"})
	if err != nil {
		t.Fatal(err)
	}
	code := publicDir(t)
	if err := os.WriteFile(filepath.Join(code, "bootstrap"), []byte("#!/bin/sh\n"+script+"\n"), 0o555); err != nil {
		t.Fatal(err)
	}
	task := sandbox.Task{Code: code, MemoryMB: 128, TmpMB: 512, Start: sandbox.Start{Argv: []string{"bootstrap"}, Env: []string{"PATH=/usr/bin:/bin"}}}
	if err := b.Assign(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b.Output(), make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKilledServer runs a server (this test binary again) with a sandbox whose
// process has a child, kills it with SIGKILL, and waits for both to be gone:
// they hold the write end of a pipe of ours as standard output.
func TestKilledServer(t *testing.T) {
	if dir := os.Getenv("LAMBENT_TEST_SERVER"); dir != "" {
		d := open(t)
		b := start(t, d, "sleep 1000 & echo up; sleep 1000 & wait")
		_ = b
		os.Stdout.WriteString("serving\n")
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledServer$")
	cmd.Env = append(os.Environ(), "LAMBENT_TEST_SERVER=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "serving" {
	}
	before := children(t, cmd.Process.Pid)
	if len(before) < 3 {
		t.Fatalf("the server has %d descendants, want a reaper, a shell and its children", len(before))
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; {
		alive := 0
		for _, pid := range before {
			if syscall.Kill(pid, 0) == nil {
				alive++
			}
		}
		if alive == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d processes survive the server", alive, len(before))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// children lists the descendants of a process.
func children(t *testing.T, pid int) (all []int) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/" + itoa(pid) + "/task/*/children")
	if err != nil || len(tasks) == 0 {
		t.Skip("needs /proc with children lists")
	}
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, c := range fields(b) {
			all = append(all, c)
			all = append(all, children(t, c)...)
		}
	}
	return all
}
