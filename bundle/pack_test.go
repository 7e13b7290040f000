package bundle_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lambent"
	"lambent/bundle"
)

// write writes a file below dir.
func write(t testing.TB, dir, name, content string, mode fs.FileMode) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, archive []byte) string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range r.File {
		out = append(out, f.Name)
	}
	return strings.Join(out, " ")
}

func TestPack(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "app.py", "pass", 0o644)
	write(t, dir, "bin/run", "#!/bin/sh", 0o755)
	for _, left := range []string{".git/HEAD", "lib/__pycache__/x.pyc", "lib/y.pyc", ".venv/bin/python", ".DS_Store", "node_modules/.cache/z"} {
		write(t, dir, left, "x", 0o644)
	}
	write(t, dir, "lib/.cache/kept", "x", 0o644)
	if err := os.Symlink("bin/run", filepath.Join(dir, "run")); err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	files, err := bundle.Pack(t.Context(), dir, &first)
	if err != nil || files != 4 {
		t.Fatalf("%d files, %v", files, err)
	}
	if got := names(t, first.Bytes()); got != "app.py bin/ bin/run lib/ lib/.cache/ lib/.cache/kept node_modules/ run" {
		t.Errorf("packed %s", got)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "app.py"), later, later); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Pack(t.Context(), dir, &second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("the same content made another archive (%v)", err)
	}
	s, _ := open(t, lambent.DefaultLimits())
	tree := put(t, s, first.Bytes())
	path, _ := s.Path(tree.Digest)
	if target, err := os.Readlink(filepath.Join(path, "run")); target != "bin/run" {
		t.Errorf("link: %q, %v", target, err)
	}
	if info, err := os.Stat(filepath.Join(path, "run")); err != nil || info.Mode() != 0o555 {
		t.Errorf("the executable bit is lost: %v, %v", info, err)
	}
}

func TestPackRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		make  func(dir string) error
		words string
	}{
		"no directory": {func(dir string) error { return os.Remove(dir) }, "cannot be read"},
		"empty":        {func(dir string) error { return nil }, "no files"},
		"pipe":         {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "p"), 0o600) }, `entry "p" is a named pipe`},
		"socket": {func(dir string) error {
			l, err := net.Listen("unix", filepath.Join(dir, "s"))
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}, "is a socket"},
		"link out":      {func(dir string) error { return os.Symlink("../..", filepath.Join(dir, "l")) }, "leads out"},
		"absolute link": {func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "l")) }, "absolute path"},
		"backslash":     {func(dir string) error { return os.WriteFile(filepath.Join(dir, `a\b`), nil, 0o600) }, "backslash"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "pack") // short: a socket's path may have 107 bytes
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			if err := c.make(dir); err != nil {
				t.Skip(err)
			}
			var b bytes.Buffer
			if _, err := bundle.Pack(t.Context(), dir, &b); !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), c.words) || b.Len() != 0 {
				t.Errorf("Pack = %v and %d bytes, want Invalid with %q", err, b.Len(), c.words)
			}
			s, code := open(t, lambent.DefaultLimits())
			if _, err := s.PutDir(t.Context(), dir); !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("PutDir = %v, want Invalid with %q", err, c.words)
			}
			leftovers(t, code)
		})
	}
}

func TestPutDir(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "app.py", "pass", 0o644)
	write(t, dir, "__pycache__/app.pyc", "x", 0o644)
	l := lambent.DefaultLimits()
	l.MaxZip, l.MaxTree = 10, 1000
	s, code := open(t, l)
	tree, err := s.PutDir(t.Context(), dir)
	if err != nil || tree.Files != 2 { // all of it, and though its archive is over MaxZip
		t.Fatalf("%+v, %v", tree, err)
	}
	if _, err := s.Zip(tree.ZipDigest); err != nil {
		t.Error(err)
	}
	write(t, dir, "big", strings.Repeat("0", 1000), 0o644)
	if _, err := s.PutDir(t.Context(), dir); !lambent.Is(err, lambent.TooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.PutDir(ctx, dir); !lambent.Is(err, lambent.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	leftovers(t, code)
}

// content describes everything below a directory as a store keeps it.
func content(t rapid.TB, dir string) map[string]string {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch info.Mode().Type() {
		case fs.ModeDir:
			out[name] = "directory"
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			out[name] = "link to " + target
			return err
		default:
			b, err := os.ReadFile(path)
			out[name] = "file " + string(b)
			if info.Mode()&0o111 != 0 {
				out[name] = "executable " + string(b)
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Any directory comes out of the store as it went in, by either way, and again
// from what came out.
func TestDirectoriesRoundTrip(t *testing.T) {
	s, _ := open(t, lambent.DefaultLimits())
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "tree")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		name := rapid.StringMatching(`[a-c.é -]{1,6}`).Filter(func(s string) bool { return s != "." && s != ".." })
		dirs := []string{""}
		for range rapid.IntRange(1, 20).Draw(t, "entries") {
			parent := rapid.SampledFrom(dirs).Draw(t, "parent")
			path := filepath.Join(parent, name.Draw(t, "name"))
			full := filepath.Join(dir, path)
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				if os.Mkdir(full, 0o755) == nil {
					dirs = append(dirs, path)
				}
			case 1: // to something that may or may not be there, from the root down
				up := strings.Repeat("../", strings.Count(path, "/"))
				os.Symlink(up+name.Draw(t, "target"), full)
			default:
				mode := rapid.SampledFrom([]fs.FileMode{0o600, 0o644, 0o755, 0o100}).Draw(t, "mode")
				if f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode); err == nil {
					f.Write(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "content"))
					f.Close()
				}
			}
		}
		want := content(t, dir)
		first, err := s.PutDir(t.Context(), dir)
		if lambent.Is(err, lambent.Invalid) && (strings.Contains(err.Error(), "no files") || strings.Contains(err.Error(), "back to itself")) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path, err := s.Path(first.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); !reflect.DeepEqual(got, want) {
			t.Fatalf("went in %q, came out %q", want, got)
		}
		var b bytes.Buffer
		if _, err := bundle.Pack(t.Context(), path, &b); err != nil {
			t.Fatal(err)
		}
		again, err := s.PutZip(t.Context(), &b)
		if err != nil || again != first {
			t.Fatalf("put %+v and, from what came out, %+v (%v)", first, again, err)
		}
	})
}

// A full disk is said so, and leaves nothing behind.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := mountSmall(dir); err != nil {
		t.Skipf("needs a small file system: %v", err)
	}
	t.Cleanup(func() { unmount(dir) })
	s, err := bundle.Open(filepath.Join(dir, "code"), lambent.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 3<<20)
	for i := range noise {
		noise[i] = byte(i * i >> 8)
	}
	random := makeZip(entry{"zeros", strings.Repeat("0", 8<<20), 0o644})
	stored := bytes.NewReader(append(noise, random...))
	for name, archive := range map[string]*bytes.Reader{"unpacked": bytes.NewReader(random), "as sent": stored} {
		_, err := s.PutZip(t.Context(), archive)
		if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Kind != lambent.NoSpace || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
		leftovers(t, filepath.Join(dir, "code"))
	}
	put(t, s, makeZip(entry{"small", "fits", 0o644}))
}
