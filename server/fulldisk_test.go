package server_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lambent"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

// smallDisk mounts a disk of so many megabytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := filepath.Join(servertest.PublicDir(t), "data")
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size+",mode=0711", "tmpfs", dir).CombinedOutput(); err != nil {
		servertest.Missing(t, "a small disk cannot be mounted: that takes root on Linux: "+string(out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

// free is how many bytes of a disk are.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// fill writes a file until so many bytes are free, and returns what removes it.
func fill(t *testing.T, dir string, left int64) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.Write(make([]byte, free(t, dir)-left))
	if err != nil && !(left == 0 && errors.Is(err, syscall.ENOSPC)) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// On a disk that fills up nothing is acknowledged that is not kept: deploys are
// refused with the cause while the function goes on serving, and then, when not
// even the ledger has room, its answers are withheld. With room again everything
// goes on, and the ledger has one record for each answer.
func TestFullDisk(t *testing.T) {
	s := servertest.Start(t, func(dir string) func(*server.Config) {
		return func(c *server.Config) { c.Data = dir }
	}(smallDisk(t, "64m")))
	ctx := t.Context()
	s.Python(t, "f", hello)
	s.Compiled(t) // it leaves no more room behind
	answered := 0
	call := func() (string, error) {
		var out bytes.Buffer
		o, err := s.Client.Invoke(ctx, client.InvokeRequest{Name: "f"}, &out)
		if err == nil {
			answered++
			if o.Fault != "" {
				t.Errorf("the call ends with %+v", o)
			}
		}
		return out.String(), err
	}
	if out, err := call(); out != `"hello"` || err != nil {
		t.Fatalf("%s, %v", out, err)
	}

	room := fill(t, s.Data, 4<<20)
	next := servertest.Files{"app.py": "def handler(event, context):\n    return 'next'\n"}
	_, err := s.Deploy(ctx, t, "f", next, client.DeployRequest{})
	refused(t, err, "the disk of data directory "+s.Data, "df -h "+s.Data)
	big := make([]byte, 8<<20)
	for i := range big {
		big[i] = byte(i * i >> 8 * i) // does not compress
	}
	_, err = s.Deploy(ctx, t, "f", servertest.Files{"app.py": hello, "big": string(big)}, client.DeployRequest{})
	refused(t, err, "no space is left on the disk of the server's code "+s.Data+"/code: nothing was stored", "df -h "+s.Data+"/code")
	if out, err := call(); out != `"hello"` || err != nil {
		t.Errorf("after the refusal: %s, %v", out, err)
	}
	room()

	room = fill(t, s.Data, 0)
	for tries := 0; ; tries++ { // what is left of the ledger's last block takes some records
		_, err := call()
		if err != nil {
			refused(t, err, "no space is left on the disk of the ledger "+s.Data+"/ledger", "df -h "+s.Data+"/ledger")
			break
		}
		if tries > 100 {
			t.Fatal("calls are answered on a full disk")
		}
	}
	for tries := 0; ; tries++ { // of a URL's call the record is shorter, and may yet have room
		a := s.Get(t, "/fn/f/")
		if a.StatusCode == http.StatusInsufficientStorage && !strings.Contains(a.Body, "hello") {
			break
		}
		if answered++; a.StatusCode != http.StatusOK || tries > 100 {
			t.Fatalf("the function's URL answers %d %s", a.StatusCode, a.Body)
		}
	}
	if a := s.Get(t, "/healthz"); a.StatusCode != http.StatusOK {
		t.Errorf("healthz: %d", a.StatusCode)
	}
	room()

	if out, err := call(); out != `"hello"` || err != nil {
		t.Errorf("with room again: %s, %v", out, err)
	}
	if _, err := s.Deploy(ctx, t, "f", next, client.DeployRequest{}); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if out, err := call(); out != `"next"` || err != nil {
		t.Errorf("with room again: %s, %v", out, err)
	}
	list, err := s.Client.Invocations(ctx, "f", client.Period{}, 1000)
	if err != nil || len(list.Invocations) != answered {
		t.Errorf("the ledger has %d records for %d answers, %v", len(list.Invocations), answered, err)
	}
}

// refused checks that an error is a lack of space, in one line that names the
// cause, with the command that shows it.
func refused(t *testing.T, err error, cause, hint string) {
	t.Helper()
	e, ok := errors.AsType[*lambent.Error](err)
	if !ok || e.Kind != lambent.NoSpace || !strings.Contains(e.Message, cause) || strings.Contains(e.Message, "\n") || e.Hint != hint {
		t.Errorf("the refusal is %+v, want %q and %q", err, cause, hint)
	}
}
