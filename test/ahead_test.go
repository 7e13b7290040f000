package test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent/client"
	"lambent/test/daemon"
)

// Google's framework, added to a runtime, is loaded before there is a call for functions
// that bring the same, and show says for each function whose it is and when it is loaded.
func TestFrameworksFromRegistries(t *testing.T) {
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	if s, err := d.Server(t.Context()); err != nil || s.Driver != "namespace" {
		missing(t, "sandboxes of namespaces are needed to load anything ahead")
	}
	for _, c := range []struct{ language, tool, registry, example, framework, manifest, older string }{
		{"nodejs", "npm", "registry.npmjs.org:443", "gcp-node-hello", "@google-cloud/functions-framework@5.0.5", "package.json", "5.0.2"},
		{"python", "/usr/bin/python3", "pypi.org:443", "gcp-python-hello", "functions-framework==3.10.2", "requirements.txt", "3.10.1"},
	} {
		t.Run(c.language, func(t *testing.T) {
			t.Parallel()
			needs(t, c.registry, c.tool)
			said(t, d, "runtime", "add", hosts(t, d, c.language), "--packages", c.framework)
			dir := filepath.Join(t.TempDir(), c.example)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", c.example))); err != nil {
				t.Fatal(err)
			}
			shows := func(want string) {
				t.Helper()
				said(t, d, "deploy", dir)
				var out bytes.Buffer
				if _, err := d.Invoke(t.Context(), client.InvokeRequest{Name: c.example, Payload: strings.NewReader(`{"name": "Ada"}`)}, &out); err != nil || !strings.Contains(out.String(), "Hello, Ada!") {
					t.Errorf("Invoke = %v: %s", err, &out)
				}
				if shown := said(t, d, "show", c.example); !strings.Contains(shown, want) {
					t.Errorf("no %q in\n%s", want, shown)
				}
			}
			version := c.framework[strings.LastIndexAny(c.framework, "@=")+1:]
			shows(version + ", loaded ahead")

			file := filepath.Join(dir, c.manifest)
			text, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, bytes.ReplaceAll(text, []byte(version), []byte(c.older)), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			shows("the code's own, loaded at each start: ")
		})
	}
}

// hosts returns the newest runtime of a language that is the machine's own.
func hosts(t *testing.T, d *daemon.Daemon, language string) string {
	t.Helper()
	list, err := d.Runtimes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	for _, r := range list {
		if strings.HasPrefix(r.Name, language) && strings.Contains(r.Name, ".") {
			name = max(name, r.Name)
		}
	}
	if name == "" {
		missing(t, "no "+language)
	}
	return name
}
