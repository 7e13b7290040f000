// Package test holds the tests that need the whole program as a process: crashes
// and signals, and clients that know nothing of us.
package test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent/client"
	"lambent/source/brokertest"
	"lambent/test/daemon"
)

func TestMain(m *testing.M) { os.Exit(brokertest.Main(tests{m}, nil)) }

// tests are those of this package, which start daemons.
type tests struct{ *testing.M }

func (t tests) Run() int { return daemon.Main(t.M) }

const handler = `import os, time

def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return os.environ.get("N", "")
`

// upload sends a function of one file and returns its code's digest.
func upload(t *testing.T, d *daemon.Daemon, file, source string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, source); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	code, err := d.PutCode(t.Context(), &b, int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return code.Digest
}

func python(code string, n int) *client.DeployRequest {
	return &client.DeployRequest{
		Runtime: new("python3"), Handler: new("app.handler"), Code: code, TimeoutMS: new(int64(30_000)),
		Env: map[string]string{"N": strconv.Itoa(n), "LAMBENT_CRASH_TEST": "1"}, Publish: true,
	}
}

func nodejs(code string) *client.DeployRequest {
	return &client.DeployRequest{Runtime: new("nodejs"), Handler: new("index.handler"), Code: code, TimeoutMS: new(int64(60_000)), MemoryMB: new(256)}
}

func invoke(ctx context.Context, d *daemon.Daemon, name, payload string) (string, *client.Outcome, error) {
	var out bytes.Buffer
	o, err := d.Invoke(ctx, client.InvokeRequest{Name: name, Payload: strings.NewReader(payload)}, &out)
	return out.String(), o, err
}

// A diary is what clients know for certain, across all crashes.
type diary struct {
	mu       sync.Mutex
	tried    map[string]int // function -> the last number that was sent
	deployed map[string]int // function -> the last number that was acknowledged
	answered map[string]int // request id -> how often an answer came
}

// Promise 2, and the store's: over any number of kill -9 no acknowledged deploy is
// lost, none is there in half, every answered call has exactly one usage record,
// and no process of a function outlives its server.
func TestKillNine(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	data := filepath.Join(daemon.Dir(t), "data")
	d := daemon.Start(t, data)
	code := upload(t, d, "app.py", handler)
	if _, err := d.Deploy(t.Context(), "steady", python(code, 0), nil); err != nil {
		t.Fatal(err)
	}
	known := &diary{tried: map[string]int{}, deployed: map[string]int{}, answered: map[string]int{}}
	for round := range rounds {
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for i := range 2 {
			wg.Go(func() { known.deployAgain(ctx, d, fmt.Sprintf("f%d", i), code) })
			wg.Go(func() { known.callAgain(ctx, d) })
		}
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // the moment is any moment
		d.Kill()
		stop()
		wg.Wait()
		noneLeft(t)
		d = daemon.Start(t, data)
		known.check(t, d, round)
	}
	if len(known.answered) == 0 || len(known.deployed) == 0 {
		t.Errorf("%d calls and %d functions were acknowledged: the test saw nothing", len(known.answered), len(known.deployed))
	}
	n := 0
	for _, v := range known.deployed {
		n += v
	}
	t.Logf("%d kills, %d acknowledged deploys, %d answered calls", rounds, n, len(known.answered))
}

// deployAgain deploys one number after another until the server is gone.
func (k *diary) deployAgain(ctx context.Context, d *daemon.Daemon, name, code string) {
	for ctx.Err() == nil {
		k.mu.Lock()
		k.tried[name]++
		n := k.tried[name]
		k.mu.Unlock()
		r := python(code, n)
		r.Check = new(n%4 == 0)
		if _, err := d.Deploy(ctx, name, r, nil); err != nil {
			return
		}
		k.mu.Lock()
		k.deployed[name] = n
		k.mu.Unlock()
	}
}

func (k *diary) callAgain(ctx context.Context, d *daemon.Daemon) {
	for ctx.Err() == nil {
		_, o, err := invoke(ctx, d, "steady", "{}")
		if err != nil {
			return
		}
		k.mu.Lock()
		k.answered[o.RequestID]++
		k.mu.Unlock()
	}
}

func (k *diary) check(t *testing.T, d *daemon.Daemon, round int) {
	t.Helper()
	for name, acknowledged := range k.deployed {
		f, err := d.Function(t.Context(), name)
		if err != nil {
			t.Fatalf("round %d: %s was deployed and is lost: %v", round, name, err)
		}
		n, _ := strconv.Atoi(f.Configuration.Env["N"])
		if n < acknowledged || n > k.tried[name] {
			t.Fatalf("round %d: %s has number %d; %d was acknowledged and %d tried last", round, name, n, acknowledged, k.tried[name])
		}
		if got, _, err := invoke(t.Context(), d, name, "{}"); err != nil || got != strconv.Quote(strconv.Itoa(n)) {
			t.Fatalf("round %d: %s with number %d answers %s, %v", round, name, n, got, err)
		}
		k.checkVersions(t, d, name, f.LastVersion, acknowledged)
		k.deployed[name] = n // a deploy that was cut off may be there: then it stays
	}
	for name := range k.tried {
		if _, ok := k.deployed[name]; ok {
			continue
		}
		if _, err := d.Function(t.Context(), name); err == nil {
			if _, _, err := invoke(t.Context(), d, name, "{}"); err != nil {
				t.Fatalf("round %d: %s is there in half: %v", round, name, err)
			}
		}
	}
	// The answered calls of all rounds, every time: a record must not go later.
	list, err := d.Invocations(t.Context(), "steady", client.Period{}, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	records := map[string]int{}
	for _, r := range list.Invocations {
		if records[r.ID]++; records[r.ID] > 1 {
			t.Fatalf("round %d: invocation %s has %d usage records", round, r.ID, records[r.ID])
		}
	}
	for id := range k.answered {
		if records[id] != 1 {
			t.Fatalf("round %d: invocation %s was answered and has %d usage records", round, id, records[id])
		}
	}
}

// checkVersions sees that every version up to the last is there, and that the
// last acknowledged number is among them.
func (k *diary) checkVersions(t *testing.T, d *daemon.Daemon, name string, last, acknowledged int) {
	t.Helper()
	found, seen := false, 0
	for after := 0; ; {
		page, err := d.Versions(t.Context(), name, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			seen++
			found = found || v.Configuration.Env["N"] == strconv.Itoa(acknowledged)
		}
		if after = page.Next; after == 0 {
			break
		}
	}
	if seen != last || !found {
		t.Fatalf("%s has %d versions, its last is %d, and the one of deploy %d is there: %v", name, seen, last, acknowledged, found)
	}
}

// noneLeft waits a moment for the processes of functions to be gone: the kernel
// ends them with their server, and that takes it a while.
func noneLeft(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := functionProcesses()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes of functions outlive their server: %v", left)
		}
	}
}

// functionProcesses finds this test's functions by what their environment says.
func functionProcesses() (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && bytes.Contains(b, []byte("LAMBENT_CRASH_TEST=1")) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

// The first SIGTERM lets calls end, and refuses new ones.
func TestTermLetsCallsEnd(t *testing.T) {
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"), "--grace", "20s")
	if _, err := d.Deploy(t.Context(), "slow", python(upload(t, d, "app.py", handler), 7), nil); err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		got, _, err := invoke(context.Background(), d, "slow", `{"sleep":1}`)
		answer <- fmt.Sprint(got, " ", err)
	}()
	underWay(t, d)
	d.Signal(syscall.SIGTERM)
	if got := <-answer; got != `"7" <nil>` {
		t.Errorf("the call under way ended with %s", got)
	}
	state, stderr := d.Wait(t)
	if !state.Success() {
		t.Errorf("the server ended with %v: %s", state, stderr)
	}
	if !strings.Contains(stderr, "waiting for 1 calls under way, 20s at most") {
		t.Errorf("standard error does not say what is waited for: %s", stderr)
	}
}

// The second one ends the server at once, and the functions with it.
func TestSecondTermEndsAtOnce(t *testing.T) {
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	if _, err := d.Deploy(t.Context(), "slow", python(upload(t, d, "app.py", handler), 7), nil); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := invoke(context.Background(), d, "slow", `{"sleep":25}`)
		ended <- err
	}()
	underWay(t, d)
	begun := time.Now()
	d.Signal(syscall.SIGTERM)
	for d.Answers() { // until the first one has been heard
		time.Sleep(5 * time.Millisecond)
	}
	d.Signal(syscall.SIGTERM)
	state, _ := d.Wait(t)
	if state.Success() || time.Since(begun) > 10*time.Second {
		t.Errorf("the server ended with %v after %v", state, time.Since(begun))
	}
	if err := <-ended; err == nil {
		t.Error("the call was answered")
	}
}

// underWay returns when a call runs.
func underWay(t *testing.T, d *daemon.Daemon) {
	t.Helper()
	for {
		s, err := d.Server(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Instances.Busy > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
