package gcf

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/internal/http1"
	"lambent/sandbox"
)

type onlyDials struct {
	sandbox.Sandbox
	addr string
	done chan struct{}
}

func (d onlyDials) Dial(context.Context, int, time.Duration) (net.Conn, error) {
	return net.Dial("tcp", d.addr)
}
func (d onlyDials) Done() <-chan struct{} { return d.done }

type noReply struct{}

func (noReply) Begin(int, map[string][]string) error { return nil }
func (noReply) Write(b []byte) (int, error)          { return len(b), nil }
func (noReply) End(lambent.Result)                   {}

// What is safe is asked again once: code that closes its connections does it each time.
func TestAskedAgainOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // a handler that destroys the socket: req.socket.destroy()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					asked.Add(1)
				}
				c.Close()
			}()
		}
	}()
	in := newInstance(onlyDials{addr: l.Addr().String(), done: make(chan struct{})}, lambent.Runtime{}, lambent.DefaultLimits())
	in.unit.Revision = lambent.NewRevision(lambent.Name{Function: "f"}, "latest", &lambent.Config{})
	for range 20 { // kept after 20 calls at a time
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		in.keep(http1.NewClient(nc))
	}
	inv := &lambent.Invocation{ID: lambent.NewID(), HTTP: &lambent.Request{Method: "GET", Path: "/", Header: map[string][]string{}}}
	if err := in.Invoke(t.Context(), inv, noReply{}); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n > 2 {
		t.Errorf("one GET was executed %d times", n)
	}
}

// What may have ended the process is not asked of another: its listener may take one
// more connection before it goes, and break it.
func TestNotAskedOfAnother(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			close(done)
		}
		c.Close()
	}()
	in := newInstance(breaks{done: done}, lambent.Runtime{}, lambent.DefaultLimits())
	in.unit.Revision = lambent.NewRevision(lambent.Name{Function: "f"}, "latest", &lambent.Config{})
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in.keep(http1.NewClient(nc))
	inv := &lambent.Invocation{ID: lambent.NewID(), HTTP: &lambent.Request{Method: "GET", Path: "/", Header: map[string][]string{}}}
	if err := in.Invoke(t.Context(), inv, noReply{}); !errors.Is(err, errEnded) {
		t.Errorf("a GET by which the process ended: %v, not %v", err, errEnded)
	}
}

// breaks connects to nothing that takes a byte.
type breaks struct {
	sandbox.Sandbox
	done chan struct{}
}

func (b breaks) Done() <-chan struct{} { return b.done }
func (breaks) Dial(context.Context, int, time.Duration) (net.Conn, error) {
	ours, theirs := net.Pipe()
	theirs.Close()
	return ours, nil
}
