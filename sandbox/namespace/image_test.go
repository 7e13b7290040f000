//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
)

// image makes a root file system with a shell.
func image(t *testing.T) string {
	t.Helper()
	root := codeDir(t)
	for _, file := range needed(t, "/bin/sh") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// needed lists a program, what loads it and the libraries that it names.
func needed(t *testing.T, program string) []string {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := []string{program}
	if s := f.Section(".interp"); s != nil {
		loader, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, strings.TrimRight(string(loader), "\x00"))
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range libraries {
		found, _ := filepath.Glob("/lib*/*/" + name)
		more, _ := filepath.Glob("/lib*/" + name)
		if found = append(found, more...); len(found) == 0 {
			missing(t, "needs "+name+" where libraries are")
		}
		files = append(files, found[0])
	}
	return files
}

// TestCompiledInAnImage: images have a directory of the name, or a link, of their own.
func TestCompiledInAnImage(t *testing.T) {
	d := open(t, "")
	defer d.Close()
	for name, prepare := range map[string]func(cache string) error{
		"none":      func(string) error { return nil },
		"directory": func(cache string) error { return os.Mkdir(cache, 0o755) },
		"link":      func(cache string) error { return os.Symlink("/nowhere/cache", cache) },
	} {
		t.Run(name, func(t *testing.T) {
			root := image(t)
			cache := filepath.Join(root, lambent.CompiledInside)
			if err := os.MkdirAll(filepath.Dir(cache), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := prepare(cache); err != nil {
				t.Fatal(err)
			}
			const file = lambent.CompiledInside + "/shell"
			out := outputOf(t, d, lambent.Runtime{
				Name: "shell", Root: root,
				Boot:    []string{"/bin/sh", "-c", "n=0; while [ ! -s " + file + " ] && [ $n -lt 300000 ]; do n=$((n+1)); done; read line <" + file + "; echo $line"},
				Compile: []string{"/bin/sh", "-c", "echo compiled"},
			})
			if strings.TrimSpace(out) != "compiled" {
				t.Errorf("got %q", out)
			}
			if name == "directory" {
				if left, err := os.ReadDir(cache); err != nil || len(left) > 0 {
					t.Errorf("in the image: %v, %v", left, err)
				}
			}
		})
	}
}
