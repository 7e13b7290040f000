//go:build linux && (amd64 || arm64)

package jail_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cgroup"
	"lambent/sandbox"
	"lambent/sandbox/fake"
	"lambent/sandbox/jail"
	"lambent/sandbox/namespace"
	"lambent/sandbox/sandboxtest"
)

func codeDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// open returns a driver whose jail is in this process; only the socket is between
// them. served gets how the jail ended.
func open(t *testing.T, inner func() (sandbox.Driver, error)) (*jail.Driver, <-chan error) {
	t.Helper()
	ours, theirs, err := jail.Pair()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- jail.Serve(theirs, jail.Options{Limits: lambent.DefaultLimits()}, inner) }()
	d, err := jail.Open(ours)
	if err != nil {
		t.Fatal(err)
	}
	return d, served
}

func real(t *testing.T) func() (sandbox.Driver, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	dir := t.TempDir()
	return func() (sandbox.Driver, error) { return namespace.New(namespace.Options{Dir: dir}) }
}

func TestConformance(t *testing.T) {
	inner := real(t)
	sandboxtest.Run(t, codeDir, func(t *testing.T) sandbox.Driver {
		d, _ := open(t, inner)
		return d
	})
}

func TestEscape(t *testing.T) {
	inner := real(t)
	sandboxtest.Escape(t, codeDir, func(t *testing.T) sandbox.Driver {
		d, _ := open(t, inner)
		return d
	})
}

// The jail's driver says why it cannot work here, in its own words.
func TestTheJailsErrorArrives(t *testing.T) {
	ours, theirs, err := jail.Pair()
	if err != nil {
		t.Fatal(err)
	}
	failed := lambent.Errorf(lambent.Unsupported, "namespace.New", "no such kernel").WithHint("lambent doctor")
	go jail.Serve(theirs, jail.Options{}, func() (sandbox.Driver, error) { return nil, failed })
	_, err = jail.Open(ours)
	e, ok := err.(*lambent.Error)
	if !ok || e.Kind != lambent.Unsupported || e.Message != "no such kernel" || e.Hint != "lambent doctor" {
		t.Errorf("got %#v", err)
	}
}

// A jail of another program is not spoken to, though nothing has failed in it.
func TestVersions(t *testing.T) {
	for message, want := range map[string]lambent.Kind{
		`{"Version":5,"Isolation":"i","Meters":1,"Inside":{}}`: lambent.Unsupported,
		`{"Isolation":"i"}`:           lambent.Unsupported,
		`{"Version":6,"Isolated":""}`: lambent.Invalid,
	} {
		ours, theirs, err := jail.Pair()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := theirs.WriteString(message); err != nil {
			t.Fatal(err)
		}
		if _, err := jail.Open(ours); !lambent.Is(err, want) {
			t.Errorf("%s: %v", message, err)
		}
		if n, err := theirs.Read(make([]byte, 1)); n > 0 || err != io.EOF {
			t.Errorf("%s: the connection is not closed: %v", message, err)
		}
		theirs.Close()
	}
}

// Either side's end is the other's: sandboxes end with the server, and calls fail
// and boxes are done when the jail is gone.
func TestEitherEndEndsTheOther(t *testing.T) {
	d, served := open(t, real(t))
	sb, err := d.Park(t.Context(), lambent.Runtime{Name: "provided"})
	if err != nil {
		t.Fatal(err)
	}
	defer sb.Output().Close()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Errorf("the jail ended with %v", err)
	}
	select {
	case <-sb.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the sandbox does not end")
	}
	if _, err := d.Park(t.Context(), lambent.Runtime{Name: "provided"}); !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("Park without a jail: %v", err)
	}
	if err := sb.Destroy(); err != nil {
		t.Errorf("Destroy without a jail: %v", err)
	}
}

// raw speaks to a jail as a server would that somebody else has taken over.
func raw(t testing.TB, d sandbox.Driver) (*net.UnixConn, <-chan error) {
	t.Helper()
	ours, theirs, err := jail.Pair()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- jail.Serve(theirs, jail.Options{Limits: lambent.DefaultLimits()}, func() (sandbox.Driver, error) { return d, nil })
	}()
	c, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1000)); err != nil { // hello
		t.Fatal(err)
	}
	return c.(*net.UnixConn), served
}

func TestTheJailTrustsNothing(t *testing.T) {
	for name, message := range map[string]string{
		"no JSON":        "hello",
		"unknown field":  `{"Number":1,"Op":"park","Runtime":{"name":"r"},"Root":"/"}`,
		"two at once":    `{"Number":1,"Op":"thaw","Sandbox":1} {"Number":2}`,
		"another type":   `{"Number":"1"}`,
		"too large":      `{"Number":1,"Op":"assign","Sandbox":1,"Task":{"Code":"` + strings.Repeat("x", 70_000) + `"}}`,
		"no address":     `{"Number":1,"Op":"open","Sandbox":1,"Name":"a","LeadsTo":["a"]}`,
		"no object":      `[]`,
		"negative":       `{"Number":-1}`,
		"nothing at all": ` `,
	} {
		c, served := raw(t, &fake.Driver{Silent: true})
		if _, err := c.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-served: // the connection is over
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the jail goes on", name)
		}
		c.Close()
	}
	c, served := raw(t, &fake.Driver{Silent: true})
	for name, message := range map[string]string{
		"unknown sandbox": `{"Number":1,"Op":"assign","Sandbox":7,"Task":{"Code":"/","MemoryMB":128,"TmpMB":512}}`,
		"memory":          `{"Number":1,"Op":"assign","Sandbox":7,"Task":{"Code":"/","MemoryMB":99999,"TmpMB":512}}`,
		"disk":            `{"Number":1,"Op":"assign","Sandbox":7,"Task":{"Code":"/","MemoryMB":128,"TmpMB":-1}}`,
		"port":            `{"Number":1,"Op":"dial","Sandbox":7,"Port":70000}`,
		"patience":        `{"Number":1,"Op":"dial","Sandbox":7,"Port":80,"Patience":1000000001}`,
		"no patience":     `{"Number":1,"Op":"dial","Sandbox":7,"Port":80,"Patience":-1}`,
		"zero byte":       `{"Number":1,"Op":"assign","Sandbox":7,"Task":{"Code":"/","MemoryMB":128,"TmpMB":512,"Start":{"Argv":["a\u0000b"]}}}`,
		"variable":        `{"Number":1,"Op":"park","Runtime":{"name":"r","env":{"A=B":"c"}}}`,
		"no name":         `{"Number":1,"Op":"assign","Sandbox":7,"Task":{"Code":"/","MemoryMB":128,"TmpMB":512,"Start":{"Argv":["a"],"Env":["A=B","=C"]}}}`,
		"no value":        `{"Number":1,"Op":"assign","Sandbox":7,"Task":{"Code":"/","MemoryMB":128,"TmpMB":512,"Start":{"Argv":["a"],"Env":["A"]}}}`,
		"no program":      `{"Number":1,"Op":"assign","Sandbox":7,"Task":{"Code":"/","MemoryMB":128,"TmpMB":512,"Start":{"Env":["A=B"]}}}`,
		"nothing named":   `{"Number":1,"Op":"open","Sandbox":7,"LeadsTo":["10.1.2.3"]}`,
		"leads nowhere":   `{"Number":1,"Op":"open","Sandbox":7,"Name":"a.example"}`,
		"IPv6":            `{"Number":1,"Op":"open","Sandbox":7,"Name":"a.example","LeadsTo":["10.1.2.3","::1"]}`,
		"long name":       `{"Number":1,"Op":"open","Sandbox":7,"Name":"` + strings.Repeat("a", 254) + `","LeadsTo":["10.1.2.3"]}`,
		"zero in a name":  `{"Number":1,"Op":"open","Sandbox":7,"Name":"a\u0000","LeadsTo":["10.1.2.3"]}`,
		"no part":         `{"Number":1,"Op":"share","Sandbox":7}`,
		"more than all":   `{"Number":1,"Op":"share","Sandbox":7,"Part":1.01}`,
		"less than none":  `{"Number":1,"Op":"share","Sandbox":7,"Part":-0.5}`,
		"operation":       `{"Number":1,"Op":"rule","Sandbox":7}`,
	} {
		if _, err := c.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		n, err := c.Read(b)
		var r struct{ Failed *struct{ Kind string } }
		if err != nil || json.Unmarshal(b[:n], &r) != nil || r.Failed == nil || r.Failed.Kind != "invalid" && r.Failed.Kind != "unavailable" {
			t.Errorf("%s: %s, %v", name, b[:n], err)
		}
	}
	c.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Descriptors that nobody asked for are closed.
func TestDescriptorsSentToTheJail(t *testing.T) {
	c, served := raw(t, &fake.Driver{Silent: true})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, _, err := c.WriteMsgUnix([]byte(`{"Number":1,"Op":"thaw","Sandbox":1}`), syscall.UnixRights(int(w.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := c.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_ = r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(r); err != nil {
		t.Errorf("the jail keeps it: %v", err)
	}
	c.Close()
	<-served
}

// The jail opens what a name leads to as far as its own driver finds right,
// whatever the server says of it.
func TestTheJailJudgesNames(t *testing.T) {
	d, err := real(t)()
	if err != nil {
		t.Fatal(err)
	}
	c, served := raw(t, d)
	number := 0
	say := func(op string, fields string) string {
		t.Helper()
		number++
		if _, err := fmt.Fprintf(c, `{"Number":%d,"Op":%q%s}`, number, op, fields); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 10_000); ; {
			n, err := c.Read(b)
			var r struct {
				Number int
				Failed *struct{ Kind string }
			}
			switch {
			case err != nil || json.Unmarshal(b[:n], &r) != nil:
				t.Fatalf("%s%s: %s, %v", op, fields, b[:n], err)
			case r.Number == 0: // a sandbox has ended
			case r.Failed != nil:
				return r.Failed.Kind
			default:
				return ""
			}
		}
	}
	park := func() int {
		if failed := say("park", `,"Runtime":{"name":"r"}`); failed != "" {
			t.Fatal(failed)
		}
		return number
	}
	assign := func(sandbox int, network string) {
		task := fmt.Sprintf(`,"Sandbox":%d,"Task":{"Code":%q,"MemoryMB":128,"TmpMB":512,"Network":%s}`, sandbox, codeDir(t), network)
		if failed := say("assign", task); failed != "" {
			t.Fatal(failed)
		}
	}
	open := func(sandbox int, name, addresses, want string) {
		t.Helper()
		if got := say("open", fmt.Sprintf(`,"Sandbox":%d,"Name":%q,"LeadsTo":[%s]`, sandbox, name, addresses)); got != want {
			t.Errorf("sandbox %d, %s to %s: %q, want %q", sandbox, name, addresses, got, want)
		}
	}
	one, other, free := park(), park(), park()
	open(one, "db.example", `"10.1.2.3"`, "forbidden") // it has no policy yet
	assign(one, `["db.example:5432"]`)
	assign(other, `["10.0.0.0/8","api.example"]`)
	assign(free, `null`)
	open(one, "db.example", `"10.1.2.3"`, "")
	open(one, "db.example", `"10.1.2.3","10.1.2.3","10.1.2.4"`, "")
	open(one, "DB.example", `"10.1.2.5"`, "forbidden")
	open(one, "api.example", `"10.1.2.5"`, "forbidden")
	open(other, "db.example", `"10.1.2.5"`, "forbidden")
	open(free, "db.example", `"10.1.2.5"`, "forbidden") // whose network is no policy
	for _, never := range []string{"127.0.0.1", "169.254.169.254", "169.254.100.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.19.0.1",
		"100.100.100.200", "192.0.0.192", "168.63.129.16"} {
		open(one, "db.example", `"`+never+`"`, "forbidden")
	}
	open(one, "db.example", `"127.0.0.1","10.1.2.6"`, "") // the one, and not the other
	for _, none := range []string{`"::1"`, `"::ffff:10.1.2.3"`, `"fe80::1%eth0"`, `""`, `"10.1.2.3","2001:db8::1"`, ``} {
		open(one, "db.example", none, "invalid")
	}
	var many []string
	for i := range 1100 {
		many = append(many, fmt.Sprintf(`"10.9.%d.%d"`, i/250, i%250))
	}
	open(one, "db.example", strings.Join(many, ","), "too_large")
	if failed := say("destroy", fmt.Sprintf(`,"Sandbox":%d`, one)); failed != "" {
		t.Error(failed)
	}
	open(one, "db.example", `"10.1.2.7"`, "unavailable")
	next := park() // in the same slot
	open(next, "db.example", `"10.1.2.7"`, "forbidden")
	c.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// An able driver's boxes have what the jail hands over.
type able struct {
	fake.Driver
	t testing.TB

	mu    sync.Mutex // guards boxes
	boxes []sandbox.Sandbox
}

func (d *able) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.boxes {
		b.Destroy()
	}
	return nil
}

func (d *able) Park(ctx context.Context, rt lambent.Runtime) (sandbox.Sandbox, error) {
	rt.Boot = nil // the fake's agent is no descriptor
	s, err := d.Driver.Park(ctx, rt)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for range 5 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	m, err := cgroup.NewMeter(2, files[:3])
	b := &ableBox{Box: s.(*fake.Box), t: d.t, meter: m, files: files}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.boxes = append(d.boxes, b)
	return b, err
}

type ableBox struct {
	*fake.Box
	t     testing.TB
	meter *cgroup.Meter
	files []*os.File
}

func (b *ableBox) Meter() *cgroup.Meter                     { return b.meter }
func (b *ableBox) Names() (datagrams, streams syscall.Conn) { return b.files[3], b.files[4] }
func (b *ableBox) HandOver() *os.File                       { return nil }

func (b *ableBox) Open(name string, addresses []netip.Addr) error {
	for _, a := range addresses {
		if !a.Is4() {
			b.t.Errorf("open %v", a)
		}
	}
	if name == "" || len(name) > 253 || strings.ContainsRune(name, 0) || len(addresses) == 0 {
		b.t.Errorf("open %q to %v", name, addresses)
	}
	return nil
}

func (b *ableBox) Share(part float64) error {
	if !(part > 0 && part <= 1) {
		b.t.Errorf("a part of %v", part)
	}
	return b.Box.Share(part)
}

func (b *ableBox) Dial(context.Context, int, time.Duration) (net.Conn, error) {
	return nil, lambent.Errorf(lambent.Unsupported, "test", "not here")
}

func (b *ableBox) Destroy() error {
	for _, f := range b.files {
		f.Close()
	}
	return b.Box.Destroy()
}

// FuzzJail sends the jail, which has a sandbox, what nobody should: it does not
// panic, does not hang, and no sandbox is left.
func FuzzJail(f *testing.F) {
	f.Add([]byte(`{"Number":7,"Op":"park","Runtime":{"name":"r","boot":["a"]}}`), []byte(`{"Number":2,"Op":"destroy","Sandbox":7}`))
	f.Add([]byte(`{"Number":2,"Op":"listen","Port":9001,"Sandbox":1}`), []byte(`{"Number":2,"Op":"freeze","Sandbox":1}`))
	f.Add([]byte(`{"Number":2,"Op":"assign","Sandbox":1,"Task":{"Code":"/","MemoryMB":128,"TmpMB":512,"Start":{"Argv":["x"],"Env":["A=1"]}}}`), []byte(`{`))
	f.Add([]byte(`{"Number":2,"Op":"open","Sandbox":1,"Name":"a.example","LeadsTo":["10.1.2.3"]}`), []byte(`{"Number":3,"Op":"destroy","Sandbox":1}`))
	f.Add([]byte(`{"Number":2,"Op":"open","Sandbox":1,"Name":"","LeadsTo":["::1"]}`), []byte(`{"Number":3,"Op":"open","Sandbox":1,"Name":"a","LeadsTo":[1]}`))
	f.Add([]byte(`{"Number":2,"Op":"share","Sandbox":1,"Part":0.01}`), []byte(`{"Number":3,"Op":"share","Sandbox":1,"Part":1e300}`))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		d := &able{t: t}
		c, served := raw(t, d)
		if _, err := c.Write([]byte(`{"Number":1,"Op":"park","Runtime":{"name":"r"}}`)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		if n, err := c.Read(b); err != nil || strings.Contains(string(b[:n]), "Failed") {
			t.Fatalf("park: %s, %v", b[:n], err)
		}
		for _, m := range [][]byte{one, two} {
			_, _ = c.Write(m) // the jail may have hung up
		}
		c.Close()
		select {
		case <-served:
		case <-time.After(10 * time.Second):
			t.Fatal("the jail does not end")
		}
		if n := d.Alive(); n != 0 {
			t.Errorf("%d sandboxes are left", n)
		}
	})
}
