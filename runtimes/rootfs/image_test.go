package rootfs_test

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"lambent"
	"lambent/runtimes/rootfs"
	"lambent/runtimes/rootfstest"
)

// The life of a runtime that is an image: fetched, identified by running it,
// listed, there after a restart, made of the same tree when it comes again, removed.
func TestImageOfRegistry(t *testing.T) {
	py := rootfstest.Python(t)
	s := open(t, inRoots(t))
	i := rootfstest.Image(t,
		rootfstest.Layer(t, tarOf(t,
			entry{name: "etc/os-release", body: "ID=test\n"}, entry{name: "etc/gone", body: "x"}, entry{name: "srv/old/a", body: "a"},
			entry{name: "run", kind: tar.TypeDir}, entry{name: "var", kind: tar.TypeDir}, entry{name: "var/run", kind: tar.TypeSymlink, link: "/run"},
			entry{name: "usr/bin/su", mode: 0o4755, body: "setuid"}, entry{name: "etc/shadow", mode: 0o640, body: "secret"})),
		rootfstest.Layer(t, py.Tar),
		rootfstest.Layer(t, tarOf(t,
			entry{name: "etc/.wh.gone"}, entry{name: "srv/old/b", body: "b"}, entry{name: "srv/old/.wh..wh..opq"},
			entry{name: "var/run/pid", body: "1"}, entry{name: "usr/bin/python", kind: tar.TypeSymlink, link: "/usr/bin/python3"})),
	)
	ref := rootfstest.Push(t, rootfstest.Registry(t), "library/python:3", i)

	var told bytes.Buffer
	a, err := s.Add(t.Context(), rootfs.Request{Name: py.Runtime, From: ref}, &told)
	if err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	if a.Version != py.Version || a.Program != "/usr/bin/"+py.Runtime || !a.Rooted || a.From != ref {
		t.Errorf("added: %+v", a)
	}
	rt, err := s.Runtime(a, "/agents")
	if err != nil || rt.Boot[0] != a.Program || rt.Boot[len(rt.Boot)-1] != "/agents/python/boot.py" || rt.Root != s.Path(a.Tree) {
		t.Errorf("%+v, %v", rt, err)
	}
	list := ls(t, rt.Root)
	for path, want := range map[string]string{
		"etc/os-release": "-rw-r--r-- ID=test\n", "etc/gone": "", "srv/old/a": "", "srv/old/b": "-rw-r--r-- b", "var/run": "-> /run",
		"run/pid": "-rw-r--r-- 1", "usr/bin/su": "-rwxr-xr-x setuid", "etc/shadow": "-rw-r----- secret", "usr/bin/python": "-> /usr/bin/python3",
	} {
		if list[path] != want {
			t.Errorf("%s is %q, want %q", path, list[path], want)
		}
	}
	for path := range list {
		if strings.Contains(path, ".wh.") {
			t.Errorf("%s is left", path)
		}
	}

	// The same image for another name, and again: one tree.
	again := add(t, s, rootfs.Request{Name: py.Runtime, From: ref})
	other := add(t, s, rootfs.Request{Name: "provided.al2", From: ref})
	if again.Tree.Dir != a.Tree.Dir || other.Tree.Dir != a.Tree.Dir || other.Program != "" {
		t.Errorf("again: %+v, other: %+v", again, other)
	}
	reopened, err := rootfs.Open(rootfs.Options{Dir: dirs[s]})
	if err != nil {
		t.Fatal(err)
	}
	if l := reopened.List(); len(l) != 2 || l[0].Name != "provided.al2" || l[1].Version != py.Version || l[1].Image == "" {
		t.Errorf("after a restart: %+v", l)
	}
	if err := s.Remove("provided.al2"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(rt.Root); err != nil {
		t.Error("the tree went with the first of two that use it")
	}
	if err := s.Remove(py.Runtime); err != nil {
		t.Fatal(err)
	}
	noneLeft(t, s)
	if err := s.Remove(py.Runtime); !lambent.Is(err, lambent.NotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

// What an image has is not what it is asked for.
func TestAnotherVersion(t *testing.T) {
	py := rootfstest.Python(t)
	s := open(t, inRoots(t))
	host := rootfstest.Registry(t)
	ref := rootfstest.Push(t, host, "python:x", rootfstest.Image(t, rootfstest.Layer(t, py.Tar)))
	refused(t, s, rootfs.Request{Name: "python3.99", From: ref}, lambent.Invalid, `no python3\.99 in .*nothing runs on another version: /usr/bin/python3\.\d+ is python `+py.Version)
	refused(t, s, rootfs.Request{Name: "nodejs20.x", From: ref}, lambent.Invalid, `there is no nodejs20\.x in .*: no file is named like one in /usr/local/bin`)

	broken := rootfstest.Push(t, host, "broken:x", rootfstest.Image(t, rootfstest.Layer(t, tarOf(t,
		entry{name: "usr/bin/python3.11", mode: 0o755, body: "\x7fELF of something"}, entry{name: "usr/local/bin/python3.11", mode: 0o755, body: "#!/bin/nothing\n"},
		entry{name: "bin/python3", mode: 0o644, body: "#!/bin/nothing\n"}))))
	refused(t, s, rootfs.Request{Name: "python3.11", From: broken}, lambent.Invalid, `/usr/local/bin/python3\.11 does not run: .*; /usr/bin/python3\.11 is for another kind of processor$`)
	noneLeft(t, s)
}

func TestOtherMachines(t *testing.T) {
	rootfstest.Python(t)
	s := open(t)
	i := rootfstest.Image(t, rootfstest.Layer(t, tarOf(t, entry{name: "a", body: "a"})))
	c, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.Architecture = "s390x"
	if i, err = mutate.ConfigFile(i, c); err != nil {
		t.Fatal(err)
	}
	host := rootfstest.Registry(t)
	refused(t, s, rootfs.Request{Name: "provided", From: rootfstest.Push(t, host, "other:1", i)}, lambent.Invalid, `the image is for linux/s390x, this machine is linux/`)
	ref, err := name.ParseReference(host + "/many:1")
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: i, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}})
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	refused(t, s, rootfs.Request{Name: "provided", From: ref.String()}, lambent.Invalid, `has no image for this machine, linux/`)
	refused(t, s, rootfs.Request{Name: "provided", From: host + "/nothing:1"}, lambent.NotFound, `the registry has no image .*/nothing:1, or not for everybody`)
	refused(t, s, rootfs.Request{Name: "provided", From: "127.0.0.1:1/nothing:1"}, lambent.Unavailable, `cannot be fetched`)
	refused(t, s, rootfs.Request{Name: "provided", From: "not an image"}, lambent.Invalid, `is neither host, npm nor an image`)
	noneLeft(t, s)
}

// Images come as files, too, in every form that tools write.
func TestImageOfFile(t *testing.T) {
	py := rootfstest.Python(t)
	i := rootfstest.Image(t, rootfstest.Layer(t, tarOf(t, entry{name: "etc/gone", body: "x"}, entry{name: "etc/there", body: "y"})), rootfstest.Layer(t, py.Tar), rootfstest.Layer(t, tarOf(t, entry{name: "etc/.wh.gone"})))
	tag, err := name.NewTag("example/python:1")
	if err != nil {
		t.Fatal(err)
	}
	var docker bytes.Buffer
	if err := tarball.Write(tag, i, &docker); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendImage(i); err != nil {
		t.Fatal(err)
	}
	oci, err := exec.Command("tar", "-C", dir, "-cf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for form, file := range map[string][]byte{
		"docker": docker.Bytes(), "docker.gz": gzipped(t, docker.Bytes()), "oci": oci, "oci.zst": zstded(t, oci), "plain": py.Tar, "plain.gz": gzipped(t, py.Tar),
	} {
		t.Run(form, func(t *testing.T) {
			s := open(t, inRoots(t))
			a := add(t, s, rootfs.Request{Name: py.Runtime, Tar: bytes.NewReader(file)})
			if a.Version != py.Version || a.From != "tar" {
				t.Errorf("%+v", a)
			}
			list := ls(t, s.Path(a.Tree))
			if list["etc/gone"] != "" || !strings.HasPrefix(form, "plain") && list["etc/there"] == "" {
				t.Errorf("layers are not laid over each other: %q, %q", list["etc/gone"], list["etc/there"])
			}
			for _, n := range []int{0, 100, len(file) / 2} {
				refused(t, s, rootfs.Request{Name: "python3.99", Tar: bytes.NewReader(file[:n])}, lambent.Invalid, `damaged|cut short|not an image|nothing runs on another version|is not what its digest`)
			}
		})
	}
}

// A layer that is not what the image says is refused, wherever it was changed.
func TestWrongDigest(t *testing.T) {
	rootfstest.Python(t)
	s := open(t)
	i := rootfstest.Image(t, rootfstest.Layer(t, tarOf(t, entry{name: "a", body: "as it was built"})))
	host := rootfstest.Registry(t)
	ref := rootfstest.Push(t, host, "a:1", i)
	layers, err := i.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	evil := gzipped(t, tarOf(t, entry{name: "a", body: "as somebody changed it"}))
	s2 := open(t, func(o *rootfs.Options) {
		o.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err == nil && strings.HasSuffix(r.URL.Path, digest.String()) {
				resp.Body.Close()
				resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(evil)), -1
				resp.Header.Del("Content-Length")
			}
			return resp, err
		})
	})
	refused(t, s2, rootfs.Request{Name: "provided", From: ref}, lambent.Invalid, `damaged|is not what its digest`)
	noneLeft(t, s2)

	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendImage(i); err != nil {
		t.Fatal(err)
	}
	config, err := i.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for blob, pattern := range map[v1.Hash]string{digest: `layer 1 of the image is not what its digest`, config: `a part of the image is not what its digest`} {
		path := filepath.Join(dir, "blobs", "sha256", blob.Hex)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := evil
		if blob == config {
			changed = append(bytes.Clone(was), ' ')
		}
		if err := os.WriteFile(path, changed, 0o644); err != nil {
			t.Fatal(err)
		}
		oci, err := exec.Command("tar", "-C", dir, "-cf", "-", ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		refused(t, s, rootfs.Request{Name: "provided", Tar: bytes.NewReader(oci)}, lambent.Invalid, pattern)
		if err := os.WriteFile(path, was, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	noneLeft(t, s)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed) // with the race detector the others take seconds
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}
