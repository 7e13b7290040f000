package server_test

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/auth"
	"lambent/client"
	"lambent/runtimes/rootfstest"
	"lambent/server"
	"lambent/server/servertest"
)

// mark is a layer with one file, by which functions know where they run.
func mark(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, body := range map[string]string{"usr/share/mark": text, "etc/mark": text, "var/lang/mark": text} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// restart serves the same data directory again.
func restart(t testing.TB, s *servertest.Server, change ...func(*server.Config)) *servertest.Server {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return servertest.Start(t, append(change, func(c *server.Config) { c.Data, c.KeepAlive = s.Data, new(time.Duration(0)) })...)
}

func invoke(t testing.TB, s *servertest.Server, name string) string {
	t.Helper()
	var out bytes.Buffer
	o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: name}, &out)
	if err != nil || o.Fault != "" {
		t.Errorf("invoke %s: %+v, %v: %s", name, o, err, out.String())
	}
	return out.String()
}

func addRuntime(t testing.TB, s *servertest.Server, r client.RuntimeRequest) *client.Runtime {
	t.Helper()
	var told []string
	out, err := s.Client.AddRuntime(t.Context(), &r, nil, func(line string) { told = append(told, line) })
	if err != nil {
		t.Fatalf("add %+v: %v\n%s", r, err, strings.Join(told, "\n"))
	}
	if len(told) == 0 {
		t.Error("no progress was told")
	}
	return out
}

func described(t testing.TB, s *servertest.Server, name string) *client.Runtime {
	t.Helper()
	list, err := s.Client.Runtimes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(list, func(r client.Runtime) bool { return r.Name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

const seesMark = `
import os, sys
def handler(event, context):
    try:
        mark = "".join(open(f).read() for f in ("/usr/share/mark", "/etc/mark", "/var/lang/mark"))
    except OSError:
        mark = "none"
    return [mark, sys.version.split()[0], os.path.exists("/etc/shadow") and os.access("/etc/shadow", os.R_OK)]
`

// A function runs in the image that its runtime was made of, from the add on, across
// a restart, and on the machine's own interpreter after the removal; which is
// refused while functions need it.
func TestRuntimeOfImage(t *testing.T) {
	py := rootfstest.Python(t)
	s := servertest.Start(t, func(c *server.Config) { c.Driver, c.KeepAlive = "namespace", new(time.Duration(0)) })
	host := rootfstest.Registry(t)
	if described(t, s, py.Runtime) == nil {
		servertest.Missing(t, py.Runtime+" is not usable on the host")
	}
	s.Python(t, "f", seesMark, func(r *client.DeployRequest) { r.Runtime = &py.Runtime })
	if got, want := invoke(t, s, "f"), `["none", "`+py.Version+`", false]`; got != want {
		t.Errorf("on the host: %s, want %s", got, want)
	}
	refer := func(text string) string {
		return rootfstest.Push(t, host, "python:"+text, rootfstest.Image(t, rootfstest.Layer(t, py.Tar), rootfstest.Layer(t, mark(t, text))))
	}
	first, second := refer("first"), refer("second")
	added := addRuntime(t, s, client.RuntimeRequest{Name: py.Runtime, From: first})
	if added.Version != py.Version || added.From != first || added.Bytes == 0 || added.Note != first+" ("+py.Version+")" {
		t.Errorf("added: %+v", added)
	}
	if got, want := invoke(t, s, "f"), `["firstfirstfirst", "`+py.Version+`", false]`; got != want {
		t.Errorf("in the image: %s, want %s", got, want)
	}
	addRuntime(t, s, client.RuntimeRequest{Name: py.Runtime, From: second})
	if got := invoke(t, s, "f"); !strings.Contains(got, "second") {
		t.Errorf("in the second image: %s", got)
	}
	ctx := t.Context()
	err := s.Client.RemoveRuntime(ctx, py.Runtime, false)
	if !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), "is in use: f") {
		t.Errorf("removed while in use: %v", err)
	}

	again := restart(t, s)
	if got := invoke(t, again, "f"); !strings.Contains(got, "second") {
		t.Errorf("after a restart: %s", got)
	}
	if err := again.Client.RemoveRuntime(ctx, py.Runtime, true); err != nil {
		t.Fatal(err)
	}
	if got := invoke(t, again, "f"); !strings.Contains(got, "none") {
		t.Errorf("after the removal: %s", got)
	}
	if err := again.Stop(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(s.Data, "roots", "trees")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// With the driver process what needs a root file system is refused when it is added,
// and, added before, not offered and not run on anything else.
func TestRootsNeedTheNamespaceDriver(t *testing.T) {
	py := rootfstest.Python(t)
	ref := rootfstest.Push(t, rootfstest.Registry(t), "python:1", rootfstest.Image(t, rootfstest.Layer(t, py.Tar)))
	s := servertest.Start(t, func(c *server.Config) { c.Driver = "namespace" })
	addRuntime(t, s, client.RuntimeRequest{Name: py.Runtime, From: ref})
	s.Python(t, "f", seesMark, func(r *client.DeployRequest) { r.Runtime = &py.Runtime })

	plain := restart(t, s, servertest.Plain)
	if r := described(t, plain, py.Runtime); r != nil {
		t.Errorf("offered: %+v", r)
	}
	_, err := plain.Client.Invoke(t.Context(), client.InvokeRequest{Name: "f"}, &bytes.Buffer{})
	if !lambent.Is(err, lambent.Unsupported) || !strings.Contains(err.Error(), "need the driver namespace") {
		t.Errorf("invoke: %v", err)
	}
	_, err = plain.Client.AddRuntime(t.Context(), &client.RuntimeRequest{Name: "provided", From: ref}, nil, nil)
	if !lambent.Is(err, lambent.Unsupported) {
		t.Errorf("add: %v", err)
	}
	if err := plain.Client.RemoveRuntime(t.Context(), py.Runtime, true); err != nil {
		t.Error(err)
	}
	if described(t, plain, py.Runtime) == nil {
		t.Error("the host's own is not offered again")
	}
}

// Packages are found after what the function brings itself, with either driver: by
// import and by require, and by ES modules where there is a root file system.
func TestRuntimePackages(t *testing.T) {
	for _, driver := range []string{"process", "namespace"} {
		t.Run(driver, func(t *testing.T) {
			if driver == "namespace" && os.Geteuid() != 0 {
				servertest.Missing(t, "the driver namespace needs root")
			}
			s := servertest.Start(t, func(c *server.Config) { c.Driver, c.KeepAlive = driver, new(time.Duration(0)) })
			python, node := s.Newest(t, "python"), s.Newest(t, "nodejs")
			r, err := s.Client.AddRuntime(t.Context(), &client.RuntimeRequest{Name: python, Packages: &[]string{"six"}}, nil, nil)
			if err != nil {
				offline(t, err)
			}
			if !strings.HasSuffix(r.Note, ", with six") || r.From != "host" {
				t.Errorf("%+v", r)
			}
			if _, err = s.Client.AddRuntime(t.Context(), &client.RuntimeRequest{Name: node, Packages: &[]string{"is-number@7.0.0", "uuid@11"}}, nil, nil); err != nil {
				offline(t, err)
			}
			s.Python(t, "py", "import six, sys\ndef handler(event, context):\n    return [six.__name__, len(sys.argv)]\n", func(r *client.DeployRequest) { r.Runtime = &python })
			if got := invoke(t, s, "py"); got != `["six", 1]` {
				t.Errorf("import: %s", got)
			}
			deploy(t, s, "own", python, servertest.Files{"index.py": "import six\ndef handler(event, context):\n    return six.mine\n", "six.py": "mine = 'mine'\n"})
			if got := invoke(t, s, "own"); got != `"mine"` {
				t.Errorf("a bundled one does not win: %s", got)
			}
			deploy(t, s, "js", node, servertest.Files{"index.js": "const isNumber = require('is-number'); exports.handler = async () => [isNumber(5), process.argv.length]\n"})
			if got := invoke(t, s, "js"); got != "[true,2]" {
				t.Errorf("require: %s", got)
			}
			deploy(t, s, "ownjs", node, servertest.Files{"index.js": "exports.handler = async () => require('uuid').mine\n", "node_modules/uuid/index.js": "exports.mine = 'mine'\n"})
			if got := invoke(t, s, "ownjs"); got != `"mine"` {
				t.Errorf("a bundled one does not win: %s", got)
			}
			if driver == "namespace" {
				deploy(t, s, "mjs", node, servertest.Files{"index.mjs": "import { v4 } from 'uuid'; export const handler = async () => v4().length\n"})
				if got := invoke(t, s, "mjs"); got != "36" {
					t.Errorf("an ES module: %s", got)
				}
			}
		})
	}
}

func deploy(t testing.TB, s *servertest.Server, name, runtime string, files servertest.Files) {
	t.Helper()
	handler := "index.handler"
	if _, err := s.Deploy(t.Context(), t, name, files, client.DeployRequest{Runtime: &runtime, Handler: &handler}); err != nil {
		t.Fatal(err)
	}
}

// offline skips a test where a registry, or what asks it, is not there.
func offline(t testing.TB, err error) {
	t.Helper()
	if lambent.Is(err, lambent.Unavailable) || strings.Contains(err.Error(), "cannot install") {
		servertest.Missing(t, err.Error())
	}
	t.Fatal(err)
}

// Runtimes are of all projects: an administrator of one may look and not touch.
func TestRuntimesAreOfAllProjects(t *testing.T) {
	data := filepath.Join(servertest.PublicDir(t), "data")
	if err := os.Mkdir(data, 0o711); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := keys.Create(auth.Token{Project: "one", Role: auth.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, func(c *server.Config) { c.Data = data })
	one := client.New(s.URL(), token)
	defer one.Close()
	ctx := context.Background()
	if _, err := one.Runtimes(ctx); err != nil {
		t.Error(err)
	}
	_, err = one.AddRuntime(ctx, &client.RuntimeRequest{Name: "nodejs20.x"}, nil, nil)
	if !lambent.Is(err, lambent.Forbidden) {
		t.Errorf("add: %v", err)
	}
	_, err = one.AddRuntime(ctx, &client.RuntimeRequest{Name: "nodejs20.x"}, strings.NewReader("x"), nil)
	if !lambent.Is(err, lambent.Forbidden) {
		t.Errorf("put: %v", err)
	}
	if err := one.RemoveRuntime(ctx, "nodejs20.x", true); !lambent.Is(err, lambent.Forbidden) {
		t.Errorf("remove: %v", err)
	}
}
