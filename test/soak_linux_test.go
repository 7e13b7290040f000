package test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/test/daemon"
)

const (
	// mixer does what its event says, and answers with the event's id.
	mixer = `import os, time

def handler(event, context):
    if "body" in event: # by its URL
        event = {"id": event["rawQueryString"], "do": event["rawPath"][1:]}
    do = event["do"]
    if do == "exit":
        os._exit(3)
    if do == "error":
        raise ValueError(event["id"])
    if do == "memory":
        hog = []
        while True:
            hog.append(bytearray(8 << 20))
    if do == "sleep":
        time.sleep(5)
    if do == "work":
        time.sleep(0.05)
    if do == "child":
        if os.fork() == 0:
            time.sleep(60)
    print("did", do)
    return event["id"]
`
	// echoer streams so many pieces between two lines with the id.
	echoer = `export const handler = awslambda.streamifyResponse(async (event, out) => {
  if (event.rawQueryString) event = {id: event.rawQueryString, pieces: 64}
  out.write(event.id + "\n")
  for (let i = 0; i < event.pieces; i++) {
    if (!out.write("x".repeat(32 << 10))) await new Promise((ok) => out.once("drain", ok))
  }
  if (event.fail) throw new Error(event.id)
  out.write("\n" + event.id)
  out.end()
})
`
)

// A soak is a mixed load, and what its clients know for certain.
type soak struct {
	*testing.T
	d         *daemon.Daemon
	shop      *client.Client // of a project with a limit
	until     time.Time
	py, js    string // code
	next      atomic.Int64
	hungUp    atomic.Int64 // calls that may have a record of which nobody knows
	throttled atomic.Int64

	mu       sync.Mutex
	answered map[string]string // by request: the outcome that was told
	accepted []string          // requests that nobody waits for
	made     map[string]int    // by what was injected
}

func (s *soak) count(what string) {
	s.mu.Lock()
	s.made[what]++
	s.mu.Unlock()
}

// call makes one call and checks that its answer is its own, whole, and once.
func (s *soak) call(c *client.Client, name, do, payload, want string, outcomes ...string) {
	id := strconv.FormatInt(s.next.Add(1), 10)
	payload, want = strings.ReplaceAll(payload, "ID", id), strings.ReplaceAll(want, "ID", id)
	var out bytes.Buffer
	o, err := c.Invoke(context.Background(), client.InvokeRequest{Name: name, Payload: strings.NewReader(payload)}, &out)
	s.count(do)
	switch {
	case lambent.Is(err, lambent.Throttled):
		s.throttled.Add(1)
		return
	case lambent.Is(err, lambent.NotFound) && do == "churn":
		return
	case err != nil:
		s.Errorf("%s %s: %v", name, do, err)
		return
	}
	outcome := cmp.Or(string(o.Fault), lambent.OutcomeOK)
	if !slices.Contains(outcomes, outcome) {
		s.Errorf("%s %s, request %s: %s, %s, want %v", name, do, o.RequestID, outcome, o.FaultMessage, outcomes)
	}
	if outcome == lambent.OutcomeOK && out.String() != want {
		s.Errorf("%s %s, request %s: %d bytes that are not those of %s", name, do, o.RequestID, out.Len(), id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, ok := s.answered[o.RequestID]; ok {
		s.Errorf("request %s was answered twice: %s, %s", o.RequestID, before, outcome)
	}
	s.answered[o.RequestID] = outcome
}

// accept has a call accepted that nobody waits for.
func (s *soak) accept() {
	id, err := s.d.InvokeAsync(context.Background(), client.InvokeRequest{Name: "mixer", Payload: strings.NewReader(`{"id": "async", "do": "work"}`)}, "")
	s.count("asynchronous")
	if err != nil {
		s.Error(err)
		return
	}
	s.mu.Lock()
	s.accepted = append(s.accepted, id)
	s.mu.Unlock()
}

// finish waits until nothing is left of what was accepted.
func (s *soak) finish() {
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		left := 0
		for _, state := range []string{"waiting", "delayed", "running"} {
			left += int(s.d.Metric(s, `lambent_async_invocations{state="`+state+`"}`))
		}
		if left == 0 {
			return
		}
		if time.Since(begun) > 3*time.Minute { // some may wait for their third attempt
			s.Errorf("%d asynchronous invocations are left", left)
			return
		}
	}
}

// mix makes calls of all kinds, one after another.
func (s *soak) mix() {
	event := func(do string) string { return `{"id": "ID", "do": "` + do + `"}` }
	for time.Now().Before(s.until) {
		switch n := rand.IntN(100); {
		case n < 8:
			s.accept()
		case n < 40:
			s.call(s.d.Client, "mixer", "ok", event("ok"), `"ID"`, "ok")
		case n < 60:
			s.call(s.d.Client, "mixer", "work", event("work"), `"ID"`, "ok")
		case n < 66:
			s.call(s.d.Client, "mixer", "error", event("error"), "", "error")
		case n < 71:
			s.call(s.d.Client, "mixer", "exit", event("exit"), "", "exit")
		case n < 74:
			// Where the disk is busy, the kernel may be at bringing the code's own pages
			// back, again and again, for longer than there is time.
			s.call(s.d.Client, "mixer", "memory", event("memory"), "", "oom", "timeout")
		case n < 76:
			s.call(s.d.Client, "mixer", "child", event("child"), `"ID"`, "ok")
		case n < 80:
			s.call(s.d.Client, "late", "timeout", event("sleep"), "", "timeout")
		case n < 88:
			s.call(s.d.Client, "echoer", "stream", `{"id": "ID", "pieces": 16}`, "ID\n"+strings.Repeat("x", 16*32<<10)+"\nID", "ok")
		case n < 92:
			s.call(s.d.Client, "echoer", "stream that fails", `{"id": "ID", "pieces": 2, "fail": true}`, "", "error")
		default:
			s.call(s.shop, "mixer", "limited", event("work"), `"ID"`, "ok")
		}
	}
}

// open sends a request to a function's URL.
func (s *soak) open(name, target string) net.Conn {
	c, err := net.Dial("tcp", strings.TrimPrefix(s.d.URL, "http://"))
	if err != nil {
		s.Error(err)
		return nil
	}
	fmt.Fprintf(c, "GET /fn/%s/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", name, target)
	return c
}

// hangUp makes calls and leaves at some moment.
func (s *soak) hangUp() {
	for time.Now().Before(s.until) {
		name, target := "mixer", "work?"
		switch rand.IntN(3) {
		case 0:
			name = "cancel"
		case 1:
			name, target = "echoer", "?"
		}
		if c := s.open(name, target+"gone"); c != nil {
			s.hungUp.Add(1)
			_ = c.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(100)) * time.Millisecond)) // any moment
			_, _ = io.CopyN(io.Discard, c, 64<<10)
			c.Close()
			s.count("hang up: " + name)
		}
	}
}

// slow takes streams slowly, each to its end.
func (s *soak) slow() {
	for time.Now().Before(s.until) {
		id := strconv.FormatInt(s.next.Add(1), 10)
		c := s.open("echoer", "?"+id)
		if c == nil {
			return
		}
		_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			s.Errorf("a slow client: %v", err)
			return
		}
		var body bytes.Buffer
		for err == nil {
			_, err = io.CopyN(&body, resp.Body, 256<<10)
			time.Sleep(50 * time.Millisecond) // that is the slow client
		}
		c.Close()
		s.count("slow client")
		switch {
		case resp.StatusCode == http.StatusTooManyRequests:
			s.throttled.Add(1)
			continue
		case err != io.EOF || resp.StatusCode != 200 || body.String() != id+"\n"+strings.Repeat("x", 64*32<<10)+"\n"+id:
			s.Errorf("a slow client has %d, %d bytes, %v", resp.StatusCode, body.Len(), err)
		}
		s.mu.Lock()
		s.answered[resp.Header.Get("X-Amzn-Requestid")] = lambent.OutcomeOK
		s.mu.Unlock()
	}
}

// churn makes a function, deploys it again, rolls it back and deletes it, with calls
// all the while; and does so, but for deleting, with one that others call.
func (s *soak) churn(name string) {
	for n := 1; time.Now().Before(s.until); n++ {
		deploy := func(name string, n int) {
			r := python(s.py, n)
			r.URL = &client.URLRequest{Policy: new(lambent.URLPublic)}
			switch _, err := s.d.Deploy(context.Background(), name, r, nil); {
			case err == nil:
				s.count("deploy")
			case lambent.Is(err, lambent.Throttled): // all places are taken
				s.count("deploy refused")
			default:
				s.Errorf("deploy %s: %v", name, err)
			}
		}
		roll := func(name string) {
			if _, err := s.d.Rollback(context.Background(), name, 0); err != nil && !lambent.Is(err, lambent.NotFound) && !lambent.Is(err, lambent.Invalid) {
				s.Errorf("rollback of %s: %v", name, err)
			}
			s.count("rollback")
		}
		call := func() {
			s.call(s.d.Client, name, "churn", `{"id": "ID", "do": "ok"}`, `"ID"`, "ok")
		}
		deploy(name, 1)
		call()
		deploy(name, 2)
		call()
		roll(name)
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(call)
		}
		if err := s.d.Delete(context.Background(), name, ""); err != nil && !lambent.Is(err, lambent.NotFound) {
			s.Errorf("delete %s: %v", name, err)
		}
		s.count("delete")
		calls.Wait()
		if n%5 == 0 {
			deploy("mixer", n)
			roll("mixer")
		}
	}
}

// A state is what a server has of the machine, but for places of sandboxes: one that
// was made is kept for the next, with its disk, its network and users of its own.
type state struct {
	Goroutines, Descriptors, Mounts, Processes, Namespaces, Groups int
}

func (s *soak) state() (now state) {
	now.Goroutines = int(s.d.Metric(s, "go_goroutines"))
	s.d.Close() // of connections that nobody uses the server has a part, too
	namespaces := map[string]bool{}
	group := ""
	for i, pid := range serverAndJail(s.d) {
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		now.Descriptors += len(fds)
		now.Mounts += mounts(pid)
		if i > 0 {
			continue
		}
		for _, child := range daemon.Descendants(pid) {
			now.Processes++
			for _, kind := range []string{"net", "mnt", "pid", "ipc", "uts", "user", "cgroup"} {
				if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", child, kind)); err == nil {
					namespaces[ns] = true
				}
			}
			groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", child))
			if _, after, ok := strings.Cut(string(groups), "/lambent-"); ok {
				group, _, _ = strings.Cut(after, "/")
			}
		}
	}
	const perPlace = 9 // its disk, the file and the device of that, two namespaces, four sockets
	places := s.descriptors()["jail /run/lambent/workshop/disk-N"]
	now.Descriptors -= perPlace * places
	now.Mounts -= places
	now.Namespaces = len(namespaces)
	for _, pattern := range []string{"/sys/fs/cgroup/*/lambent-%s/*", "/sys/fs/cgroup/lambent-%s/*"} {
		found, _ := filepath.Glob(fmt.Sprintf(pattern, strings.TrimSpace(group)))
		for _, f := range found {
			if fi, err := os.Stat(f); err == nil && fi.IsDir() {
				now.Groups++
			}
		}
	}
	return now
}

// mounts counts the mounts of a process, in whichever namespaces its threads are.
func mounts(pid int) (n int) {
	counted := map[string]bool{}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		ns, err := os.Readlink(task + "/ns/mnt")
		if err != nil || counted[ns] {
			continue // it ended
		}
		counted[ns] = true
		b, _ := os.ReadFile(task + "/mountinfo")
		n += bytes.Count(b, []byte("\n"))
	}
	return n
}

// descriptors counts what the server and its jail have open, by what it is.
func (s *soak) descriptors() map[string]int {
	open := map[string]int{}
	for i, pid := range serverAndJail(s.d) {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			what, _ := os.Readlink(fd) // it may be closed by now
			what = strings.Trim(regexp.MustCompile(`[0-9]+|[0-9a-f]{12,}`).ReplaceAllString(what, "N"), ":[]")
			open[[]string{"server ", "jail "}[i]+what]++
		}
	}
	return open
}

// over reports whether there is more of anything than before.
func (now state) over(before state) bool {
	const some = 5 // goroutines that are about to end, and connections that are being closed
	return now.Goroutines > before.Goroutines+some || now.Descriptors > before.Descriptors+some || now.Mounts > before.Mounts ||
		now.Processes > before.Processes || now.Namespaces > before.Namespaces || now.Groups > before.Groups
}

// rss is what a server and its jail have of memory, in MB.
func (s *soak) rss() (mb int) {
	for _, pid := range serverAndJail(s.d) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		var size, pages int
		_, _ = fmt.Sscan(string(b), &size, &pages)
		mb += pages * os.Getpagesize() >> 20
	}
	return mb
}

// deployAll makes the functions that all of the load shares.
func (s *soak) deployAll() {
	public := &client.URLRequest{Policy: new(lambent.URLPublic)}
	for name, change := range map[string]func(*client.DeployRequest){
		"mixer":  func(r *client.DeployRequest) {},
		"late":   func(r *client.DeployRequest) { r.TimeoutMS = new(int64(300)) },
		"cancel": func(r *client.DeployRequest) { r.OnDisconnect = new(lambent.DisconnectCancel) },
	} {
		r := python(s.py, 0)
		r.URL = public
		change(r)
		if _, err := s.d.Deploy(s.Context(), name, r, nil); err != nil {
			s.Fatal(err)
		}
	}
	r := nodejs(s.js)
	r.URL = &client.URLRequest{Policy: new(lambent.URLPublic), Stream: new(true)}
	if _, err := s.d.Deploy(s.Context(), "echoer", r, nil); err != nil {
		s.Fatal(err)
	}
	if _, err := s.shop.Deploy(s.Context(), "mixer", python(s.py, 0), nil); err != nil {
		s.Fatal(err)
	}
	if _, err := s.d.SetProject(s.Context(), "shop", client.ProjectRequest{MaxConcurrency: new(2)}); err != nil {
		s.Fatal(err)
	}
}

func (s *soak) deleteAll() {
	for _, name := range []string{"mixer", "late", "cancel", "echoer"} {
		if err := s.d.Delete(s.Context(), name, ""); err != nil {
			s.Error(err)
		}
	}
	if err := s.shop.Delete(s.Context(), "mixer", ""); err != nil {
		s.Error(err)
	}
}

// rest waits until there is no more of anything than that.
func (s *soak) rest(before state) (now state) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(250 * time.Millisecond) {
		if now = s.state(); !now.over(before) || time.Now().After(deadline) {
			return now
		}
	}
}

// ledger counts the records of the whole server by their request.
func (s *soak) ledger() (records map[string]int, outcomes map[string]string) {
	records, outcomes = map[string]int{}, map[string]string{}
	files, _ := filepath.Glob(filepath.Join(s.d.Data, "ledger", "*.jsonl"))
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			s.Fatal(err)
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var u struct{ ID, Outcome string }
			if err := json.Unmarshal(lines.Bytes(), &u); err != nil {
				s.Fatal(err)
			}
			records[u.ID]++
			outcomes[u.ID] = u.Outcome
		}
	}
	return records, outcomes
}

// Everything at once, for a while: every call is answered exactly once and with what
// is its own, the ledger has exactly one record of it, and what the server had of the
// machine it gives back. LAMBENT_TEST_SOAK is how long, such as 1h. With
// LAMBENT_TEST_SOAK_PLAIN the server is one as users have it, and its memory is looked
// at: the race detector's own grows for as long as it runs.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := 2 * time.Minute
	switch said := os.Getenv("LAMBENT_TEST_SOAK"); {
	case said != "":
		var err error
		if length, err = time.ParseDuration(said); err != nil {
			t.Fatal(err)
		}
	case testing.Short():
		length = 10 * time.Second
	}
	if os.Geteuid() != 0 {
		missing(t, "needs root, for sandboxes")
	}
	start, plain := daemon.StartRacing, os.Getenv("LAMBENT_TEST_SOAK_PLAIN") != ""
	if plain {
		start = daemon.Start
	}
	d := start(t, filepath.Join(daemon.Dir(t), "data"), "--driver", "namespace", "--max-instances", "20") // fewer than are wanted: idle ones give way
	defer func() {
		if t.Failed() {
			d.Kill()
			ended, stderr := d.Wait(t)
			t.Logf("the server ended with %v and said: %s", ended, stderr)
		}
	}()
	shop := *d.Client
	shop.Project = "shop"
	s := &soak{T: t, d: d, shop: &shop, answered: map[string]string{}, made: map[string]int{},
		py: upload(t, d, "app.py", mixer), js: upload(t, d, "index.mjs", echoer)}

	// Whatever there is but once is there after one round, and what is parked, too.
	s.deployAll()
	s.until = time.Now().Add(3 * time.Second)
	var warm sync.WaitGroup
	for range 4 {
		warm.Go(s.mix)
	}
	warm.Wait()
	s.finish()
	s.deleteAll()
	time.Sleep(15 * time.Second) // until no more is parked than at rest
	before := s.state()

	s.deployAll()
	begun := time.Now()
	s.until = begun.Add(length)
	var load sync.WaitGroup
	for range 8 {
		load.Go(s.mix)
	}
	for range 2 {
		load.Go(s.hangUp)
		load.Go(s.slow)
	}
	for i := range 2 {
		load.Go(func() { s.churn(fmt.Sprint("churn", i)) })
	}
	var heap, resident []int // MB, at equal distances
	load.Go(func() {
		for i := range 16 {
			time.Sleep(time.Until(begun.Add(length * time.Duration(i+1) / 16)))
			alive := int(s.d.Metric(s, "go_memstats_next_gc_bytes") / (100 + s.d.Metric(s, "go_gc_gogc_percent")) * 100)
			heap, resident = append(heap, alive>>20), append(resident, s.rss())
		}
	})
	load.Wait()
	s.finish()
	s.deleteAll()
	t.Logf("MB alive on the heap: %v; resident: %v", heap, resident)
	// A process that is about to be another program counts as one more jail, so that the
	// least counts.
	if half, end := slices.Min(heap[4:10]), slices.Min(heap[10:]); end > half+half/4+8 {
		t.Errorf("the heap has grown from %d to %d MB", half, end)
	}
	if half, end := slices.Min(resident[4:10]), slices.Min(resident[10:]); plain && end > half+half/4+8 {
		t.Errorf("memory has grown from %d to %d MB", half, end)
	}
	now := s.rest(before)
	t.Logf("before: %+v; after: %+v", before, now)
	if now.over(before) {
		t.Errorf("it has more than before: %+v, not %+v; open are %v", now, before, s.descriptors())
	}

	d.Signal(syscall.SIGTERM)
	ended, stderr := d.Wait(t)
	if !ended.Success() || strings.Contains(stderr, "DATA RACE") || strings.Contains(stderr, "panic") {
		t.Errorf("the server ended with %v: %s", ended, stderr)
	}
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, "level=ERROR") { // what it could not do at once it did later: nothing is left
			t.Log(line)
		}
	}
	records, outcomes := s.ledger()
	for id, outcome := range s.answered {
		if records[id] != 1 || outcomes[id] != outcome {
			t.Errorf("request %s was answered with %s, and has %d records, the last with %s", id, outcome, records[id], outcomes[id])
		}
	}
	for _, id := range s.accepted {
		if records[id] == 0 || outcomes[id] != lambent.OutcomeOK {
			t.Errorf("request %s was accepted, and has %d records, the last with %q", id, records[id], outcomes[id])
		}
		s.answered[id] = outcomes[id]
	}
	unknown := 0
	for id, n := range records {
		if _, ok := s.answered[id]; !ok {
			unknown++
		}
		if n > 1 && !slices.Contains(s.accepted, id) { // those are tried again
			t.Errorf("request %s has %d records", id, n)
		}
	}
	if unknown > int(s.hungUp.Load()) {
		t.Errorf("%d records are of no call that anybody has made", unknown-int(s.hungUp.Load()))
	}
	t.Logf("%v: %d answers, %d asynchronous, %d refused for load, %d hung up (%d of those with a record): %v",
		time.Since(begun).Round(time.Second), len(s.answered)-len(s.accepted), len(s.accepted), s.throttled.Load(), s.hungUp.Load(), unknown, s.made)
}
