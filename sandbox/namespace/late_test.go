//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/sandbox"
)

// TestEnvironmentIsTheCodesAlone: what a function says of the loader's environment
// reaches process 2 of its sandbox, and not the init, which began with privileges.
func TestEnvironmentIsTheCodesAlone(t *testing.T) {
	d := open(t, "")
	defer d.Close()
	b, err := d.Park(t.Context(), lambent.Runtime{Name: "shell", Boot: []string{"/bin/sh", "-c", "echo up >&3; sleep 1000"}, BootLate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Output().Close()
	defer b.Destroy()
	const mark = "LD_PRELOAD=libresolv.so.2"
	err = b.Assign(t.Context(), sandbox.Task{
		Code: codeDir(t), MemoryMB: 128, TmpMB: 512,
		Start: sandbox.Start{Argv: []string{"/bin/sh", "-c", "echo up >&3; sleep 1000"}, Env: []string{"PATH=/usr/bin:/bin", mark}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Agent().SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := b.Agent().Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	inits, with := 0, 0
	for _, pid := range childrenOf(t, os.Getpid()) {
		inits++
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || len(environ) > 0 {
			t.Errorf("the init has the environment %q, %v", environ, err)
		}
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if err != nil || strings.Contains(string(maps), "libresolv") {
			t.Errorf("the init has mapped %s, %v", maps, err)
		}
		for _, child := range childrenOf(t, pid) {
			environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", child))
			maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", child))
			if strings.Contains(string(environ), mark) && strings.Contains(string(maps), "libresolv") {
				with++
			}
		}
	}
	if inits == 0 || with != 1 {
		t.Errorf("of %d inits %d have a child with %s", inits, with, mark)
	}
}

// childrenOf lists the processes that one has.
func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, _ := os.ReadFile(file) // the thread may be gone
		for _, s := range strings.Fields(string(b)) {
			var n int
			if _, err := fmt.Sscan(s, &n); err != nil {
				t.Fatal(err)
			}
			children = append(children, n)
		}
	}
	return children
}
