package lambda_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"lambent"
	"lambent/guest/guesttest"
	"lambent/guest/platformtest"
)

// A lateEnd is a caller to whom the end of an answer takes longer to tell than the
// function has time.
type lateEnd struct{ guesttest.Answer }

func (l *lateEnd) End(r lambent.Result) {
	time.Sleep(1500 * time.Millisecond)
	l.Answer.End(r)
}

// TestSlowEnd: what a caller takes after the code has said all is not the code's time,
// and does not cost the instance.
func TestSlowEnd(t *testing.T) {
	t.Parallel()
	p := platformtest.New(t, "process")
	code := filepath.Join(platformtest.PublicDir(t), "code")
	if err := os.Mkdir(code, 0o755); err != nil {
		t.Fatal(err)
	}
	text := "let n = 0; export const handler = awslambda.streamifyResponse(async (event, out) => { out.end(String(++n)) })"
	if err := os.WriteFile(filepath.Join(code, "app.mjs"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f := p.Deploy(t, lambent.Config{Runtime: p.Newest(t, "nodejs"), Handler: "app.handler", Code: code, MemoryMB: 256, Timeout: time.Second}.WithDefaults())
	var a lateEnd
	inv := &lambent.Invocation{ID: "00000000-0000-4000-8000-000000000001", Target: f.Name, Raw: []byte("{}")}
	if err := f.Invoke(t.Context(), inv, &a); err != nil || a.Result.Fault != nil {
		t.Errorf("the call ended with %v, %v", err, a.Result.Fault)
	}
	if next := f.Call(t, "{}"); next.Err != nil || next.Body.String() != "2" {
		t.Errorf("the next call got %q, %v, want the 2 of the same instance", next.Body.String(), next.Err)
	}
}
