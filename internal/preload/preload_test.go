package preload_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/preload"
)

// write makes files, by path.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T) *preload.List {
	t.Helper()
	l, err := preload.Parse([]byte("a warning: {\n" + `{"name": "framework 1", "files": ["node_modules/@g/f/main.js", "node_modules/@g/f/package.json", "node_modules/a/lib/a.js"], "shared": ["node_modules", "node_modules/@g"], "absent": ["node_modules/colour", "typing"], "env": {"DEBUG_*": null, "MODE": null, "NODE_ENV": "production"}}`))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func packages(t *testing.T, dir string) {
	write(t, dir, map[string]string{
		"node_modules/@g/f/main.js": "main", "node_modules/@g/f/package.json": "{}", "node_modules/@g/f/README": "not loaded",
		"node_modules/a/lib/a.js": "a", "node_modules/a/lib/b.js": "b, not loaded",
	})
}

func TestSame(t *testing.T) {
	remove := func(name string) func(string) error {
		return func(dir string) error { return os.RemoveAll(filepath.Join(dir, name)) }
	}
	put := func(name, content string) func(string) error {
		return func(dir string) error {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)
		}
	}
	link := func(name, to string) func(string) error {
		return func(dir string) error {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, to)); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(dir, to), filepath.Join(dir, name))
		}
	}
	for name, c := range map[string]struct {
		change func(dir string) error
		why    string // "": it is the same
	}{
		"nothing":             {func(string) error { return nil }, ""},
		"code":                {put("index.js", "mine"), ""},
		"another package":     {put("node_modules/mine/index.js", ""), ""},
		"another of a scope":  {put("node_modules/@g/other/index.js", ""), ""},
		"less, not loaded":    {remove("node_modules/@g/f/README"), ""},
		"changed, not loaded": {put("node_modules/a/lib/b.js", "another"), ""},
		"compiled":            {put("node_modules/a/lib/__pycache__/a.pyc", ""), ""},
		"no framework":        {remove("node_modules/@g"), "node_modules/@g/f is not there"},
		"no packages":         {remove("node_modules"), "node_modules/@g/f is not there"},
		"no file":             {remove("node_modules/a/lib/a.js"), "node_modules/a/lib/a.js is not there"},
		"another length":      {put("node_modules/@g/f/main.js", "another"), "node_modules/@g/f/main.js differs from the runtime's"},
		"another content":     {put("node_modules/@g/f/main.js", "niam"), "node_modules/@g/f/main.js differs from the runtime's"},
		"another version":     {put("node_modules/@g/f/package.json", "[]"), "node_modules/@g/f/package.json differs from the runtime's"},
		"nested":              {put("node_modules/a/node_modules/c/index.js", ""), "node_modules/a/node_modules is more than the runtime's packages have there"},
		"in its place":        {put("node_modules/a/lib/a", ""), "node_modules/a/lib/a is more than the runtime's packages have there"},
		"looked for":          {put("node_modules/colour/index.js", ""), "node_modules/colour is there, which the runtime's packages were loaded without"},
		"looked for, a file":  {put("typing.py", ""), "typing.py is there, which the runtime's packages were loaded without"},
		"only begins so":      {put("node_modules/colours/index.js", ""), ""},
		"a linked package":    {link("node_modules/a", "store"), "node_modules/a is not a directory"},
		"a linked file":       {link("node_modules/a/lib/a.js", "a.js"), "node_modules/a/lib/a.js is not a file"},
		"all linked":          {link("node_modules", "store"), "node_modules is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := t.TempDir(), t.TempDir()
			packages(t, ours)
			packages(t, theirs)
			if err := c.change(theirs); err != nil {
				t.Fatal(err)
			}
			err := list(t).Same(ours, theirs)
			if (err == nil) != (c.why == "") || err != nil && err.Error() != c.why {
				t.Errorf("got %v, want %q", err, c.why)
			}
		})
	}
}

func TestDiffers(t *testing.T) {
	for name, c := range map[string]struct {
		env     map[string]string
		secrets []string
		want    string
	}{
		"as it was":      {map[string]string{"NODE_ENV": "production", "OTHER": "1"}, []string{"KEY"}, ""},
		"set":            {map[string]string{"NODE_ENV": "production", "MODE": ""}, nil, "MODE"},
		"another":        {map[string]string{"NODE_ENV": "test"}, nil, "NODE_ENV"},
		"not set":        {nil, nil, "NODE_ENV"},
		"secret":         {map[string]string{"NODE_ENV": "production"}, []string{"MODE"}, "MODE"},
		"begins so":      {map[string]string{"NODE_ENV": "production", "debug_colors": "1"}, nil, "debug_colors"},
		"does not begin": {map[string]string{"NODE_ENV": "production", "DEBUGGER": "1"}, nil, ""},
	} {
		if got := list(t).Differs(c.env, c.secrets); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, text := range []string{"", "{}", `{"name": "x"}`, `{"name": "x", "files": ["../etc/passwd"]}`, `{"name": "x", "files": ["/etc/passwd"]}`, `{"name": "x", "files": ["a"], "absent": ["../b"]}`} {
		if l, err := preload.Parse([]byte(text)); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("%s: %+v, %v", text, l, err)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	if l, err := preload.Read(dir); err == nil {
		t.Errorf("of none: %+v", l)
	}
	write(t, dir, map[string]string{preload.File: `{"name": "framework 1", "files": ["a"]}`})
	if l, err := preload.Read(dir); err != nil || l.Name != "framework 1" {
		t.Errorf("got %+v, %v", l, err)
	}
	write(t, dir, map[string]string{preload.File: strings.Repeat("[", 10)})
	if _, err := preload.Read(dir); err == nil {
		t.Error("a damaged one is read")
	}
}
