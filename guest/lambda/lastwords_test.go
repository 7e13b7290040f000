package lambda_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/guest/platformtest"
)

// TestLastWords: what an agent said just before its process ended counts, however
// busy the machine is: at the load, and in the middle of a call.
func TestLastWords(t *testing.T) {
	p := platformtest.New(t, "namespace")
	code := filepath.Join(platformtest.PublicDir(t), "code")
	if err := os.Mkdir(code, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"load.cjs": "throw new RangeError('at load')",
		"call.cjs": "exports.handler = (event, context, callback) => { setImmediate(() => { throw new RangeError('in a call') }) }",
	} {
		if err := os.WriteFile(filepath.Join(code, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := lambent.Config{Runtime: p.Newest(t, "nodejs"), Code: code, MemoryMB: 256, Timeout: 20 * time.Second}
	for _, handler := range []string{"load.handler", "call.handler"} {
		config.Handler = handler
		platform := p.Deploy(t, config.WithDefaults())
		for range 3 {
			var calls sync.WaitGroup
			for range 16 { // enough for the reader of a connection to come late
				calls.Go(func() {
					a := platform.Call(t, `{}`)
					if f := a.Result.Fault; a.Err != nil || f == nil || f.Type != "RangeError" {
						t.Errorf("%s: got %+v, %v", handler, f, a.Err)
					}
				})
			}
			calls.Wait()
		}
	}
}
