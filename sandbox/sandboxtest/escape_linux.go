package sandboxtest

import (
	"bufio"
	"embed"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/sandbox"
)

//go:embed testdata
var programs embed.FS

// Escape tries to get out of the sandboxes of a driver that isolates, and to find
// in them what belongs to others: see probes. The programs that try are one each
// in Python, Node and Go, which is compiled for it, static.
//
// It is no test of what nobody would get anyway: what must not be reached is first
// reached by this process, and addresses by a sandbox whose policy opens them, too.
// They are all that this machine has.
func Escape(t *testing.T, codeDir func(*testing.T) string, open func(*testing.T) sandbox.Driver) {
	d := sandbox.Guard(open(t))
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	e := &escape{codeDir: codeDir, driver: d, program: build(t)}
	e.surround(t)

	neighbour := e.start(t, e.program, sandbox.Task{MemoryMB: 256}, e.leftBehind())
	for _, p := range e.leftBehind() {
		if p.verb != "hold" {
			p.check(t, neighbour.result(t, p.name))
		}
	}
	e.neighbour = addressOf(t, neighbour.result(t, "addresses"))
	c, err := neighbour.box.Dial(t.Context(), 7777, 0)
	if err != nil {
		t.Fatalf("the neighbour does not listen: %v", err)
	}
	c.Close()

	t.Run("what the machine has for all is not used up by one", e.useUp)
	t.Run("while a neighbour lives", func(t *testing.T) {
		for name, language := range languages {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				e.try(t, language(t, e), sandbox.Task{MemoryMB: 512}, e.probes())
			})
		}
		t.Run("what the network's policy opens is reached", func(t *testing.T) {
			t.Parallel()
			e.try(t, e.program, sandbox.Task{MemoryMB: 256, Network: e.everything()}, e.reached())
		})
		for _, b := range bombs {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				e.bomb(t, b)
			})
		}
	})
	t.Run("the neighbour's successor finds nothing of it", func(t *testing.T) {
		neighbour.destroy(t)
		e.try(t, e.program, sandbox.Task{MemoryMB: 256}, e.gone())
	})
}

// An escape is one run of the suite.
type escape struct {
	codeDir func(*testing.T) string
	driver  sandbox.Driver
	program program // the static one

	secret     string   // a file of the host's that everyone may read
	addresses  []string // where somebody of the host's listens
	addresses6 []string // those of IPv6, if there are any
	port       string
	abstract   string // a socket of the host's
	shared     int    // memory of the host's: its key
	neighbour  string // the address of another sandbox
}

// A program is what tries: a file of the code, and how it is run.
type program struct {
	argv []string
	file string // of testdata, or built
	from func() ([]byte, error)
}

var languages = map[string]func(*testing.T, *escape) program{
	"python": func(t *testing.T, _ *escape) program { return script(t, "probe.py", "/usr/bin/python3") },
	"node":   func(t *testing.T, _ *escape) program { return script(t, "probe.js", "/usr/bin/node") },
	"static": func(_ *testing.T, e *escape) program { return e.program },
}

func script(t *testing.T, file, interpreter string) program {
	t.Helper()
	if _, err := os.Stat(interpreter); err != nil {
		missing(t, "needs "+interpreter)
	}
	return program{[]string{interpreter, file}, file, func() ([]byte, error) { return programs.ReadFile("testdata/" + file) }}
}

// build compiles the static program. Where there is no compiler, LAMBENT_TEST_PROBE
// says where it is, compiled elsewhere.
func build(t *testing.T) program {
	t.Helper()
	if built := os.Getenv("LAMBENT_TEST_PROBE"); built != "" {
		return program{[]string{"./probe"}, "probe", func() ([]byte, error) { return os.ReadFile(built) }}
	}
	compiler, err := exec.LookPath("go")
	if err != nil {
		missing(t, "needs the go command")
	}
	source, err := programs.ReadFile("testdata/probe.go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "probe.go"), source, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(compiler, "build", "-o", "probe", "probe.go")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program{[]string{"./probe"}, "probe", func() ([]byte, error) { return os.ReadFile(filepath.Join(dir, "probe")) }}
}

// missing skips a test for something that is not there, or fails it in CI.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// surround puts things in place that are worth reaching, where everyone who is not
// in a sandbox reaches them.
func (e *escape) surround(t *testing.T) {
	t.Helper()
	e.secret = filepath.Join(e.codeDir(t), "secret")
	if err := os.WriteFile(e.secret, []byte("the host's"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A descriptor and a variable of the daemon's that a child would inherit.
	fd, err := unix.Open(e.secret, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	t.Setenv("LAMBENT_ESCAPE", "the host's")

	e.shared = 0x4c414d42
	id, err := unix.SysvShmGet(e.shared, 4096, unix.IPC_CREAT|0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) })

	e.abstract = "lambent-escape-" + fmt.Sprint(os.Getpid())
	listenHost(t, "unix", "@"+e.abstract)
	_, e.port, _ = net.SplitHostPort(listenHost(t, "tcp", ":0"))
	e.addresses, e.addresses6 = ownAddresses(t)
	if len(e.addresses) == 0 {
		missing(t, "needs a machine that is on a network")
	}
	for _, a := range slices.Concat([]string{"127.0.0.1"}, e.addresses, e.addresses6) {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(a, e.port), time.Second)
		if err != nil {
			t.Fatalf("not even the host reaches %s: %v", a, err)
		}
		c.Close()
	}
	e.gainRights(t)
}

// setuid is the static program, as a file of the code that is root's and gives whoever
// runs it root's rights.
const setuid = "setuid"

// writeSetuid writes it into a directory.
func (e *escape) writeSetuid(t *testing.T, dir string) string {
	t.Helper()
	content, err := e.program.from()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, setuid)
	if err := os.WriteFile(file, content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	return file
}

// gainRights has another user run the program outside, who must have root's rights by it.
func (e *escape) gainRights(t *testing.T) {
	t.Helper()
	f, err := os.Open(e.writeSetuid(t, e.codeDir(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("/proc/self/fd/3", "status") // wherever its directory lies
	cmd.ExtraFiles, cmd.SysProcAttr = []*os.File{f}, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the set-user-id program: %v", err)
	}
	if !strings.Contains(string(out), "Uid:\t65534\t0\t0\t0") {
		missing(t, "needs a directory for tests in which set-user-id programs have their rights: it is mounted nosuid, or this process has no_new_privs")
	}
}

// ownAddresses are those by which this machine is on networks.
func ownAddresses(t *testing.T) (four, six []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		switch n, ok := a.(*net.IPNet); {
		case !ok || n.IP.IsLoopback():
		case n.IP.To4() != nil:
			four = append(four, n.IP.String())
		case !n.IP.IsLinkLocalUnicast():
			six = append(six, n.IP.String())
		}
	}
	return four, six
}

// listenHost serves nothing to whoever connects.
func listenHost(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
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
	return l.Addr().String()
}

// everything is the policy under which what is forbidden by default is allowed.
func (e *escape) everything() lambent.Network {
	list := make([]string, len(e.addresses))
	for i, a := range e.addresses {
		list[i] = a + "/32:" + e.port
	}
	n, err := lambent.ParseNetwork(strings.Join(list, ","))
	if err != nil {
		panic(err)
	}
	return n
}

// addressOf picks the address by which a sandbox is on a network.
func addressOf(t *testing.T, list string) string {
	t.Helper()
	for a := range strings.FieldsSeq(strings.Trim(list, "[]")) {
		a, _, _ = strings.Cut(a, "/")
		if !strings.HasPrefix(a, "127.") && !strings.HasPrefix(a, "169.254.") && !strings.Contains(a, ":") {
			return a
		}
	}
	t.Fatalf("no address of the neighbour's among %s", list)
	return ""
}

// A trial is a sandbox in which the program is at work.
type trial struct {
	box     sandbox.Sandbox
	lines   *bufio.Scanner
	results map[string]string
	stray   []string // what it printed that is no result
}

// start has a program do the probes in a new sandbox.
func (e *escape) start(t *testing.T, p program, task sandbox.Task, probes []probe) *trial {
	t.Helper()
	task.Code, task.TmpMB = e.codeDir(t), 512
	task.Start = sandbox.Start{Argv: p.argv, Env: []string{"PATH=/usr/bin:/bin", "MARK=here"}}
	content, err := p.from()
	if err != nil {
		t.Fatal(err)
	}
	asked, err := json.Marshal(probes)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{p.file: content, "probes.json": asked} {
		if err := os.WriteFile(filepath.Join(task.Code, name), b, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	e.writeSetuid(t, task.Code)
	b, err := e.driver.Park(t.Context(), generic)
	if err != nil {
		t.Fatalf("Park: %v", err)
	}
	tr := &trial{box: b, lines: bufio.NewScanner(b.Output()), results: map[string]string{}}
	tr.lines.Buffer(nil, 1<<20)
	t.Cleanup(func() { tr.destroy(t) })
	if err := b.Assign(t.Context(), task); err != nil {
		t.Fatalf("Assign: %v", err)
	}
	_ = b.Output().SetReadDeadline(time.Now().Add(2 * time.Minute)) // test/vm is slow
	return tr
}

func (tr *trial) destroy(t *testing.T) {
	t.Helper()
	if err := tr.box.Destroy(); err != nil {
		t.Errorf("Destroy: %v", err)
	}
	tr.box.Output().Close()
}

// result waits for what came of a probe.
func (tr *trial) result(t *testing.T, name string) string {
	t.Helper()
	for {
		if r, ok := tr.results[name]; ok {
			return r
		}
		if !tr.lines.Scan() {
			t.Fatalf("the program is silent about %q (%v); it said:\n%s", name, tr.lines.Err(), strings.Join(tr.stray, "\n"))
		}
		var r struct{ Name, Result string }
		if err := json.Unmarshal(tr.lines.Bytes(), &r); err != nil {
			tr.stray = append(tr.stray, tr.lines.Text())
			continue
		}
		tr.results[r.Name] = r.Result
	}
}

// try has a program do the probes that its language can, and checks each.
func (e *escape) try(t *testing.T, p program, task sandbox.Task, probes []probe) {
	t.Helper()
	var can []probe
	for _, pr := range probes {
		if pr.in(p.file) {
			can = append(can, pr)
		}
	}
	tr := e.start(t, p, task, can)
	for _, pr := range can {
		pr.check(t, tr.result(t, pr.name))
	}
	t.Logf("%d probes", len(can))
	select { // it ends by itself, whatever it has tried to signal
	case <-tr.box.Done():
	case <-time.After(10 * time.Second):
		t.Error("the sandbox does not end")
	}
	if exit := tr.box.Exit(); exit != (sandbox.Exit{}) {
		t.Errorf("the sandbox ended with %+v", exit)
	}
}
