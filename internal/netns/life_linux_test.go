package netns_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"lambent"
	"lambent/internal/netns"
	"lambent/sandbox/names"
)

// links are the host's interfaces of sandboxes.
func links(t testing.TB) []string {
	t.Helper()
	all, err := net.Interfaces()
	must(t, err)
	var out []string
	for _, l := range all {
		if strings.HasPrefix(l.Name, "lam") {
			out = append(out, l.Name)
		}
	}
	return out
}

func tables(t testing.TB) []string {
	t.Helper()
	c, err := nftables.New()
	must(t, err)
	all, err := c.ListTables()
	must(t, err)
	var out []string
	for _, table := range all {
		if strings.HasPrefix(table.Name, "lambent") {
			out = append(out, table.Name)
		}
	}
	return out
}

func descriptors(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(all)
}

func TestNothingIsLeft(t *testing.T) {
	newWorld(t)
	r := newResolver(t, map[string]string{"a.example": "8.8.8.8"})
	relay := r.relay(t)
	before := descriptors(t)
	nets := open(t, 2)
	made := 0
	for start := time.Now(); made < 200 && time.Since(start) < 15*time.Second; made++ { // an emulated machine makes fewer
		slot, stays := made%20, made%20 == 19
		if stays { // for the server to close
			slot = 20 + made
		}
		n := mk(t, nets, slot)
		var s *names.Server
		if made%2 == 0 {
			s = serve(t, relay, n, "a.example,10.0.0.0/8:80")
			_, err := lookup(t, n, "a.example")
			must(t, err)
		}
		if made%3 == 0 {
			_, err := call(t, n.File(), internet+":8080")
			must(t, err)
		}
		if s != nil {
			s.Close()
		}
		if !stays {
			must(t, n.Close())
		}
	}
	t.Logf("%d networks", made)
	// A namespace takes its interface along: one that is left would keep it.
	eventually(t, "the closed networks' namespaces are gone", func() bool { return len(links(t)) == made/20 })
	must(t, nets.Close())
	if left := links(t); len(left) > 0 {
		t.Errorf("interfaces are left: %v", left)
	}
	if left := tables(t); len(left) > 0 {
		t.Errorf("tables are left: %v", left)
	}
	if after := descriptors(t); after > before+2 { // the resolver may be at an answer
		t.Errorf("%d descriptors, and %d before", after, before)
	}
	must(t, nets.Close()) // again
	if _, err := nets.Make(0); !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("Make after Close: %v", err)
	}
}

// Nobody keeps a closed network: who talked to it and answers no more, as little as
// the kernel, that would repeat for two minutes what nobody acknowledges.
func TestNobodyKeepsANetwork(t *testing.T) {
	w := newWorld(t)
	nets := open(t, 0)
	n := mk(t, nets, 0)
	var calls []net.Conn
	for range 20 {
		c, err := dialFrom(t, n.File(), internet+":8080")
		must(t, err)
		_, err = io.ReadAll(c) // or closing would be resetting
		must(t, err)
		calls = append(calls, c)
	}
	must(t, netlink.LinkSetDown(w.wire))
	for _, c := range calls {
		_, err := c.Write([]byte("hello"))
		must(t, err)
		c.Close()
	}
	must(t, n.Close())
	eventually(t, "the network is gone", func() bool { return len(links(t)) == 0 })
}

// leave is a server that ends as after kill -9: it says that it is there, and
// waits for it.
const leave = "LAMBENT_NETNS_LEAVE"

func TestLeave(t *testing.T) {
	if os.Getenv(leave) == "" {
		t.Skip("runs as a process that TestCrash kills")
	}
	nets := open(t, 5)
	for i := range 50 {
		allow(t, mk(t, nets, i), "10.0.0.0/8")
	}
	fmt.Println("left")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// What a server that was killed had is gone when the next of its number opens.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	cmd := exec.Command("/proc/self/exe", inHost, "-test.run=^TestLeave$", "-test.v")
	cmd.Env = append(os.Environ(), leave+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	// One sandbox has outlived the server: its namespace stays, with its interface.
	var survivor *os.File
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.Contains(lines.Text(), "left") {
			break
		}
	}
	survivor = namespaceOf(t, "lam5-7")
	defer survivor.Close()
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if len(links(t)) == 0 || len(tables(t)) != 1 || !forwards(t, w.wire) {
		t.Fatalf("the crash left %v, %v: the test shows nothing", links(t), tables(t))
	}

	start := time.Now()
	nets := open(t, 5)
	t.Logf("opened in %v", time.Since(start))
	if left := links(t); len(left) > 0 {
		t.Errorf("interfaces are left: %v", left)
	}
	n := mk(t, nets, 7)
	want(t, n.File(), true, internet+":8080") // which the policy did not allow
	must(t, nets.Close())
	if forwards(t, w.wire) {
		t.Error("the host's interface forwards, as the killed server had it")
	}
}

// namespaceOf opens the namespace at the other end of an interface.
func namespaceOf(t testing.TB, name string) *os.File {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	for _, p := range processes(t) {
		threads, _ := os.ReadDir("/proc/" + p + "/fd")
		for _, fd := range threads {
			path := "/proc/" + p + "/fd/" + fd.Name()
			if to, _ := os.Readlink(path); !strings.HasPrefix(to, "net:") {
				continue
			}
			f, err := os.Open(path)
			if err != nil {
				continue
			}
			found, _ := inside(t, f, func() (bool, error) {
				in, err := netlink.LinkByName("eth0")
				return err == nil && in.Attrs().ParentIndex == link.Attrs().Index, nil
			})
			if found {
				return f
			}
			f.Close()
		}
	}
	t.Fatalf("no namespace has the other end of %s", name)
	return nil
}

func processes(t testing.TB) []string {
	t.Helper()
	all, err := os.ReadDir("/proc")
	must(t, err)
	var out []string
	for _, p := range all {
		if p.Name()[0] >= '0' && p.Name()[0] <= '9' {
			out = append(out, p.Name())
		}
	}
	return out
}

func TestSeveralServers(t *testing.T) {
	newWorld(t)
	one, two := open(t, 0), open(t, 12)
	a, b := mk(t, one, 9), mk(t, two, 9)
	serveHello(t, listen(t, a.File(), ":8080"))
	serveHello(t, listen(t, b.File(), ":8080"))
	want(t, a.File(), true, internet+":8080")
	want(t, b.File(), true, internet+":8080")
	want(t, a.File(), false, "198.19.192.9:8080")
	want(t, b.File(), false, "198.19.0.9:8080")
	must(t, two.Close())
	want(t, a.File(), true, internet+":8080")
	again := open(t, 12)
	want(t, a.File(), true, internet+":8080")
	want(t, mk(t, again, 9).File(), true, internet+":8080")
	last := mk(t, again, 8)
	must(t, one.Close()) // which turns forwarding off; the other hears of it from the kernel, and turns it on
	eventually(t, "the server that stays reaches the world", func() bool {
		return reaches(t, last.File(), internet+":8080")[internet+":8080"]
	})
}

func TestBadNumbers(t *testing.T) {
	for _, server := range []int{-1, 13} {
		if _, err := netns.Open(netns.Options{Server: server}); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("server %d: %v", server, err)
		}
	}
	nets := open(t, 0)
	for _, slot := range []int{-1, 4096} {
		if _, err := nets.Make(slot); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("slot %d: %v", slot, err)
		}
	}
	mk(t, nets, 0)
	if _, err := nets.Make(0); !lambent.Is(err, lambent.Exists) {
		t.Errorf("a slot twice: %v", err)
	}
}

// Everything at once, for the race detector.
func TestHammer(t *testing.T) {
	newWorld(t)
	r := newResolver(t, map[string]string{"a.example": "8.8.8.8", "b.example": "10.1.2.3"})
	nets, relay := open(t, 1), r.relay(t)
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for round, start := 0, time.Now(); time.Since(start) < 3*time.Second; round++ {
				n, err := nets.Make(worker)
				if err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					hammer(t, n, relay, round)
					if err := n.Reset(); errors.Is(err, netns.ErrUsed) {
						break
					} else if err != nil {
						t.Error(err)
					}
				}
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// hammer is the life of one sandbox, several things at a time.
func hammer(t *testing.T, n *netns.Net, relay *names.Relay, round int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	l, err := n.Listen(9001)
	if err != nil {
		t.Error(err)
		return
	}
	policy := [...]string{"default", "none", "a.example", "b.example:8080,8.8.8.8", "0.0.0.0/0"}[rand.N(5)]
	s := serve(t, relay, n, policy)
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _, _ = io.Copy(c, c); c.Close() })
		}
	})
	for range 3 {
		wg.Go(func() {
			c, err := dialFrom(t, n.File(), l.Addr().String())
			if err == nil {
				_ = c.SetDeadline(time.Now().Add(20 * time.Millisecond)) // maybe nobody accepts any more
				fmt.Fprint(c, "x")
				_, _ = c.Read(make([]byte, 1))
				c.Close()
			}
		})
		wg.Go(func() { _, _ = lookup(t, n, "b.example") })
	}
	if round%5 == 0 {
		wg.Go(func() { _, _ = call(t, n.File(), internet+":8080") })
	}
	time.Sleep(rand.N(5 * time.Millisecond)) // anywhere in the life of these
	l.Close()
	s.Close()
}
