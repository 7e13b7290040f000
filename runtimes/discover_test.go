package runtimes_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lambent"
	"lambent/runtimes"
)

func TestInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	home, err := runtimes.Install(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"python/boot.py", "python/agent.py", "python/warm.py", "nodejs/agent.cjs"} {
		info, err := os.Stat(filepath.Join(home, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o444 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	for d := home; d != filepath.Dir(dir); d = filepath.Dir(d) {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v: other users must get in", d, info.Mode(), err)
		}
	}
	again, err := runtimes.Install(dir)
	if err != nil || again != home {
		t.Errorf("the second time: %s, %v", again, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestInstallInParallel(t *testing.T) {
	dir := t.TempDir()
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := runtimes.Install(dir)
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestInstallNowhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := runtimes.Install(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

// fake writes a program that says it is an interpreter of that version.
func fake(t *testing.T, file, version string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho %s\necho '%s'\n", version, file)
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func find(list []lambent.Runtime, name string) *lambent.Runtime {
	if i := slices.IndexFunc(list, func(r lambent.Runtime) bool { return r.Name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

// The versions are ones that no machine has, so that what is installed does not matter.
func TestDiscover(t *testing.T) {
	root := t.TempDir()
	first, second := filepath.Join(root, "first"), filepath.Join(root, "second")
	fake(t, filepath.Join(first, "python3.88"), "3.88.1")
	fake(t, filepath.Join(first, "python3.99"), "3.7.1") // is not what its name says, and too old
	fake(t, filepath.Join(first, "python3.100"), "3.100.0")
	fake(t, filepath.Join(first, "node"), "88.1.2")
	fake(t, filepath.Join(first, "python3-config"), "3.87.1")
	fake(t, filepath.Join(second, "python3"), "3.88.2") // comes too late
	fake(t, filepath.Join(second, "nodejs"), "16.0.0")
	if err := os.WriteFile(filepath.Join(second, "python3.86"), []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	list, missing := runtimes.Discover(t.Context(), runtimes.Options{Agents: "/agents", Path: []string{first, second, "/not/there"}})
	for _, name := range []string{"provided", "provided.al2", "provided.al2023"} {
		if r := find(list, name); r == nil || r.Guest != "lambda" || r.Boot != nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	python := find(list, "python3.88")
	if python == nil || python.Boot[0] != filepath.Join(first, "python3.88") || python.Boot[len(python.Boot)-1] != "/agents/python/boot.py" || python.Guest != "lambda" {
		t.Errorf("python3.88: %+v", python)
	}
	node := find(list, "nodejs88.x")
	if node == nil || node.Boot[0] != filepath.Join(first, "node") || node.Boot[len(node.Boot)-1] != "/agents/nodejs/agent.cjs" {
		t.Errorf("nodejs88.x: %+v", node)
	}
	for _, name := range []string{"python3.99", "python3.87", "python3.86", "python3.7", "nodejs16.x"} {
		if r := find(list, name); r != nil {
			t.Errorf("offered: %+v", r)
		}
	}
	var said []string
	for _, m := range missing {
		if strings.HasPrefix(m.Path, root) {
			said = append(said, strings.TrimPrefix(m.Path, root)+" "+m.Why)
		}
	}
	want := []string{"/first/python3.99 python 3.7.1 is not supported", "/second/python3.86 does not run: exit status 3", "/second/nodejs nodejs 16.0.0 is not supported"}
	if !slices.Equal(said, want) {
		t.Errorf("missing %q, want %q", said, want)
	}
	at := func(name string) int {
		return slices.IndexFunc(list, func(r lambent.Runtime) bool { return r.Name == name })
	}
	if at("nodejs88.x") > at("python3.88") || at("python3.88") > at("python3.100") {
		t.Errorf("order: %v", list)
	}
}

// What is compiled runs by Google's names: by a Java, or by the Go that built it, which
// is the first on the path.
func TestDiscoverCompiled(t *testing.T) {
	root := t.TempDir()
	first, second, jdk := filepath.Join(root, "first"), filepath.Join(root, "second"), filepath.Join(root, "jdk")
	script := func(file, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	script(filepath.Join(first, "go"), "echo go1.88.3; echo "+root+"/goroot\n")
	script(filepath.Join(second, "go"), "echo go1.89rc1; echo "+root+"/other\n")
	script(filepath.Join(first, "java"), "exec "+jdk+"/bin/java \"$@\"\n") // a version manager's
	script(filepath.Join(jdk, "bin", "java"), "echo '    java.home = "+jdk+"' >&2; echo '    java.version = 88.0.1' >&2\n")
	script(filepath.Join(jdk, "lib", "modules"), "")
	script(filepath.Join(second, "java"), "echo '    java.home = "+root+"/old'; echo '    java.version = 1.8.0_392'\n")
	list, missing := runtimes.Discover(t.Context(), runtimes.Options{Path: []string{first, second}})
	golang := find(list, "go188")
	if golang == nil || golang.Guest != "gcf" || golang.Family != "google-go" || len(golang.Boot) > 0 || !slices.Equal(golang.LateBoot, []string{"./bootstrap"}) || find(list, "go189") != nil {
		t.Errorf("go188: %+v, go189: %+v", golang, find(list, "go189"))
	}
	java := find(list, "java88")
	if java == nil || java.Guest != "gcf" || java.Family != "google-java" || !java.BootLate || java.Boot[0] != jdk+"/bin/java" || !slices.Contains(java.Boot, "com.google.cloud.functions.invoker.runner.Invoker") {
		t.Errorf("java88: %+v", java)
	}
	if !slices.ContainsFunc(missing, func(m runtimes.Missing) bool { return m.Why == "java 1.8.0_392 is not supported" }) {
		t.Errorf("missing: %v", missing)
	}
}

func TestDiscoverUnprivileged(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{filepath.Dir(root), root} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dir := root; dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&1 == 0 {
			t.Skipf("temporary files are under %s, which is closed to other users", dir)
		}
	}
	closed, open := filepath.Join(root, "closed"), filepath.Join(root, "open")
	fake(t, filepath.Join(closed, "python3"), "3.88.1")
	fake(t, filepath.Join(closed, "node"), "88.1.1")
	fake(t, filepath.Join(open, "python3"), "3.88.2")
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	o := runtimes.Options{Path: []string{closed, open}, Unprivileged: true}
	list, missing := runtimes.Discover(t.Context(), o)
	if r := find(list, "python3.88"); r == nil || r.Boot[0] != filepath.Join(open, "python3") {
		t.Errorf("python3.88: %+v", r)
	}
	if r := find(list, "nodejs88.x"); r != nil {
		t.Errorf("offered: %+v", r)
	}
	i := slices.IndexFunc(missing, func(m runtimes.Missing) bool { return m.Name == "nodejs88.x" })
	if i < 0 || missing[i].Why != closed+" is closed to other users (mode 0700)" {
		t.Errorf("missing: %+v", missing)
	}
	o.Unprivileged = false
	list, _ = runtimes.Discover(t.Context(), o)
	if r := find(list, "python3.88"); r == nil || r.Boot[0] != filepath.Join(closed, "python3") {
		t.Errorf("as the owner: %+v", r)
	}
}

func TestDiscoverGivesUp(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte("#!/bin/sh\nsleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, missing := runtimes.Discover(ctx, runtimes.Options{Path: []string{dir}})
	if len(missing) == 0 {
		t.Error("a cancelled search found everything in order")
	}
}

func TestNotFound(t *testing.T) {
	have := []lambent.Runtime{{Name: "nodejs20.x"}, {Name: "python3.11"}}
	err := runtimes.NotFound("python3.13", have)
	e, ok := err.(*lambent.Error)
	if !ok || e.Kind != lambent.NotFound || e.Hint != "lambent runtime add python3.13" || e.Message != "runtime python3.13 is not on this machine: there are nodejs20.x, python3.11" {
		t.Errorf("%+v", err)
	}
	if err := runtimes.NotFound("cobol\n", have); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("%+v", err)
	}
}

func TestServers(t *testing.T) {
	added := lambent.Runtime{Name: "python3.12", Guest: "lambda", Root: "/roots/1", Note: "an image", Boot: []string{"/usr/local/bin/python3.12", "boot.py"}, Packages: "/p", PackagesAt: lambent.PackagesInside, FixedEnv: []string{"LD_*"}}
	node := lambent.Runtime{Name: "nodejs22.x", Guest: "lambda", Boot: []string{"/usr/bin/node", "agent.cjs"}}
	list := runtimes.Servers([]lambent.Runtime{{Name: "provided", Guest: "lambda"}, added, node}, "/agents")
	if len(list) != 3 {
		t.Errorf("got %+v", list)
	}
	web, python, js := find(list, "web"), find(list, "python312"), find(list, "nodejs22")
	if web == nil || web.Guest != "gcf" || web.Boot != nil {
		t.Errorf("web: %+v", web)
	}
	if python == nil || python.Guest != "gcf" || python.Root != "/roots/1" || python.Packages != "" || python.Family != "google-python" ||
		!slices.Equal(python.Boot, []string{"/usr/local/bin/python3.12", "-m", "functions_framework"}) || python.Env["PYTHONPATH"] != "/agents/python/site" || python.Defaults["PYTHONPATH"] != "" ||
		!slices.Equal(python.LateBoot, []string{"/usr/local/bin/python3.12", "-m", "functions_framework"}) {
		t.Errorf("python312: %+v", python)
	}
	main := "node_modules/@google-cloud/functions-framework/build/src/main.js"
	if js == nil || js.Family != "google-nodejs" || !slices.Equal(js.Boot, []string{"/usr/bin/node", "/agents/nodejs/server.cjs", main}) ||
		!slices.Equal(js.LateBoot, []string{"/usr/bin/node", main}) {
		t.Errorf("nodejs22: %+v", js)
	}
	node.Packages, node.PackagesAt, node.Preloads = "/p", lambent.PackagesInside, "functions-framework 1"
	js = find(runtimes.Servers([]lambent.Runtime{node}, "/agents"), "nodejs22")
	if js.Packages != "/p" || js.PackagesAt != lambent.TaskInside || js.Preloads != "functions-framework 1" || js.Plain().Packages != "" {
		t.Errorf("nodejs22, with the framework: %+v", js)
	}
}

func TestNotFoundByGoogle(t *testing.T) {
	for name, c := range map[string]struct {
		kind lambent.Kind
		hint string
	}{
		"python3.99":  {lambent.NotFound, "lambent runtime add python3.99"},
		"python399":   {lambent.NotFound, "lambent runtime add python3.99"},
		"nodejs99":    {lambent.NotFound, "lambent runtime add nodejs99.x"},
		"java99":      {lambent.NotFound, "apt-get install openjdk-99-jre-headless"},
		"go199":       {lambent.NotFound, "install Go 1.99 from https://go.dev/dl, the first on the server's PATH"},
		"google-java": {lambent.NotFound, "apt-get install default-jre-headless"},
		"google-go":   {lambent.NotFound, "install Go from https://go.dev/dl, on the server's PATH"},
		"python3":     {lambent.NotFound, "apt-get install python3"},
		"ruby34":      {lambent.Unsupported, "lambent deploy --runtime web --command 'PROGRAM ARGUMENTS'"},
		"cobol":       {lambent.Invalid, "lambent runtime list"},
	} {
		var e *lambent.Error
		if err := runtimes.NotFound(name, nil); !lambent.Is(err, c.kind) || !errors.As(err, &e) || e.Hint != c.hint {
			t.Errorf("%s: %v", name, err)
		}
	}
}
