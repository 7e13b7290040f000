package bundle_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
	"lambent/bundle"
)

// Whatever is put, the answer is a refusal that keeps nothing, or a tree that
// keeps the promises of the package.
func FuzzPutZip(f *testing.F) {
	for _, seed := range [][]entry{
		{{"app.py", "def handler(e, c): pass", 0o644}},
		{{"bin/x", "#!", 0o755}, {"l", "bin/x", link}, {"d/", "", fs.ModeDir | 0o755}},
		{{"d/up", "..", link}, {"m", "d/up/../x", link}},
		{{"../x", "", 0o644}, {"/y", "", 0o644}},
		{{"a", strings.Repeat("0", 70_000), 0o644}},
	} {
		f.Add(makeZip(seed...))
	}
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	limits := lambent.DefaultLimits()
	limits.MaxZip, limits.MaxTree, limits.MaxFiles = 1<<20, 1<<16, 100
	outer := f.TempDir()
	dir := filepath.Join(outer, "in", "code")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	s, err := bundle.Open(dir, limits)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, archive []byte) {
		tree, err := s.PutZip(t.Context(), bytes.NewReader(archive))
		leftovers(t, dir)
		for _, d := range []string{outer, filepath.Dir(dir)} {
			if es, err := os.ReadDir(d); err != nil || len(es) != 1 {
				t.Fatalf("written outside the store: %v, %v", es, err)
			}
		}
		items, lerr := s.List()
		if lerr != nil {
			t.Fatal(lerr)
		}
		if err != nil {
			if k := lambent.KindOf(err); k != lambent.Invalid && k != lambent.TooLarge || len(items) != 0 {
				t.Fatalf("refused with %v, keeping %v", err, items)
			}
			return
		}
		defer func() {
			for _, item := range items {
				s.Remove(item)
			}
		}()
		path, err := s.Path(tree.Digest)
		if err == nil {
			path, err = filepath.EvalSymlinks(path) // where the temporary directory is behind a link
		}
		if err != nil || len(items) != 2 {
			t.Fatalf("%v, %v", items, err)
		}
		size, files := int64(0), 0
		for name, what := range content(t, path) {
			if what == "directory" {
				continue
			}
			files++
			if target, ok := strings.CutPrefix(what, "link to "); ok {
				if real, err := filepath.EvalSymlinks(filepath.Join(path, name)); err == nil && !strings.HasPrefix(real+"/", path+"/") {
					t.Fatalf("%s leads to %s, to %s", name, target, real)
				}
				continue
			}
			info, err := os.Lstat(filepath.Join(path, name))
			if err != nil || info.Mode().Perm()&0o222 != 0 || info.Mode().Perm()&0o444 != 0o444 {
				t.Fatalf("%s: %v, %v", name, info, err)
			}
			size += info.Size()
		}
		if size != tree.Size || files != tree.Files || size > limits.MaxTree || files > limits.MaxFiles {
			t.Fatalf("%d bytes in %d files, but %+v", size, files, tree)
		}
		again, err := s.PutDir(t.Context(), path)
		if err != nil || again.Digest != tree.Digest {
			t.Fatalf("put again: %+v, %v", again, err)
		}
		if items, err = s.List(); err != nil {
			t.Fatal(err)
		}
	})
}
