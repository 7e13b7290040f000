package test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/test/daemon"
)

const napper = `import time

def handler(event, context):
    time.sleep(1.5)
    print("slept")
    return "x" * (1 << 20)
`

const dripper = `export const handler = awslambda.streamifyResponse(async (event, out) => {
  for (let i = 0; i < 15; i++) {
    out.write("drip\n")
    await new Promise((ok) => setTimeout(ok, 100))
  }
  console.log("slept")
  out.end()
})
`

// open sends a request for a function's URL, and returns the connection.
func open(t *testing.T, d *daemon.Daemon, name string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /fn/%s/ HTTP/1.1\r\nHost: localhost\r\n\r\n", name)
	return c
}

// records waits until a function has so many.
func records(t *testing.T, d *daemon.Daemon, name string, n int) []client.Invocation {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		l, err := d.Invocations(t.Context(), name, client.Period{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Invocations) >= n || time.Now().After(deadline) {
			return l.Invocations
		}
	}
}

// A client that hangs up leaves the invocation running, as on Lambda, or ends it,
// where the function's deploy says so; answers as a whole and streams alike. It is
// metered as far as it went.
func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	for _, kind := range []string{"whole", "stream"} {
		for _, mode := range []lambent.OnDisconnect{lambent.DisconnectContinue, lambent.DisconnectCancel} {
			name := kind + "-" + string(mode)
			t.Run(name, func(t *testing.T) {
				r := python(upload(t, d, "app.py", napper), 0)
				if kind == "stream" {
					r = nodejs(upload(t, d, "index.mjs", dripper))
				}
				r.OnDisconnect, r.URL = &mode, &client.URLRequest{Policy: new(lambent.URLPublic), Stream: new(kind == "stream")}
				if _, err := d.Deploy(t.Context(), name, r, nil); err != nil {
					t.Fatal(err)
				}
				c := open(t, d, name)
				if kind == "stream" {
					if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
						t.Fatalf("%+v, %v", resp, err)
					}
				} else {
					underWay(t, d)
				}
				c.Close()
				u := records(t, d, name, 1)[0]
				run := time.Duration(u.RunUS) * time.Microsecond
				switch {
				case mode == lambent.DisconnectContinue && (u.Outcome != lambent.OutcomeOK || run < 1500*time.Millisecond):
					t.Errorf("it did not run on: %+v", u)
				case mode == lambent.DisconnectCancel && (u.Outcome != string(lambent.FaultCanceled) || run > 1400*time.Millisecond || u.BilledMS < run.Milliseconds()):
					t.Errorf("it was not ended: %+v", u)
				}
				slept := false
				for line, err := range d.Logs(t.Context(), name, client.LogQuery{Request: u.ID}) {
					if err != nil {
						t.Fatal(err)
					}
					slept = slept || strings.HasSuffix(line.Text, "slept")
				}
				if slept != (mode == lambent.DisconnectContinue) {
					t.Errorf("that the code came to its end is %v", slept)
				}
			})
		}
	}
}

// A client that hangs up while it waits in line costs no run.
func TestClientHangsUpInLine(t *testing.T) {
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	r := python(upload(t, d, "app.py", napper), 0)
	r.Scaling, r.URL = &client.ScalingRequest{MaxInstances: new(1)}, &client.URLRequest{Policy: new(lambent.URLPublic)}
	if _, err := d.Deploy(t.Context(), "f", r, nil); err != nil {
		t.Fatal(err)
	}
	first := open(t, d, "f")
	underWay(t, d)
	queued := func(n int) {
		for {
			s, err := d.Server(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s.Instances.Queued == n {
				return
			}
		}
	}
	second, third := open(t, d, "f"), open(t, d, "f")
	queued(2)
	second.Close()
	queued(1)
	for _, c := range []net.Conn{first, third} {
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%+v, %v", resp, err)
		}
	}
	if n := len(records(t, d, "f", 2)); n != 2 {
		t.Errorf("%d records of two answers", n)
	}
}
