// Package sandboxtest is the suite that every sandbox driver passes: what the
// contract of package sandbox promises, checked with a POSIX shell inside.
package sandboxtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/sandbox"
)

// Run runs the suite. Each driver that open returns is closed by the suite; code
// directories come from t.TempDir unless open's caller says where such trees
// must lie for the driver to reach them.
func Run(t *testing.T, codeDir func(*testing.T) string, open func(*testing.T) sandbox.Driver) {
	s := suite{codeDir: codeDir, open: open}
	for _, c := range []struct {
		name string
		test func(*testing.T, sandbox.Driver)
	}{
		{"Assign runs a program of the code with exactly this environment", s.start},
		{"Exit tells status and signal", s.exit},
		{"Exit tells why a program cannot be executed", s.notRun},
		{"Agent and its descriptor 3 are connected", s.agent},
		{"An agent that boots late has the code, its environment and descriptor 3", s.lateAgent},
		{"Destroy of one whose agent was never booted", s.lateDestroy},
		{"Destroy ends every process of the group", s.destroyTree},
		{"Destroy twice, before and after the end", s.destroyTwice},
		{"Each sandbox has its own writable tmp, gone afterwards", s.tmp},
		{"The code is read-only", s.readOnly},
		{"Layers are where Paths says, and read-only", s.layers},
		{"Listen is reachable from inside", s.listen},
		{"Terminate asks the code to end", s.terminate},
		{"A port that the code is given is reached by Dial", s.port},
		{"Memory over the limit ends the sandbox", s.memory},
		{"Memory over the limit is seen where the first process lives on", s.childMemory},
		{"Stats count CPU and memory", s.stats},
		{"Guard: one failure destroys, dead stays dead", s.guard},
		{"Nothing is inherited but 0, 1, 2", s.descriptors},
		{"Many at once", s.hammer},
		{"Close destroys what is left", s.close},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := sandbox.Guard(open(t))
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.test(t, d)
		})
	}
}

type suite struct {
	codeDir func(*testing.T) string
	open    func(*testing.T) sandbox.Driver
}

var generic = lambent.Runtime{Name: "provided", Guest: "lambda"}

// bootstrap is the task of code that is a program.
func bootstrap(code string) sandbox.Task {
	return sandbox.Task{Code: code, MemoryMB: 128, TmpMB: 512, Start: sandbox.Start{Argv: []string{"./bootstrap"}, Env: []string{"PATH=/usr/bin:/bin"}}}
}

// run starts a shell script as the code's bootstrap.
func (s suite) run(t *testing.T, d sandbox.Driver, script string, memoryMB int) sandbox.Sandbox {
	t.Helper()
	b, err := d.Park(t.Context(), generic)
	if err != nil {
		t.Fatalf("Park: %v", err)
	}
	t.Cleanup(func() { b.Destroy() })
	code := s.codeDir(t)
	if err := os.WriteFile(filepath.Join(code, "bootstrap"), []byte("#!/bin/sh\n"+script+"\n"), 0o555); err != nil {
		t.Fatal(err)
	}
	task := bootstrap(code)
	task.MemoryMB = memoryMB
	task.Start.Env = append(task.Start.Env, "TMPDIR="+b.Paths(task).Tmp, "MARK=here")
	if err := b.Assign(t.Context(), task); err != nil {
		t.Fatalf("Assign: %v", err)
	}
	return b
}

func output(t *testing.T, b sandbox.Sandbox) string {
	t.Helper()
	out := b.Output()
	defer out.Close()
	if err := out.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(out)
	if err != nil {
		t.Fatalf("reading the output: %v (have %q)", err, all)
	}
	return string(all)
}

func await(t *testing.T, b sandbox.Sandbox) sandbox.Exit {
	t.Helper()
	select {
	case <-b.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the sandbox does not end")
	}
	return b.Exit()
}

func (s suite) start(t *testing.T, d sandbox.Driver) {
	b := s.run(t, d, `echo out; echo err >&2; env | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^OLDPWD= | sort; test -x "$PWD/bootstrap" && echo cwd`, 128)
	got := output(t, b)
	for _, want := range []string{"out\n", "err\n", "MARK=here\n", "cwd\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("output %q lacks %q", got, want)
		}
	}
	if n := strings.Count(got, "\n"); n != 6 {
		t.Errorf("output has %d lines, want 6 (two echoes, three variables, cwd):\n%s", n, got)
	}
	if e := await(t, b); e.Code != 0 || e.Signal != 0 {
		t.Errorf("exit %v, want status 0", e)
	}
}

func (s suite) exit(t *testing.T, d sandbox.Driver) {
	b := s.run(t, d, "exit 7", 128)
	output(t, b)
	if e := await(t, b); e.Code != 7 || e.Signal != 0 || e.OOM {
		t.Errorf("exit %+v, want status 7", e)
	}
	b = s.run(t, d, "kill -SEGV $$", 128)
	output(t, b)
	if e := await(t, b); e.Signal != syscall.SIGSEGV {
		t.Errorf("exit %+v, want SIGSEGV", e)
	}
}

func (s suite) notRun(t *testing.T, d sandbox.Driver) {
	for _, c := range []struct {
		text string
		mode os.FileMode
		want syscall.Errno
	}{{"", 0, syscall.ENOENT}, {"#!/bin/sh\n", 0o444, syscall.EACCES}, {"neither a script nor a program", 0o555, syscall.ENOEXEC}} {
		b, err := d.Park(t.Context(), generic)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Destroy()
		code := s.codeDir(t)
		if c.mode != 0 {
			if err := os.WriteFile(filepath.Join(code, "bootstrap"), []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Assign(t.Context(), bootstrap(code)); err != nil {
			t.Errorf("Assign: %v, want that the exit tells", err)
		}
		if got := output(t, b); got != "" {
			t.Errorf("output %q", got)
		}
		if e := await(t, b); e.Exec != c.want {
			t.Errorf("exit %+v, want %v", e, c.want)
		}
	}
}

func (s suite) agent(t *testing.T, d sandbox.Driver) {
	rt := lambent.Runtime{Name: "shell", Boot: []string{"/bin/sh", "-c", "echo ready >&3; read line <&3; echo \"got $line\" >&3"}}
	b, err := d.Park(t.Context(), rt)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Output().Close()
	defer b.Destroy()
	a := b.Agent()
	if a != b.Agent() {
		t.Error("Agent returns another value the second time")
	}
	_ = a.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(a, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	// What the caller says comes first, then the task's word.
	if _, err := io.WriteString(a, "hello "); err != nil {
		t.Fatal(err)
	}
	if err := b.Assign(t.Context(), sandbox.Task{Code: s.codeDir(t), MemoryMB: 128, TmpMB: 512, Start: sandbox.Start{Word: "world\n"}}); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(a)
	if err != nil || string(got) != "got hello world\n" {
		t.Fatalf("read %q, %v", got, err)
	}

	if b, err = d.Park(t.Context(), generic); err != nil {
		t.Fatal(err)
	}
	defer b.Output().Close()
	defer b.Destroy()
	if err := b.Assign(t.Context(), sandbox.Task{Code: s.codeDir(t), MemoryMB: 128, TmpMB: 512, Start: sandbox.Start{Word: "you\n"}}); err == nil {
		t.Error("a word for an agent that is not there is accepted")
	}
}

// late is a runtime whose agent boots in Assign.
var late = lambent.Runtime{Name: "shell", Boot: []string{"/bin/sh", "./agent"}, BootLate: true, Env: map[string]string{"ENV": "of the boot"}}

func (s suite) lateAgent(t *testing.T, d sandbox.Driver) {
	b, err := d.Park(t.Context(), late)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Destroy()
	code := s.codeDir(t)
	script := "echo \"ready $MARK, ${ENV:-nothing}, $LD_PRELOAD\" >&3; read line <&3; echo \"got $line\" >&3; test -e /proc/$$/fd/4 && echo more; echo out"
	if err := os.WriteFile(filepath.Join(code, "agent"), []byte(script), 0o444); err != nil {
		t.Fatal(err)
	}
	a := b.Agent()
	_ = a.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(a, "hello\n"); err != nil { // it lies there until somebody reads
		t.Fatal(err)
	}
	task := bootstrap(code)
	task.Start.Argv, task.Start.Env = late.Boot, append(task.Start.Env, "MARK=here", "LD_PRELOAD=")
	if err := b.Assign(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(a)
	if err != nil || string(got) != "ready here, nothing, \ngot hello\n" {
		t.Errorf("read %q, %v", got, err)
	}
	if got := output(t, b); got != "out\n" {
		t.Errorf("output %q", got)
	}
	if e := await(t, b); e.Code != 0 || e.Signal != 0 {
		t.Errorf("exit %v, want status 0", e)
	}
}

func (s suite) lateDestroy(t *testing.T, d sandbox.Driver) {
	b, err := d.Park(t.Context(), late)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Output().Close()
	if err := b.Destroy(); err != nil {
		t.Error(err)
	}
	await(t, b)
	_ = b.Agent().SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(b.Agent()); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the agent's descriptor is open after Destroy")
	}
}

func (s suite) destroyTree(t *testing.T, d sandbox.Driver) {
	b := s.run(t, d, "sleep 1000 & sleep 1000 & (sleep 1000 & sleep 1000) & echo started; wait", 128)
	defer b.Output().Close()
	buf := make([]byte, 8)
	if _, err := io.ReadFull(b.Output(), buf); err != nil {
		t.Fatal(err)
	}
	if err := b.Destroy(); err != nil {
		t.Fatal(err)
	}
	// Every process of the tree held the pipe's write end: its end is theirs.
	_ = b.Output().SetReadDeadline(time.Now().Add(10 * time.Second))
	if rest, err := io.ReadAll(b.Output()); err != nil {
		t.Errorf("a process lives on: %v (%q)", err, rest)
	}
}

func (s suite) destroyTwice(t *testing.T, d sandbox.Driver) {
	b := s.run(t, d, "exit 0", 128)
	output(t, b)
	await(t, b)
	for range 2 {
		if err := b.Destroy(); err != nil {
			t.Errorf("Destroy: %v", err)
		}
	}
	parked, err := d.Park(t.Context(), generic)
	if err != nil {
		t.Fatal(err)
	}
	defer parked.Output().Close()
	if err := parked.Destroy(); err != nil {
		t.Errorf("Destroy of a parked one: %v", err)
	}
	await(t, parked)
}

func (s suite) tmp(t *testing.T, d sandbox.Driver) {
	script := `test -z "$(ls -A "$TMPDIR")" && echo empty; echo x > "$TMPDIR/f" && echo written; echo "$TMPDIR"`
	first := s.run(t, d, script, 128)
	second := s.run(t, d, script, 128)
	for _, b := range []sandbox.Sandbox{first, second} {
		got := output(t, b)
		if !strings.HasPrefix(got, "empty\nwritten\n") {
			t.Errorf("output %q, want an empty, writable tmp", got)
		}
		await(t, b)
		if err := b.Destroy(); err != nil {
			t.Error(err)
		}
		dir := strings.TrimSpace(strings.TrimPrefix(got, "empty\nwritten\n"))
		if _, err := os.Stat(filepath.Join(dir, "f")); err == nil {
			t.Errorf("%s/f is there after Destroy", dir)
		}
	}
}

func (s suite) readOnly(t *testing.T, d sandbox.Driver) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: without it the code belongs to the user that functions run as")
	}
	b := s.run(t, d, `(echo x > ./bootstrap) 2>/dev/null || echo refused; (echo x > ./new) 2>/dev/null || echo refused`, 128)
	if got := output(t, b); got != "refused\nrefused\n" {
		t.Errorf("output %q, want both writes refused", got)
	}
}

func (s suite) layers(t *testing.T, d sandbox.Driver) {
	b, err := d.Park(t.Context(), generic)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Destroy()
	code, opt := s.codeDir(t), s.codeDir(t)
	// As root: without it what is there belongs to the user that functions run as.
	script := `#!/bin/sh
cat "$OPT/lib/name"; "$OPT/bin/tool"
test "$1" = root || exit 0
for f in name new; do (echo x >"$OPT/lib/$f") 2>/dev/null || echo refused; done
rm "$OPT/lib/name" 2>/dev/null || echo refused
`
	for file, content := range map[string]string{
		filepath.Join(code, "bootstrap"): script, filepath.Join(opt, "lib", "name"): "of a layer\n", filepath.Join(opt, "bin", "tool"): "#!/bin/sh\necho runs\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o555)); err != nil {
			t.Fatal(err)
		}
	}
	task := bootstrap(code)
	if at := b.Paths(task).Opt; at != "" {
		t.Errorf("without layers they are at %s", at)
	}
	task.Opt = opt
	want := "of a layer\nruns\n"
	if os.Geteuid() == 0 {
		task.Start.Argv = append(task.Start.Argv, "root")
		want += strings.Repeat("refused\n", 3)
	}
	task.Start.Env = append(task.Start.Env, "OPT="+b.Paths(task).Opt)
	if err := b.Assign(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	if got := output(t, b); got != want {
		t.Errorf("output %q, want %q", got, want)
	}
}

func (s suite) listen(t *testing.T, d sandbox.Driver) {
	b, err := d.Park(t.Context(), generic)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Output().Close()
	defer b.Destroy()
	ports := []int{sandbox.RuntimeAPI, sandbox.Endpoint}
	accepted := make(chan error, len(ports))
	script := "#!/bin/sh\n"
	for _, port := range ports {
		l, err := b.Listen(port)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		script += "curl -s telnet://" + l.Addr().String() + " </dev/null\n"
		go func() {
			c, err := l.Accept()
			if err == nil {
				c.Close()
			}
			accepted <- err
		}()
	}
	code := s.codeDir(t)
	if err := os.WriteFile(filepath.Join(code, "bootstrap"), []byte(script), 0o555); err != nil {
		t.Fatal(err)
	}
	if err := b.Assign(t.Context(), bootstrap(code)); err != nil {
		t.Fatal(err)
	}
	for range ports {
		select {
		case err := <-accepted:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody connects")
		}
	}
}

func (s suite) terminate(t *testing.T, d sandbox.Driver) {
	// A child that is there first, and one that the init is left with, do not get it.
	b := s.run(t, d, `(sleep 1000 &) ; trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.05; done`, 128)
	defer b.Output().Close()
	if _, err := io.ReadFull(b.Output(), make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := b.(sandbox.Terminator).Terminate(); err != nil {
		t.Fatal(err)
	}
	if e := await(t, b); e.Code != 5 || e.Signal != 0 {
		t.Errorf("exit %+v, want status 5", e)
	}
	if err := b.(sandbox.Terminator).Terminate(); err != nil {
		t.Errorf("of one that has ended: %v", err)
	}
	b = s.run(t, d, "exec sleep 1000", 128)
	defer b.Output().Close()
	for { // it may not have been executed yet, and a shell that starts is a shell
		if err := b.(sandbox.Terminator).Terminate(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-b.Done():
		case <-time.After(50 * time.Millisecond):
			continue
		}
		break
	}
	if e := await(t, b); e.Signal != syscall.SIGTERM {
		t.Errorf("exit %+v, want SIGTERM", e)
	}
}

func (s suite) port(t *testing.T, d sandbox.Driver) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("needs python3")
	}
	b, err := d.Park(t.Context(), generic)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Output().Close()
	defer b.Destroy()
	port, err := b.(sandbox.Sublet).Port(8080)
	if err != nil {
		t.Fatal(err)
	}
	code := s.codeDir(t)
	script := "#!/bin/sh\nexec python3 -c \"import socket; s = socket.create_server(('127.0.0.1', $PORT)); c, _ = s.accept(); c.sendall(b'hello')\"\n"
	if err := os.WriteFile(filepath.Join(code, "bootstrap"), []byte(script), 0o555); err != nil {
		t.Fatal(err)
	}
	task := bootstrap(code)
	task.Start.Env = append(task.Start.Env, fmt.Sprintf("PORT=%d", port))
	if err := b.Assign(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dial(t.Context(), 1, 20*time.Millisecond); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("where nobody listens: %v", err)
	}
	for {
		c, err := b.Dial(t.Context(), port, sandbox.MaxPatience)
		if err != nil { // not yet
			select {
			case <-b.Done():
				t.Fatalf("it ended: %v", b.Exit())
			default:
			}
			continue
		}
		defer c.Close()
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Errorf("read %q, %v", got, err)
		}
		return
	}
}

// hog takes memory until it is stopped.
const hog = `python3 -c "
import time
keep = []
while True:
    keep.append(bytearray(8 << 20)); time.sleep(0.005)
"`

func (s suite) memory(t *testing.T, d sandbox.Driver) {
	b := s.run(t, d, "exec "+hog, 128)
	defer b.Output().Close()
	e := await(t, b)
	if !e.OOM {
		t.Errorf("exit %+v, want OOM", e)
	}
	if _, peak, _ := b.Stats(); peak < 100<<20 {
		t.Errorf("peak %d bytes, want over 100 MB", peak)
	}
}

// Some kernels and drivers end all that is inside, some the child alone.
func (s suite) childMemory(t *testing.T, d sandbox.Driver) {
	small := s.run(t, d, "exit 0", 128)
	output(t, small)
	if small.(sandbox.Witness).OOMKilled() {
		t.Error("a sandbox that has used no memory had too much of it")
	}
	b := s.run(t, d, hog+" & wait; echo alone; sleep 1000", 128)
	defer b.Output().Close()
	_ = b.Output().SetReadDeadline(time.Now().Add(30 * time.Second))
	said, err := io.ReadAll(io.LimitReader(b.Output(), int64(len("alone\n"))))
	switch {
	case string(said) != "alone\n":
		if e := await(t, b); !e.OOM {
			t.Errorf("exit %+v, want OOM (it said %q, %v)", e, said, err)
		}
	case !b.(sandbox.Witness).OOMKilled():
		t.Error("nobody has seen that a child was ended")
	}
}

func (s suite) stats(t *testing.T, d sandbox.Driver) {
	b := s.run(t, d, `i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo done; sleep 1000`, 128)
	defer b.Output().Close()
	if _, err := io.ReadFull(b.Output(), make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cpuUS, peak, err := b.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if cpuUS < 5_000 || cpuUS > 30_000_000 {
		t.Errorf("CPU %d us for a loop of 60,000 turns", cpuUS)
	}
	if peak < 200<<10 || peak > 64<<20 {
		t.Errorf("peak %d bytes for a shell", peak)
	}
}

func (s suite) guard(t *testing.T, d sandbox.Driver) {
	b, err := d.Park(t.Context(), generic)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Output().Close()
	if err := b.Assign(t.Context(), sandbox.Task{Code: filepath.Join(s.codeDir(t), "absent"), MemoryMB: 128, TmpMB: 512}); err == nil {
		t.Fatal("Assign of a tree that is not there is accepted")
	}
	await(t, b)
	if _, err := b.Listen(sandbox.Endpoint); !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("Listen on a dead sandbox: %v, want unavailable", err)
	}
}

func (s suite) descriptors(t *testing.T, d sandbox.Driver) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("needs /proc to list descriptors")
	}
	leak, err := os.Open("/dev/null") // something of the daemon's own
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	// A shell holds its own script open as 10 or above.
	b := s.run(t, d, `for n in 3 4 5 6 7 8 9 11 12 13 14 15 16 17 18 19; do test -e /proc/$$/fd/$n && echo $n; done; exit 0`, 128)
	if got := output(t, b); got != "" {
		t.Errorf("open inside: %q", got)
	}
}

func (s suite) close(t *testing.T, _ sandbox.Driver) {
	d := sandbox.Guard(s.open(t))
	b := s.run(t, d, "echo up; sleep 1000", 128)
	defer b.Output().Close()
	if _, err := io.ReadFull(b.Output(), make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, b)
	if _, err := d.Park(t.Context(), generic); err == nil {
		t.Error("Park after Close is accepted")
	}
}
