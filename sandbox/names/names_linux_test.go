package names_test

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"lambent"
	"lambent/sandbox"
	"lambent/sandbox/names"
)

func TestNames(t *testing.T) {
	newWorld(t, "10.1.2.3", "8.8.8.8", "169.254.169.254")
	r := newResolver(t, map[string]string{"db.example": "10.1.2.3", "other.example": "8.8.8.8", "host.example": "192.168.77.1",
		"evil.example": "169.254.169.254 127.0.0.1", "mixed.example": "127.0.0.1 8.8.8.8"})
	halves(t, r, func(t *testing.T, d sandbox.Driver) {
		open := start(t, d, "default")
		if code, found, err := open.lookup(t, "db.example"); err != nil || code != 0 || !slices.Equal(found, []string{"10.1.2.3"}) {
			t.Errorf("without a policy: %v, %v, %v", code, found, err)
		}
		f := start(t, d, "db.example:8080,evil.example,mixed.example:80,host.example")
		if f.reaches(t, "10.1.2.3:8080") {
			t.Error("an address is open that nobody has asked for")
		}
		before := r.asked.Load()
		for _, name := range []string{"other.example", "secret.evil.example", "example"} {
			if code, found, err := f.lookup(t, name); err != nil || code != dnsmessage.RCodeRefused || found != nil {
				t.Errorf("%s, which the policy does not have: %v, %v, %v", name, code, found, err)
			}
		}
		if r.asked.Load() != before {
			t.Error("names that no entry names were passed on")
		}
		for range 2 { // the second time it is known to be open
			if code, found, err := f.lookup(t, "db.example"); err != nil || code != 0 || !slices.Equal(found, []string{"10.1.2.3"}) {
				t.Errorf("db.example: %v, %v, %v", code, found, err)
			}
		}
		if !f.reaches(t, "10.1.2.3:8080") {
			t.Error("what a name of the policy leads to is not open")
		}
		if code, _, err := f.lookup(t, "evil.example"); err != nil || code != dnsmessage.RCodeRefused {
			t.Errorf("a name that leads to what is not for names: %v, %v", code, err)
		}
		for _, name := range []string{"mixed.example", "host.example"} {
			if code, _, err := f.lookup(t, name); err != nil || code != 0 {
				t.Errorf("%s: %v, %v", name, code, err)
			}
		}
		for _, a := range []string{"169.254.169.254:8080", "8.8.8.8:8080", "192.168.77.1:8080"} {
			if f.reaches(t, a) {
				t.Errorf("%s is open", a)
			}
		}
	})
}

// The sockets are the slot's: what one sandbox asked is not answered to the next,
// be it under way or still in a socket.
func TestLateAnswer(t *testing.T) {
	r := newResolver(t, map[string]string{"db.example": "10.1.2.3"})
	halves(t, r, func(t *testing.T, d sandbox.Driver) {
		hold := make(chan struct{})
		r.wait(hold)
		f := start(t, d, "db.example")
		dead := f.socket(t)
		before := r.asked.Load()
		_, err := dead.WriteTo(query(t, 1, "db.example"), nameServer)
		must(t, err)
		stream := inside(t, f.ns, func() net.Conn {
			c, err := net.Dial("tcp4", nameServer.String())
			must(t, err)
			return c
		})
		for r.asked.Load() == before {
			time.Sleep(time.Millisecond)
		}
		for id := range 60 { // more than are under way at a time
			_, err := dead.WriteTo(query(t, uint16(100+id), "db.example"), nameServer)
			must(t, err)
		}
		must(t, f.Destroy())
		_ = stream.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, err := stream.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("the connection outlived its sandbox: %v", err)
		}
		stream.Close()
		dead.Close()

		next := start(t, d, "other.example")
		if one, other := inode(t, f.ns), inode(t, next.ns); one != other {
			t.Fatalf("the networks are %d and %d: the test shows nothing", one, other)
		}
		c := next.socket(t)
		defer c.Close()
		close(hold)
		r.wait(nil)
		_, err = c.WriteTo(query(t, 2, "db.example"), nameServer) // refused: an answer, after which there is none
		must(t, err)
		b := make([]byte, 512)
		_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, _, err := c.ReadFrom(b); err != nil || b[1] != 2 {
			t.Errorf("got an answer to question %d, %v", b[1], err)
		}
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, _, err := c.ReadFrom(b); err == nil {
			t.Errorf("got an answer to question %d", b[1])
		}
	})
}

func inode(t testing.TB, f *os.File) uint64 {
	t.Helper()
	fi, err := f.Stat()
	must(t, err)
	return fi.Sys().(*syscall.Stat_t).Ino
}

// sockets are what a sandbox would have, on the loopback.
func sockets(t testing.TB) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	u, err := net.ListenPacket("udp4", l.Addr().String())
	must(t, err)
	t.Cleanup(func() { u.Close() })
	return u.(*net.UDPConn), l.(*net.TCPListener)
}

func TestIdleCostsNoGoroutine(t *testing.T) {
	r := newResolver(t, nil)
	relay, err := names.Open(names.Options{ResolvConf: r.conf})
	must(t, err)
	defer relay.Close()
	before := runtime.NumGoroutine()
	for range 100 {
		u, l := sockets(t)
		_, err := relay.Serve(u, l, nil, nil)
		must(t, err)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, and %d before", after, before)
	}
}

// What cannot be opened is not told, and what is open is not asked for again.
func TestOpenComesFirst(t *testing.T) {
	r := newResolver(t, map[string]string{"a.example": "10.1.2.3 10.1.2.4"})
	relay, err := names.Open(names.Options{ResolvConf: r.conf})
	must(t, err)
	defer relay.Close()
	network, err := lambent.ParseNetwork("a.example")
	must(t, err)
	u, l := sockets(t)
	var mu sync.Mutex // guards what follows
	var asked []netip.Addr
	answer := error(lambent.Errorf(lambent.Internal, "test", "the jail is busy"))
	s, err := relay.Serve(u, l, network, func(name string, addresses []netip.Addr) error {
		if name != "a.example" {
			t.Errorf("open %s", name)
		}
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, addresses...)
		return answer
	})
	must(t, err)
	defer s.Close()
	c, err := net.Dial("udp4", u.LocalAddr().String())
	must(t, err)
	defer c.Close()
	for i, want := range []struct {
		open error
		code dnsmessage.RCode
		asks int
	}{
		{answer, dnsmessage.RCodeServerFailure, 2},
		{lambent.Errorf(lambent.Forbidden, "test", "no"), dnsmessage.RCodeRefused, 2},
		{nil, dnsmessage.RCodeSuccess, 2},
		{nil, dnsmessage.RCodeSuccess, 0},
	} {
		mu.Lock()
		asked, answer = nil, want.open
		mu.Unlock()
		_, err := c.Write(query(t, uint16(i), "A.Example"))
		must(t, err)
		_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
		b := make([]byte, 512)
		n, err := c.Read(b)
		must(t, err)
		var m dnsmessage.Message
		must(t, m.Unpack(b[:n]))
		mu.Lock()
		if m.RCode != want.code || len(asked) != want.asks || (len(m.Answers) > 0) != (want.open == nil) {
			t.Errorf("%d: %v with %d answers, after %v", i, m.RCode, len(m.Answers), asked)
		}
		mu.Unlock()
	}
}

// Sandboxes come and go while they ask, for the race detector.
func TestHammer(t *testing.T) {
	newWorld(t, "10.1.2.3")
	r := newResolver(t, map[string]string{"db.example": "10.1.2.3"})
	halves(t, r, func(t *testing.T, d sandbox.Driver) {
		code := t.TempDir()
		must(t, os.Chmod(code, 0o755))
		must(t, os.WriteFile(filepath.Join(code, "bootstrap"), []byte(`#!/bin/sh
for i in 1 2 3; do
  while :; do getent ahostsv4 db.example; getent ahostsv4 no.example; done >/dev/null 2>&1 &
done
wait
`), 0o755))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for began := time.Now(); time.Since(began) < 2*time.Second; {
					if err := life(d, code); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if r.asked.Swap(0) == 0 {
			t.Error("nobody asked: the test shows nothing")
		}
	})
}

// life is that of a sandbox whose code asks for names until it is ended.
func life(d sandbox.Driver, code string) error {
	s, err := d.Park(context.Background(), lambent.Runtime{Name: "provided"})
	if err != nil {
		return err
	}
	defer s.Output().Close()
	network, _ := lambent.ParseNetwork("db.example")
	err = s.Assign(context.Background(), sandbox.Task{Code: code, MemoryMB: 128, TmpMB: 512, Network: network, Start: sandbox.Start{Argv: []string{"./bootstrap"}}})
	if err == nil {
		time.Sleep(rand.N(50 * time.Millisecond))
	}
	if e := s.Destroy(); err == nil {
		err = e
	}
	return err
}
