package web_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/auth"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

// A WebSocket goes from the port to the code and back, by both ways to a URL, and is
// one invocation that takes as long as it.
func TestWebSocket(t *testing.T) {
	for _, language := range []string{"node", "python"} {
		t.Run(language, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *servertest.Server) {
				site(t, s, language)
				for _, at := range [][]string{{"/chat", "Host", "site.fn.localhost"}, {"/fn/site/chat"}} {
					c := open(t, s, at[0], at[1:]...)
					if c.StatusCode != 101 || !strings.EqualFold(c.Header.Get("Upgrade"), "websocket") || c.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
						t.Fatalf("%v: %d %v", at, c.StatusCode, c.Header)
					}
					begun := time.Now()
					large := strings.Repeat("x", 500_000)
					for _, text := range []string{"hello", "grüße", large, "again"} {
						c.echo(t, text)
					}
					time.Sleep(300 * time.Millisecond) // that is how long it takes
					c.send(t, isText, "bye")
					c.closes(t, 4000)
					took := time.Since(begun)
					u := record(t, s, c.id())
					if u.Outcome != "ok" || u.Trigger != "http" || u.BytesIn < 500_000 || u.BytesIn > 501_000 || u.BytesOut < 500_000 || u.BytesOut > 501_000 {
						t.Errorf("%+v", u)
					}
					if ran := time.Duration(u.RunUS) * time.Microsecond; ran < 300*time.Millisecond || ran > took+time.Second {
						t.Errorf("it took %v, and is said to have taken %v", took, ran)
					}
				}
				c := open(t, s, "/fn/site/refuse")
				if got := c.said(t); c.StatusCode != 403 || c.Header.Get("X-Why") != "because" || got != "no\n" {
					t.Errorf("refused: %d %v %q", c.StatusCode, c.Header, got)
				}
				if u := record(t, s, c.id()); u.Outcome != "ok" {
					t.Errorf("refused: %+v", u)
				}
			})
		})
	}
}

// What the code finds of a request for a WebSocket, and what passes of its answer.
func TestWebSocketHeaders(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	site(t, s, "node")
	c := open(t, s, "/fn/site/", "X-Mine", "1", "Connection", "X-Private", "X-Private", "1", "Cookie", "a=b; lambent_session=mine", "Origin", "https://elsewhere.example")
	c.send(t, isText, "headers")
	_, payload, err := c.receive()
	var got map[string]string
	if err != nil || json.Unmarshal(payload, &got) != nil {
		t.Fatalf("%q, %v", payload, err)
	}
	for name, want := range map[string]string{
		"connection": "Upgrade", "upgrade": "websocket", "x-mine": "1", "x-private": "", "cookie": "a=b", "origin": "https://elsewhere.example",
		"x-forwarded-for": "127.0.0.1", "function-execution-id": c.id(), "content-length": "",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	// The shared origin stays ours, whatever the code answers.
	c = open(t, s, "/fn/site/half")
	if c.StatusCode != 101 || c.Header["Set-Cookie"] != nil || c.Header["Clear-Site-Data"] != nil || c.Header.Get("Content-Security-Policy") != "sandbox" {
		t.Errorf("%d %v", c.StatusCode, c.Header)
	}
	// Half of a connection may end before the other.
	if _, err := io.WriteString(c.Conn, "some bytes"); err != nil {
		t.Fatal(err)
	}
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c.in); string(b) != "you said 10 bytes" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if u := record(t, s, c.id()); u.Outcome != "ok" || u.BytesIn != 10 || u.BytesOut != 17 {
		t.Errorf("%+v", u)
	}
}

// What is no request for a WebSocket is answered as if it had not asked for more.
func TestOtherUpgrades(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	site(t, s, "node")
	s.Python(t, "lambda", "def handler(event, context):\n    return event['headers'].get('upgrade', 'none')\n")
	for _, header := range [][]string{
		{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "Http2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"},
		{"Connection", "Upgrade", "Upgrade", "websocket, h2c"}, {"Connection", "Upgrade", "Upgrade", "TLS/1.0"}, {"Upgrade", "websocket"},
	} {
		a := s.Get(t, "/fn/site/", header...)
		if a.StatusCode != 200 || !strings.Contains(a.Body, `"pid"`) || strings.Contains(a.Body, `"upgrade"`) || strings.Contains(a.Body, `"http2-settings"`) && header[0] == "Connection" {
			t.Errorf("%v: %d %s", header, a.StatusCode, a.Body)
		}
	}
	if c := open(t, s, "/fn/lambda/"); c.StatusCode != 200 || c.said(t) != "websocket" {
		t.Errorf("a handler of Lambda: %d", c.StatusCode)
	}
	if a := s.Get(t, "/fn/site/unasked"); a.StatusCode != 503 {
		t.Errorf("a switch that nobody asked for: %d %s", a.StatusCode, a.Body)
	} else if log := logOf(t, s, a.Header.Get("X-Amzn-Requestid")); !strings.Contains(log, "switched to another protocol, which nobody asked for") {
		t.Errorf("the log is\n%s", log)
	}
	if c := open(t, s, "/fn/site/other"); c.StatusCode != 503 {
		t.Errorf("a switch to another protocol than was asked for: %d", c.StatusCode)
	}
	for _, r := range []*http.Request{ // a WebSocket has no body, and is asked for by GET
		s.Request(t, "POST", "/fn/site/", strings.NewReader("x"), "Connection", "Upgrade", "Upgrade", "websocket"),
		s.Request(t, "GET", "/fn/site/", strings.NewReader("x"), "Connection", "Upgrade", "Upgrade", "websocket"),
	} {
		if a := servertest.Do(t, r); a.StatusCode != 200 || strings.Contains(a.Body, `"upgrade"`) {
			t.Errorf("%s: %d %s", r.Method, a.StatusCode, a.Body)
		}
	}
}

// How a WebSocket ends that is not closed by those who speak over it.
func TestWebSocketEnds(t *testing.T) {
	onEach(t, func(t *testing.T, s *servertest.Server) {
		site(t, s, "node")
		t.Run("crash", func(t *testing.T) {
			for say, outcome := range map[string]string{"crash": "Container terminated on signal: killed", "exit": "Container called exit(3)"} {
				c, other := open(t, s, "/fn/site/"), open(t, s, "/fn/site/")
				c.echo(t, "hello")
				other.echo(t, "hello")
				c.send(t, isText, say)
				c.closes(t, 0)
				other.closes(t, 0)
				for _, c := range []*socket{c, other} {
					if u := record(t, s, c.id()); u.Outcome != "exit" {
						t.Errorf("%s: %+v", say, u)
					}
					if log := logOf(t, s, c.id()); !strings.Contains(log, outcome) {
						t.Errorf("%s: the log is\n%s", say, log)
					}
				}
				if a := s.Get(t, "/fn/site/"); a.StatusCode != 200 {
					t.Errorf("afterwards: %d", a.StatusCode)
				}
			}
		})
		t.Run("client", func(t *testing.T) { // is gone, with a word or without
			for name, leave := range map[string]func(*net.TCPConn){
				"closed": func(c *net.TCPConn) { c.Close() },
				"reset":  func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() },
			} {
				c := open(t, s, "/fn/site/")
				c.echo(t, "hello")
				leave(c.Conn.(*net.TCPConn))
				if u := record(t, s, c.id()); u.Outcome != "ok" {
					t.Errorf("%s: %+v", name, u)
				}
			}
		})
		t.Run("deploy", func(t *testing.T) { // the old version serves those that it has
			c := open(t, s, "/fn/site/")
			c.echo(t, "hello")
			site(t, s, "node", func(r *client.DeployRequest) { r.TimeoutMS = new(int64(1500)) })
			c.echo(t, "still here")
			c.send(t, isText, "bye")
			c.closes(t, 4000)
		})
		t.Run("timeout", func(t *testing.T) { // ends the connection, and not the instance
			instance := record(t, s, s.Get(t, "/fn/site/").Header.Get("X-Amzn-Requestid")).Instance
			c := open(t, s, "/fn/site/")
			begun := time.Now()
			c.echo(t, "hello")
			c.closes(t, 0)
			if took := time.Since(begun); took < time.Second || took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			u := record(t, s, c.id())
			if u.Outcome != "timeout" || u.RunUS < 1_500_000 {
				t.Errorf("%+v", u)
			}
			if log := logOf(t, s, c.id()); !strings.Contains(log, "reached the maximum request timeout of 1.5s") {
				t.Errorf("the log is\n%s", log)
			}
			if again := record(t, s, s.Get(t, "/fn/site/").Header.Get("X-Amzn-Requestid")).Instance; again != instance {
				t.Errorf("the instance was %s, and is %s", instance, again)
			}
		})
		t.Run("delete", func(t *testing.T) {
			c := open(t, s, "/fn/site/")
			c.echo(t, "hello")
			if err := s.Client.Delete(t.Context(), "site", ""); err != nil {
				t.Fatal(err)
			}
			for { // at the latest at its timeout
				if opcode, _, err := c.receive(); err != nil || opcode == isClose {
					break
				}
			}
		})
	})
}

// A server that stops does not wait for WebSockets, whose code can tell their clients.
func TestWebSocketShutdown(t *testing.T) {
	onEach(t, func(t *testing.T, s *servertest.Server) {
		site(t, s, "node")
		var all []*socket
		for range 5 {
			c := open(t, s, "/fn/site/")
			c.echo(t, "hello")
			all = append(all, c)
		}
		slow := make(chan servertest.Answer, 1) // a call is waited for meanwhile
		go func() { slow <- s.Get(t, "/fn/site/sleep?ms=1000") }()
		time.Sleep(300 * time.Millisecond)
		stopped := make(chan error, 1)
		begun := time.Now()
		go func() { stopped <- s.Stop() }()
		if a := <-slow; a.StatusCode != 200 || a.Body != "slept" {
			t.Errorf("the call under way: %d %q", a.StatusCode, a.Body)
		}
		for _, c := range all {
			c.closes(t, 1001)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Who takes nothing does not hold a server that stops, nor an instance.
func TestWebSocketStalls(t *testing.T) {
	t.Parallel() // it waits for ten seconds
	s := servertest.Start(t, servertest.Plain, func(c *server.Config) { c.StallTimeout = 500 * time.Millisecond })
	site(t, s, "node")
	silent := open(t, s, "/fn/site/end") // which does not end, but its code does
	c := open(t, s, "/fn/site/gush")
	if u := record(t, s, c.id()); u.Outcome != "ok" || u.BytesOut >= 64<<20 {
		t.Errorf("%+v", u)
	}
	s2 := servertest.Start(t, servertest.Plain)
	site(t, s2, "node")
	open(t, s2, "/fn/site/gush")
	begun := time.Now()
	if err := s2.Stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("Stop took %v", took)
	}
	if u := record(t, s, silent.id()); u.Outcome != "ok" || u.RunUS < 10_000_000 {
		t.Errorf("%+v", u)
	}
}

// A WebSocket lives while a thousand others are served, all by one instance.
func TestWebSocketAmongThousand(t *testing.T) {
	onEach(t, func(t *testing.T, s *servertest.Server) {
		site(t, s, "node", func(r *client.DeployRequest) { r.Concurrency = new(1000) })
		c := open(t, s, "/fn/site/")
		instances := sync.Map{}
		transport := &http.Transport{MaxIdleConnsPerHost: 1000}
		defer transport.CloseIdleConnections()
		var wg sync.WaitGroup
		begun := time.Now()
		for range 999 {
			wg.Go(func() {
				resp, err := transport.RoundTrip(s.Request(t, "GET", "/fn/site/sleep?ms=3000", nil))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if b, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(b) != "slept" || err != nil {
					t.Errorf("%d %q, %v", resp.StatusCode, b, err)
				}
				instances.Store(resp.Header.Get("X-Amzn-Requestid"), true)
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		echoes := 0
		for over := false; !over; echoes++ {
			c.echo(t, "still here")
			select {
			case <-done:
				over = true
			case <-time.After(20 * time.Millisecond):
			}
		}
		t.Logf("999 answers of 3 s and %d echoes in %v", echoes, time.Since(begun))
		c.send(t, isText, "bye")
		c.closes(t, 4000)
		of := record(t, s, c.id()).Instance
		list, err := s.Client.Invocations(t.Context(), "site", client.Period{}, 1000)
		if err != nil || len(list.Invocations) != 1000 {
			t.Fatalf("%d records, %v", len(list.Invocations), err)
		}
		for _, u := range list.Invocations {
			if u.Instance != of {
				t.Errorf("%s and %s have served", of, u.Instance)
			}
		}
		if echoes < 10 {
			t.Errorf("%d echoes", echoes)
		}
	})
}

// Who may open a WebSocket is who may call.
func TestWebSocketPolicy(t *testing.T) {
	data := filepath.Join(servertest.PublicDir(t), "data")
	if err := os.Mkdir(data, 0o711); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := keys.Create(auth.Token{Project: "default", Role: auth.RoleInvoke})
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, servertest.Plain, func(c *server.Config) { c.Data = data })
	policy := func(u client.URLRequest) func(*client.DeployRequest) {
		return func(r *client.DeployRequest) { r.URL = &u }
	}
	site(t, s, "node", policy(client.URLRequest{Policy: new(lambent.URLToken)}))
	for _, at := range [][]string{{"/", "Host", "site.fn.localhost"}, {"/fn/site/"}} {
		for bearer, want := range map[string]int{"": 401, "x": 401, token: 101} {
			header := at[1:]
			if bearer != "" {
				header = append(header[:len(header):len(header)], "Authorization", "Bearer "+bearer)
			}
			if c := open(t, s, at[0], header...); c.StatusCode != want {
				t.Errorf("%v with %.3q: %d, want %d", at, bearer, c.StatusCode, want)
			} else if want == 101 {
				c.send(t, isText, "headers")
				if _, b, err := c.receive(); err != nil || strings.Contains(string(b), token) {
					t.Errorf("the code sees the token: %s, %v", b, err)
				}
			}
		}
		// No credential is one in a URL or a cookie, which is all that a page can say.
		if c := open(t, s, at[0]+"?token="+token, append(at[1:len(at):len(at)], "Cookie", "token="+token, "Sec-Websocket-Protocol", token)...); c.StatusCode != 401 {
			t.Errorf("%v: %d", at, c.StatusCode)
		}
	}
	for _, host := range []string{"evil.example", "site.fn.evil.example"} {
		if c := open(t, s, "/fn/site/", "Host", host, "Authorization", "Bearer "+token); c.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("by the name %s: %d", host, c.StatusCode)
		}
	}
	for _, path := range []string{"/v1/functions", "/", "/metrics"} { // of ours nothing switches
		if c := open(t, s, path, "Authorization", "Bearer "+s.Token); c.StatusCode == 101 {
			t.Errorf("%s switches", path)
		}
	}

	site(t, s, "node", policy(client.URLRequest{Policy: new(lambent.URLPublic), CORS: &client.CORS{AllowOrigins: []string{"https://app.example"}}}))
	for origin, want := range map[string]int{
		"": 101, "https://app.example": 101, "http://site.fn.localhost": 101, "https://evil.example": 403, "null": 403, "http://localhost": 403, "%": 403,
	} {
		header := []string{"Host", "site.fn.localhost"}
		if origin != "" {
			header = append(header, "Origin", origin)
		}
		if c := open(t, s, "/", header...); c.StatusCode != want {
			t.Errorf("from %q: %d, want %d", origin, c.StatusCode, want)
		} else if want == 403 && !strings.Contains(c.said(t), "CORS does not allow the origin") {
			t.Errorf("from %q", origin)
		}
	}
	site(t, s, "node", policy(client.URLRequest{Policy: new(lambent.URLNone)}))
	if c := open(t, s, "/fn/site/"); c.StatusCode != 403 {
		t.Errorf("without a URL: %d", c.StatusCode)
	}
}
