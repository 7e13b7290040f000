// Package rootfstest makes images of what is on this machine, and a registry in
// this process that has them, for tests of runtimes that are images.
package rootfstest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
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
	"slices"
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
)

// Missing skips a test for something that is not there, or fails it where
// LAMBENT_TEST_REQUIRE says that everything must be.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Layer makes a layer of a tar file. It is compressed fast and once: with the race
// detector a megabyte can take a second.
func Layer(t testing.TB, tarFile []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tarFile)), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Image makes an image for this machine.
func Image(t testing.TB, layers ...v1.Layer) v1.Image {
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

// Push puts an image into a registry in this process, and returns its reference.
func Push(t testing.TB, host, repository string, i v1.Image) string {
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

// Registry serves images in this process, and returns its address.
func Registry(t testing.TB) (host string) {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// A PythonLayer is the system's own interpreter, as part of an image.
type PythonLayer struct {
	Runtime, Version string // such as python3.11, 3.11.2
	Tar              []byte
}

// Python packs the interpreter of Python that the system has, its standard
// library and the shared libraries of both. It needs root: interpreters of images
// run in their root file system.
func Python(t testing.TB) PythonLayer {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		Missing(t, "root file systems need root on Linux")
	}
	p, err := packPython()
	if err != nil {
		Missing(t, "there is no Python to make an image of: "+err.Error())
	}
	return p
}

// unneeded are directories of the standard library that tests do without.
var unneeded = strings.Fields("__pycache__ config curses dist-packages distutils ensurepip idlelib lib2to3 pydoc_data site-packages test tkinter unittest")

var packPython = sync.OnceValues(func() (p PythonLayer, err error) {
	const ask = `import sys,os;print("%d.%d"%sys.version_info[:2]);print("%d.%d.%d"%sys.version_info[:3]);print(os.path.realpath(sys.executable));print(os.path.dirname(os.__file__))`
	out, err := exec.Command("/usr/bin/python3", "-I", "-c", ask).Output()
	if err != nil {
		return p, err
	}
	told := strings.Fields(string(out))
	p.Runtime, p.Version = "python"+told[0], told[1]
	program, library := told[2], told[3]
	files := map[string]bool{program: true}
	err = filepath.WalkDir(library, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _, _ := strings.Cut(d.Name(), "-"); d.IsDir() && slices.Contains(unneeded, name) {
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
	p.Tar = b.Bytes()
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
