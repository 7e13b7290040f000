package build_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/bundle"
	"lambent/control/build"
	"lambent/guest/platformtest"
	"lambent/runtimes"
	"lambent/sandbox"
	"lambent/sandbox/names"
)

// A yard is where sandboxed builds are tested: a driver, and the runtimes that it has.
type yard struct {
	driver   sandbox.Driver
	runtimes map[string]lambent.Runtime // by family
}

// drivers runs a test with each driver.
func drivers(t *testing.T, f func(t *testing.T, y *yard)) {
	t.Parallel()
	for name, open := range platformtest.Drivers {
		t.Run(name, func(t *testing.T) {
			agents, err := runtimes.Install(platformtest.PublicDir(t))
			if err != nil {
				t.Fatal(err)
			}
			d, o := open(t, filepath.Join(platformtest.PublicDir(t), "run"), agents)
			if d, err = names.New(d, names.Options{}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
			o.Path = filepath.SplitList(os.Getenv("PATH"))
			y := &yard{driver: sandbox.Guard(d), runtimes: map[string]lambent.Runtime{"": {Name: "provided"}}}
			found, _ := runtimes.Discover(t.Context(), o)
			for _, r := range found {
				y.runtimes[r.Family] = r
			}
			f(t, y)
		})
	}
}

// needs returns the runtime of a family, or skips the test.
func (y *yard) needs(t *testing.T, family string) lambent.Runtime {
	t.Helper()
	rt, ok := y.runtimes[family]
	if !ok {
		platformtest.Missing(t, "no "+family+" that the users of sandboxes can run")
	}
	return rt
}

func (y *yard) options(t *testing.T) build.Options {
	o := options(t)
	o.Driver = y.driver
	o.Env = []string{"NPM_CONFIG_REGISTRY=http://127.0.0.1:9", "PIP_NO_INDEX=1", "npm_config_fetch_retries=0"}
	return o
}

// read returns what is in a file of a result, or why not.
func read(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// What lies in the project itself is installed from there, and its own build step is run:
// then the result is all that is there afterwards.
func TestNpmOfTheProject(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		rt := y.needs(t, "nodejs")
		src := source(t,
			"package.json", `{"name":"f","version":"1.0.0","scripts":{"gcp-build":"node make.js"},"dependencies":{"near":"file:./near"},"devDependencies":{"maker":"file:./maker"}}`,
			"make.js", `require("fs").writeFileSync("made.txt", require("maker") + " " + process.version)`,
			"near/package.json", `{"name":"near","version":"1.0.0"}`, "near/index.js", `module.exports = "near"`,
			"maker/package.json", `{"name":"maker","version":"1.0.0"}`, "maker/index.js", `module.exports = "maker"`,
			"index.js", "x")
		var progress bytes.Buffer
		out, err := made(t, y.options(t), build.Request{Kind: "npm", Runtime: rt}, src, &progress)
		if err != nil {
			t.Fatalf("%v\n%s", err, &progress)
		}
		version := strings.TrimSuffix(strings.TrimPrefix(rt.Name, "nodejs"), ".x")
		if got := read(out, "made.txt"); !strings.HasPrefix(got, "maker v"+version+".") {
			t.Errorf("gcp-build, with the runtime's own Node.js, has made %q", got)
		}
		if got := read(out, "node_modules/near/index.js"); got != `module.exports = "near"` {
			t.Errorf("node_modules/near: %s", got)
		}
		if _, err := os.Lstat(filepath.Join(out, "node_modules/maker")); err == nil {
			t.Error("what only development needs is still there")
		}
	})
}

// A registry of one package.
func registry(t *testing.T, asked *atomic.Int32) *httptest.Server {
	var tarball bytes.Buffer
	z := gzip.NewWriter(&tarball)
	w := tar.NewWriter(z)
	for name, content := range map[string]string{"package/package.json": `{"name":"tiny","version":"1.2.3","bin":{"tiny":"cli.js"}}`, "package/index.js": "module.exports = 123", "package/cli.js": "#!/usr/bin/env node\n"} {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
		_, _ = w.Write([]byte(content))
	}
	_ = w.Close()
	_ = z.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/tiny":
			_ = json.NewEncoder(w).Encode(map[string]any{"name": "tiny", "dist-tags": map[string]string{"latest": "1.2.3"}, "versions": map[string]any{
				"1.2.3": map[string]any{"name": "tiny", "version": "1.2.3", "bin": map[string]string{"tiny": "cli.js"}, "dist": map[string]string{"tarball": "http://" + r.Host + "/tiny.tgz"}},
			}})
		case "/tiny.tgz":
			_, _ = w.Write(tarball.Bytes())
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// Of a project that asks for packages only, what is installed once serves until the
// manifests change: for the project that it was installed for.
func TestNpmOfARegistry(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		if !strings.HasSuffix(t.Name(), "process") {
			t.Skip("the registry is on the loopback, which no sandbox reaches")
		}
		rt := y.needs(t, "nodejs")
		var asked atomic.Int32
		o := y.options(t)
		o.Env = []string{"NPM_CONFIG_REGISTRY=" + registry(t, &asked).URL}
		code := func(pkg, index string) string {
			return source(t, "package.json", pkg, "index.js", index, "node_modules.txt", "beside")
		}
		const pkg = `{"dependencies":{"tiny":"^1.0.0"}}`
		build := func(r build.Request, src string) (string, string, bool) {
			t.Helper()
			asked.Store(0)
			var progress bytes.Buffer
			r.Kind, r.Runtime = "npm", rt
			out, err := made(t, o, r, src, &progress)
			if err != nil {
				t.Fatalf("%v\n%s", err, &progress)
			}
			return out, progress.String(), asked.Load() > 0
		}
		out, _, fetched := build(buildRequest("p"), code(pkg, "1"))
		if got := read(out, "node_modules/tiny/index.js"); got != "module.exports = 123" || !fetched {
			t.Errorf("node_modules/tiny: %s; the registry was asked: %v", got, fetched)
		}
		if link, err := os.Readlink(filepath.Join(out, "node_modules/.bin/tiny")); err != nil || link != "../tiny/cli.js" {
			t.Errorf("its command: %q, %v", link, err)
		}
		if read(out, "index.js") != "1" || read(out, "node_modules.txt") != "beside" || !strings.Contains(read(out, "package-lock.json"), "no such file") {
			t.Error("what was deployed is not as it was")
		}
		out, said, fetched := build(buildRequest("p"), code(pkg, "2"))
		if fetched || read(out, "index.js") != "2" || read(out, "node_modules/tiny/index.js") != "module.exports = 123" || !strings.Contains(said, "nothing of what is installed has changed") {
			t.Errorf("again: the registry was asked: %v; %s", fetched, said)
		}
		if _, _, fetched := build(buildRequest("other"), code(pkg, "2")); !fetched {
			t.Error("another project is given what was installed for this one")
		}
		if _, _, fetched := build(buildRequest("p"), code(`{"dependencies":{"tiny":"1.2.3"}}`, "2")); !fetched {
			t.Error("a changed manifest is served from the cache")
		}
		fresh := buildRequest("p")
		fresh.Fresh = true
		if _, _, fetched := build(fresh, code(pkg, "2")); !fetched {
			t.Error("the cache was used, against what was asked")
		}
		// Without a lock file it is not for ever.
		kept, err := filepath.Glob(filepath.Join(o.CacheDir, "installed", "*"))
		if err != nil || len(kept) != 3 {
			t.Fatalf("kept: %v, %v", kept, err)
		}
		for _, file := range kept {
			old := time.Now().Add(-25 * time.Hour)
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, fetched := build(buildRequest("p"), code(pkg, "3")); !fetched {
			t.Error("versions of yesterday are served")
		}
		o.Env = []string{"NPM_CONFIG_REGISTRY=" + registry(t, &asked).URL}
		if _, _, fetched := build(buildRequest("p"), code(pkg, "3")); !fetched {
			t.Error("what came from another registry is served")
		}
	})
}

func buildRequest(project string) build.Request {
	return build.Request{Name: lambent.Name{Project: project, Function: "f"}}
}

// A wheel of the project's own needs no index. The function's own file comes before one
// of a package.
func TestPip(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		rt := y.needs(t, "python3")
		if err := exec.Command(rt.Boot[0], "-m", "pip", "--version").Run(); err != nil {
			platformtest.Missing(t, "no pip of "+rt.Boot[0])
		}
		src := source(t, "requirements.txt", "--find-links wheels\ntiny==1.0\n", "app.py", "import tiny", "other.py", "x = 'mine'", "types.py", "not Python's", "pip/__main__.py", "raise SystemExit('not pip')")
		wheel(t, rt.Boot[0], filepath.Join(src, "wheels"))
		var progress bytes.Buffer
		out, err := made(t, y.options(t), build.Request{Kind: "pip", Runtime: rt}, src, &progress)
		if err != nil {
			t.Fatalf("%v\n%s", err, &progress)
		}
		if read(out, "tiny.py") != "x = 1\n" || read(out, "other.py") != "x = 'mine'" || read(out, "app.py") != "import tiny" {
			t.Errorf("the result is not what it should be:\n%s", &progress)
		}
		if compiled, _ := filepath.Glob(filepath.Join(out, "__pycache__", "tiny.*.pyc")); len(compiled) != 1 {
			t.Errorf("byte code: %v", compiled)
		}
		cmd := exec.Command(rt.Boot[0], "-c", "import other; print(other.x)")
		cmd.Dir = out
		if b, err := cmd.CombinedOutput(); strings.TrimSpace(string(b)) != "mine" {
			t.Errorf("the module of the project says %s, %v", b, err)
		}
	})
}

// wheel makes tiny-1.0, which has tiny.py and other.py.
func wheel(t *testing.T, python, dir string) {
	t.Helper()
	const script = `
import sys, zipfile, os
os.makedirs(sys.argv[1])
with zipfile.ZipFile(sys.argv[1] + "/tiny-1.0-py3-none-any.whl", "w") as z:
    for name, text in {"tiny.py": "x = 1\n", "other.py": "x = 'theirs'\n", "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
                       "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n", "tiny-1.0.dist-info/RECORD": ""}.items():
        z.writestr(name, text)
`
	if out, err := exec.Command(python, "-c", script, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// What does not build says why, and what to do; scripts of strangers reach nothing.
func TestSandboxedRefuses(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		node, python := y.needs(t, "nodejs"), y.needs(t, "python3")
		noPip := python
		noPip.Boot = []string{"/bin/false"}
		script := func(sh string) []string {
			pkg, _ := json.Marshal(map[string]any{"name": "f", "version": "1.0.0", "scripts": map[string]string{"preinstall": sh}})
			return []string{"package.json", string(pkg), "index.js", ""}
		}
		for name, c := range map[string]struct {
			kind        string
			rt          lambent.Runtime
			files       []string
			fails       lambent.Kind
			words, hint string
		}{
			"no package.json":      {"npm", node, []string{"x", ""}, lambent.Broken, "no package.json", "npm init"},
			"broken package.json":  {"npm", node, []string{"package.json", "{"}, lambent.Broken, "package.json is not as npm reads it", ""},
			"no requirements.txt":  {"pip", python, []string{"x", ""}, lambent.Broken, "no requirements.txt", "pip freeze"},
			"no pip":               {"pip", noPip, []string{"requirements.txt", "tiny"}, lambent.Unsupported, "needs pip of /bin/false, which is not on the server", "pip install -t"},
			"no pnpm":              {"npm", node, []string{"package.json", "{}", "pnpm-lock.yaml", ""}, lambent.Unsupported, "needs pnpm", "npm ci"},
			"no such package":      {"pip", python, []string{"requirements.txt", "nowhere-at-all==1"}, lambent.Broken, "pip failed: ERROR: No matching distribution", ""},
			"out of reach":         {"npm", node, []string{"package.json", `{"dependencies":{"tiny":"1"}}`}, lambent.Broken, "npm cannot reach what it installs from", "npm ci"},
			"a failing script":     {"npm", node, script("echo it is so; exit 3"), lambent.Broken, "npm failed", ""},
			"no answer":            {"npm", node, script(`kill -9 $(cut -d" " -f4 /proc/$PPID/stat)`), lambent.Broken, "", ""},
			"an answer of its own": {"npm", node, script("printf garbage >&3 || printf garbage >/proc/1/fd/3"), lambent.Broken, "", ""},
		} {
			t.Run(name, func(t *testing.T) {
				var progress bytes.Buffer
				_, err := made(t, y.options(t), build.Request{Kind: c.kind, Runtime: c.rt}, source(t, c.files...), &progress)
				e, ok := err.(*lambent.Error)
				if !ok || e.Kind != c.fails || !strings.Contains(e.Message, c.words) || !strings.Contains(e.Hint, c.hint) || strings.Contains(e.Message, "\n") {
					t.Errorf("Build = %+v; want %v with %q and hint %q\n%s", err, c.fails, c.words, c.hint, &progress)
				}
			})
		}
	})
}

// A build that does not end is ended, with whatever it has started, and so is one that
// nobody waits for.
func TestSandboxedLimits(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		rt := y.needs(t, "nodejs")
		src := source(t, "package.json", `{"name":"f","version":"1.0.0","scripts":{"preinstall":"echo begun; sleep 1000 & sleep 1000"}}`, "index.js", "")
		o := y.options(t)
		o.Timeout = 4 * time.Second
		var progress bytes.Buffer
		if _, err := made(t, o, build.Request{Kind: "npm", Runtime: rt}, src, &progress); !lambent.Is(err, lambent.Broken) || !strings.Contains(err.Error(), "took too long") {
			t.Errorf("Build = %v\n%s", err, &progress)
		}
		o = y.options(t)
		b, err := build.New(o)
		if err != nil {
			t.Fatal(err)
		}
		put, err := o.Trees.PutDirs(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		begun := writerFunc(func(p []byte) {
			if bytes.Contains(p, []byte("begun")) {
				cancel()
			}
		})
		if _, err := b.Build(ctx, build.Request{Kind: "npm", Runtime: rt, Source: put.Digest}, begun); !lambent.Is(err, lambent.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	})
}

// A build that takes more memory than builds have is ended, and says so.
func TestSandboxedMemory(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		if strings.HasSuffix(t.Name(), "/process") {
			t.Skip("plain processes have all of the machine's")
		}
		for _, c := range []struct {
			kind, family string
			files        []string
		}{
			{"npm", "nodejs", []string{"package.json", `{"name":"f","version":"1.0.0","scripts":{"preinstall":"node -e 'for (a = [];;) a.push(Buffer.alloc(1 << 24, 1))'"}}`, "index.js", ""}},
			{"pip", "python3", []string{
				"requirements.txt", "./greedy\n", "app.py", "",
				"greedy/pyproject.toml", "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n",
				"greedy/backend.py", "a = []\nwhile True:\n    a.append(b'x' * (1 << 24))\n",
			}},
		} {
			t.Run(c.kind, func(t *testing.T) {
				o := y.options(t)
				o.MemoryMB = 192
				var progress bytes.Buffer
				_, err := made(t, o, build.Request{Kind: c.kind, Runtime: y.needs(t, c.family)}, source(t, c.files...), &progress)
				if !lambent.Is(err, lambent.Broken) || !strings.Contains(err.Error(), c.kind+" needs more than the 192 MB of memory that builds have") {
					t.Errorf("Build = %v\n%s", err, &progress)
				}
			})
		}
	})
}

// Builds take turns, and time that they wait is not theirs: one project does not keep
// another from building.
func TestTurns(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		rt := y.needs(t, "nodejs")
		o := y.options(t)
		o.Timeout, o.AtOnce = 20*time.Second, 2
		b, err := build.New(o)
		if err != nil {
			t.Fatal(err)
		}
		put := func(script string) string {
			tree, err := o.Trees.PutDirs(t.Context(), source(t, "package.json", fmt.Sprintf(`{"name":"f","version":"1.0.0","scripts":{"preinstall":%q}}`, script), "index.js", ""))
			if err != nil {
				t.Fatal(err)
			}
			return tree.Digest
		}
		slow, quick := put("echo begun; sleep 1000"), put("true")
		ctx, cancel := context.WithCancel(t.Context())
		begun, ended := make(chan struct{}, 2), make(chan error, 2)
		for range 2 {
			go func() {
				_, err := b.Build(ctx, build.Request{Kind: "npm", Runtime: rt, Source: slow, Name: lambent.Name{Project: "a"}}, writerFunc(func(p []byte) {
					if bytes.Contains(p, []byte("begun")) || bytes.Contains(p, []byte("waiting")) {
						begun <- struct{}{}
					}
				}))
				ended <- err
			}()
		}
		<-begun
		<-begun
		var progress bytes.Buffer
		if _, err := b.Build(t.Context(), build.Request{Kind: "npm", Runtime: rt, Source: quick, Name: lambent.Name{Project: "b"}}, &progress); err != nil {
			t.Errorf("another project's: %v\n%s", err, &progress)
		}
		cancel()
		for range 2 {
			if err := <-ended; !lambent.Is(err, lambent.Canceled) {
				t.Errorf("canceled: %v", err)
			}
		}
	})
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// What a build makes is bounded as what is sent in.
func TestSandboxedTooLarge(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		rt := y.needs(t, "nodejs")
		for name, script := range map[string]string{
			"bytes": "head -c 3000000 /dev/zero >big", "files": "for i in $(seq 400); do echo >f$i; done",
		} {
			o := y.options(t)
			o.MaxTree, o.MaxFiles = 2<<20, 300
			src := source(t, "package.json", fmt.Sprintf(`{"name":"f","version":"1.0.0","scripts":{"preinstall":%q}}`, script), "index.js", "")
			if _, err := made(t, o, build.Request{Kind: "npm", Runtime: rt}, src, &bytes.Buffer{}); !lambent.Is(err, lambent.TooLarge) {
				t.Errorf("%s: Build = %v", name, err)
			}
		}
	})
}

var _ build.Trees = (*bundle.Store)(nil)

// Code in Python is stored once more with the byte code of its modules: what the
// interpreter believes without a look at the source. None of them runs for that.
func TestCompile(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		rt := y.needs(t, "python3")
		tag, err := exec.Command(rt.Boot[0], "-c", "import sys; print(sys.implementation.cache_tag, end='')").Output()
		if err != nil {
			t.Fatal(err)
		}
		own := "__pycache__/own." + string(tag) + ".pyc"
		src := source(t,
			"app.py", "raise SystemExit('it runs')\n", "pkg/__init__.py", "", "pkg/mod.py", "x = 1\n",
			"broken.py", "def (\n", "own.py", "", own, "the project's", "data.txt", "as it was")
		b, trees, digest := put(t, y.options(t), src)
		var last bundle.Tree
		for round := range 2 { // the second is out of the cache
			tree, err := b.Compile(t.Context(), build.Request{Source: digest, Runtime: rt})
			if err != nil {
				t.Fatal(err)
			}
			if round > 0 && tree != last {
				t.Errorf("the second time it is %v, and was %v", tree, last)
			}
			last = tree
		}
		out, err := trees.Path(last.Digest)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"__pycache__/app.", "pkg/__pycache__/__init__.", "pkg/__pycache__/mod."} {
			if got := read(out, name+string(tag)+".pyc"); len(got) < 16 || got[4:8] != "\x01\x00\x00\x00" {
				t.Errorf("%s is no byte code that is not held against its source: %q", name, got)
			}
		}
		if got := read(out, own); got != "the project's" {
			t.Errorf("what the project had itself is %q", got)
		}
		if got := read(out, "data.txt"); got != "as it was" {
			t.Errorf("data.txt: %s", got)
		}
		if _, err := os.Lstat(filepath.Join(out, "__pycache__/broken."+string(tag)+".pyc")); err == nil {
			t.Error("what is no Python has byte code")
		}
	})
}
