package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/test/daemon"
)

// flaky fails a third of the attempts, and ends its process at some.
const flaky = `import os, random

def handler(event, context):
    n = random.random()
    if n < 0.03:
        os._exit(1)
    if n < 0.33:
        raise ValueError(event)
`

// Promise 1: over any number of kill -9 every asynchronous invocation that was accepted
// runs until it succeeds, and every due time of a schedule does, under one id.
func TestAsyncKillNine(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 4
	}
	data := filepath.Join(daemon.Dir(t), "data")
	d := daemon.Start(t, data)
	r := python(upload(t, d, "app.py", flaky), 0)
	r.Async = &client.AsyncRequest{Attempts: new(1000), BackoffMS: new(int64(20)), Factor: new(1.0)}
	for _, name := range []string{"flaky", "ticker"} {
		if _, err := d.Deploy(t.Context(), name, r, nil); err != nil {
			t.Fatal(err)
		}
	}
	schedule, err := d.AddTrigger(t.Context(), client.TriggerRequest{
		Function: "ticker", SourceRequest: client.SourceRequest{Schedule: &client.Schedule{Expression: "rate(1 second)"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	accepted := map[string]bool{}
	for range rounds {
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for range 4 {
			wg.Go(func() {
				for ctx.Err() == nil {
					id, err := d.InvokeAsync(ctx, client.InvokeRequest{Name: "flaky", Payload: strings.NewReader(fmt.Sprint(rand.Int()))}, "")
					if err != nil {
						return
					}
					mu.Lock()
					accepted[id] = true
					mu.Unlock()
					time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
				}
			})
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		d.Kill()
		stop()
		wg.Wait()
		noneLeft(t)
		d = daemon.Start(t, data)
	}
	if len(accepted) == 0 {
		t.Fatal("nothing was accepted: the test saw nothing")
	}
	var succeeded map[string]int
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		succeeded = successes(t, d, "flaky")
		missing := 0
		for id := range accepted {
			if succeeded[id] == 0 {
				missing++
			}
		}
		if missing == 0 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d of %d that were accepted have not succeeded", missing, len(accepted))
		}
	}
	if dead, err := d.DeadLetters(t.Context(), "flaky", client.DeadSelection{}, 0); err != nil || dead.Total > 0 {
		t.Errorf("%+v, %v", dead, err)
	}
	again := 0
	for _, n := range succeeded {
		again += n - 1
	}

	// The due times up to now have an id each, and each of them has succeeded.
	if err := d.DeleteTrigger(t.Context(), schedule.ID); err != nil {
		t.Fatal(err)
	}
	due := int(time.Since(schedule.Created) / time.Second)
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		n := len(successes(t, d, "ticker"))
		if n == due || n == due+1 { // one more while it was counted
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d of %d due times have succeeded", n, due)
		}
	}
	t.Logf("%d kills, %d accepted, %d ran again after they had succeeded, %d due times", rounds, len(accepted), again, due)
}

// successes counts the attempts that did well, by invocation.
func successes(t *testing.T, d *daemon.Daemon, function string) map[string]int {
	t.Helper()
	list, err := d.Invocations(t.Context(), function, client.Period{}, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, r := range list.Invocations {
		if r.Outcome == lambent.OutcomeOK {
			n[r.ID]++
		}
	}
	return n
}
