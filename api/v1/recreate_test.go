package v1_test

import (
	"io"
	"strings"
	"testing"

	"lambent/client"
	"lambent/server/servertest"
)

// A function that is deleted during a call, and made again of the same code, is
// another function: what it writes is in a log of its own, and the instance of the
// first one does not serve it.
func TestMadeAgainDuringCall(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	ctx := t.Context()
	g := servertest.NewGate(t)
	code := `import os, urllib.request
calls = 0
def handler(event, context):
    global calls
    calls += 1
    print("call", calls)
    if event == "wait":
        urllib.request.urlopen("` + g.URL + `").read()
    return calls
`
	long := func(r *client.DeployRequest) { r.TimeoutMS = new(int64(60_000)) }
	s.Python(t, "f", code, long)
	answered := make(chan error, 1)
	go func() {
		_, err := s.Client.Invoke(ctx, client.InvokeRequest{Name: "f", Payload: strings.NewReader(`"wait"`)}, io.Discard)
		answered <- err
	}()
	g.Wait(t)
	if err := s.Client.Delete(ctx, "f", ""); err != nil {
		t.Fatal(err)
	}
	s.Python(t, "f", code, long)
	if out := call(t, s, "f", ""); out != "1" {
		t.Errorf("the first call of the new one answers %s", out)
	}
	g.Open()
	if err := <-answered; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	for want := range 3 {
		if out := call(t, s, "f", ""); out != string(rune('2'+want)) {
			t.Errorf("call %d of the new one answers %s: the instance of the old one serves it", want+2, out)
		}
	}
	n := 0
	for line, err := range s.Client.Logs(ctx, "f", client.LogQuery{Grep: "^call"}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; line.Text != "call "+string(rune('0'+n)) {
			t.Errorf("line %d is %q", n, line.Text)
		}
	}
	if n != 4 {
		t.Errorf("the log of the new one has %d of its 4 calls", n)
	}
}
