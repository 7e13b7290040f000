package servertest

import (
	_ "embed"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// A Gate is where functions wait for a test: whoever asks for its URL, with a
// query of what it has to say, is answered once the gate is open.
type Gate struct {
	URL     string
	arrived chan string
	open    chan struct{}
	once    sync.Once
}

// NewGate returns a gate that is closed.
func NewGate(t testing.TB) *Gate {
	g := &Gate{arrived: make(chan string, 1000), open: make(chan struct{})}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		g.arrived <- r.URL.RawQuery
		select {
		case <-g.open:
		case <-r.Context().Done():
		}
	}))
	g.URL = s.URL
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return g
}

// Wait returns what the next one to arrive says.
func (g *Gate) Wait(t testing.TB) string {
	t.Helper()
	select {
	case s := <-g.arrived:
		return s
	case <-time.After(30 * time.Second):
		t.Fatal("nobody has come to the gate in 30 s")
		return ""
	}
}

// Open lets everybody through, now and later.
func (g *Gate) Open() { g.once.Do(func() { close(g.open) }) }

// Python is a function that waits at the gate, where it says its process id.
func (g *Gate) Python() string {
	return `import os, urllib.request
def handler(event, context):
    print("waiting")
    urllib.request.urlopen("` + g.URL + `?%d" % os.getpid()).read()
    return "done"
`
}

// Bombs is a Python function that takes all that there is of what its event names:
// forks, memory, child (memory, in one), disk, files, descriptors, log.
//
//go:embed bombs.py
var Bombs string
