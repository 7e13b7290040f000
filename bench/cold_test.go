package bench_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// BenchmarkCold is one client's latency where every call is a cold start, through
// the whole server: in a sandbox that was parked, a moment after another was parked
// in its predecessor's place (hit) and 100 ms later, when caches have forgotten and
// processors sleep (idle); and in one that was not parked (miss). Now and then the
// floor is measured: the bare runtime, executed to do nothing, or the function's own
// program until it is ready. Of a call, theirs is what the code's agent or client
// took to load it and to answer; ours is the rest.
func BenchmarkCold(b *testing.B) {
	for _, l := range languages {
		for _, way := range []struct {
			name, parked string
			pause        time.Duration // once nothing computes any more
		}{{"hit", "4", 0}, {"idle", "4", 100 * time.Millisecond}, {"miss", "0", 0}} {
			b.Run(l.name+"/"+way.name, func(b *testing.B) {
				d, addr := l.start(b, "--keep-alive", "0", "--parked", way.parked)
				ours, server, bare := caller(b, addr, "/fn/echo/"), bench.Server(d.PID()), l.bareExec(b)
				time.Sleep(time.Second) // until as many are parked as will be
				rest(server)
				var cold, floor bench.Latencies
				var cpu time.Duration
				b.ResetTimer()
				for i := range b.N {
					before := bench.CPU(server...)
					cold = call(b, ours, 1, cold)
					rest(server)
					cpu += bench.CPU(server...) - before
					if bare != nil && i%8 == 0 {
						floor = append(floor, bare())
						rest(server)
					}
					time.Sleep(way.pause)
				}
				b.StopTimer()
				reportCold(b, d, "echo", cold)
				b.ReportMetric(us(cpu)/float64(b.N), "cpu-us/call")
				if bare != nil {
					b.ReportMetric(us(floor.Percentile(50)), "bare-exec-p50-us")
				}
			})
		}
	}
}

// rest waits until a server and its sandboxes have computed nothing for 3 ms: as many
// are parked again as will be, and have rehearsed.
func rest(server []int) {
	const window, nothing = 3 * time.Millisecond, 300 * time.Microsecond
	computed := func() time.Duration { return bench.CPU(append(bench.Children(server[0]), server[0])...) }
	time.Sleep(12 * time.Millisecond) // the server gives a call that much before it parks another
	for last := computed(); ; {
		time.Sleep(window)
		now := computed()
		if now-last < nothing {
			return
		}
		last = now
	}
}

// reportCold reports a function's cold starts, b.N of them, and whose share of them
// is what.
func reportCold(b *testing.B, d *daemon.Daemon, function string, cold bench.Latencies) {
	b.Helper()
	theirs, inside := split(b, d, function)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(us(cold.Percentile(50)), "p50-us")
	b.ReportMetric(us(cold.Percentile(99)), "p99-us")
	b.ReportMetric(us(theirs.Percentile(50)), "theirs-p50-us")
	b.ReportMetric(us(cold.Percentile(50)-theirs.Percentile(50)), "ours-p50-us")
	b.ReportMetric(us(inside.Percentile(50)), "sandbox-cpu-p50-us")
}

// split returns of a function's last calls, b.N of them, how long the code took, with
// its start, and what its sandbox computed.
func split(b *testing.B, d *daemon.Daemon, function string) (theirs, cpu bench.Latencies) {
	b.Helper()
	list, err := d.Invocations(b.Context(), function, client.Period{}, min(b.N, 1000))
	if err != nil {
		b.Fatal(err)
	}
	for _, u := range list.Invocations {
		theirs = append(theirs, time.Duration(u.InitUS+u.RunUS)*time.Microsecond)
		cpu = append(cpu, time.Duration(u.CPUUS)*time.Microsecond)
	}
	return theirs, cpu
}

// bareExec returns what executes the bare runtime once, and says how long that took.
func (l *language) bareExec(b *testing.B) func() time.Duration {
	b.Helper()
	switch l.name {
	case "python", "nodejs":
		argv := map[string][]string{"python": {"python3", "-c", "pass"}, "nodejs": {"node", "-e", "0"}}[l.name]
		// The system's, as functions have it: one on the path may be below somebody's
		// home, or a script that looks for one.
		if system := "/usr/bin/" + argv[0]; exec.Command(system, "--version").Run() == nil {
			argv[0] = system
		}
		return execution(b, "", argv...)
	case "go":
		argv := l.bare(b)
		return func() time.Duration {
			cmd := exec.Command(argv[0], argv[1:]...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			begun := time.Now()
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			_, err = bufio.NewReader(out).ReadString('\n')
			took := time.Since(begun)
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
			if err != nil {
				b.Fatal(err)
			}
			return took
		}
	}
	return nil
}

// execution returns what executes a program in a directory to its end, and says how
// long that took.
func execution(b *testing.B, dir string, argv ...string) func() time.Duration {
	return func() time.Duration {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = dir
		begun := time.Now()
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
}

// BenchmarkMix is two clients whose every call is a cold start, of functions in Go,
// Python and Node.js, three to one to one: sandboxes a second, how long a call takes
// while others are being made, and what the machine has more of afterwards, of
// everything that a sandbox is made of. With -benchtime 60s it is the test that
// nothing leaks.
func BenchmarkMix(b *testing.B) {
	d := daemon.Start(b, filepath.Join(daemon.Dir(b), "data"), "--keep-alive", "0", "--parked", "4")
	addr := strings.TrimPrefix(d.URL, "http://")
	for _, l := range languages {
		if l.bare != nil {
			l.deploy(b, d, l.name)
		}
	}
	took := map[string]bench.Latencies{}
	run := func(n int) {
		var next atomic.Int64
		var wg sync.WaitGroup
		var mu sync.Mutex // guards took
		for range 2 {
			names := []string{"go", "python", "go", "nodejs", "go"}
			var callers []*bench.Caller
			for _, name := range names {
				callers = append(callers, caller(b, addr, "/fn/"+name+"/"))
			}
			wg.Go(func() {
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					begun := time.Now()
					if got, err := callers[i%5].Call(); err != nil || string(got) != payload {
						b.Errorf("got %q, %v", got, err)
						return
					}
					mu.Lock()
					took[names[i%5]] = append(took[names[i%5]], time.Since(begun))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if b.Failed() {
			b.FailNow()
		}
	}
	const settled = 25 * time.Second // until no more are parked than at rest
	run(300)                         // as many slots are made as will be
	time.Sleep(settled)
	before := holdings(d.PID())
	clear(took)
	b.ResetTimer()
	run(b.N)
	b.StopTimer()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sandboxes/s")
	for name, l := range took {
		b.ReportMetric(us(l.Percentile(50)), name+"-p50-us")
		b.ReportMetric(us(l.Percentile(99)), name+"-p99-us")
	}
	time.Sleep(settled)
	after := holdings(d.PID())
	for what, n := range after {
		b.ReportMetric(n-before[what], what)
	}
}

// holdings counts what a server has on the machine, while it has sandboxes parked.
func holdings(pid int) map[string]float64 {
	server, inside := bench.Server(pid), bench.Children(pid)
	namespaces, groups := map[string]bool{}, map[string]bool{}
	for _, p := range append(inside, server...) {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/ns/*", p))
		for _, l := range links {
			name, _ := os.Readlink(l) // the process may have ended
			namespaces[name] = true
		}
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p))
		if tree := regexp.MustCompile(`/lambent-(\d+)`).FindSubmatch(b); tree != nil {
			groups[string(tree[1])] = true
		}
	}
	found := map[string]float64{"+namespaces": float64(len(namespaces)), "+processes": float64(len(inside))}
	count := func(what, pattern string) {
		files, _ := filepath.Glob(pattern)
		found[what] += float64(len(files))
	}
	for number := range groups {
		count("+cgroups", "/sys/fs/cgroup/*/lambent-"+number+"/*/tasks")
		count("+cgroups", "/sys/fs/cgroup/lambent-"+number+"/*/cgroup.procs")
		count("+interfaces", "/sys/class/net/lam"+number+"-*")
	}
	for _, p := range server {
		count("+descriptors", fmt.Sprintf("/proc/%d/fd/*", p))
		found["+rss-MB"] += float64(bench.RSS(p)) / (1 << 20)
		var most int
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/mountinfo", p))
		for _, t := range threads { // some see the mounts that sandboxes are made of
			mounts, _ := os.ReadFile(t)
			most = max(most, strings.Count(string(mounts), "\n"))
		}
		found["+mounts"] += float64(most)
	}
	return found
}

// BenchmarkParkedServer is what a server computes that has a hundred sandboxes parked,
// as it has for some seconds after as many cold starts, while nobody calls.
func BenchmarkParkedServer(b *testing.B) {
	const parked, watch = 100, 5 * time.Second
	d, addr := languages[0].start(b, "--keep-alive", "0", "--parked", strconv.Itoa(parked))
	nap(b, d, "nap", "app.nap", nil)
	var wg sync.WaitGroup
	for range parked {
		c := caller(b, addr, "/fn/nap/")
		wg.Go(func() {
			defer c.Close()
			if _, err := c.Call(); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	rest(bench.Server(d.PID()))
	all := append(bench.Children(d.PID()), d.PID())
	if inside := len(all) - len(bench.Server(d.PID())); inside < 2*parked { // an init and an agent each
		b.Fatalf("%d processes are in sandboxes", inside)
	}
	before := bench.CPU(all...)
	time.Sleep(watch)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*float64(bench.CPU(all...)-before)/float64(watch), "%-of-a-core")
}
