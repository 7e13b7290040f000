//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/sandbox"
	"lambent/sandbox/namespace"
)

// run has a program run in a sandbox, with the files as its code.
func run(t *testing.T, d *namespace.Driver, memoryMB int, files map[string]string, argv ...string) sandbox.Sandbox {
	t.Helper()
	code := codeDir(t)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(code, name), []byte(content), 0o555); err != nil {
			t.Fatal(err)
		}
	}
	b, err := d.Park(t.Context(), lambent.Runtime{Name: "provided"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Output().Close() })
	task := sandbox.Task{Code: code, MemoryMB: memoryMB, TmpMB: 512, Start: sandbox.Start{Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}}}
	if err := b.Assign(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	return b
}

// inside returns the processes of a driver's sandboxes, but for the inits: those of one
// beside each other.
func inside(t *testing.T) (all [][]int) {
	t.Helper()
	for _, init := range childrenOf(t, os.Getpid()) {
		var pids []int
		for next := childrenOf(t, init); len(next) > 0; next = next[1:] {
			pids = append(pids, next[0])
			next = append(next, childrenOf(t, next[0])...)
		}
		all = append(all, pids)
	}
	return all
}

func cpuOf(t *testing.T, b sandbox.Sandbox) int64 {
	t.Helper()
	us, _, err := b.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return us
}

// eventually waits for what is bound to come.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !yes(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within a minute: " + what)
		}
	}
}

// What computes in a sandbox does not while that is frozen, and goes on afterwards: the
// first process, and its children.
func TestFrozenComputesNothing(t *testing.T) {
	d := open(t, "")
	defer d.Close()
	b := run(t, d, 1769, nil, "/bin/sh", "-c", "for i in 1 2 3; do while :; do :; done & done; while :; do :; done")
	eventually(t, "four compute", func() bool { return len(inside(t)[0]) == 4 && cpuOf(t, b) > 100_000 })
	for range 5 {
		if err := b.(sandbox.Freezer).Freeze(); err != nil {
			t.Fatal(err)
		}
		var stood int64
		eventually(t, "10 ms in which nothing runs", func() bool { // in version 2 it is called frozen just before
			stood = cpuOf(t, b)
			time.Sleep(10 * time.Millisecond)
			return cpuOf(t, b) == stood
		})
		time.Sleep(200 * time.Millisecond)
		if now := cpuOf(t, b); now != stood {
			t.Errorf("frozen, it has computed %d us", now-stood)
		}
		if err := b.(sandbox.Freezer).Thaw(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it computes on", func() bool { return cpuOf(t, b) > stood+20_000 })
	}
}

// Code has a whole processor's share while it starts, whatever its memory, and from then
// on the share that its memory comes with.
func TestShareByMemory(t *testing.T) {
	d := open(t, "")
	defer d.Close()
	small := run(t, d, 442, nil, "/bin/sh", "-c", "while :; do :; done")
	large := run(t, d, 1769, nil, "/bin/sh", "-c", "while :; do :; done")
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	for k := 0; one.Count() == 0; k++ {
		if may.IsSet(k) {
			one.Set(k) // the same for both: across processors shares are what the balancer makes of them
		}
	}
	eventually(t, "both compute", func() bool { return cpuOf(t, small) > 10_000 && cpuOf(t, large) > 10_000 })
	for _, pids := range inside(t) {
		for _, pid := range pids {
			if err := unix.SchedSetaffinity(pid, &one); err != nil {
				t.Fatal(err)
			}
		}
	}
	// part is what the small one has while both compute for so long.
	part := func(us int64) float64 {
		s, l := cpuOf(t, small), cpuOf(t, large)
		eventually(t, "they compute", func() bool { return cpuOf(t, small)-s+cpuOf(t, large)-l > us })
		s, l = cpuOf(t, small)-s, cpuOf(t, large)-l
		return float64(s) / float64(s+l)
	}
	settled := func() {
		for _, b := range []sandbox.Sandbox{small, large} {
			if err := b.(sandbox.Settler).Settle(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name      string
		first     func()
		low, high float64
	}{{"while they start", func() {}, 0.45, 0.55}, {"afterwards", settled, 0.17, 0.23}} {
		c.first()
		part(200_000) // what one was owed is evened out
		if got := part(1_500_000); got < c.low || got > c.high {
			t.Errorf("%s 442 MB have %.3f of what they and 1,769 MB compute, want %.2f to %.2f", c.name, got, c.low, c.high)
		}
	}
}

// Each sandbox has users of its own, who cannot read another's files, even where they
// reach them.
func TestUsersOfTheirOwn(t *testing.T) {
	d := open(t, "")
	defer d.Close()
	for range 2 {
		b := run(t, d, 128, nil, "/bin/sh", "-c", "umask 077; echo secret >/tmp/mine; echo up; exec sleep 1000")
		if _, err := io.ReadFull(b.Output(), make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
	}
	type box struct {
		uid, gid uint32
		tmp      *os.File
	}
	var boxes []box
	ranges := map[string]map[uint32]bool{"uid_map": {}, "gid_map": {}}
	for _, pids := range inside(t) {
		if len(pids) != 1 {
			t.Fatalf("processes %v", pids)
		}
		proc := fmt.Sprintf("/proc/%d/", pids[0])
		for file, seen := range ranges {
			b, err := os.ReadFile(proc + file)
			var in, out, n uint32
			if _, errScan := fmt.Sscan(string(b), &in, &out, &n); err != nil || errScan != nil || in != 0 || n != 1<<16 || out%n != 0 || out < 1<<28 {
				t.Errorf("%s is %q, %v: it is to be 65,536 from 0 on, for as many of high ones", file, b, err)
			}
			if seen[out] {
				t.Errorf("both have %d and those that follow it in their %s", out, file)
			}
			seen[out] = true
		}
		fi, err := os.Stat(proc + "root/tmp/mine")
		if err != nil {
			t.Fatal(err)
		}
		tmp, err := os.Open(proc + "root/tmp")
		if err != nil {
			t.Fatal(err)
		}
		defer tmp.Close()
		owner := fi.Sys().(*syscall.Stat_t)
		boxes = append(boxes, box{owner.Uid, owner.Gid, tmp})
	}
	if len(boxes) != 2 {
		t.Fatalf("%d sandboxes", len(boxes))
	}
	for i, who := range boxes {
		for j, whose := range boxes {
			cmd := exec.Command("/bin/cat", "/proc/self/fd/3/mine")
			cmd.ExtraFiles = []*os.File{whose.tmp}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: who.uid, Gid: who.gid}}
			out, err := cmd.CombinedOutput()
			if reads := err == nil && string(out) == "secret\n"; reads != (i == j) {
				t.Errorf("that %d:%d reads the file of %d:%d is %v: %s, %v", who.uid, who.gid, whose.uid, whose.gid, reads, out, err)
			}
		}
	}
}

// bundles are where systems have the certificates that they trust, in one file.
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"}

// Code trusts whom the machine does: the tests have a bundle of their own in its place.
func TestCertificatesOfTheMachine(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		missing(t, "needs python3")
	}
	files := map[string]string{"client.py": tlsClient}
	var trusted []byte
	for _, name := range []string{"known", "strange"} {
		authority, certificate, key := certify(t)
		files[name+".pem"] = string(certificate) + string(key)
		if name == "known" {
			trusted = authority
		}
	}
	var bundle string
	for _, b := range bundles {
		if fi, err := os.Lstat(b); err == nil && fi.Mode().IsRegular() {
			bundle = b
		}
	}
	if bundle == "" {
		missing(t, "needs ca-certificates")
	}
	ours := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(ours, trusted, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(ours, bundle, "", unix.MS_BIND, ""); err != nil { // in the tests' own namespace: see TestMain
		t.Fatal(err)
	}
	defer unix.Unmount(bundle, unix.MNT_DETACH)
	d := open(t, "")
	defer d.Close()
	b := run(t, d, 256, files, "/usr/bin/python3", "client.py", bundle)
	out, err := io.ReadAll(b.Output())
	if err != nil || string(out) != "known is verified\nstrange is refused\n" {
		t.Errorf("%v, it says:\n%s", err, out)
	}
}

const tlsClient = `import socket, ssl, sys, threading

for name in "known", "strange":
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain("/var/task/" + name + ".pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        try:
            server.wrap_socket(listener.accept()[0], server_side=True).recv(1)
        except (ssl.SSLError, OSError):
            pass

    threading.Thread(target=serve, daemon=True).start()
    client = ssl.create_default_context(cafile=sys.argv[1])
    try:
        client.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="lambent.test").close()
        print(name, "is verified", flush=True)
    except ssl.SSLCertVerificationError:
        print(name, "is refused", flush=True)
`

// certify makes an authority and a certificate of its for lambent.test, in PEM.
func certify(t *testing.T) (authority, certificate, key []byte) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = own
		}
		template.SerialNumber = big.NewInt(1)
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made, own, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca, caKey, authority := sign(root, root, nil)
	_, own, certificate := sign(&x509.Certificate{DNSNames: []string{"lambent.test"}, KeyUsage: x509.KeyUsageDigitalSignature}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return authority, certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Code has the machine's time zone, and those that it names.
func TestTimeZones(t *testing.T) {
	local, err := os.ReadFile("/etc/localtime")
	if err != nil {
		missing(t, "needs a time zone: /etc/localtime")
	}
	if _, err := os.Stat("/usr/share/zoneinfo/Asia/Kathmandu"); err != nil {
		missing(t, "needs tzdata")
	}
	d := open(t, "")
	defer d.Close()
	b := run(t, d, 128, nil, "/bin/sh", "-c", "TZ=Asia/Kathmandu date -d @1700000000 +%H:%M; exec cat /etc/localtime")
	out, err := io.ReadAll(b.Output())
	if err != nil {
		t.Fatal(err)
	}
	there, zone, _ := strings.Cut(string(out), "\n")
	if there != "03:58" {
		t.Errorf("in Kathmandu it is %s, not 03:58", there)
	}
	if !bytes.Equal([]byte(zone), local) {
		t.Error("/etc/localtime is another than the machine's")
	}
}

// The end of a sandbox that has written to its disk is no news on the machine's console: what
// goes there may hold up a processor for as long as a serial line takes.
func TestEndIsNoNews(t *testing.T) {
	needRoot(t)
	kmsg, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		missing(t, "needs the kernel's messages: "+err.Error())
	}
	defer unix.Close(kmsg)
	if _, err := unix.Seek(kmsg, 0, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d, err := namespace.New(namespace.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b := run(t, d, 128, nil, "/bin/sh", "-c", "echo x >/tmp/x")
	var disks []string
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if name, _ := os.ReadFile(f); strings.HasPrefix(string(name), dir) {
			disks = append(disks, strings.Split(f, "/")[3])
		}
	}
	if len(disks) == 0 {
		t.Fatal("there is no disk")
	}
	<-b.Done()
	if err := b.Destroy(); err != nil {
		t.Fatal(err)
	}
	const notice = 5 // and what is below: warnings, errors, ...
	for record := make([]byte, 8192); ; {
		n, err := unix.Read(kmsg, record)
		if err == unix.EPIPE { // others have more to say than it keeps
			continue
		}
		if err != nil {
			break // that is all
		}
		var priority int
		_, _ = fmt.Sscanf(string(record[:n]), "%d,", &priority)
		for _, disk := range disks {
			if priority&7 < notice && strings.Contains(string(record[:n]), "("+disk+")") {
				t.Errorf("the kernel says: %s", record[:n])
			}
		}
	}
}
