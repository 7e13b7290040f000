package rootfs_test

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"lambent"
	"lambent/runtimes/rootfs"
	"lambent/runtimes/rootfstest"
	"lambent/sandbox"
	"lambent/sandbox/namespace"
	"lambent/sandbox/process"
)

// open opens a store that every user can reach: interpreters run as nobody.
func open(t testing.TB, change ...func(*rootfs.Options)) *rootfs.Store {
	t.Helper()
	dir := publicDir(t)
	o := rootfs.Options{Dir: filepath.Join(dir, "roots")}
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

// inRoots has interpreters run in sandboxes with root file systems.
func inRoots(t testing.TB) func(*rootfs.Options) {
	t.Helper()
	d, err := namespace.New(namespace.Options{Dir: publicDir(t)})
	if err != nil {
		rootfstest.Missing(t, err.Error())
	}
	return func(o *rootfs.Options) { o.Driver, o.PackagesSeen = guarded(t, d), lambent.PackagesInside }
}

// inProcesses has them run as plain processes.
func inProcesses(t testing.TB) func(*rootfs.Options) {
	t.Helper()
	d, err := process.New(process.Options{Dir: filepath.Join(publicDir(t), "run")})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *rootfs.Options) { o.Driver = guarded(t, d) }
}

func guarded(t testing.TB, d sandbox.Driver) sandbox.Driver {
	t.Helper()
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return sandbox.Guard(d)
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
