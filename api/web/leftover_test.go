package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/api/web"
)

type early struct {
	mu   sync.Mutex
	seen []string
}

// Invoke answers before it has read all, as guest/gcf's exchange.end with drop does.
func (e *early) Invoke(_ context.Context, inv *lambent.Invocation, out lambent.Reply) error {
	e.mu.Lock()
	e.seen = append(e.seen, inv.HTTP.Method+" "+inv.HTTP.Path)
	e.mu.Unlock()
	if u, ok := inv.HTTP.Body.(lambent.Upload); ok {
		b := make([]byte, 5)
		io.ReadFull(u, b)
		_ = out.Begin(200, map[string][]string{"Content-Length": {"2"}})
		u.Close()
	} else {
		_ = out.Begin(200, map[string][]string{"Content-Length": {"2"}})
	}
	_, _ = out.Write([]byte("ok"))
	out.End(lambent.Result{})
	return nil
}

// What a function has not read of its request is never taken for the next one.
func TestLeftoverIsNoRequest(t *testing.T) {
	e := &early{}
	f := web.New(web.Config{
		Invoker: e, MaxBody: 6 << 20, Stall: 30 * time.Second,
		Resolve: func(lambent.Name) (lambent.Target, error) {
			return lambent.Target{Revision: lambent.NewRevision(lambent.Name{}, "latest", &lambent.Config{}), URL: &lambent.URL{Policy: lambent.URLPublic}}, nil
		},
		Streams: func(*lambent.Revision) bool { return true },
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.ServeName(w, r, lambent.Name{Project: "default", Function: "f"})
		var one [1]byte // server.linger
		if n, _ := r.Body.Read(one[:]); n == 0 {
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(2 * time.Second))
		_, _ = io.CopyN(io.Discard, r.Body, 32<<20)
	}))
	defer s.Close()
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	fmt.Fprintf(nc, "POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nhello", 70000)
	r := bufio.NewReader(nc)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	io.WriteString(nc, smuggled) // is the body's
	nc.SetReadDeadline(time.Now().Add(3 * time.Second))
	_, _ = io.ReadAll(r)
	if strings.Contains(fmt.Sprint(e.seen), "smuggled") {
		t.Errorf("a part of the body was served as a request: %q", e.seen)
	}
}

type pausing struct{ err chan error }

// Invoke takes a while over a part of the body, as code does that writes to a slow disk.
func (p pausing) Invoke(_ context.Context, inv *lambent.Invocation, out lambent.Reply) error {
	u := inv.HTTP.Body.(lambent.Upload)
	b := make([]byte, 32<<10)
	_, err := io.ReadFull(u, b)
	if err == nil {
		time.Sleep(1500 * time.Millisecond)
		_, err = io.Copy(io.Discard, u)
	}
	p.err <- err
	_ = out.Begin(200, map[string][]string{"Content-Length": {"0"}})
	out.End(lambent.Result{})
	return nil
}

// Code may take its time over a body, by every protocol, for longer than a client may
// over sending it.
func TestSlowReaderKeepsItsBody(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		p := pausing{make(chan error, 1)}
		f := web.New(web.Config{
			Invoker: p, MaxBody: 6 << 20, Stall: time.Second,
			Resolve: func(lambent.Name) (lambent.Target, error) {
				return lambent.Target{Revision: lambent.NewRevision(lambent.Name{}, "latest", &lambent.Config{}), URL: &lambent.URL{Policy: lambent.URLPublic}}, nil
			},
			Streams: func(*lambent.Revision) bool { return true },
		})
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.ServeName(w, r, lambent.Name{Project: "default", Function: "f"})
		}))
		s.EnableHTTP2 = h2
		s.StartTLS()
		res, err := s.Client().Post(s.URL, "text/plain", strings.NewReader(strings.Repeat("x", 5_000_000)))
		proto := ""
		if err == nil {
			proto = res.Proto
			res.Body.Close()
		}
		if got := <-p.err; got != nil {
			t.Errorf("HTTP/2 %v (%s, %v): the client has sent all that it may, and its body breaks off: %v", h2, proto, err, got)
		}
		s.Close()
	}
}
