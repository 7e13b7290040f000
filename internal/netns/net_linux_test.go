package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/netns"
)

func open(t testing.TB, server int) *netns.Nets {
	t.Helper()
	nets, err := netns.Open(netns.Options{Server: server, Log: logTo(t.Output())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nets.Close(); err != nil {
			t.Error(err)
		}
	})
	return nets
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func mk(t testing.TB, nets *netns.Nets, slot int) *netns.Net {
	t.Helper()
	n, err := nets.Make(slot)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// inside runs f on a thread of a namespace, as a function in a sandbox would.
func inside[T any](t testing.TB, ns *os.File, f func() (T, error)) (T, error) {
	t.Helper()
	type result struct {
		v   T
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		var r result
		if r.err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); r.err == nil {
			r.v, r.err = f()
		}
		done <- r
	}()
	r := <-done
	return r.v, r.err
}

func dialFrom(t testing.TB, ns *os.File, address string) (net.Conn, error) {
	return inside(t, ns, func() (net.Conn, error) {
		return net.DialTimeout("tcp4", address, time.Second)
	})
}

func TestListen(t *testing.T) {
	n := mk(t, open(t, 0), 7)
	refused := func(what string) {
		t.Helper()
		for _, port := range []string{"9001", "9002"} {
			if _, err := dialFrom(t, n.File(), "169.254.100.1:"+port); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("port %s %s: %v", port, what, err)
			}
		}
	}
	refused("of a new network")
	other, err := n.Listen(9002)
	must(t, err)
	defer func() {
		must(t, other.Close())
		must(t, n.Reset())
		refused("after a reset")
	}()
	if _, err := n.Listen(9003); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("listening at another port: %v", err)
	}
	l, err := n.Listen(9001)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Addr().String(); got != "169.254.100.1:9001" {
		t.Errorf("the listener's address is %s", got)
	}
	if _, err := n.Listen(9001); err == nil {
		t.Error("there are two listeners")
	}
	c, err := dialFrom(t, n.File(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(c, "hello")
	if line, err := bufio.NewReader(s).ReadString('\n'); line != "hello\n" {
		t.Errorf("read %q, %v", line, err)
	}
	waits := make(chan error)
	go func() {
		_, err := l.Accept()
		waits <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-waits; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept on a closed listener: %v", err)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the accepted connection outlived its listener")
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
}

func TestDial(t *testing.T) {
	n := mk(t, open(t, 0), 0)
	l, err := inside(t, n.File(), func() (net.Listener, error) { return net.Listen("tcp4", "127.0.0.1:8080") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := n.Dial(context.Background(), 8080)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := n.Dial(context.Background(), 8081); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens there, yet: %v", err)
	}
}

// What the dead left unread must not reach whoever listens next.
func TestResetDropsRequests(t *testing.T) {
	n := mk(t, open(t, 0), 1)
	for round := range 20 {
		l, err := n.Listen(9001)
		if err != nil {
			t.Fatal(err)
		}
		var dead []net.Conn
		for range 10 {
			c, err := dialFrom(t, n.File(), l.Addr().String())
			if err != nil {
				t.Fatal(round, err)
			}
			fmt.Fprintln(c, "request of the dead")
			dead = append(dead, c)
		}
		for range 3 {
			if _, err := l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		if round%2 == 0 {
			for _, c := range dead {
				c.Close()
			}
		}
		if err := n.Reset(); err != nil {
			t.Fatal(err)
		}
		next, err := n.Listen(9001)
		if err != nil {
			t.Fatal(err)
		}
		alive, err := dialFrom(t, n.File(), next.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(alive, "request of the living")
		c, err := next.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if line, _ := bufio.NewReader(c).ReadString('\n'); !strings.Contains(line, "living") {
			t.Fatalf("the next listener got %q", line)
		}
		if err := n.Reset(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a function said to itself leaves no socket in its last minute, which the
// next could list.
func TestNoSocketsOfTheDead(t *testing.T) {
	n := mk(t, open(t, 0), 2)
	l := listen(t, n.File(), "127.0.0.1:7070")
	serveHello(t, l)
	if _, err := call(t, n.File(), "127.0.0.1:7070"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	must(t, n.Reset())
	eventually(t, "no socket is left but the platform's", func() bool {
		b, err := inside(t, n.File(), func() ([]byte, error) { return os.ReadFile("/proc/thread-self/net/tcp") })
		must(t, err)
		return !strings.Contains(string(b), "0100007F:1B9E")
	})
}

func BenchmarkMake(b *testing.B) {
	nets := open(b, 0)
	for slot := 0; b.Loop(); slot++ {
		mk(b, nets, slot%netns.MaxSlots).Close()
	}
}

func BenchmarkReset(b *testing.B) {
	n := mk(b, open(b, 0), 0)
	for b.Loop() {
		must(b, n.Reset())
	}
}

// BenchmarkAllow is a policy's whole life: Allow and Reset. Crowded is among a
// thousand sandboxes that have one too.
func BenchmarkAllow(b *testing.B) {
	nets := open(b, 0)
	n := mk(b, nets, 0)
	run := func(name, policy string) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				allow(b, n, policy)
				must(b, n.Reset())
			}
		})
	}
	run("default", "default")
	run("none", "none")
	run("name", "db.example:5432")
	run("range", "10.0.0.0/8:5432,api.example")
	for slot := range 1000 {
		allow(b, mk(b, nets, slot+1), "10.0.0.0/8:5432,api.example")
	}
	run("crowded", "10.0.0.0/8:5432,api.example")
}

func BenchmarkDial(b *testing.B) {
	n := mk(b, open(b, 0), 0)
	l := listen(b, n.File(), "127.0.0.1:8080")
	serveHello(b, l)
	for b.Loop() {
		c, err := n.Dial(context.Background(), 8080)
		must(b, err)
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// A network that served sandboxes without a listener is as good as a new one to those
// that have one: what they accept can be read from, whenever something comes.
func TestListenAfterResets(t *testing.T) {
	n := mk(t, open(t, 0), 3)
	for range 3 {
		must(t, n.Reset())
	}
	l, err := n.Listen(9002)
	must(t, err)
	c, err := dialFrom(t, n.File(), l.Addr().String())
	must(t, err)
	s, err := l.Accept()
	must(t, err)
	must(t, s.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing has come, and it is read as %v", err)
	}
	must(t, c.Close())
}
