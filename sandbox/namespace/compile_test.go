//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/sandbox/namespace"
)

// TestCompiled: what a runtime's program prints is where its agents look for it, in
// sandboxes that are there already, too, and nobody inside can change it. A program
// that fails leaves nothing.
func TestCompiled(t *testing.T) {
	d := open(t, "")
	defer d.Close()
	const file = lambent.CompiledInside + "/shell"
	loop := "for i in $(seq 500); do [ -s " + file + " ] && break; sleep 0.02; done; cat " + file + " 2>&1; { echo x >" + file + "; } 2>&1; { echo x >" + lambent.CompiledInside + "/y; } 2>&1; ls -A " + lambent.CompiledInside
	for name, program := range map[string]string{"made": "echo $MARK", "failed": "echo half; exit 1", "endless": "yes"} {
		t.Run(name, func(t *testing.T) {
			wait := loop
			if name != "made" {
				wait = "sleep 0.5; ls -A " + lambent.CompiledInside
			}
			out := outputOf(t, d, lambent.Runtime{
				Name: "shell", Boot: []string{"/bin/sh", "-c", wait}, Env: map[string]string{"PATH": "/usr/bin:/bin", "MARK": "compiled"},
				Compile: []string{"/bin/sh", "-c", program},
				// A root of its own for each, as what is made is made once for each.
				Packages: codeDir(t),
			})
			if name != "made" {
				if out != "" {
					t.Errorf("there is %q", out)
				}
				return
			}
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if len(lines) != 4 || lines[0] != "compiled" || lines[3] != "shell" {
				t.Errorf("got %q", lines)
			}
			for _, l := range lines[1:max(1, len(lines)-1)] {
				if !strings.Contains(l, "Read-only file system") {
					t.Errorf("writing there: %q", l)
				}
			}
		})
	}
}

// outputOf boots a runtime and returns what its agent prints until it ends.
func outputOf(t *testing.T, d *namespace.Driver, rt lambent.Runtime) string {
	t.Helper()
	s, err := d.Park(t.Context(), rt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Output().Close()
	defer s.Destroy()
	_ = s.Output().SetReadDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(s.Output())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
