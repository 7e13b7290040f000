package web_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

func streams(r *client.DeployRequest) { r.URL.Stream = new(true) }

// What a function writes is on its way before the function goes on.
func TestStream(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	g := servertest.NewGate(t)
	source := `import http from "node:http"
export const handler = awslambda.streamifyResponse(async (event, out) => {
  out = awslambda.HttpResponseStream.from(out, {statusCode: 207, headers: {"content-type": "text/event-stream", "x-a": "b"}, cookies: ["a=1"]})
  out.write("first\n")
  await new Promise((ok) => http.get("` + g.URL + `?here", (r) => r.resume().on("end", ok)))
  out.write("second\n")
  out.end()
})
`
	s.Node(t, "live", source, streams)
	s.Node(t, "whole", source) // buffered: the same code, all at once
	resp, err := new(http.Transport).RoundTrip(s.Request(t, "GET", "/fn/live/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 207 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("X-A") != "b" || resp.Header.Get("Set-Cookie") != "a=1" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); line != "first\n" {
		t.Fatalf("%q, %v", line, err)
	}
	g.Wait(t) // it stands there, and we have had the first line
	g.Open()
	if rest, err := io.ReadAll(body); string(rest) != "second\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if a := s.Get(t, "/fn/whole/"); a.StatusCode != 207 || a.Body != "first\nsecond\n" {
		t.Errorf("buffered: %d %q", a.StatusCode, a.Body)
	}
}

// An answer that breaks off in the middle must not pass for a whole one.
func TestStreamFails(t *testing.T) {
	s := servertest.Start(t)
	for name, end := range map[string]string{
		"throws": `throw new Error("midway")`, "exits": "process.exit(1)", "hangs": "await new Promise((ok) => setTimeout(ok, 60_000))",
	} {
		s.Node(t, name, `export const handler = awslambda.streamifyResponse(async (event, out) => {
  out.setContentType("text/plain")
  await new Promise((ok) => out.write("begun", ok))
  await new Promise((ok) => setTimeout(ok, 50))
  `+end+"\n})\n", streams, func(r *client.DeployRequest) { r.TimeoutMS = new(int64(500)) })
	}
	s.Node(t, "early", `export const handler = awslambda.streamifyResponse(async () => { throw new Error("at once") })`, streams)
	for _, name := range []string{"throws", "exits", "hangs"} {
		resp, err := new(http.Transport).RoundTrip(s.Request(t, "GET", "/fn/"+name+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(b) != "begun" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %d %q, %v: the connection must break", name, resp.StatusCode, b, err)
		}
		list, err := s.Client.Invocation(t.Context(), resp.Header.Get("X-Amzn-Requestid"))
		if err != nil || len(list.Invocations) != 1 || list.Invocations[0].Outcome == "ok" {
			t.Errorf("%s: the usage record: %+v, %v", name, list, err)
		}
	}
	if a := s.Get(t, "/fn/early/"); a.StatusCode != 502 || a.Body != "Internal Server Error" {
		t.Errorf("before the first byte: %d %q", a.StatusCode, a.Body)
	}
}

// A caller who goes away does not stop the code, as on AWS, and is billed.
func TestCallerGone(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	g := servertest.NewGate(t)
	s.Python(t, "f", g.Python(), func(r *client.DeployRequest) { r.TimeoutMS = new(int64(60_000)) })
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /fn/f/ HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	g.Wait(t)
	c.Close()
	g.Open()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list, err := s.Client.Invocations(t.Context(), "f", client.Period{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Invocations) == 1 {
			if u := list.Invocations[0]; u.Outcome != "ok" || u.BytesOut != 4 {
				t.Errorf("%+v", u)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("there is no usage record after 10 s")
		}
	}
	if a := s.Get(t, "/fn/f/"); a.Body != "done" {
		t.Errorf("the next call: %d %s", a.StatusCode, a.Body)
	}
}

// Who asks first whether to send a body is told yes where it is read, and no
// where the request is refused.
func TestExpectContinue(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "size", "def handler(event, context):\n    return len(event['body'])\n")
	for path, want := range map[string]struct {
		status int
		asked  bool
	}{"/fn/size/": {200, true}, "/fn/nothing/": {403, false}} {
		told := false
		r := s.Request(t, "POST", path, strings.NewReader("12345"), "Expect", "100-continue", "Content-Type", "text/plain")
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { told = code == 100; return nil },
		}))
		transport := &http.Transport{ExpectContinueTimeout: 10 * time.Second, DisableKeepAlives: true}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want.status || told != want.asked || want.status == 200 && string(b) != "5" {
			t.Errorf("%s: %d %q, told to go on: %v", path, resp.StatusCode, b, told)
		}
	}
}

// Broken requests get an answer or an end, and harm nobody.
func TestBrokenRequests(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "f", "def handler(event, context):\n    return 'ok'\n")
	for name, request := range map[string]string{
		"no host":             "GET /fn/f/ HTTP/1.1\r\n\r\n",
		"two hosts":           "GET /fn/f/ HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
		"two lengths":         "POST /fn/f/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"length and chunks":   "POST /fn/f/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n",
		"a body cut short":    "POST /fn/f/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
		"a chunk cut short":   "POST /fn/f/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"a bad chunk":         "POST /fn/f/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nq\r\n",
		"a bad escape":        "GET /fn/f/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"no protocol":         "GET /fn/f/\r\n\r\n",
		"a space in the name": "GET /fn/f/ HTTP/1.1\r\nHost: localhost\r\nA B: c\r\n\r\n",
		"large headers":       "GET /fn/f/ HTTP/1.1\r\nHost: localhost\r\nA: " + strings.Repeat("a", 128<<10) + "\r\n\r\n",
		"a proxy's":           "GET http://evil.example/v1/functions HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"a tunnel":            "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n",
	} {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(c, request)
		_ = c.(*net.TCPConn).CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			if resp.StatusCode < 400 {
				t.Errorf("%s: %s", name, resp.Status)
			}
			resp.Body.Close()
		}
		c.Close()
	}
	if a := s.Get(t, "/fn/f/"); a.Body != "ok" {
		t.Errorf("afterwards: %d %s", a.StatusCode, a.Body)
	}
}

// Who sends slowly keeps nobody waiting: an instance is taken once the request is
// here.
func TestSlowSender(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "f", "def handler(event, context):\n    return event.get('body', 'none')\n", func(r *client.DeployRequest) {
		r.Scaling = &client.ScalingRequest{MaxInstances: new(1)}
	})
	var slow []net.Conn
	for range 5 {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "POST /fn/f/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nsl")
		slow = append(slow, c)
	}
	for range 20 {
		if a := s.Get(t, "/fn/f/"); a.StatusCode != 200 || a.Body != "none" {
			t.Fatalf("%d %s", a.StatusCode, a.Body)
		}
	}
	for _, c := range slow {
		fmt.Fprint(c, "ow")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "slow" || err != nil {
			t.Errorf("the slow one is answered %s %q, %v", resp.Status, b, err)
		}
	}
	list, err := s.Client.Invocations(t.Context(), "f", client.Period{}, 1)
	if err != nil || list.Invocations[0].BytesIn != 4 {
		t.Errorf("%+v, %v", list, err)
	}
}

// Who stops reading an answer holds the instance for a while, and no longer.
func TestStalledReader(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.StallTimeout = 500 * time.Millisecond })
	one := func(r *client.DeployRequest) { r.Scaling = &client.ScalingRequest{MaxInstances: new(1)} }
	s.Python(t, "whole", "def handler(event, context):\n    return 'x' * (6 << 20) if event['rawPath'] == '/large' else 'small'\n", one)
	s.Node(t, "stream", `export const handler = awslambda.streamifyResponse(async (event, out) => {
  if (event.rawPath == "/large") for (let i = 0; i < 400; i++) await new Promise((ok) => out.write("x".repeat(64 << 10), ok))
  else out.write("small")
  out.end()
})
`, streams, one)
	for _, name := range []string{"whole", "stream"} {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		fmt.Fprint(c, "GET /fn/"+name+"/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if _, err := io.ReadFull(c, make([]byte, 100)); err != nil { // it has begun
			t.Fatal(err)
		}
		begun := time.Now()
		if a := s.Get(t, "/fn/"+name+"/"); a.StatusCode != 200 || a.Body != "small" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Body)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: the next call waited for %v", name, took)
		}
	}
}
