package netns_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A world is what lies beyond the host: a namespace on a wire, with every
// address that a function may try, and somebody who answers at each.
type world struct {
	ns   *os.File
	wire netlink.Link // the host's end
}

const (
	hostPublic  = "81.2.69.1" // the host's address on the wire
	hostPrivate = "192.168.77.1"
	internet    = "8.8.8.8"
)

// beyond are addresses of the world that are not the internet.
var beyond = []string{
	"10.1.2.3", "172.16.5.5", "172.31.255.254", "192.168.7.7", "100.64.1.1", "169.254.169.254", "192.0.2.9", "192.0.0.8",
	"198.18.0.9", "198.51.100.7", "203.0.113.7", "240.1.1.1",
}

const worldPort = 8080

// newWorld also makes the host's own addresses, and somebody at port 8080 of
// each.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{ns: newNamespace(t)}
	t.Cleanup(func() { w.ns.Close() })

	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "wire0", TxQLen: -1})
	veth.PeerName, veth.PeerNamespace = "wire", netlink.NsFd(w.ns.Fd())
	must(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { must(t, netlink.LinkDel(veth)) })
	w.wire = veth
	for _, a := range []string{hostPublic + "/24", hostPrivate + "/24"} {
		must(t, netlink.AddrAdd(veth, address(t, a)))
	}
	must(t, netlink.LinkSetUp(veth))
	up(t)
	must(t, netlink.RouteReplace(&netlink.Route{LinkIndex: veth.Index, Gw: net.ParseIP("81.2.69.2")}))
	serveHello(t, listen(t, nil, fmt.Sprintf(":%d", worldPort)))

	_, err := inside(t, w.ns, func() (struct{}, error) {
		link, err := netlink.LinkByName("wire")
		must(t, err)
		must(t, netlink.AddrAdd(link, address(t, "81.2.69.2/24")))
		must(t, netlink.LinkSetUp(link))
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
		for _, a := range append(beyond, internet) {
			must(t, netlink.AddrAdd(lo, address(t, a+"/32")))
		}
		// Without masquerading too, answers must find their way.
		return struct{}{}, netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(hostPublic)})
	})
	must(t, err)
	serveHello(t, listen(t, w.ns, fmt.Sprintf(":%d", worldPort)))
	serveHello(t, listen(t, w.ns, fmt.Sprintf(":%d", worldPort+1)))
	return w
}

// up brings the loopback up of the namespace that it is called in.
func up(t testing.TB) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
}

// freeBind lets a socket have any address.
func freeBind(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
	})
	return errors.Join(err, failed)
}

// flowsFrom is what the host remembers of connections from an address.
func flowsFrom(t testing.TB, source string) []string {
	t.Helper()
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	must(t, err)
	var out []string
	for _, f := range flows {
		if f.Forward.SrcIP.String() == source {
			out = append(out, f.String())
		}
	}
	return out
}

func newNamespace(t testing.TB) *os.File {
	t.Helper()
	done := make(chan *os.File)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		done <- f
	}()
	return <-done
}

// listen listens in a namespace; nil is the host's.
func listen(t testing.TB, ns *os.File, address string) net.Listener {
	t.Helper()
	f := func() (net.Listener, error) { return net.Listen("tcp4", address) }
	var l net.Listener
	var err error
	if ns == nil {
		l, err = f()
	} else {
		l, err = inside(t, ns, f)
	}
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// serveHello greets with the address that the caller seems to have.
func serveHello(t testing.TB, l net.Listener) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s\n", c.RemoteAddr())
			c.Close()
		}
	}()
}

// call connects from a namespace and returns whom the other side saw.
func call(t testing.TB, ns *os.File, address string) (netip.AddrPort, error) {
	t.Helper()
	c, err := dialFrom(t, ns, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	b := make([]byte, 64)
	n, err := c.Read(b)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(strings.TrimSpace(string(b[:n])))
}

// reaches says which of the addresses answer a call from the namespace, all at
// once: those that are dropped take a second.
func reaches(t testing.TB, ns *os.File, addresses ...string) map[string]bool {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]bool{}
	for _, a := range addresses {
		wg.Go(func() {
			_, err := call(t, ns, a)
			mu.Lock()
			defer mu.Unlock()
			out[a] = err == nil
		})
	}
	wg.Wait()
	return out
}

// want fails for each address that answers otherwise than wanted.
func want(t testing.TB, ns *os.File, answers bool, addresses ...string) {
	t.Helper()
	for a, did := range reaches(t, ns, addresses...) {
		if did != answers {
			t.Errorf("%s: reached %v, want %v", a, did, answers)
		}
	}
}

// unfence takes the server's rules away, and nothing else.
func unfence(t testing.TB, server int) {
	t.Helper()
	c, err := nftables.New()
	must(t, err)
	c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: fmt.Sprintf("lambent%d", server)})
	must(t, c.Flush())
}

func at(port int, addresses ...string) []string {
	var out []string
	for _, a := range addresses {
		out = append(out, fmt.Sprintf("%s:%d", a, port))
	}
	return out
}

func address(t testing.TB, cidr string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(t, err)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, unix.EEXIST) {
		t.Error(err)
		panic(err)
	}
}
