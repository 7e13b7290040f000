//go:build linux && (amd64 || arm64)

package jail_test

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"lambent"
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
		"too large":      `{"Number":1,"Op":"start","Sandbox":1,"Argv":["` + strings.Repeat("x", 70_000) + `"]}`,
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
		"zero byte":       `{"Number":1,"Op":"start","Sandbox":7,"Argv":["a\u0000b"]}`,
		"variable":        `{"Number":1,"Op":"park","Runtime":{"name":"r","env":{"A=B":"c"}}}`,
		"no name":         `{"Number":1,"Op":"start","Sandbox":7,"Argv":["a"],"Env":["A=B","=C"]}`,
		"no value":        `{"Number":1,"Op":"start","Sandbox":7,"Argv":["a"],"Env":["A"]}`,
		"nothing to run":  `{"Number":1,"Op":"start","Sandbox":7}`,
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

// FuzzJail sends the jail what nobody should: it does not panic, does not hang,
// and no sandbox is left.
func FuzzJail(f *testing.F) {
	f.Add([]byte(`{"Number":1,"Op":"park","Runtime":{"name":"r","boot":["a"]}}`), []byte(`{"Number":2,"Op":"destroy","Sandbox":1}`))
	f.Add([]byte(`{"Number":1,"Op":"listen","Sandbox":1}`), []byte(`{"Number":1,"Op":"freeze","Sandbox":1}`))
	f.Add([]byte(`{"Number":1,"Op":"start","Sandbox":1,"Argv":["x"],"Env":["A=1"]}`), []byte(`{`))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		d := &fake.Driver{Silent: true}
		c, served := raw(t, d)
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
