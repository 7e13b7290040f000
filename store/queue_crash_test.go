package store_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lambent/store"
)

// crashVariable has the test binary be a process of TestQueueCrash: the
// directory and the how-manieth one.
const crashVariable = "LAMBENT_TEST_QUEUE_CRASH"

func TestMain(m *testing.M) {
	if v := os.Getenv(crashVariable); v != "" {
		dir, run, _ := strings.Cut(v, "\n")
		if err := crash(dir, run); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// crash works on a queue until it is killed, and says what it does in lines: add
// (is tried), yes (is added), end (is about to be done), die (about to be killed),
// sure (what it became is on disk), each with an id. Ids on its input are added first.
func crash(dir, run string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		return err
	}
	q, err := s.OpenQueue(ctx, store.QueueOptions{RememberBytes: 4 << 20})
	if err != nil {
		return err
	}
	q.SetTrim(256 << 10)
	q.LoseAcks(func() bool { return rand.IntN(50) == 0 }, func() bool { return rand.IntN(50) == 0 })
	var mu sync.Mutex
	say := func(what, id string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(os.Stdout, what, id)
	}
	fail := make(chan error, 1)
	report := func(err error) {
		select {
		case fail <- err:
		default:
		}
	}
	try := func(id string) {
		say("add", id)
		if _, err := q.Add(ctx, store.Item{ID: id, Lane: crashLane(id), Payload: crashPayload(id)}); err != nil {
			report(err)
			return
		}
		say("yes", id)
	}
	for range 4 {
		go func() {
			for {
				lane, err := q.Next(ctx)
				if err != nil {
					report(err)
					return
				}
				for _, w := range q.Take(lane, 2) {
					it, err := w.Load(ctx)
					if err == nil && !bytes.Equal(it.Payload, crashPayload(it.ID)) {
						err = fmt.Errorf("item %s has another payload", it.ID)
					}
					sure := false
					switch n := rand.IntN(100); {
					case err != nil:
					case n == 0:
						say("die", it.ID)
						err = w.Kill("killed")
						sure = true
					case n < 10 && w.Attempt < 2:
						err = w.Retry(time.Now().Add(20*time.Millisecond), w.Attempt+1, "again")
					default:
						say("end", it.ID)
						err = w.Done()
						sure = n > 90
					}
					if err == nil && sure {
						if err = q.Flush(ctx); err == nil {
							say("sure", it.ID)
						}
					}
					if err != nil {
						report(err)
						return
					}
				}
				q.Wake(lane)
			}
		}()
	}
	say("open", run)
	for again := bufio.NewScanner(os.Stdin); again.Scan(); {
		try(again.Text())
	}
	for p := range 16 {
		go func() {
			for i := 0; ; i++ {
				try(fmt.Sprintf("%s-%d-%d", run, p, i))
			}
		}()
	}
	return <-fail
}

func crashLane(id string) string { return "lane" + strconv.Itoa(len(id)) + id[len(id)-1:] }
func crashPayload(id string) []byte {
	return bytes.Repeat([]byte(id), 1+int(id[len(id)-1])*8)
}

// Processes that work on one queue are killed at random moments: nothing that
// was acknowledged is lost, and nothing comes again that was surely finished.
func TestQueueCrash(t *testing.T) {
	t.Parallel()
	kills := 4
	if v := os.Getenv("LAMBENT_TEST_KILLS"); v != "" {
		kills, _ = strconv.Atoi(v)
	}
	dir := t.TempDir()
	said := map[string]map[string]bool{"add": {}, "yes": {}, "end": {}, "die": {}, "sure": {}, "open": {}}
	repeated := 0
	for run := range kills {
		var unsure []string
		for id := range said["add"] {
			if !said["yes"][id] {
				unsure = append(unsure, id)
			}
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s\n%d", crashVariable, dir, run))
		cmd.Stdin = strings.NewReader(strings.Join(unsure, "\n"))
		var problem bytes.Buffer
		cmd.Stderr = &problem
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		var kill *time.Timer
		for {
			line, err := lines.ReadString('\n')
			if err == io.EOF {
				break // a line that was cut off was not said
			} else if err != nil {
				t.Fatal(err)
			}
			what, id, _ := strings.Cut(strings.TrimSpace(line), " ")
			if what == "open" {
				kill = time.AfterFunc(time.Duration(200+rand.IntN(600))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			if what == "end" || what == "die" {
				if said["sure"][id] {
					t.Errorf("%s came again in run %d after it was surely finished", id, run)
				} else if said["end"][id] {
					repeated++
				}
			}
			said[what][id] = true
		}
		if err := cmd.Wait(); kill == nil || problem.Len() > 0 {
			t.Fatalf("run %d ended by itself: %v\n%s", run, err, &problem)
		}
		kill.Stop()
	}

	s := open(t, dir)
	q, err := s.OpenQueue(t.Context(), store.QueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	see := func(w *store.Work) {
		it := load(t, w)
		if left[it.ID] || !bytes.Equal(it.Payload, crashPayload(it.ID)) || it.Lane != crashLane(it.ID) {
			t.Errorf("%s of %s is there twice, or is not what was added", it.ID, it.Lane)
		}
		left[it.ID] = true
	}
	for _, lane := range q.Lanes() {
		for _, w := range q.Dead(lane) {
			see(w)
		}
	}
	for _, id := range mapKeys(left) {
		if !said["die"][id] {
			t.Errorf("%s is dead, and nobody killed it", id)
		}
	}
	for s := q.Stats(); s.Waiting+s.Delayed > 0; s = q.Stats() {
		lane, err := q.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range q.Take(lane, 1000) {
			see(w)
		}
	}
	lost, finishedTwice := 0, 0
	for id := range said["yes"] {
		if !left[id] && !said["end"][id] {
			t.Errorf("%s was acknowledged and is lost", id)
			lost++
		}
	}
	for id := range left {
		switch {
		case !said["add"][id]:
			t.Errorf("%s is there, and nobody added it", id)
		case said["sure"][id] && said["end"][id] && !said["die"][id]:
			t.Errorf("%s is there, and was surely finished", id)
		case said["end"][id]:
			finishedTwice++
		}
	}
	t.Logf("%d kills: %d acknowledged, %d lost, %d finished runs repeated and %d to be, %d left", kills, len(said["yes"]), lost, repeated, finishedTwice, len(left))
}

func mapKeys(m map[string]bool) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}
