package control_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/control"
	"lambent/store"
)

// This test binary runs itself as a server that deploys without end, kills it at
// random moments, and looks at what is left.
const (
	crashDirEnv  = "LAMBENT_TEST_CRASH_DIR"
	crashFromEnv = "LAMBENT_TEST_CRASH_FROM" // the first configuration's number
	crashWorkers = 3                         // each with a function of its own
)

// deployUntilKilled says on standard output what each worker is about to do and,
// once it was acknowledged, that it is done.
func deployUntilKilled(dir string) {
	var from int
	fmt.Sscan(os.Getenv(crashFromEnv), &from)
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		fail(err)
	}
	c, err := control.Open(ctx, everything(s))
	if err != nil {
		fail(err)
	}
	var wg sync.WaitGroup
	for w := range crashWorkers {
		wg.Go(func() {
			name := lambent.Name{Project: "default", Function: fmt.Sprintf("w%d", w)}
			for n := from; ; n++ {
				var f *lambent.Function
				var err error
				fmt.Printf("try %d %d\n", w, n)
				switch {
				case n%7 == 6:
					if err = c.Delete(ctx, name, ""); lambent.Is(err, lambent.NotFound) {
						err = nil
					}
				default:
					f, err = c.Deploy(ctx, control.DeployRequest{Name: name, Config: config(n), Publish: true})
				}
				if err != nil {
					fail(err)
				}
				version := 0
				if f != nil {
					version = f.LastVersion
				}
				fmt.Printf("done %d %d %d\n", w, n, version)
			}
		})
	}
	wg.Wait()
}

// A crashFunction is what one worker's function must be.
type crashFunction struct {
	versions []int // configuration of version 1, 2, ...; empty: there is no function
	trying   int   // the number of what was under way at the kill, or -1
}

// done is what the function is after operation n.
func (f crashFunction) done(n int) []int {
	if n%7 == 6 {
		return nil
	}
	return append(append([]int(nil), f.versions...), n)
}

func TestKill(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 5
	}
	dir := t.TempDir()
	functions := make([]crashFunction, crashWorkers)
	acknowledged, unclear := 0, 0
	for round := range kills {
		acknowledged += crash(t, dir, round*1_000_000, functions)
		s, err := store.Open(t.Context(), store.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		c, err := control.Open(t.Context(), everything(s))
		if err != nil {
			t.Fatal(err)
		}
		for w := range functions {
			unclear += verify(t, c, fmt.Sprintf("w%d", w), &functions[w])
		}
		c.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("after kill %d", round+1)
		}
	}
	t.Logf("%d kills: %d changes acknowledged, %d were under way and took effect", kills, acknowledged, unclear)
	if acknowledged == 0 {
		t.Error("nothing was acknowledged in any round: the kills came too early to mean anything")
	}
}

// crash runs the deploying process for a moment, kills it, and applies what it
// said to the functions.
func crash(t *testing.T, dir string, from int, functions []crashFunction) (acknowledged int) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), crashDirEnv+"="+dir, crashFromEnv+"="+fmt.Sprint(from))
	child.Stderr = os.Stderr
	said, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(said)
	first, err := lines.ReadString('\n') // it is up
	if err != nil {
		t.Fatal("the deploying process said nothing: ", err)
	}
	time.AfterFunc(time.Duration(rand.N(80_000))*time.Microsecond, func() { child.Process.Kill() })
	rest, err := io.ReadAll(lines)
	if err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed, as it should be
	if code := child.ProcessState.ExitCode(); code != -1 {
		t.Fatalf("the deploying process ended by itself with %d", code)
	}

	for w := range functions {
		functions[w].trying = -1
	}
	for line := range strings.Lines(first + string(rest)) {
		var what string
		var w, n, version int
		if !strings.HasSuffix(line, "\n") {
			break // cut off by the kill: never said
		}
		fmt.Sscan(line, &what, &w, &n, &version)
		f := &functions[w]
		switch what {
		case "try":
			f.trying = n
		case "done":
			f.versions, f.trying = f.done(n), -1
			acknowledged++
			if version != len(f.versions) {
				t.Errorf("w%d: configuration %d was acknowledged as version %d, want %d", w, n, version, len(f.versions))
			}
		}
	}
	return acknowledged
}

// verify checks one function against what was acknowledged: it is that, or what
// it was about to become; nothing in between. It notes which, and returns 1 for
// the latter.
func verify(t *testing.T, c *control.Control, name string, f *crashFunction) (unclear int) {
	t.Helper()
	head, err := c.Get(named(name))
	if err != nil && !lambent.Is(err, lambent.NotFound) {
		t.Fatal(err)
	}
	has := 0
	if head != nil {
		has = head.LastVersion
	}
	want := f.versions
	if f.trying >= 0 && has == len(f.done(f.trying)) {
		want, unclear = f.done(f.trying), 1
	}
	if has != len(want) || (head == nil) != (len(want) == 0) {
		t.Errorf("%s has %d versions; %d were acknowledged, and %d was under way", name, has, len(f.versions), f.trying)
		return 0
	}
	for i, n := range want {
		target, err := c.Resolve(named(fmt.Sprintf("%s:%d", name, i+1)))
		if err != nil {
			t.Errorf("%s has lost version %d: %v", name, i+1, err)
		} else if got := target.Revision.Config.Env["N"]; got != fmt.Sprint(n) {
			t.Errorf("%s: version %d is configuration %s, want %d", name, i+1, got, n)
		}
	}
	if len(want) > 0 {
		if got, last := head.Latest.Env["N"], want[len(want)-1]; got != fmt.Sprint(last) {
			t.Errorf("%s: latest is configuration %s, its last version is %d", name, got, last)
		}
	}
	f.versions = want
	return unclear
}
