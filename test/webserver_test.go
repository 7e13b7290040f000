package test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent/test/daemon"
)

// Web servers as people write them run unchanged, with what they depend on installed by
// the deploy: called, streaming, by WebSocket where they have it, and after they were
// frozen for longer than they would let a process be silent.
func TestWebServersFromRegistries(t *testing.T) {
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	for name, c := range map[string]struct {
		tool, registry string
		sockets        bool
	}{
		"express": {"npm", "registry.npmjs.org:443", false},
		"flask":   {"/usr/bin/python3", "pypi.org:443", false},
		"fastapi": {"/usr/bin/python3", "pypi.org:443", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needs(t, c.registry, c.tool)
			dir := filepath.Join(t.TempDir(), name)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "web", name))); err != nil {
				t.Fatal(err)
			}
			said(t, d, "deploy", dir, "--url", "public", "--timeout", "50s", "--memory", "256")
			site := d.URL + "/fn/" + name
			asks := func(method, path, body string, status int) string {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), method, site+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := d.HTTP.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != status {
					t.Errorf("%s: status %d, %v: %s", path, resp.StatusCode, err, b)
				}
				return string(b)
			}
			if got := asks("GET", "/hello/Ada", "", 200); !strings.Contains(got, "Hello, Ada!") {
				t.Errorf("the answer is %s", got)
			}
			if got := asks("POST", "/", `{"item":"tea"}`, 201); strings.TrimSpace(strings.ReplaceAll(got, `": "`, `":"`)) != `{"item":"tea"}` {
				t.Errorf("the answer is %s", got)
			}
			asks("GET", "/nowhere", "", 404)
			serversEnvironment(t, name, asks("GET", "/env", "", 200))
			counts(t, d, site+"/count")
			if c.sockets {
				socket(t, d, "/fn/"+name+"/echo")
			}
			for range 5 {
				time.Sleep(3 * time.Second) // nothing tells that time passes for whoever is frozen
				asks("GET", "/hello/Ada", "", 200)
			}
			if log := said(t, d, "logs", name); strings.Contains(log, "WORKER TIMEOUT") {
				t.Errorf("processes that were frozen are taken for dead:\n%s", log)
			}
		})
	}
}

// serversEnvironment is what containers find, and functions' servers beside it.
func serversEnvironment(t *testing.T, name, text string) {
	t.Helper()
	var env map[string]string
	if err := json.Unmarshal([]byte(text), &env); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, v := range []string{"K_SERVICE", "K_CONFIGURATION"} {
		if env[v] != name {
			t.Errorf("%s is %q", v, env[v])
		}
	}
	if env["PORT"] == "" || !strings.HasPrefix(env["K_REVISION"], name+"-") {
		t.Errorf("the environment is %v", env)
	}
	for _, v := range []string{"FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE", "CLOUD_RUN_TIMEOUT_SECONDS", "AWS_REGION", "LAMBENT_TOKEN"} {
		if s, ok := env[v]; ok {
			t.Errorf("%s is there: %q", v, s)
		}
	}
}

// counts expects lines as they are made.
func counts(t *testing.T, d *daemon.Daemon, url string) {
	t.Helper()
	resp, err := d.HTTP.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	first, err := lines.ReadString('\n')
	firstAt := time.Now()
	rest, _ := io.ReadAll(lines)
	if gap := time.Since(firstAt); err != nil || first != "1\n" || string(rest) != "2\n3\n" || gap < 600*time.Millisecond {
		t.Errorf("%q, then %v later %q, %v", first, gap, rest, err)
	}
}

// socket has a WebSocket say something, which is said back.
func socket(t *testing.T, d *daemon.Daemon, path string) {
	t.Helper()
	host := strings.TrimPrefix(d.URL, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	for _, text := range []string{"hello", "again"} {
		if _, err := c.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)); err != nil { // one text, masked with nothing
			t.Fatal(err)
		}
		want := "you said " + text
		got := make([]byte, 2+len(want))
		if _, err := io.ReadFull(in, got); err != nil || string(got[2:]) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
}
