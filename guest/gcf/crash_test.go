package gcf

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/sandbox"
)

type dies struct {
	sandbox.Sandbox
	addr string
	done chan struct{}
}

func (d dies) Dial(context.Context, int, time.Duration) (net.Conn, error) {
	select {
	case <-d.done:
		return nil, errors.New("gone")
	default:
		return net.Dial("tcp", d.addr)
	}
}
func (d dies) Done() <-chan struct{} { return d.done }

type switching struct {
	noReply
	conn  lambent.Conn
	fault *lambent.Fault
	ended bool
}

func (s *switching) Switch(map[string][]string) (lambent.Conn, error) { return s.conn, nil }
func (s *switching) End(r lambent.Result)                             { s.ended, s.fault = true, r.Fault }

// A process that crashes while its client sends.
func TestCrashUnderWebSocket(t *testing.T) {
	wrong := 0
	for range 50 {
		l, _ := net.Listen("tcp", "127.0.0.1:0")
		d := dies{addr: l.Addr().String(), done: make(chan struct{})}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			http.ReadRequest(r)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			io.CopyN(io.Discard, r, 100<<10)
			c.(*net.TCPConn).SetLinger(0) // as the kernel does where something was not read
			close(d.done)
			c.Close()
			l.Close()
		}()
		in := newInstance(d, lambent.Runtime{}, lambent.DefaultLimits())
		in.unit.Revision = lambent.NewRevision(lambent.Name{Function: "f"}, "latest", &lambent.Config{})
		cl, _ := net.Listen("tcp", "127.0.0.1:0")
		client, _ := net.Dial("tcp", cl.Addr().String())
		ours, _ := cl.Accept()
		cl.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			b := make([]byte, 8<<10)
			for {
				if _, err := client.Write(b); err != nil {
					return
				}
			}
		})
		s := &switching{conn: ours.(*net.TCPConn)}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		inv := &lambent.Invocation{ID: lambent.NewID(), HTTP: &lambent.Request{Method: "GET", Path: "/", Upgrade: "websocket", Header: map[string][]string{}}}
		err := in.Invoke(ctx, inv, s)
		if err == nil && s.ended && s.fault == nil {
			wrong++
		}
		cancel()
		client.Close()
		wg.Wait()
	}
	if wrong > 0 {
		t.Errorf("%d of 50 crashes are recorded as ok", wrong)
	}
}
