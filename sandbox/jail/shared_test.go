//go:build linux && (amd64 || arm64)

package jail_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A taken-over server can change the flags of what it and the jail have open, and
// fill what the jail writes to: the jail waits for none of it.
func TestTheJailWaitsForNoFlags(t *testing.T) {
	d, err := real(t)()
	if err != nil {
		t.Fatal(err)
	}
	c, served := raw(t, d)
	files := parkRaw(t, c, `{"name":"r","boot":["/bin/sh","-c","sleep 1000"]}`)
	if len(files) != 7 {
		t.Fatalf("%d descriptors", len(files))
	}
	agent := int(files[6].Fd())
	for block := make([]byte, 4096); err == nil; { // until it is full
		_, err = unix.SendmsgN(agent, block, nil, nil, unix.MSG_DONTWAIT)
	}
	for _, f := range files {
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintf(c, `{"Number":2,"Op":"assign","Sandbox":1,"Task":{"Code":%q,"MemoryMB":128,"TmpMB":512,"Start":{"Word":"hello"}}}`, codeDir(t))
	if kind := failed(t, c, 2); kind != "internal" {
		t.Errorf("assign: %q", kind)
	}
	c.Close()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the jail does not end")
	}
}

// Nothing that the jail itself reads is open in both: who reads it holds up others.
func TestMetersAreNotShared(t *testing.T) {
	d := &able{t: t}
	c, served := raw(t, d)
	for _, f := range parkRaw(t, c, `{"name":"r"}`)[1:4] {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, unix.O_APPEND); err != nil {
			t.Fatal(err)
		}
	}
	d.mu.Lock()
	for i, f := range d.boxes[0].(*ableBox).files[:3] {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_APPEND != 0 {
			t.Errorf("descriptor %d has flags %#x, %v", i, flags, err)
		}
	}
	d.mu.Unlock()
	c.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// parkRaw has sandbox 1 made, and returns the descriptors that come.
func parkRaw(t *testing.T, c *net.UnixConn, runtime string) []*os.File {
	t.Helper()
	fmt.Fprintf(c, `{"Number":1,"Op":"park","Runtime":%s}`, runtime)
	b, oob := make([]byte, 10_000), make([]byte, 1000)
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil || strings.Contains(string(b[:n]), "Failed") {
		t.Fatalf("park: %s, %v", b[:n], err)
	}
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "of the jail")
			t.Cleanup(func() { f.Close() })
			files = append(files, f)
		}
	}
	return files
}

// failed waits for the answer to a request, and returns how it failed.
func failed(t *testing.T, c *net.UnixConn, number int) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for b := make([]byte, 10_000); ; {
		n, err := c.Read(b)
		var r struct {
			Number int
			Failed *struct{ Kind string }
		}
		switch {
		case err != nil || json.Unmarshal(b[:n], &r) != nil:
			t.Errorf("request %d: %s, %v", number, b[:n], err)
			return ""
		case r.Number == number && r.Failed != nil:
			return r.Failed.Kind
		case r.Number == number:
			return ""
		}
	}
}
