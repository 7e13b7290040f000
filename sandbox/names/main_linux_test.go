package names_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"lambent"
	"lambent/sandbox"
	"lambent/sandbox/jail"
	"lambent/sandbox/names"
	"lambent/sandbox/namespace"
)

// The tests are run by a second process in a network namespace of its own, which
// stands for the host: nothing that they do can touch the machine's network.
const inHost = "-test.lambent-host"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == inHost {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
			fmt.Fprintln(os.Stderr, "names: the tests need root")
			os.Exit(1)
		}
		fmt.Println("names: skipped: the tests need root")
		return
	}
	cmd := exec.Command("/proc/self/exe", append([]string{inHost}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A resolver is the host's: it knows some names, and counts what it is asked.
type resolver struct {
	conf  string
	asked atomic.Int64

	mu    sync.Mutex
	names map[string]string // name -> addresses
	hold  chan struct{}     // if not nil, nothing is answered before it is closed
}

func newResolver(t testing.TB, names map[string]string) *resolver {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	r := &resolver{conf: filepath.Join(t.TempDir(), "resolv.conf"), names: names}
	must(t, os.WriteFile(r.conf, []byte("nameserver 127.0.0.53\n"), 0o644))
	udp, err := net.ListenPacket("udp4", "127.0.0.53:53")
	must(t, err)
	t.Cleanup(func() { udp.Close() })
	go func() {
		for b := make([]byte, 4096); ; {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) == nil {
				go func() { _, _ = udp.WriteTo(r.answer(m), from) }()
			}
		}
	}()
	return r
}

func (r *resolver) wait(c chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = c
}

func (r *resolver) answer(m dnsmessage.Message) []byte {
	r.asked.Add(1)
	r.mu.Lock()
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	m.Response, m.Additionals = true, nil
	q := m.Questions[0]
	for a := range strings.FieldsSeq(r.names[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]) {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
			})
		}
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// newWorld makes what lies beyond the host: a namespace on a wire with some
// addresses, and somebody who accepts at port 8080 of each.
func newWorld(t testing.TB, addresses ...string) {
	t.Helper()
	world := inside(t, nil, func() *os.File {
		must(t, unix.Unshare(unix.CLONE_NEWNET))
		f, err := os.Open("/proc/thread-self/ns/net")
		must(t, err)
		return f
	})
	t.Cleanup(func() { world.Close() })
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "wire0", TxQLen: -1})
	veth.PeerName, veth.PeerNamespace = "wire", netlink.NsFd(world.Fd())
	must(t, netlink.LinkAdd(veth))
	t.Cleanup(func() { must(t, netlink.LinkDel(veth)) })
	add := func(link netlink.Link, address string) {
		a, err := netlink.ParseAddr(address)
		must(t, err)
		must(t, netlink.AddrAdd(link, a))
	}
	add(veth, "192.168.77.1/24")
	must(t, netlink.LinkSetUp(veth))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: veth.Index, Gw: net.IPv4(192, 168, 77, 2)}))
	inside(t, world, func() any {
		link, err := netlink.LinkByName("wire")
		must(t, err)
		add(link, "192.168.77.2/24")
		for _, a := range addresses {
			add(link, a+"/32")
		}
		must(t, netlink.LinkSetUp(link))
		l, err := net.Listen("tcp4", ":8080")
		must(t, err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		return nil
	})
}

// inside runs f on a thread of a namespace, as a function in a sandbox would.
func inside[T any](t testing.TB, ns *os.File, f func() T) T {
	t.Helper()
	done := make(chan T)
	var failed error
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends
		if ns != nil {
			if failed = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); failed != nil {
				return
			}
		}
		done <- f()
	}()
	got := <-done
	must(t, failed)
	return got
}

// halves runs a test with the whole in one process, and with only the socket of a
// jail between what makes sandboxes and what answers.
func halves(t *testing.T, r *resolver, test func(t *testing.T, d sandbox.Driver)) {
	bare := func(t *testing.T) sandbox.Driver {
		d, err := namespace.New(namespace.Options{Dir: t.TempDir()})
		must(t, err)
		return d
	}
	run := func(t *testing.T, d sandbox.Driver) {
		d, err := names.New(d, names.Options{ResolvConf: r.conf})
		must(t, err)
		defer func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}()
		test(t, sandbox.Guard(d))
	}
	t.Run("one process", func(t *testing.T) { run(t, bare(t)) })
	t.Run("divided", func(t *testing.T) {
		ours, theirs, err := jail.Pair()
		must(t, err)
		go jail.Serve(theirs, jail.Options{Limits: lambent.DefaultLimits()}, func() (sandbox.Driver, error) { return bare(t), nil })
		d, err := jail.Open(ours)
		must(t, err)
		run(t, d)
	})
}

// A function is a sandbox with a policy, and its network, in which the test does
// what the function's code would.
type function struct {
	sandbox.Sandbox
	ns *os.File
}

func start(t testing.TB, d sandbox.Driver, policy string) *function {
	t.Helper()
	before := networks(t)
	s, err := d.Park(context.Background(), lambent.Runtime{Name: "provided"})
	must(t, err)
	s.Output().Close()
	f := &function{Sandbox: s}
	for name, ns := range networks(t) {
		if before[name] == nil && f.ns == nil {
			f.ns = ns
		} else {
			ns.Close()
		}
	}
	for _, ns := range before {
		ns.Close()
	}
	if f.ns == nil {
		t.Fatal("the sandbox has no network of its own")
	}
	t.Cleanup(func() { f.Destroy(); f.ns.Close() })
	network, err := lambent.ParseNetwork(policy)
	must(t, err)
	code := t.TempDir()
	must(t, os.Chmod(code, 0o755))
	err = s.Assign(context.Background(), sandbox.Task{Code: code, MemoryMB: 128, TmpMB: 512, Network: network})
	must(t, err)
	return f
}

// networks are those of this process's children.
func networks(t testing.TB) map[string]*os.File {
	t.Helper()
	out := map[string]*os.File{}
	children, err := filepath.Glob("/proc/self/task/*/children")
	must(t, err)
	for _, file := range children {
		b, _ := os.ReadFile(file) // a thread may have ended
		for pid := range strings.FieldsSeq(string(b)) {
			f, err := os.Open("/proc/" + pid + "/ns/net")
			if err != nil {
				continue
			}
			var st unix.Stat_t
			must(t, unix.Fstat(int(f.Fd()), &st))
			name := fmt.Sprint(st.Ino)
			if out[name] != nil {
				out[name].Close()
			}
			out[name] = f
		}
	}
	return out
}

// ask opens a socket at the port from which the code asks.
func (f *function) socket(t testing.TB) net.PacketConn {
	t.Helper()
	return inside(t, f.ns, func() net.PacketConn {
		c, err := net.ListenPacket("udp4", ":5353")
		must(t, err)
		return c
	})
}

var nameServer = &net.UDPAddr{IP: net.IPv4(169, 254, 100, 1), Port: 53}

func query(t testing.TB, id uint16, name string) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	must(t, err)
	return b
}

var errSilent = errors.New("no answer")

// lookup asks once, and returns the code of the answer with its addresses.
func (f *function) lookup(t testing.TB, name string) (dnsmessage.RCode, []string, error) {
	t.Helper()
	c := f.socket(t)
	defer c.Close()
	_, err := c.WriteTo(query(t, 7, name), nameServer)
	must(t, err)
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	b := make([]byte, 4096)
	n, _, err := c.ReadFrom(b)
	if err != nil {
		return 0, nil, errSilent
	}
	var m dnsmessage.Message
	must(t, m.Unpack(b[:n]))
	if m.ID != 7 {
		t.Errorf("the answer to question %d", m.ID)
	}
	var found []string
	for _, a := range m.Answers {
		if r, ok := a.Body.(*dnsmessage.AResource); ok {
			found = append(found, netip.AddrFrom4(r.A).String())
		}
	}
	slices.Sort(found)
	return m.RCode, found, nil
}

func (f *function) reaches(t testing.TB, address string) bool {
	t.Helper()
	return inside(t, f.ns, func() bool {
		c, err := net.DialTimeout("tcp4", address, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}
