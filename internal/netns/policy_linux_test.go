package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/netns"
)

func TestPolicies(t *testing.T) {
	newWorld(t)
	r := newResolver(t, map[string]string{"a.example": "8.8.8.8"})
	nets, relay := open(t, 0), r.relay(t)
	everything := append(at(worldPort, append(beyond, internet, hostPublic, hostPrivate)...), at(worldPort+1, append(beyond, internet)...)...)
	for _, c := range []struct {
		policy string
		opens  []string
	}{
		{"none", nil},
		{"10.1.2.3", []string{"10.1.2.3:8080", "10.1.2.3:8081"}},
		{"10.1.2.3:8081", []string{"10.1.2.3:8081"}},
		{"172.16.0.0/12:8080,8.8.8.8:8081", []string{"172.16.5.5:8080", "172.31.255.254:8080", "8.8.8.8:8081"}},
		{"169.254.169.254:8080", []string{"169.254.169.254:8080"}},
		{hostPrivate + ":8080", []string{hostPrivate + ":8080"}},
		{"0.0.0.0/0:8081", at(worldPort+1, append(beyond, internet)...)},
		{"internet,10.1.2.3", append(at(worldPort, internet, "10.1.2.3"), at(worldPort+1, internet, "10.1.2.3")...)},
		{"internet,10.1.2.3:8081", append(at(worldPort, internet), at(worldPort+1, internet, "10.1.2.3")...)},
		{"198.18.0.0/15", []string{"198.18.0.9:8080", "198.18.0.9:8081"}},
	} {
		t.Run(c.policy, func(t *testing.T) {
			n, neighbour := mk(t, nets, 0), mk(t, nets, 1)
			defer n.Close()
			defer neighbour.Close()
			serveHello(t, listen(t, neighbour.File(), ":8080"))
			defer serve(t, relay, n, c.policy).Close()
			opens := map[string]bool{}
			for _, a := range c.opens {
				opens[a] = true
			}
			for a, reached := range reaches(t, n.File(), append(everything, "198.19.0.1:8080")...) {
				if reached != opens[a] {
					t.Errorf("%s: reached %v, want %v", a, reached, opens[a])
				}
			}
			if _, err := lookup(t, n, "a.example"); (err == nil) != strings.Contains(c.policy, "internet") {
				t.Errorf("a name that no entry names: %v", err)
			}
			want(t, neighbour.File(), true, internet+":8080") // as before
		})
	}
}

// Code that may not connect is told at once.
func TestRefusedAtOnce(t *testing.T) {
	newWorld(t)
	n := mk(t, open(t, 0), 0)
	allow(t, n, "none")
	start := time.Now()
	if _, err := dialFrom(t, n.File(), "8.8.8.8:443"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > time.Second/2 {
		t.Errorf("it took %v", took)
	}
}

func TestAllowOnce(t *testing.T) {
	n := mk(t, open(t, 0), 0)
	allow(t, n, "default")
	allow(t, n, "none")
	if _, err := n.Allow(lambent.Network{"8.8.8.8/32"}); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("a second policy: %v", err)
	}
	if _, err := n.Allow(lambent.Network{"8.8.8.8"}); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("a policy that is not canonical: %v", err)
	}
	must(t, n.Reset())
	allow(t, n, "8.8.8.8")
}

// The next sandbox finds nothing of the last: neither its policy nor, if it has
// reached anything, its network.
func TestRecycling(t *testing.T) {
	newWorld(t)
	r := newResolver(t, map[string]string{"db.example": "10.1.2.3"})
	nets := open(t, 0)
	n := mk(t, nets, 5)
	s := serve(t, r.relay(t), n, "db.example,10.1.2.0/24:9999")
	if _, err := lookup(t, n, "db.example"); err != nil {
		t.Fatal(err)
	}
	// Nothing was sent so far but questions to the platform.
	s.Close()
	must(t, n.Reset())
	want(t, n.File(), false, "10.1.2.3:8080")
	want(t, n.File(), true, internet+":8080")

	allow(t, n, "db.example")
	want(t, n.File(), false, "10.1.2.3:8080") // what the name led to before is not open
	if err := n.Reset(); !errors.Is(err, netns.ErrUsed) {
		t.Fatalf("a network whose function was on the internet: %v", err)
	}
	must(t, n.Close())
	if flows := flowsFrom(t, "198.19.0.5"); len(flows) > 0 {
		t.Errorf("the host remembers %v", flows)
	}
	again := mk(t, nets, 5)
	want(t, again.File(), false, "10.1.2.3:8080")
	want(t, again.File(), true, internet+":8080")
}

// An answer that comes when the one who asked is dead opens nothing, and is not
// told to the next.
func TestLateAnswer(t *testing.T) {
	newWorld(t)
	r := newResolver(t, map[string]string{"db.example": "10.1.2.3"})
	r.hold = make(chan struct{})
	n, relay := mk(t, open(t, 0), 0), r.relay(t)
	s := serve(t, relay, n, "db.example")
	ask := func() net.PacketConn {
		c, err := inside(t, n.File(), func() (net.PacketConn, error) { return net.ListenPacket("udp4", ":5353") })
		must(t, err)
		return c
	}
	dead := ask()
	to := &net.UDPAddr{IP: net.IPv4(169, 254, 100, 1), Port: 53}
	_, err := dead.WriteTo(query(t, 1, "db.example."), to)
	must(t, err)
	for r.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
	_, err = dead.WriteTo(query(t, 3, "other.example."), to) // which nobody reads any more, nor is to
	must(t, err)
	dead.Close()
	must(t, n.Reset())
	serve(t, relay, n, "other.example")
	next := ask()
	defer next.Close()
	close(r.hold)
	_, err = next.WriteTo(query(t, 2, "db.example."), to) // refused: an answer, after which there is none
	must(t, err)
	b := make([]byte, 512)
	_ = next.SetReadDeadline(time.Now().Add(time.Second))
	if _, _, err := next.ReadFrom(b); err != nil || b[1] != 2 {
		t.Errorf("got an answer to question %d, %v", b[1], err)
	}
	_ = next.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, _, err := next.ReadFrom(b); err == nil {
		t.Errorf("got an answer to question %d", b[1])
	}
	want(t, n.File(), false, "10.1.2.3:8080")
}

// A policy ends with its sandbox, also if the next one's is the same.
func TestOpenIsForOneSandbox(t *testing.T) {
	newWorld(t)
	n := mk(t, open(t, 0), 0)
	found := []netip.Addr{netip.MustParseAddr("10.1.2.3")}
	if err := allow(t, n, "default").Open("db.example", found); !lambent.Is(err, lambent.Forbidden) {
		t.Errorf("without a policy: %v", err)
	}
	last := allow(t, n, "db.example")
	must(t, last.Open("db.example", found))
	must(t, n.Reset())
	next := allow(t, n, "db.example")
	if err := last.Open("db.example", found); !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("of a sandbox that is gone: %v", err)
	}
	want(t, n.File(), false, "10.1.2.3:8080")
	must(t, next.Open("db.example", found))
	want(t, n.File(), true, "10.1.2.3:8080")
	must(t, n.Close())
	if err := next.Open("db.example", []netip.Addr{netip.MustParseAddr("10.1.2.4")}); !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("of a network that is closed: %v", err)
	}
}

// Whoever has the sockets and fills one as fast as it is emptied holds nobody up.
func TestResetEnds(t *testing.T) {
	n := mk(t, open(t, 0), 0)
	datagrams, _ := n.Names()
	c := datagrams.(net.PacketConn)
	stop := make(chan struct{})
	var floods sync.WaitGroup
	for range 4 {
		floods.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = c.WriteTo([]byte("more"), c.LocalAddr())
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			_ = n.Reset() // it may say that there is no end
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("Reset does not end")
	}
	close(stop)
	floods.Wait()
	<-done
}

// Who sends under another's address is not heard.
func TestSpoofing(t *testing.T) {
	w := newWorld(t)
	nets := open(t, 0)
	n, other := mk(t, nets, 0), mk(t, nets, 1)
	heard := make(chan string, 10)
	pc, err := inside(t, w.ns, func() (net.PacketConn, error) { return net.ListenPacket("udp4", ":7000") })
	must(t, err)
	defer pc.Close()
	go func() {
		for b := make([]byte, 64); ; {
			n, _, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			heard <- string(b[:n])
		}
	}()
	// From an address that is another's, the platform's or the loopback's.
	sendFrom := func(source string) {
		_, err := inside(t, n.File(), func() (struct{}, error) {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(source)}, Control: freeBind}
			c, err := d.Dial("udp4", internet+":7000")
			if err != nil {
				return struct{}{}, err
			}
			defer c.Close()
			_, err = fmt.Fprint(c, source)
			return struct{}{}, err
		})
		if err != nil {
			t.Logf("from %s: %v", source, err)
		}
	}
	sources := []string{"198.19.0.1", "169.254.100.1", "10.9.9.9", hostPublic, internet}
	for _, s := range sources {
		sendFrom(s)
	}
	sendFrom("198.19.0.0") // its own
	if got := <-heard; got != "198.19.0.0" {
		t.Errorf("the world heard %s", got)
	}
	unfence(t, 0)
	// The answer's way is nobody's concern: the world hears the one that the host
	// does not drop on its own.
	sendFrom("198.19.0.1")
	sendFrom("10.9.9.9")
	select {
	case <-heard:
	case <-time.After(2 * time.Second):
		t.Error("without the fence nothing was heard either: the test shows nothing")
	}
	_ = other
}

func TestDialGivesUp(t *testing.T) {
	n := mk(t, open(t, 0), 0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := n.Dial(ctx, 80); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
