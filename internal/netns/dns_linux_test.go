package netns_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"lambent"
	"lambent/internal/netns"
	"lambent/sandbox/names"
)

// A resolver is the host's: it knows some names, and counts what it is asked.
type resolver struct {
	conf  string // a resolv.conf that names it
	asked atomic.Int64
	names map[string]string // name -> addresses, or another name
	hold  chan struct{}     // if not nil, nothing is answered before it is closed
}

// newResolver listens at port 53 of the host's own loopback, as a caching
// resolver would.
func newResolver(t testing.TB, names map[string]string) *resolver {
	t.Helper()
	r := &resolver{conf: filepath.Join(t.TempDir(), "resolv.conf"), names: names}
	if err := os.WriteFile(r.conf, []byte("# the host's\nnameserver 127.0.0.53\noptions edns0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	up(t)
	udp, err := net.ListenPacket("udp4", "127.0.0.53:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	go func() {
		for b := make([]byte, 4096); ; {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			query := append([]byte(nil), b[:n]...)
			go func() { _, _ = udp.WriteTo(r.answer(query, false), from) }()
		}
	}()
	tcp := listen(t, nil, "127.0.0.53:53")
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			answer := r.answer(b[2:n], true)
			_, _ = c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
			c.Close()
		}
	}()
	return r
}

func (r *resolver) answer(query []byte, stream bool) []byte {
	r.asked.Add(1)
	if r.hold != nil {
		<-r.hold
	}
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil
	}
	m.Response, m.Additionals = true, nil
	q := m.Questions[0]
	for name, hops := strings.ToLower(q.Name.String()), 0; hops < 5; hops++ {
		found, ok := r.names[strings.TrimSuffix(name, ".")]
		if !ok {
			m.RCode = dnsmessage.RCodeNameError
			break
		}
		if strings.HasPrefix(found, "long ") && !stream {
			m.Truncated = true
			break
		}
		header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 1}
		if alias, ok := strings.CutPrefix(found, "-> "); ok {
			name = alias + "."
			// In front of what leads to it: the order is nobody's to rely on.
			m.Answers = append([]dnsmessage.Resource{{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(name)}}}, m.Answers...)
			continue
		}
		for a := range strings.FieldsSeq(strings.TrimPrefix(found, "long ")) {
			if q.Type == dnsmessage.TypeA {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: [4]byte(net.ParseIP(a).To4())}})
			}
		}
		break
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// lookup resolves a name inside, with what a function finds there.
func lookup(t testing.TB, n *netns.Net, name string) ([]string, error) {
	t.Helper()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return inside(t, n.File(), func() (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, "169.254.100.1:53")
		})
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return r.LookupHost(ctx, name+".")
}

// relay starts what answers functions by asking the resolver.
func (r *resolver) relay(t testing.TB) *names.Relay {
	t.Helper()
	relay, err := names.Open(names.Options{ResolvConf: r.conf, Logger: logTo(t.Output())})
	must(t, err)
	t.Cleanup(func() { must(t, relay.Close()) })
	return relay
}

// serve gives a network its policy, and has the names of that answered.
func serve(t testing.TB, relay *names.Relay, n *netns.Net, policy string) *names.Server {
	t.Helper()
	p := allow(t, n, policy)
	network, _ := lambent.ParseNetwork(policy)
	datagrams, streams := n.Names()
	s, err := relay.Serve(datagrams, streams, network, p.Open)
	must(t, err)
	return s
}

func allow(t testing.TB, n *netns.Net, policy string) *netns.Policy {
	t.Helper()
	network, err := lambent.ParseNetwork(policy)
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.Allow(network)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNames(t *testing.T) {
	r := newResolver(t, map[string]string{"db.example": "10.1.2.3", "www.example": "-> lb.example", "lb.example": "8.8.8.8 8.8.4.4",
		"big.example": "long " + strings.Repeat("8.8.8.8 ", 60)})
	n := mk(t, open(t, 0), 1)
	serve(t, r.relay(t), n, "default")
	for name, want := range map[string]string{"db.example": "10.1.2.3", "www.example": "8.8.8.8 8.8.4.4", "WWW.Example": "8.8.8.8 8.8.4.4"} {
		got, err := lookup(t, n, name)
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := lookup(t, n, "big.example"); len(got) != 60 || err != nil {
		t.Errorf("over TCP: %d addresses, %v", len(got), err)
	}
	if _, err := lookup(t, n, "absent.example"); err == nil || !err.(*net.DNSError).IsNotFound {
		t.Errorf("a name that is not: %v", err)
	}
}

// The resolver may change while functions run.
func TestResolverChanges(t *testing.T) {
	r := newResolver(t, map[string]string{"a.example": "8.8.8.8"})
	working, err := os.ReadFile(r.conf)
	must(t, err)
	must(t, os.WriteFile(r.conf, []byte("nameserver 127.0.0.99\n"), 0o644))
	must(t, os.Chtimes(r.conf, time.Time{}, time.Unix(1e9, 0)))
	n := mk(t, open(t, 0), 1)
	serve(t, r.relay(t), n, "default")
	if _, err := lookup(t, n, "a.example"); err == nil {
		t.Error("a resolver answers that is not there")
	}
	must(t, os.WriteFile(r.conf, working, 0o644))
	if _, err := lookup(t, n, "a.example"); err != nil {
		t.Errorf("the new resolver is not asked: %v", err)
	}
}

func TestNamesOfPolicies(t *testing.T) {
	r := newResolver(t, map[string]string{"db.example": "-> pg.example", "pg.example": "10.1.2.3", "other.example": "8.8.8.8",
		"all.example": "192.168.7.7 8.8.8.8", "evil.example": "169.254.169.254", "mixed.example": "127.0.0.1 10.1.2.3",
		"host.example": hostPrivate})
	newWorld(t)
	n := mk(t, open(t, 0), 0)
	serve(t, r.relay(t), n, "db.example:8080,all.example,evil.example,mixed.example:8081,host.example")

	want(t, n.File(), false, "10.1.2.3:8080", "192.168.7.7:8080") // nobody has asked
	if got, err := lookup(t, n, "DB.example"); err != nil || got[0] != "10.1.2.3" {
		t.Fatalf("db.example: %v, %v", got, err)
	}
	want(t, n.File(), true, "10.1.2.3:8080")
	want(t, n.File(), false, "10.1.2.3:8081", "8.8.8.8:8080")
	if _, err := lookup(t, n, "all.example"); err != nil {
		t.Fatal(err)
	}
	want(t, n.File(), true, "192.168.7.7:8080", "192.168.7.7:8081", "8.8.8.8:8080")

	before := r.asked.Load()
	for _, name := range []string{"other.example", "pg.example", "secret.of.mine.evil.example", "example"} {
		if got, err := lookup(t, n, name); err == nil {
			t.Errorf("%s, which no entry names: %v", name, got)
		}
	}
	if r.asked.Load() != before {
		t.Error("names that no entry names were passed on")
	}

	// Whoever answers for a name cannot make it open what is not for names.
	if got, err := lookup(t, n, "evil.example"); err == nil {
		t.Errorf("evil.example: %v", got)
	}
	want(t, n.File(), false, "169.254.169.254:8080")
	if _, err := lookup(t, n, "mixed.example"); err != nil {
		t.Error(err)
	}
	want(t, n.File(), true, "10.1.2.3:8081")
	if _, err := lookup(t, n, "host.example"); err != nil {
		t.Error(err)
	}
	want(t, n.File(), false, hostPrivate+":8080")
}

// Two sandboxes: what one's names open is the other's no more than before.
func TestNamesOpenForOne(t *testing.T) {
	r := newResolver(t, map[string]string{"db.example": "10.1.2.3"})
	newWorld(t)
	nets, relay := open(t, 0), r.relay(t)
	one, other := mk(t, nets, 0), mk(t, nets, 1)
	serve(t, relay, one, "db.example")
	serve(t, relay, other, "api.example")
	if _, err := lookup(t, one, "db.example"); err != nil {
		t.Fatal(err)
	}
	want(t, one.File(), true, "10.1.2.3:8080")
	want(t, other.File(), false, "10.1.2.3:8080")
	must(t, one.Close())
	want(t, other.File(), false, "10.1.2.3:8080")
}

// A sandbox that asks without end keeps nobody else waiting, and its queries do
// not pile up.
func TestQueriesAreLimited(t *testing.T) {
	r := newResolver(t, map[string]string{"a.example": "8.8.8.8"})
	r.hold = make(chan struct{})
	nets, relay := open(t, 0), r.relay(t)
	n := mk(t, nets, 0)
	serve(t, relay, n, "default")
	c, err := inside(t, n.File(), func() (net.Conn, error) { return net.Dial("udp4", "169.254.100.1:53") })
	must(t, err)
	defer c.Close()
	for i := range 2000 {
		if _, err := c.Write(query(t, uint16(i), "a.example.")); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for r.asked.Load() < 32 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	quiet := mk(t, nets, 1)
	serve(t, relay, quiet, "default")
	done := make(chan error)
	go func() {
		_, err := lookup(t, quiet, "a.example")
		done <- err
	}()
	for r.asked.Load() < 33 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if got := r.asked.Load(); got < 33 || got > 34 { // A and AAAA of the quiet one
		t.Errorf("%d queries are under way", got)
	}
	close(r.hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	// And the one that asked too much goes on where it was.
	b := make([]byte, 512)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for range 40 {
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBadQueries(t *testing.T) {
	r := newResolver(t, nil)
	n := mk(t, open(t, 0), 0)
	serve(t, r.relay(t), n, "default")
	c, err := inside(t, n.File(), func() (net.Conn, error) { return net.Dial("udp4", "169.254.100.1:53") })
	must(t, err)
	defer c.Close()
	edited := func(id uint16, edit func(q []byte) []byte) []byte { return edit(query(t, id, "a.example.")) }
	for _, silent := range [][]byte{{}, {1}, edited(9, func(q []byte) []byte { q[2] |= 0x80; return q })} {
		_, _ = c.Write(silent)
	}
	for i, bad := range []struct {
		code dnsmessage.RCode
		edit func(q []byte) []byte
	}{
		{dnsmessage.RCodeFormatError, func(q []byte) []byte { return q[:12] }},
		{dnsmessage.RCodeFormatError, func(q []byte) []byte { return q[:20] }},
		{dnsmessage.RCodeFormatError, func(q []byte) []byte { q[5] = 2; return q }},
		{dnsmessage.RCodeFormatError, func(q []byte) []byte { q[5] = 0; return q }},
		{dnsmessage.RCodeNotImplemented, func(q []byte) []byte { q[2] |= 5 << 3; return q }},
		{dnsmessage.RCodeNameError, func(q []byte) []byte { return q }},
	} {
		_, _ = c.Write(edited(uint16(i), bad.edit))
		b := make([]byte, 512)
		_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("query %d: %v", i, err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(b[:n]); err != nil || m.ID != uint16(i) || m.RCode != bad.code {
			t.Errorf("query %d: %v, %v; want %v", i, m.Header, err, bad.code)
		}
	}
}

func query(t testing.TB, id uint16, name string) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	must(t, err)
	return b
}
