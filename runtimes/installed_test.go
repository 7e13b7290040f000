package runtimes_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"lambent/runtimes"
)

func TestInstalled(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) { // another user looks for the wrapper
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	script := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var attr *syscall.SysProcAttr
	user := "`id -u`"
	if os.Geteuid() == 0 {
		attr, user = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, "65534"
	}
	script("bin/node20", "sleep 1000") // it would not end
	script("versions/3.12/bin/python3.12", "sleep 1000")
	script("versions/3.12/bin/other", "")
	script("elsewhere/bin/python3.11", "")
	if err := os.Symlink("../versions/3.12/bin/python3.12", at("bin/python3")); err != nil {
		t.Fatal(err)
	}
	installed := runtimes.Installed([]string{at("bin")}, attr)
	for _, name := range []string{"bin/node20", "versions/3.12/bin/python3.12"} {
		if !installed(at(name)) {
			t.Errorf("%s is not known", name)
		}
	}

	script("shims/python3", "[ \"`id -u`\" = "+user+" ] && echo 3.11.2 && echo "+at("elsewhere/bin/python3.11"))
	installed = runtimes.Installed([]string{at("shims")}, attr)
	if !installed(at("elsewhere/bin/python3.11")) {
		t.Error("what the wrapper leads to is not known")
	}
	for _, name := range []string{"/etc", "/srv/alice/x/bin/python3", at("bin/node20"), at("versions/3.12/bin/other"), at("elsewhere"), at("bin/python3"), ""} {
		if installed(name) {
			t.Errorf("%q is taken for an interpreter", name)
		}
	}
}

// Whoever names programs that are none has wrappers run once.
func TestInstalledAsksOnce(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte("#!/bin/sh\necho ran >>"+log+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	installed := runtimes.Installed([]string{dir}, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if installed("/srv/alice/x/bin/python3") {
				t.Error("it is none")
			}
		})
	}
	wg.Wait()
	if b, err := os.ReadFile(log); err != nil || strings.Count(string(b), "ran") != 1 {
		t.Errorf("%s, %v", b, err)
	}
}
