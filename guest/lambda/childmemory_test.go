package lambda_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/guest/platformtest"
)

// TestChildOutOfMemory: a program that the handler has started takes too much, and
// the handler answers as if nothing had been.
func TestChildOutOfMemory(t *testing.T) {
	p := platformtest.New(t, "namespace")
	code := filepath.Join(platformtest.PublicDir(t), "code")
	if err := os.Mkdir(code, 0o755); err != nil {
		t.Fatal(err)
	}
	const text = `import subprocess, sys
calls = 0
def handler(event, context):
    global calls
    calls += 1
    if event.get("hog"):
        subprocess.run([sys.executable, "-c", "bytearray(1 << 30)"])
    return calls
`
	if err := os.WriteFile(filepath.Join(code, "app.py"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	config := lambent.Config{Runtime: p.Newest(t, "python"), Handler: "app.handler", Code: code, MemoryMB: 256, Timeout: 20 * time.Second}
	platform := p.Deploy(t, config.WithDefaults())
	if a := platform.Call(t, `{}`); a.Body.String() != "1" {
		t.Fatalf("got %q, %+v, %v", a.Body.String(), a.Result.Fault, a.Err)
	}
	a := platform.Call(t, `{"hog": true}`)
	if f := a.Result.Fault; a.Err != nil || f == nil || f.Kind != lambent.FaultMemory || f.Type != "Runtime.OutOfMemory" || a.Body.Len() != 0 {
		t.Errorf("got %q, %+v, %v, want out of memory", a.Body.String(), f, a.Err)
	}
	if log := platform.Log(); !strings.Contains(log, " Runtime exited with error: signal: killed\n") {
		t.Errorf("the log does not say so:\n%s", log)
	}
	if a := platform.Call(t, `{}`); a.Body.String() != "1" {
		t.Errorf("the next call got %q, %+v: want a new instance", a.Body.String(), a.Result.Fault)
	}
}
