package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"lambent"
	"lambent/runtimes/rootfs"
)

// missing skips a test for something that is not there, or fails it where
// everything must be.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// open opens a store that every user can reach: as root, interpreters run as
// nobody.
func open(t testing.TB, change ...func(*rootfs.Options)) *rootfs.Store {
	t.Helper()
	o := rootfs.Options{Dir: filepath.Join(publicDir(t), "roots")}
	for _, c := range change {
		c(&o)
	}
	s, err := rootfs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	dirs[s] = o.Dir
	return s
}

var dirs = map[*rootfs.Store]string{} // of the stores of tests, which are not parallel

func publicDir(t testing.TB) string {
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

// noneLeft fails for what an add that failed has left behind.
func noneLeft(t testing.TB, s *rootfs.Store) {
	t.Helper()
	for _, d := range []string{"trees", "tmp", "trash"} {
		entries, err := os.ReadDir(filepath.Join(dirs[s], d))
		if err != nil || len(entries) > 0 {
			t.Errorf("left in %s: %v, %v", d, entries, err)
		}
	}
	if l := s.List(); len(l) > 0 {
		t.Errorf("listed: %+v", l)
	}
}

func add(t testing.TB, s *rootfs.Store, r rootfs.Request) rootfs.Added {
	t.Helper()
	var told bytes.Buffer
	a, err := s.Add(t.Context(), r, &told)
	if err != nil {
		t.Fatalf("add %s: %v\n%s", r.Name, err, told.String())
	}
	return a
}

func refused(t testing.TB, s *rootfs.Store, r rootfs.Request, kind lambent.Kind, pattern string) {
	t.Helper()
	a, err := s.Add(t.Context(), r, io.Discard)
	if !lambent.Is(err, kind) || !regexp.MustCompile(pattern).MatchString(lambent.UserMessage(err)) {
		t.Errorf("add %s: %+v, %v; want %v, %q", r.Name, a, err, kind, pattern)
	}
}

// An entry is one of a tar file.
type entry struct {
	name, link string
	kind       byte // 0: a file
	mode       int64
	body       string
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body)), Uid: 1234, Gid: 5678, Uname: "someone"}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if e.mode == 0 {
			h.Mode = 0o644
			if e.kind == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func layerOf(t testing.TB, tarFile []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tarFile)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// imageOf makes an image for this machine.
func imageOf(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	i, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", runtime.GOARCH
	c.Config.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	if i, err = mutate.ConfigFile(i, c); err != nil {
		t.Fatal(err)
	}
	return i
}

// push puts an image into a registry in this process, and returns its reference.
func push(t testing.TB, host, repository string, i v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, i); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

func newRegistry(t testing.TB) (host string) {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// A python is the host's own interpreter, as part of an image.
type python struct {
	runtime, version string // such as python3.11, 3.11.2
	layer            []byte
}

// hostPython packs the interpreter of Python that the system has, its standard
// library and the shared libraries of both. It needs root: interpreters of images
// run in their root file system.
func hostPython(t testing.TB) python {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		missing(t, "root file systems need root on Linux")
	}
	p, err := packPython()
	if err != nil {
		missing(t, "there is no Python to make an image of: "+err.Error())
	}
	return p
}

var packPython = sync.OnceValues(func() (p python, err error) {
	const ask = `import sys,os;print("%d.%d"%sys.version_info[:2]);print("%d.%d.%d"%sys.version_info[:3]);print(os.path.realpath(sys.executable));print(os.path.dirname(os.__file__))`
	out, err := exec.Command("/usr/bin/python3", "-I", "-c", ask).Output()
	if err != nil {
		return p, err
	}
	told := strings.Fields(string(out))
	p.runtime, p.version = "python"+told[0], told[1]
	program, library := told[2], told[3]
	files := map[string]bool{program: true}
	err = filepath.WalkDir(library, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch d.Name() {
		case "test", "idlelib", "tkinter", "dist-packages", "site-packages", "ensurepip", "lib2to3", "pydoc_data":
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			files[path] = true
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	shared := map[string]bool{}
	for file := range files {
		if file == program || strings.HasSuffix(file, ".so") {
			libraries, err := sharedLibraries(file)
			if err != nil {
				return p, err
			}
			for _, l := range libraries {
				shared[l] = true
			}
		}
		if err := addFile(w, file, file); err != nil {
			return p, err
		}
	}
	for l := range shared {
		if err := addFile(w, l, l); err != nil {
			return p, err
		}
	}
	link := &tar.Header{Name: "usr/bin/python3", Linkname: filepath.Base(program), Typeflag: tar.TypeSymlink, Mode: 0o777}
	if err := w.WriteHeader(link); err != nil {
		return p, err
	}
	if err := w.Close(); err != nil {
		return p, err
	}
	p.layer = b.Bytes()
	return p, nil
})

var libraryLine = regexp.MustCompile(`(/\S+) \(0x`)

func sharedLibraries(file string) (list []string, err error) {
	out, err := exec.Command("ldd", file).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w: %s", file, err, out)
	}
	for _, m := range libraryLine.FindAllStringSubmatch(string(out), -1) {
		list = append(list, m[1])
	}
	return list, nil
}

// addFile adds what a path leads to.
func addFile(w *tar.Writer, path, as string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: strings.TrimPrefix(as, "/"), Typeflag: tar.TypeReg, Mode: int64(fi.Mode().Perm()), Size: int64(len(b)), ModTime: fi.ModTime()}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// provided asks for a root file system without an interpreter.
func provided(tarFile []byte) rootfs.Request {
	return rootfs.Request{Name: "provided.al2023", Tar: bytes.NewReader(tarFile)}
}

// ls lists a tree: kinds and modes by path.
func ls(t testing.TB, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		what := fi.Mode().String()
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += " " + string(b)
		}
		if fi.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what = "-> " + target
		}
		list[rel] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func canceledContext() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
