package server_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

// Whoever takes all that there is of something gets its error and an entry in its
// log. The others are served meanwhile, and the server stays as large as it was.
func TestNeighbours(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root: nothing is limited without")
	}
	s := servertest.Start(t, func(c *server.Config) { c.Driver = "namespace" })
	s.Python(t, "bomb", servertest.Bombs, func(r *client.DeployRequest) { r.MemoryMB, r.TimeoutMS = new(256), new(int64(60_000)) })
	s.Python(t, "fork", servertest.Bombs, func(r *client.DeployRequest) { r.MemoryMB, r.TimeoutMS = new(1024), new(int64(60_000)) })
	s.Python(t, "spam", servertest.Bombs, func(r *client.DeployRequest) { r.TimeoutMS = new(int64(1000)) })
	s.Python(t, "other", hello)

	var stop atomic.Bool
	var calls []time.Duration
	served := make(chan struct{})
	go func() {
		defer close(served)
		for !stop.Load() {
			begun := time.Now()
			if a := s.Get(t, "/fn/other/"); a.StatusCode != 200 {
				t.Errorf("the other function: status %d: %s", a.StatusCode, a.Body)
				return
			}
			calls = append(calls, time.Since(begun))
		}
	}()
	before := rss(t)
	for _, b := range []struct {
		function, what string
		kind           lambent.FaultKind
		answer, log    string
	}{
		{"bomb", "memory", lambent.FaultMemory, "Runtime.OutOfMemory", "Runtime.OutOfMemory"},
		{"bomb", "child", lambent.FaultMemory, "Runtime.OutOfMemory", "Runtime.OutOfMemory"},
		{"bomb", "disk", lambent.FaultHandler, "No space left on device", "No space left on device"},
		{"bomb", "files", lambent.FaultHandler, "No space left on device", "No space left on device"},
		{"bomb", "descriptors", lambent.FaultHandler, "Too many open files", "Too many open files"},
		{"fork", "forks", lambent.FaultHandler, "BlockingIOError", "Resource temporarily unavailable"},
		{"spam", "log", lambent.FaultTimeout, "Task timed out after 1.00 seconds", "Task timed out after 1.00 seconds"},
	} {
		var answer bytes.Buffer
		begun := time.Now()
		o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: b.function, Payload: strings.NewReader(fmt.Sprintf("%q", b.what)), Length: -1, Log: true}, &answer)
		if err != nil {
			t.Fatalf("%s: %v", b.what, err)
		}
		if o.Fault != b.kind || !strings.Contains(answer.String(), b.answer) || !strings.Contains(string(o.LogTail), b.log) {
			t.Errorf("%s: fault %q, answer %s, log:\n%s", b.what, o.Fault, &answer, o.LogTail)
		}
		t.Logf("%s: %v", b.what, time.Since(begun).Round(time.Millisecond))
	}
	stop.Store(true)
	<-served
	if grown := rss(t) - before; grown > 64<<20 {
		t.Errorf("the server grew by %d MB", grown>>20)
	}
	slices.Sort(calls)
	if len(calls) < 100 {
		t.Errorf("only %d calls were served", len(calls))
	} else {
		t.Logf("%d calls of the other function: median %v, 99 of 100 within %v", len(calls), calls[len(calls)/2], calls[len(calls)*99/100])
	}
}

// rss is how much memory this process has, with the server in it.
func rss(t *testing.T) (bytes int64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

// Code that has taken all descriptors gets its error, and its instance goes on: also where
// no rehearsal has loaded what failures need.
func TestNoDescriptorLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root: nothing is limited without")
	}
	s := servertest.Start(t, func(c *server.Config) { c.Driver, c.Parked = "namespace", 0 })
	s.Python(t, "python", servertest.Bombs)
	s.Node(t, "node", "export const handler = async () => { for (;;) (await import('node:fs')).openSync('/dev/null') }\n")
	for name, said := range map[string]string{"python": "Too many open files", "node": "EMFILE: too many open files"} {
		for i := range 3 {
			var answer bytes.Buffer
			o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: name, Payload: strings.NewReader(`"descriptors"`), Length: -1, Usage: true}, &answer)
			if err != nil {
				t.Fatal(err)
			}
			if o.Fault != lambent.FaultHandler || !strings.Contains(answer.String(), said) || o.Usage.Cold { // the instance of the deploy serves all
				t.Errorf("%s, call %d: fault %q, cold %v: %s", name, i, o.Fault, o.Usage.Cold, &answer)
			}
		}
	}
}
