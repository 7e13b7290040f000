package netns_test

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lambent/internal/netns"
)

const ipForward = "/proc/sys/net/ipv4/ip_forward"

func forwards(t testing.TB, link netlink.Link) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + link.Attrs().Name + "/forwarding")
	must(t, err)
	return strings.TrimSpace(string(b)) == "1"
}

// neighbour is a namespace at another wire of the host, which somebody in the
// world would reach if the host were a router.
func neighbour(t testing.TB) *os.File {
	t.Helper()
	ns := newNamespace(t)
	t.Cleanup(func() { ns.Close() })
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "lan0", TxQLen: -1})
	veth.PeerName, veth.PeerNamespace = "lan", netlink.NsFd(ns.Fd())
	must(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { must(t, netlink.LinkDel(veth)) })
	must(t, netlink.AddrAdd(veth, address(t, "10.55.0.1/24")))
	must(t, netlink.LinkSetUp(veth))
	_, err := inside(t, ns, func() (struct{}, error) {
		link, err := netlink.LinkByName("lan")
		must(t, err)
		must(t, netlink.AddrAdd(link, address(t, "10.55.0.2/24")))
		must(t, netlink.LinkSetUp(link))
		return struct{}{}, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP("10.55.0.1")})
	})
	must(t, err)
	serveHello(t, listen(t, ns, ":8080"))
	return ns
}

// The host passes on what sandboxes send, and does not become a router for
// anybody else.
func TestNotARouter(t *testing.T) {
	w := newWorld(t)
	neighbour(t)
	const lan = "10.55.0.2:8080"
	want(t, w.ns, false, lan)
	if forwards(t, w.wire) {
		t.Fatal("the host is a router already")
	}

	nets := open(t, 0)
	n := mk(t, nets, 0)
	want(t, n.File(), true, internet+":8080")
	want(t, w.ns, false, lan)
	unfence(t, 0)
	want(t, w.ns, true, lan) // so the fence it was
	must(t, nets.Close())
	want(t, w.ns, false, lan)
	if forwards(t, w.wire) {
		t.Error("the host's interface forwards still")
	}

	// Interfaces come and go, and somebody may want a router after all.
	nets = open(t, 0)
	n = mk(t, nets, 0)
	late := netlink.NewVeth(netlink.LinkAttrs{Name: "late0", TxQLen: -1})
	late.PeerName = "late1"
	must(t, netlink.LinkAdd(late))
	eventually(t, "a new interface forwards", func() bool { return forwards(t, late) })
	must(t, netlink.LinkDel(late))

	must(t, os.WriteFile(ipForward, []byte("1"), 0))
	eventually(t, "the guard is gone", func() bool { return reaches(t, w.ns, lan)[lan] })
	want(t, n.File(), true, internet+":8080")
	must(t, os.WriteFile(ipForward, []byte("0"), 0))
	eventually(t, "sandboxes are served again", func() bool { return reaches(t, n.File(), internet+":8080")[internet+":8080"] })
	want(t, w.ns, false, lan)
	must(t, os.WriteFile(ipForward, []byte("1"), 0))
	eventually(t, "the guard is gone again", func() bool { return reaches(t, w.ns, lan)[lan] })
	must(t, nets.Close())
	want(t, w.ns, true, lan)
	must(t, os.WriteFile(ipForward, []byte("0"), 0))
}

// eventually waits for what another goroutine does in its own time.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 10 s: %s", what)
		}
	}
}

// Nobody comes in: the world can be told where sandboxes are, and still not reach
// them.
func TestNobodyComesIn(t *testing.T) {
	w := newWorld(t)
	n := mk(t, open(t, 0), 3)
	serveHello(t, listen(t, n.File(), ":8080"))
	want(t, w.ns, false, "198.19.0.3:8080")
	unfence(t, 0)
	want(t, w.ns, true, "198.19.0.3:8080")
}

// One sandbox cannot fill the host's memory of connections.
func TestFlowsAreLimited(t *testing.T) {
	newWorld(t)
	nets := open(t, 0)
	n := mk(t, nets, 0)
	_, err := inside(t, n.File(), func() (struct{}, error) {
		c, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return struct{}{}, err
		}
		defer c.Close()
		for port := 20000; port < 23000; port++ {
			if _, err := c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP(internet), Port: port}); err != nil && !strings.Contains(err.Error(), "refused") {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	must(t, err)
	if flows := len(flowsFrom(t, "198.19.0.0")); flows == 0 || flows > 1024 {
		t.Errorf("the host remembers %d connections", flows)
	}
	want(t, mk(t, nets, 1).File(), true, internet+":8080")
	must(t, n.Close())
	if flows := len(flowsFrom(t, "198.19.0.0")); flows != 0 {
		t.Errorf("the host remembers %d connections of a network that is closed", flows)
	}
}

// Another packet filter may drop all that is forwarded, and only the operator can
// tell it not to.
func TestWarnsOfOthers(t *testing.T) {
	newWorld(t)
	c, err := nftables.New()
	must(t, err)
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
	drop := nftables.ChainPolicyDrop
	c.AddChain(&nftables.Chain{Table: table, Name: "FORWARD", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &drop})
	must(t, c.Flush())
	defer func() {
		c.DelTable(table)
		must(t, c.Flush())
	}()
	log := new(strings.Builder)
	nets, err := netns.Open(netns.Options{Log: logTo(log)})
	must(t, err)
	defer nets.Close()
	if !strings.Contains(log.String(), "filter FORWARD") {
		t.Errorf("the log says %q", log)
	}
}

func TestNoIPv6(t *testing.T) {
	n := mk(t, open(t, 0), 0)
	addresses, err := inside(t, n.File(), net.InterfaceAddrs)
	must(t, err)
	for _, a := range addresses {
		if ip := a.(*net.IPNet).IP; ip.To4() == nil && !ip.IsLoopback() {
			t.Errorf("inside there is %v", ip)
		}
	}
	if _, err := inside(t, n.File(), func() (net.Conn, error) { return net.Dial("udp6", "[2001:4860:4860::8888]:53") }); err == nil {
		t.Error("there is a way out by IPv6")
	}
	// And if somebody inside got one, the host does not hear.
	c, err := nftables.New()
	must(t, err)
	rules, err := c.GetRules(&nftables.Table{Family: nftables.TableFamilyINet, Name: "lambent0"}, &nftables.Chain{Name: "source"})
	must(t, err)
	if len(rules) != 2 {
		t.Errorf("%d rules judge the source", len(rules))
	}
}

// Segments are no larger than the way out can carry, even if nobody says so.
func TestLargestSegment(t *testing.T) {
	w := newWorld(t)
	must(t, netlink.LinkSetMTU(w.wire, 1300))
	n := mk(t, open(t, 0), 0)
	l := listen(t, w.ns, ":9090")
	c, err := dialFrom(t, n.File(), internet+":9090")
	must(t, err)
	defer c.Close()
	s, err := l.Accept()
	must(t, err)
	defer s.Close()
	raw, err := s.(*net.TCPConn).SyscallConn()
	must(t, err)
	largest := 0
	must(t, raw.Control(func(fd uintptr) { largest, err = unix.GetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_MAXSEG) }))
	must(t, err)
	if largest == 0 || largest > 1260 {
		t.Errorf("the world would send segments of %d bytes", largest)
	}
}
