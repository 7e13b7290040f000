package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

func slow(r *client.DeployRequest) { r.TimeoutMS = new(int64(60_000)) }

func TestShutdownFinishesCalls(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	g := servertest.NewGate(t)
	s := servertest.Start(t, servertest.Plain)
	s.Python(t, "wait", g.Python(), slow)
	s.Python(t, "hello", hello)

	followed := make(chan error, 1)
	lines := make(chan string, 100)
	go func() {
		for line, err := range s.Client.Logs(t.Context(), "wait", client.LogQuery{Follow: true, Since: "1h"}) {
			if err != nil {
				followed <- err
				return
			}
			lines <- line.Text
		}
		followed <- nil
	}()
	called := make(chan servertest.Answer, 1)
	go func() { called <- s.Get(t, "/fn/wait/") }()
	pid, _ := strconv.Atoi(g.Wait(t))
	for line := range lines { // the follower is there, and hears of the call
		if line == "waiting" {
			break
		}
	}

	closed := make(chan error, 1)
	begun := time.Now()
	go func() { closed <- s.Stop() }()
	if err := <-followed; err != nil {
		t.Errorf("who follows a log is told %v", err)
	}
	for path, want := range map[string]string{"/fn/hello/": "the server is shutting down", "/readyz": "shutting down"} {
		for {
			resp, err := new(http.Transport).RoundTrip(s.Request(t, "GET", path, nil)) // which would keep its connection
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if path == "/fn/hello/" && resp.StatusCode == http.StatusOK && string(body) == "hello" && time.Since(begun) < 5*time.Second {
				continue // triggers are stopped before calls are refused
			}
			if resp.StatusCode != http.StatusServiceUnavailable || !resp.Close || !strings.Contains(string(body), want) {
				t.Errorf("GET %s meanwhile: %s, close %v, %s, %v", path, resp.Status, resp.Close, body, err)
			}
			break
		}
	}
	if a := s.Get(t, "/healthz"); a.StatusCode != http.StatusOK {
		t.Errorf("GET /healthz meanwhile: %d", a.StatusCode)
	}
	if _, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: "hello"}, io.Discard); !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("a call by the API meanwhile: %v", err)
	}
	select {
	case err := <-closed:
		t.Fatalf("Close returned during a call: %v", err)
	default:
	}
	g.Open()
	if a := <-called; a.StatusCode != http.StatusOK || a.Body != "done" {
		t.Errorf("the call under way is answered %d %q", a.StatusCode, a.Body)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Close took %v after the last call", took)
	}
	checkNothingLeft(t, s.Data, pid)
}

// checkNothingLeft looks for what a server might leave behind; goroutines are
// looked for when all tests are done.
func checkNothingLeft(t *testing.T, data string, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d of a function is still there: %v", pid, err)
		}
	}
	for _, dir := range []string{os.TempDir(), data + "/run"} {
		left, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for _, e := range left {
			t.Errorf("%s is left in %s", e.Name(), dir)
		}
	}
}

// A call that outlasts the grace is cut off, and Close returns.
func TestShutdownCutsOffCalls(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	g := servertest.NewGate(t)
	cfg := server.DefaultConfig(os.Getenv)
	cfg.Listen, cfg.Data = "127.0.0.1:0", servertest.PublicDir(t)
	servertest.Plain(&cfg)
	inner, err := server.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- inner.Serve() }()
	token, err := os.ReadFile(inner.TokenFile())
	if err != nil {
		t.Fatal(err)
	}
	s := &servertest.Server{Server: inner, Client: client.New(inner.URL(), strings.TrimSpace(string(token))), Data: cfg.Data}
	defer s.Client.Close()
	s.Python(t, "wait", g.Python(), slow)
	type result struct {
		outcome *client.Outcome
		err     error
	}
	called := make(chan result, 1)
	go func() {
		o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: "wait"}, io.Discard)
		called <- result{o, err}
	}()
	pid, _ := strconv.Atoi(g.Wait(t))
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err = inner.Close(ctx)
	if err == nil || !strings.Contains(err.Error(), "1 invocations were cut off") {
		t.Errorf("Close says %v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if r := <-called; r.err == nil && r.outcome.Fault == "" {
		t.Errorf("the call that was cut off ends with %+v", r.outcome)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	checkNothingLeft(t, s.Data, pid)
}

// Open and Close, with nothing in between, and again on the same directory.
func TestOpenClose(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cfg := server.DefaultConfig(os.Getenv)
	cfg.Listen, cfg.Data = "127.0.0.1:0", servertest.PublicDir(t)
	for range 3 {
		s, err := server.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("Close took %v", took)
		}
		checkNothingLeft(t, cfg.Data)
	}
}
