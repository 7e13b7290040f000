package rootfs_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/preload"
	"lambent/runtimes"
	"lambent/runtimes/rootfs"
	"lambent/runtimes/rootfstest"
	"lambent/sandbox/namespace"
)

// hostInterpreters are the system's own.
func hostInterpreters(t testing.TB) func() map[string]string {
	t.Helper()
	found := map[string]string{}
	if out, err := exec.Command("/usr/bin/python3", "-I", "-c", `import sys;print("python%d.%d"%sys.version_info[:2])`).Output(); err == nil {
		found[strings.TrimSpace(string(out))] = "/usr/bin/python3"
	}
	if out, err := exec.Command("/usr/bin/node", "-p", `process.versions.node.split(".")[0]`).Output(); err == nil {
		found["nodejs"+strings.TrimSpace(string(out))+".x"] = "/usr/bin/node"
	}
	return func() map[string]string { return found }
}

func of(family string, found map[string]string) (name, program string) {
	for name, program := range found {
		if strings.HasPrefix(name, family) {
			return name, program
		}
	}
	return "", ""
}

// The environment of pip and npm that reach their registries where a test runs.
func toolEnv() (env []string) {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "PIP_"), strings.HasPrefix(strings.ToLower(name), "npm_config_"), strings.HasSuffix(strings.ToLower(name), "_proxy"),
			name == "SSL_CERT_FILE", name == "SSL_CERT_DIR", name == "NODE_EXTRA_CA_CERTS":
			env = append(env, kv)
		}
	}
	return env
}

func reachable(t testing.TB, address string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		rootfstest.Missing(t, err.Error())
	}
	c.Close()
}

// A small registry of npm, whose Node.js is a script: what is tested is the
// registry's part.
type fakeNPM struct {
	versions  map[string][]byte // tarballs
	integrity func(version string, tarball []byte) string
}

func (f fakeNPM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base := "http://" + r.Host
	if v, ok := strings.CutPrefix(r.URL.Path, "/tarballs/"); ok {
		_, _ = w.Write(f.versions[v])
		return
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if r.URL.Path != "/node-"+runtime.GOOS+"-"+arch {
		http.NotFound(w, r)
		return
	}
	var list []string
	for v, b := range f.versions {
		list = append(list, fmt.Sprintf(`%q: {"dist": {"tarball": %q, "integrity": %q}}`, v, base+"/tarballs/"+v, f.integrity(v, b)))
	}
	fmt.Fprintf(w, `{"versions": {%s}}`, strings.Join(list, ","))
}

func sha512Of(_ string, b []byte) string {
	sum := sha512.Sum512(b)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func nodePackage(t testing.TB, version string) []byte {
	t.Helper()
	script := "#!/bin/sh\necho " + version + "\necho /anything\n"
	return gzipped(t, tarOf(t, entry{name: "package/bin/node", mode: 0o755, body: script}, entry{name: "package/include/node.h"}, entry{name: "elsewhere", body: "x"}))
}

func TestNodeOfNPM(t *testing.T) {
	f := fakeNPM{versions: map[string][]byte{}, integrity: sha512Of}
	for _, v := range []string{"20.9.0", "20.11.1", "20.11.0", "20.12.0-rc1", "22.1.0", "2.20.0"} {
		f.versions[v] = nodePackage(t, v)
	}
	f.versions["24.0.0"] = nodePackage(t, "23.9.9") // which is not what it says
	f.versions["26.0.0"] = f.versions["22.1.0"][:200]
	server := httptest.NewServer(f)
	defer server.Close()
	s := open(t, inProcesses(t), func(o *rootfs.Options) {
		o.Registry, o.NoRoots = server.URL+"/", lambent.Errorf(lambent.Unsupported, "", "no roots here")
	})
	refused(t, s, rootfs.Request{Name: "nodejs18.x", From: "npm"}, lambent.NotFound, `npm has no Node.js 18 for this machine`)
	refused(t, s, rootfs.Request{Name: "nodejs24.x", From: "npm"}, lambent.Invalid, `/bin/node is nodejs 23.9.9`)
	refused(t, s, rootfs.Request{Name: "nodejs26.x", From: "npm"}, lambent.Invalid, `damaged`)
	refused(t, s, rootfs.Request{Name: "python3.12", From: "npm"}, lambent.Invalid, `npm has interpreters of Node.js only`)
	refused(t, s, rootfs.Request{Name: "python3.12", From: "an/image"}, lambent.Unsupported, `no roots here`)
	f.versions["18.0.0"] = f.versions["20.9.0"]
	bad := fakeNPM{f.versions, func(string, []byte) string { return sha512Of("", nil) }}
	badServer := httptest.NewServer(bad)
	defer badServer.Close()
	s2 := open(t, func(o *rootfs.Options) { o.Registry = badServer.URL })
	refused(t, s2, rootfs.Request{Name: "nodejs20.x"}, lambent.Invalid, `node-.* 20\.11\.1 is not what its digest says`)
	noneLeft(t, s2)
	noneLeft(t, s)

	a := add(t, s, rootfs.Request{Name: "nodejs20.x"}) // npm is where it comes from by itself
	if a.Version != "20.11.1" || a.From != "npm" || a.Rooted {
		t.Errorf("%+v", a)
	}
	rt, err := s.Runtime(a, "/agents")
	if err != nil || rt.Root != "" || rt.Boot[0] != filepath.Join(s.Path(a.Tree), "bin/node") || rt.Note != "npm (20.11.1)" {
		t.Errorf("%+v, %v", rt, err)
	}
	if list := ls(t, s.Path(a.Tree)); list["include/node.h"] != "" || list["elsewhere"] != "" || list["bin/node"] == "" {
		t.Errorf("%v", list)
	}
	refused(t, s, rootfs.Request{Name: "nodejs20.x"}, lambent.Exists, `nodejs20.x is here already, from npm`)
}

// The real thing, and with a package that functions then import.
func TestRealNode(t *testing.T) {
	reachable(t, "registry.npmjs.org:443")
	host := hostInterpreters(t)
	s := open(t, inProcesses(t), func(o *rootfs.Options) {
		o.Path, o.Env, o.Interpreters = []string{"/usr/local/bin", "/usr/bin"}, toolEnv(), host
	})
	a := add(t, s, rootfs.Request{Name: "nodejs22.x", From: "npm", Packages: []string{"uuid@11"}})
	if !strings.HasPrefix(a.Version, "22.") || a.Library == nil {
		t.Fatalf("%+v", a)
	}
	rt, err := s.Runtime(a, "/agents")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(rt.Boot[0], "-p", "require('uuid').v4().length + process.version")
	cmd.Env = []string{"NODE_PATH=" + rt.Boot[len(rt.Boot)-1] + "/node_modules"}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "36v22.") {
		t.Errorf("%s, %v", out, err)
	}
}

// boto3 for the host's own Python, as any user can import it, compiled; and without
// it again.
func TestBoto3OfHost(t *testing.T) {
	reachable(t, "pypi.org:443")
	host := hostInterpreters(t)
	name, program := of("python", host())
	if name == "" {
		rootfstest.Missing(t, "there is no /usr/bin/python3")
	}
	s := open(t, inProcesses(t), func(o *rootfs.Options) { o.Env, o.Interpreters = toolEnv(), host })
	refused(t, s, rootfs.Request{Name: name}, lambent.Exists, name+` is here already, on the server's machine`)
	refused(t, s, rootfs.Request{Name: name, Packages: []string{"no-such-package-of-lambent"}}, lambent.Invalid, `pip cannot install the packages: .*No matching distribution`)
	a := add(t, s, rootfs.Request{Name: name, Packages: []string{"boto3"}})
	if a.Tree != nil || a.From != "host" || a.Library == nil {
		t.Fatalf("%+v", a)
	}
	rt := s.WithPackages(lambent.Runtime{Name: name, Boot: []string{program, "agent.py"}, Note: program}, a)
	if want := s.Path(a.Library); rt.Packages != want || rt.Boot[2] != want || rt.Note != program+", with boto3" {
		t.Errorf("%+v", rt)
	}
	importsBoto3(t, exec.Command(program, "-I", "-S", "-B", "-c", importBoto3, rt.Packages))
	release := s.Hold(rt)
	b := add(t, s, rootfs.Request{Name: name, From: "host", Packages: []string{}})
	if b.Library != nil || len(s.List()) != 0 {
		t.Errorf("%+v is left of %v", b, s.List())
	}
	if _, err := os.Stat(rt.Packages); err != nil {
		t.Error("what a sandbox used was removed")
	}
	release()
	noneLeft(t, s)
}

const importBoto3 = `import sys, time
sys.path.append(sys.argv[1])
start = time.perf_counter()
import boto3
print(boto3.__cached__ is not None and __import__("os").path.exists(boto3.__cached__), round((time.perf_counter() - start) * 1000), "ms")
boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
`

func importsBoto3(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "True ") {
		t.Errorf("import boto3: %s, %v", out, err)
	}
	t.Logf("import boto3: %s", out)
}

// The same for the Python of an image, which runs in its root file system and
// without network: pip is the host's.
func TestBoto3OfImage(t *testing.T) {
	py := rootfstest.Python(t)
	reachable(t, "pypi.org:443")
	s := open(t, inRoots(t), func(o *rootfs.Options) { o.Env, o.Interpreters = toolEnv(), hostInterpreters(t) })
	a := add(t, s, rootfs.Request{Name: py.Runtime, From: rootfstest.Push(t, rootfstest.Registry(t), "python:3", rootfstest.Image(t, rootfstest.Layer(t, py.Tar))), Packages: []string{"boto3"}})
	rt, err := s.Runtime(a, "/agents")
	if err != nil || rt.Packages != s.Path(a.Library) || rt.Boot[len(rt.Boot)-1] != lambent.PackagesInside {
		t.Errorf("%+v, %v", rt, err)
	}
	importsBoto3(t, exec.Command("/usr/bin/python3", "-I", "-S", "-B", "-c", importBoto3, rt.Packages))
	// Others without changing what they are for: the root file system stays.
	b := add(t, s, rootfs.Request{Name: py.Runtime, Packages: []string{"six"}})
	if b.Tree.Dir != a.Tree.Dir || b.Version != a.Version || b.From != a.From || b.Library.Digest == a.Library.Digest {
		t.Errorf("%+v", b)
	}
	if list := ls(t, s.Path(b.Library)); list["six.py"] == "" || list["boto3/__init__.py"] != "" {
		t.Error("the packages are not those that were asked for")
	}
	if _, err := os.Stat(rt.Packages); err == nil {
		t.Error("the packages from before are left")
	}
}

// Google's functions frameworks, of which is told what can be loaded ahead.
func TestFrameworks(t *testing.T) {
	agents, err := runtimes.Install(publicDir(t))
	if err != nil {
		t.Fatal(err)
	}
	host := hostInterpreters(t)
	for _, c := range []struct{ family, registry, framework, name string }{
		{"nodejs", "registry.npmjs.org:443", "@google-cloud/functions-framework", "@google-cloud/functions-framework "},
		{"python", "pypi.org:443", "functions-framework", "functions-framework "},
	} {
		t.Run(c.family, func(t *testing.T) {
			reachable(t, c.registry)
			name, program := of(c.family, host())
			if name == "" {
				rootfstest.Missing(t, "there is no "+c.family+" in /usr/bin")
			}
			d, err := namespace.New(namespace.Options{Dir: publicDir(t), Agents: agents})
			if err != nil {
				rootfstest.Missing(t, err.Error())
			}
			s := open(t, func(o *rootfs.Options) {
				o.Driver, o.PackagesSeen, o.Agents = guarded(t, d), lambent.PackagesInside, namespace.AgentsInside
				o.Path, o.Env, o.Interpreters = []string{"/usr/local/bin", "/usr/bin"}, toolEnv(), host
			})
			a := add(t, s, rootfs.Request{Name: name, Packages: []string{c.framework}})
			if !strings.HasPrefix(a.Preloads, c.name) {
				t.Fatalf("%+v", a)
			}
			rt := s.WithPackages(lambent.Runtime{Name: name, Boot: []string{program, "agent"}, PackagesAt: lambent.PackagesInside}, a)
			l, err := preload.Read(rt.Packages)
			if err != nil || l.Name != a.Preloads || rt.Preloads != a.Preloads || len(l.Files) < 100 {
				t.Errorf("%+v, %v", l, err)
			}
			if err := l.Same(rt.Packages, rt.Packages); err != nil {
				t.Errorf("the packages are not the same as themselves: %v", err)
			}
			if b := add(t, s, rootfs.Request{Name: name, Packages: []string{map[string]string{"nodejs": "uuid@11", "python": "six"}[c.family]}}); b.Preloads != "" {
				t.Errorf("of other packages: %+v", b)
			}
		})
	}
}

func TestPackageNames(t *testing.T) {
	s := open(t, func(o *rootfs.Options) {
		o.Interpreters = func() map[string]string { return map[string]string{"python3.11": "/nowhere", "nodejs20.x": "/nowhere"} }
	})
	for _, p := range []string{"--index-url=http://x", "-r", "http://evil/x.whl", "./x", "/x", "a b", "a;b", "", "git+https://x", "a @ http://x", "boto3==1;python_version<'3'", strings.Repeat("a", 300)} {
		refused(t, s, rootfs.Request{Name: "python3.11", Packages: []string{p}}, lambent.Invalid, `is not the name of a package, such as boto3`)
	}
	for _, p := range []string{"--registry=http://x", "file:../x", "/x", "../x", "a/b", "github:a/b", "a@http://x", "a@file:x", "A", "@a", "a@npm:b"} {
		refused(t, s, rootfs.Request{Name: "nodejs20.x", Packages: []string{p}}, lambent.Invalid, `is not the name of a package, such as @aws-sdk`)
	}
	refused(t, s, rootfs.Request{Name: "provided", Packages: []string{"x"}}, lambent.Invalid, `provided has no packages`)
	refused(t, s, rootfs.Request{Name: "nodejs20.x", Packages: []string{"uuid"}}, lambent.Unavailable, `needs npm on the server's machine`)
	refused(t, s, rootfs.Request{Name: "python3.11", Packages: []string{"boto3[crt]==1.40.*"}}, lambent.Unavailable, `needs pip on the server's machine`)
	refused(t, s, rootfs.Request{Name: "cobol", From: "host"}, lambent.Invalid, `runtime "cobol" is not one`)
	refused(t, s, rootfs.Request{Name: "python3.99", From: "host"}, lambent.NotFound, `has no python3\.99`)
	noneLeft(t, s)
}

// A stranger's interpreter is run in a sandbox, where the machine is not to be seen.
func TestInterpretersAreConfined(t *testing.T) {
	py := rootfstest.Python(t)
	s := open(t, inRoots(t))
	// The interpreter imports this before anything that the probe says.
	const spy = `
import os
def failed(f):
    try:
        f()
    except Exception:
        return True
    return False
try:
    os.write(1, repr([os.getuid(), os.path.exists("/home"), os.path.exists("/etc/shadow"), failed(lambda: open("/usr/x", "w")), failed(lambda: os.setuid(0))]).encode())
finally:
    os._exit(9)
#`
	i := rootfstest.Image(t, rootfstest.Layer(t, py.Tar), rootfstest.Layer(t, tarOf(t, entry{name: "usr/lib/" + py.Runtime + "/encodings/__init__.py", body: spy})))
	refused(t, s, rootfs.Request{Name: py.Runtime, From: rootfstest.Push(t, rootfstest.Registry(t), "spy:1", i)}, lambent.Invalid,
		`/usr/bin/`+py.Runtime+` does not run: exit status 9: \[993, False, False, True, True\]$`)
	noneLeft(t, s)
}

// Open removes what was cut off, keeps what is added, and refuses what it does not
// understand.
func TestOpenAfterCrash(t *testing.T) {
	f := fakeNPM{versions: map[string][]byte{"20.1.1": nodePackage(t, "20.1.1")}, integrity: sha512Of}
	server := httptest.NewServer(f)
	defer server.Close()
	s := open(t, inProcesses(t), func(o *rootfs.Options) { o.Registry = server.URL })
	a := add(t, s, rootfs.Request{Name: "nodejs20.x"})
	dir := dirs[s]
	for _, d := range []string{"tmp/cut/tree/x", "trash/1/x", "trees/" + strings.Repeat("0", 64) + "-00000000/x"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	again, err := rootfs.Open(rootfs.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for d, want := range map[string]int{"tmp": 0, "trash": 0, "trees": 1} {
		if entries, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(entries) != want {
			t.Errorf("%s: %v, %v", d, entries, err)
		}
	}
	if l := again.List(); len(l) != 1 || l[0].Version != a.Version || l[0].Tree.Dir != a.Tree.Dir || l[0].Bytes() == 0 {
		t.Errorf("%+v", l)
	}
	for _, content := range []string{`{"version": 2}`, `{"vers`, ``} {
		if err := os.WriteFile(filepath.Join(dir, "runtimes.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := rootfs.Open(rootfs.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "runtimes.json") {
			t.Errorf("%q: %v", content, err)
		}
		if _, err := os.Stat(s.Path(a.Tree)); err != nil {
			t.Fatal("a record that cannot be read has cost the trees")
		}
	}
}

// Adds, removals and sandboxes at the same time: whoever holds a tree has it, and in
// the end nothing is left that nobody names.
func TestHammer(t *testing.T) {
	f := fakeNPM{versions: map[string][]byte{}, integrity: sha512Of}
	for _, v := range []string{"18.1.1", "20.1.1", "22.1.1"} {
		f.versions[v] = nodePackage(t, v)
	}
	server := httptest.NewServer(f)
	defer server.Close()
	s := open(t, inProcesses(t), func(o *rootfs.Options) { o.Registry = server.URL })
	names := []string{"nodejs18.x", "nodejs20.x", "nodejs22.x"}
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			for i := range 10 {
				if _, err := s.Add(t.Context(), rootfs.Request{Name: names[(n+i)%3], From: "npm"}, io.Discard); err != nil {
					t.Errorf("add: %v", err)
				}
				if err := s.Remove(names[(n*i)%3]); err != nil && !lambent.Is(err, lambent.NotFound) {
					t.Errorf("remove: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range 100 {
				for _, a := range s.List() {
					rt, err := s.Runtime(a, "/agents")
					if err != nil {
						t.Error(err)
						continue
					}
					release := s.Hold(rt)
					// It may have gone between List and Hold; from now on it cannot go.
					if _, err := os.Stat(rt.Boot[0]); err == nil {
						if b, err := os.ReadFile(rt.Boot[0]); err != nil || !bytes.HasPrefix(b, []byte("#!")) {
							t.Errorf("held, and gone: %v", err)
						}
					}
					release()
				}
			}
		})
	}
	wg.Wait()
	for _, n := range names {
		if err := s.Remove(n); err != nil && !lambent.Is(err, lambent.NotFound) {
			t.Error(err)
		}
	}
	noneLeft(t, s)
}
