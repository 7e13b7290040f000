package web_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"lambent/client"
	"lambent/server/servertest"
)

// TestServer: a function that is a web server has requests as they came, and its
// answers go as they come.
func TestServer(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	g := servertest.NewGate(t)
	s.Node(t, "site", `import http from "node:http"
http.createServer(async (req, res) => {
  const url = new URL(req.url, "http://site")
  if (url.pathname === "/wait") {
    res.writeHead(207, {"content-type": "text/event-stream"})
    res.write("first\n")
    await new Promise((ok) => http.get("`+g.URL+`?here", (r) => r.resume().on("end", ok)))
    return res.end("second\n")
  }
  if (url.pathname === "/hang") return
  if (url.pathname === "/crash") process.exit(3)
  let body = ""
  for await (const part of req) body += part
  res.setHeader("set-cookie", ["a=1", "lambent_session=stolen"])
  res.end(JSON.stringify({method: req.method, url: req.url, headers: req.headers, body}))
}).listen(process.env.PORT)
`, func(r *client.DeployRequest) {
		r.Runtime, r.Handler, r.Command, r.TimeoutMS = new(s.Newest(t, "google-nodejs")), nil, []string{"node", "app.mjs"}, new(int64(2000))
	})

	a := servertest.Do(t, s.Request(t, "DELETE", "/fn/site/a%20b?x=1&x=2", strings.NewReader("grüße"), "X-Mine", "yes", "Cookie", "b=2; lambent_session=mine"))
	var got struct {
		Method, URL, Body string
		Headers           map[string]string
	}
	if err := json.Unmarshal([]byte(a.Body), &got); err != nil {
		t.Fatalf("%v: %q", err, a.Body)
	}
	h := got.Headers
	if got.Method != "DELETE" || got.URL != "/a%20b?x=1&x=2" || got.Body != "grüße" || h["x-mine"] != "yes" || h["cookie"] != "b=2" ||
		h["x-forwarded-for"] != "127.0.0.1" || h["x-forwarded-proto"] != "http" || h["host"] != h["x-forwarded-host"] || h["function-execution-id"] != a.Header.Get("X-Amzn-Requestid") {
		t.Errorf("it got %+v", got)
	}
	if a.StatusCode != 200 || len(a.Header["Set-Cookie"]) != 1 {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}

	resp, err := new(http.Transport).RoundTrip(s.Request(t, "GET", "/fn/site/wait", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); resp.StatusCode != 207 || line != "first\n" {
		t.Fatalf("%d %q, %v", resp.StatusCode, line, err)
	}
	g.Wait(t) // it stands there, and we have had the first line
	g.Open()
	if rest, err := io.ReadAll(body); string(rest) != "second\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}

	// Failures have the statuses that Google's front gives them.
	if a := s.Get(t, "/fn/site/hang"); a.StatusCode != 504 || a.Body != "Gateway Timeout" {
		t.Errorf("a timeout: %d %q", a.StatusCode, a.Body)
	}
	if a := s.Get(t, "/fn/site/crash"); a.StatusCode != 503 || a.Body != "Service Unavailable" {
		t.Errorf("a crash: %d %q", a.StatusCode, a.Body)
	}
	if a := s.Get(t, "/fn/site/"); a.StatusCode != 200 {
		t.Errorf("afterwards: %d %q", a.StatusCode, a.Body)
	}
}

// A request's header of 1 MB is refused at the door.
func TestLargeHeader(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	site(t, s, "node")
	for _, n := range []int{60 << 10, 1 << 20} {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		go func() {
			fmt.Fprintf(c, "GET /fn/site/ HTTP/1.1\r\nHost: localhost\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", n))
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge { // Node.js takes 16 KB
			t.Errorf("%d bytes: %s", n, resp.Status)
		}
		resp.Body.Close()
	}
	if a := s.Get(t, "/fn/site/"); a.StatusCode != 200 {
		t.Errorf("afterwards: %d", a.StatusCode)
	}
}
