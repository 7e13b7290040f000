package cgroup_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/cgroup"
)

// The test program is also what runs in the groups.
func TestMain(m *testing.M) {
	switch os.Getenv("CGROUP_TEST_PROGRAM") {
	case "":
		os.Exit(m.Run())
	case "spin":
		fmt.Println("ready")
		for i := uint(1); i > 0; i += 2 { // odd, for ever
		}
	case "wait":
		fmt.Println("ready")
	case "touch": // memory, as much as the argument says, and keep it
		var mb int
		fmt.Sscan(os.Args[1], &mb)
		b, err := unix.Mmap(-1, 0, mb<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			panic(err)
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Println("ready")
	case "memory": // what it may have
		fmt.Println(cgroup.Memory())
	case "fork": // a process for each that waits, as many as there may be
		n := 0
		for fork() == nil {
			n++
		}
		fmt.Println(n)
	case "hop": // when told to, be gone before anyone has read who one is
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		hop()
	case "serve":
		if len(os.Args) > 1 { // in namespaces of its own
			err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
				unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH), unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""))
			if err != nil {
				panic(err)
			}
		}
		if err := serve(); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), " ", "_"))
			break
		}
		b, _ := os.ReadFile("/proc/self/cgroup")
		fmt.Print(string(b))
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// fork starts a process that does nothing.
func fork() error {
	pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
	if errno != 0 {
		return errno
	}
	for pid == 0 {
		syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
	return nil
}

// hop goes on in a child, and so on, for ever.
func hop() {
	for {
		if pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0); errno == 0 && pid != 0 {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}

func open(t testing.TB) *cgroup.Tree {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root"
	}
	tree, err := (*cgroup.Tree)(nil), error(nil)
	if missing == "" {
		if tree, err = cgroup.Open("lambent-" + t.Name()); err == nil {
			t.Cleanup(func() {
				if err := tree.Close(); err != nil {
					t.Error(err)
				}
			})
			return tree
		}
		if !lambent.Is(err, lambent.Unsupported) {
			t.Fatal(err)
		}
		missing = err.Error()
	}
	if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
		t.Fatal("needs " + missing)
	}
	t.Skip("needs " + missing)
	return nil
}

func makeGroup(t testing.TB, tree *cgroup.Tree, name string, l cgroup.Limits) *cgroup.Group {
	t.Helper()
	g, err := tree.Make(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Limit(l); err != nil {
		t.Fatal(err)
	}
	return g
}

// A program runs in a group.
type program struct {
	*exec.Cmd
	input  io.Closer
	output io.Reader
}

func start(t testing.TB, g *cgroup.Group, what string, args ...string) *program {
	t.Helper()
	return startWith(t, g, 0, what, args...)
}

// startWith starts it in new namespaces.
func startWith(t testing.TB, g *cgroup.Group, namespaces uintptr, what string, args ...string) *program {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{"CGROUP_TEST_PROGRAM=" + what, "GOMAXPROCS=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: g.FD() >= 0, CgroupFD: g.FD(), Cloneflags: namespaces}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := g.Join(); err != nil {
		t.Fatal(err)
	}
	started := cmd.Start()
	if err := g.Leave(); err != nil {
		t.Fatal(err)
	}
	if started != nil {
		t.Fatal(started)
	}
	p := &program{cmd, in, out}
	t.Cleanup(p.end)
	return p
}

func (p *program) end() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// says reads what the program prints first; it fails where it prints nothing.
func (p *program) says(t *testing.T) (word string) {
	t.Helper()
	if _, err := fmt.Fscanln(p.output, &word); err != nil {
		t.Fatalf("the program says nothing: %v, %v", err, p.Wait())
	}
	return word
}

// eventually waits for what is bound to come.
func eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !yes(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 20 s: " + what)
		}
	}
}

func cpu(t testing.TB, g *cgroup.Group) int64 {
	t.Helper()
	us, err := g.CPU()
	if err != nil {
		t.Fatal(err)
	}
	return us
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBornInside(t *testing.T) {
	tree := open(t)
	g := makeGroup(t, tree, "a", cgroup.Limits{})
	p := start(t, g, "wait")
	p.says(t)
	for pid, want := range map[int]bool{p.Process.Pid: true, os.Getpid(): false} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		ok(t, err)
		for _, controller := range []string{":memory:", ":pids:", ":freezer:"} {
			if tree.Version() == 2 {
				controller = "0::"
			}
			if strings.Contains(string(b), controller+"/lambent-TestBornInside/a\n") != want {
				t.Errorf("process %d is in\n%s", pid, b)
			}
		}
	}
}

func TestCPU(t *testing.T) {
	g := makeGroup(t, open(t), "a", cgroup.Limits{CPU: 500})
	if us := cpu(t, g); us != 0 {
		t.Errorf("%d us before anything ran", us)
	}
	p := start(t, g, "spin")
	p.says(t)
	eventually(t, "100 ms of CPU", func() bool { return cpu(t, g) > 100_000 })
	ok(t, p.Process.Kill())
	_ = p.Wait()
	used := p.ProcessState.UserTime() + p.ProcessState.SystemTime()
	// The two are counted apart: by the scheduler, and by the tick.
	if us := cpu(t, g); us < used.Microseconds()*8/10-20_000 || us > used.Microseconds()*12/10+20_000 {
		t.Errorf("%d us; the process says %v", us, used)
	}
}

func TestQuota(t *testing.T) {
	g := makeGroup(t, open(t), "a", cgroup.Limits{CPU: 1000, QuotaCPU: 100})
	p := start(t, g, "spin")
	p.says(t)
	begin, before := time.Now(), cpu(t, g)
	eventually(t, "200 ms of CPU", func() bool { return cpu(t, g)-before > 200_000 })
	if took := time.Since(begin); took < time.Second {
		t.Errorf("a tenth of a processor gave 200 ms in %v", took)
	}
	ok(t, g.Limit(cgroup.Limits{CPU: 1000}))
	ok(t, g.Limit(cgroup.Limits{CPU: 72}))
	before = cpu(t, g)
	eventually(t, "200 ms of CPU, without a quota", func() bool { return cpu(t, g)-before > 200_000 })
}

// A group that is idle has next to nothing of a processor that another wants, and a
// share again when it is not idle any more.
func TestIdle(t *testing.T) {
	tree := open(t)
	idle := makeGroup(t, tree, "a", cgroup.Limits{CPU: 1000, Idle: true})
	busy := makeGroup(t, tree, "b", cgroup.Limits{CPU: 72})
	var all, one unix.CPUSet
	ok(t, unix.SchedGetaffinity(0, &all))
	for k := 0; one.Count() == 0; k++ {
		if all.IsSet(k) {
			one.Set(k) // the same for both: across processors shares are what the balancer makes of them
		}
	}
	for _, g := range []*cgroup.Group{idle, busy} {
		p := start(t, g, "spin")
		p.says(t)
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Process.Pid))
		ok(t, err)
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			ok(t, err)
			ok(t, unix.SchedSetaffinity(tid, &one))
		}
	}
	// share is that of the one that is, or was, idle, while the other computes for so long.
	share := func(us int64) float64 {
		a, b := cpu(t, idle), cpu(t, busy)
		eventually(t, fmt.Sprint(us, " us of CPU"), func() bool { return cpu(t, busy)-b > us })
		a, b = cpu(t, idle)-a, cpu(t, busy)-b
		return float64(a) / float64(a+b)
	}
	if s := share(500_000); s > 0.05 {
		t.Errorf("it has %.3f of the processors", s)
	}
	ok(t, idle.Limit(cgroup.Limits{CPU: 216, Idle: true})) // which says nothing yet
	ok(t, idle.Limit(cgroup.Limits{CPU: 216}))
	share(200_000) // what it had while it was idle is evened out
	if s := share(1_500_000); s < 0.7 || s > 0.8 {
		t.Errorf("it has %.3f of the processors, and three times the share of the other", s)
	}
}

func TestFreeze(t *testing.T) {
	g := makeGroup(t, open(t), "a", cgroup.Limits{CPU: 1000})
	ok(t, g.Freeze()) // with nobody in it
	ok(t, g.Thaw())
	p := start(t, g, "spin")
	p.says(t)
	for range 20 {
		ok(t, g.Freeze())
		var before int64
		// In version 2 it is called frozen just before it is off its processor.
		eventually(t, "10 ms in which nothing runs", func() bool {
			before = cpu(t, g)
			time.Sleep(10 * time.Millisecond)
			return cpu(t, g) == before
		})
		ok(t, g.Freeze())
		ok(t, g.Thaw())
		eventually(t, "it runs on", func() bool { return cpu(t, g) > before })
	}
	ok(t, g.Freeze())
	ok(t, g.Kill())
	if err := p.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("frozen and killed, the process ended by: %v", err)
	}
	ok(t, g.Remove())
}

func TestOutOfMemory(t *testing.T) {
	tree := open(t)
	g := makeGroup(t, tree, "a", cgroup.Limits{MemoryBytes: 64 << 20})
	if n, err := g.OOMKills(); err != nil || n != 0 {
		t.Errorf("OOMKills = %d, %v before anything ran", n, err)
	}
	other := start(t, g, "wait")
	other.says(t)
	p := start(t, g, "touch", "100")
	if err := p.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("100 MB in a group of 64: %v", err)
	}
	if n, err := g.OOMKills(); err != nil || n < 1 {
		t.Errorf("OOMKills = %d, %v", n, err)
	}
	if peak, err := g.PeakMemory(); err != nil || peak < 60<<20 || peak > 66<<20 { // who is being killed may take a little more
		t.Errorf("PeakMemory = %d MB, %v", peak>>20, err)
	}
	if tree.Version() == 2 { // all of them die
		if err := other.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("the other process: %v", err)
		}
	}
}

// What is limited is not swapped instead, as far as the kernel has ways to say so.
func TestNoSwap(t *testing.T) {
	const bytes = 64 << 20
	tree := open(t)
	g := makeGroup(t, tree, "a", cgroup.Limits{MemoryBytes: bytes})
	files := map[string]string{"memory.swappiness": "0", "memory.memsw.limit_in_bytes": strconv.Itoa(bytes)}
	if tree.Version() == 2 {
		files = map[string]string{"memory.swap.max": "0"}
	}
	dir := filepath.Dir(g.Files()[1].Name()) // of its peak
	for file, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, file))
		switch {
		case errors.Is(err, os.ErrNotExist) && file != "memory.swappiness":
			t.Logf("this kernel does not count swap: no %s", file)
		case err != nil || strings.TrimSpace(string(got)) != want:
			t.Errorf("%s is %q, %v, want %s", file, got, err, want)
		}
	}
}

func TestPeakMemory(t *testing.T) {
	g := makeGroup(t, open(t), "a", cgroup.Limits{MemoryBytes: 256 << 20})
	p := start(t, g, "touch", "100")
	p.says(t)
	ok(t, g.Kill())
	_ = p.Wait()
	if peak, err := g.PeakMemory(); err != nil || peak < 100<<20 || peak > 140<<20 {
		t.Errorf("PeakMemory = %d MB, %v after 100 MB", peak>>20, err)
	}
}

// What a process may have is what its group may, or one above.
func TestMemoryOfGroup(t *testing.T) {
	tree := open(t)
	for _, mb := range []int{64, 128} {
		g := makeGroup(t, tree, fmt.Sprint(mb), cgroup.Limits{MemoryBytes: int64(mb) << 20})
		if may := start(t, g, "memory").says(t); may != fmt.Sprint(mb<<20) {
			t.Errorf("in a group of %d MB a process may have %s bytes", mb, may)
		}
	}
}

func TestMemoryInUse(t *testing.T) {
	g := makeGroup(t, open(t), "a", cgroup.Limits{MemoryBytes: 256 << 20})
	p := start(t, g, "touch", "100")
	p.says(t)
	if err := g.Limit(cgroup.Limits{MemoryBytes: 32 << 20}); !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("32 MB for who uses 100: %v", err)
	}
	for _, mb := range []int64{512, 128, 160, 0, 140} { // up and down, and neither disturbs it
		if err := g.Limit(cgroup.Limits{MemoryBytes: mb << 20}); err != nil {
			t.Errorf("%d MB: %v", mb, err)
		}
	}
	if n, err := g.OOMKills(); err != nil || n != 0 {
		t.Errorf("OOMKills = %d, %v", n, err)
	}
	p.input.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestPids(t *testing.T) {
	g := makeGroup(t, open(t), "a", cgroup.Limits{Pids: 40})
	p := start(t, g, "fork")
	var n int
	if _, err := fmt.Sscan(p.says(t), &n); err != nil || n < 20 || n >= 40 { // its own threads count
		t.Errorf("%d processes more, %v in a group of 40", n, err)
	}
	ok(t, g.Kill())
	_ = p.Wait()
	ok(t, g.Remove())
}

// TestKillForking: a process that has forked and gone by the time that one has
// read its id does not get away.
func TestKillForking(t *testing.T) {
	tree := open(t)
	for i := range 10 {
		g := makeGroup(t, tree, fmt.Sprint(i), cgroup.Limits{Pids: 1000})
		var programs []*program
		for range 4 {
			p := start(t, g, "hop")
			p.says(t)
			programs = append(programs, p)
		}
		for _, p := range programs {
			p.input.Close()
			ok(t, p.Wait()) // it is another by now
		}
		ok(t, g.Kill())
		ok(t, g.Remove())
	}
}

// TestLeftovers: a tree that is opened again, after a crash, ends what is left in
// it; the frozen too.
func TestLeftovers(t *testing.T) {
	tree := open(t)
	var programs []*program
	for i := range 5 {
		g := makeGroup(t, tree, fmt.Sprint(i), cgroup.Limits{Pids: 100})
		p := start(t, g, []string{"spin", "wait", "fork"}[i%3])
		p.says(t)
		programs = append(programs, p)
		if i%2 == 0 {
			ok(t, g.Freeze())
		}
	}
	again := open(t)
	for _, p := range programs {
		if err := p.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("%s ended by: %v", p.Env[0], err)
		}
	}
	for i := range 5 { // so their names are free
		g := makeGroup(t, again, fmt.Sprint(i), cgroup.Limits{})
		ok(t, g.Remove())
	}
}

func TestClose(t *testing.T) {
	tree := open(t)
	g := makeGroup(t, tree, "a", cgroup.Limits{})
	start(t, g, "spin").says(t)
	ok(t, tree.Close())
	for _, where := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		if left, err := filepath.Glob(where + "lambent-" + t.Name()); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
}

// TestMakeTwice: a group that is there already is refused, and stays whole.
func TestMakeTwice(t *testing.T) {
	tree := open(t)
	g := makeGroup(t, tree, "a", cgroup.Limits{})
	if _, err := tree.Make("a"); !errors.Is(err, os.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	start(t, g, "wait").says(t)
}

// serve does with a tree what a server does.
func serve() error {
	tree, err := cgroup.Open("tree")
	if err != nil {
		return err
	}
	g, err := tree.Make("a")
	if err != nil {
		return err
	}
	if err := g.Limit(cgroup.Limits{MemoryBytes: 128 << 20, Pids: 10, CPU: 72}); err != nil {
		return err
	}
	if tree, err = cgroup.Open("tree"); err != nil { // again, from where the first has moved this process to
		return err
	}
	return tree.Close()
}

// TestV2Places: the tree is below a group that systemd delegates, whose processes
// make room for it, and in a container below its only process.
func TestV2Places(t *testing.T) {
	tree := open(t)
	if tree.Version() == 1 {
		return // test/vm is for this
	}
	const container = syscall.CLONE_NEWCGROUP | syscall.CLONE_NEWNS
	for _, c := range []struct {
		name      string
		delegated bool
		flags     uintptr
		others    bool // processes in the group
		want      string
	}{
		{name: "unit", delegated: true, others: true, want: "0::/lambent-TestV2Places/unit/server"},
		{name: "by hand", others: true, want: "0::/lambent-TestV2Places/byhand"}, // at the top there is room
		{name: "container", flags: container, want: "0::/server"},
		{name: "crowded container", flags: container, others: true, want: "cgroup.Open:_cannot_use_control_groups:_use_/sys/fs/cgroup:_other_processes_are_in_it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := strings.ReplaceAll(c.name, " ", "")
			dir := filepath.Join("/sys/fs/cgroup/lambent-TestV2Places", name)
			g := makeGroup(t, tree, name, cgroup.Limits{})
			defer func() {
				if err := os.Remove(filepath.Join(dir, "server")); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
			}()
			if c.delegated {
				ok(t, unix.Setxattr(dir, "trusted.delegate", []byte("1"), 0))
			}
			if c.others {
				other := start(t, g, "wait")
				other.says(t)
				defer other.end()
			}
			var args []string
			if c.flags != 0 {
				args = []string{"container"}
			}
			p := startWith(t, g, c.flags, "serve", args...)
			if got := p.says(t); got != c.want {
				t.Errorf("%s, not %s", got, c.want)
			}
			p.input.Close()
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func BenchmarkMakeRemove(b *testing.B) {
	tree := open(b)
	for b.Loop() {
		g := makeGroup(b, tree, "a", cgroup.Limits{MemoryBytes: 256 << 20, Pids: 64, CPU: 1000})
		ok(b, g.Remove())
	}
}

func BenchmarkLimit(b *testing.B) {
	g := makeGroup(b, open(b), "a", cgroup.Limits{MemoryBytes: 256 << 20, Pids: 64, CPU: 1000})
	for i := 0; b.Loop(); i++ {
		ok(b, g.Limit(cgroup.Limits{MemoryBytes: int64(128+i%2) << 20, Pids: 256 + i%2, CPU: float64(72 + i%2)}))
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	g := makeGroup(b, open(b), "a", cgroup.Limits{})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for b.Loop() {
		ok(b, g.Join())
		ok(b, g.Leave())
	}
}

func BenchmarkCPU(b *testing.B) {
	g := makeGroup(b, open(b), "a", cgroup.Limits{})
	b.ReportAllocs()
	for b.Loop() {
		cpu(b, g)
	}
}

func BenchmarkPeakMemory(b *testing.B) {
	g := makeGroup(b, open(b), "a", cgroup.Limits{})
	b.ReportAllocs()
	for b.Loop() {
		_, err := g.PeakMemory()
		ok(b, err)
	}
}

func BenchmarkOOMKills(b *testing.B) {
	g := makeGroup(b, open(b), "a", cgroup.Limits{})
	b.ReportAllocs()
	for b.Loop() {
		_, err := g.OOMKills()
		ok(b, err)
	}
}

func BenchmarkFreezeThaw(b *testing.B) {
	g := makeGroup(b, open(b), "a", cgroup.Limits{CPU: 1000})
	p := start(b, g, "wait")
	var word string
	fmt.Fscanln(p.output, &word)
	for b.Loop() {
		ok(b, g.Freeze())
		ok(b, g.Thaw())
	}
}
