package v1_test

import (
	"strconv"
	"sync"
	"testing"

	"lambent"
	"lambent/client"
	"lambent/server/servertest"
)

// Versions do not change, aliases lead to them, and a rollback takes latest back.
func TestVersions(t *testing.T) {
	s := servertest.Start(t)
	ctx := t.Context()
	deploy := func(text string) {
		t.Helper()
		if _, err := s.Deploy(ctx, t, "f", source(text), client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler")}); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(want int) {
		t.Helper()
		if v, err := s.Client.Publish(ctx, "f", "the words"); err != nil || v.Version != want || v.Description != "the words" && want < 3 {
			t.Fatalf("published %+v, %v; want version %d", v, err, want)
		}
	}
	answers := func(qualifier, want string) {
		t.Helper()
		if got := call(t, s, "f", qualifier); got != want {
			t.Errorf("f:%s answers %s, want %s", qualifier, got, want)
		}
	}
	deploy("one")
	publish(1)
	publish(1) // nothing has changed since
	deploy("two")
	publish(2)
	deploy("three")
	answers("", "three")
	answers("latest", "three")
	answers("1", "one")
	answers("2", "two")
	_, err := s.Client.Invoke(ctx, client.InvokeRequest{Name: "f", Qualifier: "3"}, nil)
	refused(t, err, lambent.NotFound, `3`)

	if _, err := s.Client.SetAlias(ctx, "f", client.Alias{Name: "live", Version: "1", Description: "what customers get"}); err != nil {
		t.Fatal(err)
	}
	answers("live", "one")
	if _, err := s.Client.SetAlias(ctx, "f", client.Alias{Name: "live", Version: "1", Other: "2", Weight: 0.5}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for range 200 {
		seen[call(t, s, "f", "live")]++
	}
	if seen["one"] < 60 || seen["two"] < 60 || seen["one"]+seen["two"] != 200 { // 60 is over five deviations away
		t.Errorf("of two versions of equal weight: %v", seen)
	}
	list, err := s.Client.Invocations(ctx, "f", client.Period{}, 1)
	if err != nil || list.Invocations[0].Alias != "live" {
		t.Errorf("%+v, %v", list, err)
	}
	aliases, err := s.Client.Aliases(ctx, "f")
	if err != nil || len(aliases) != 1 || aliases[0] != (client.Alias{Name: "live", Version: "1", Other: "2", Weight: 0.5}) {
		t.Errorf("%+v, %v", aliases, err)
	}
	for _, bad := range []client.Alias{
		{Name: "x", Version: "9"}, {Name: "x", Version: "1", Other: "9", Weight: 0.1}, {Name: "x", Version: "1", Other: "2", Weight: 1.5},
		{Name: "x", Version: "1", Other: "2", Weight: -1}, {Name: "7", Version: "1"}, {Name: "latest", Version: "1"}, {Name: "x", Version: ""},
	} {
		if _, err := s.Client.SetAlias(ctx, "f", bad); err == nil {
			t.Errorf("the alias %+v is taken", bad)
		} else if k := lambent.KindOf(err); k != lambent.Invalid && k != lambent.NotFound {
			t.Errorf("the alias %+v: %v", bad, err)
		}
	}

	// What an alias names stays.
	if err := s.Client.DeleteVersion(ctx, "f", 1); err == nil || lambent.KindOf(err) == lambent.Internal {
		t.Errorf("deleting a version that an alias names: %v", err)
	}
	if err := s.Client.DeleteAlias(ctx, "f", "live"); err != nil {
		t.Fatal(err)
	}
	if err := s.Client.DeleteVersion(ctx, "f", 2); err != nil {
		t.Fatal(err)
	}
	_, err = s.Client.Invoke(ctx, client.InvokeRequest{Name: "f", Qualifier: "2"}, nil)
	refused(t, err, lambent.NotFound, "2")
	publish(3) // the number 2 is not used again

	f, err := s.Client.Rollback(ctx, "f", 1)
	if err != nil || f.LastVersion != 3 {
		t.Fatalf("%+v, %v", f, err)
	}
	answers("", "one")
	if _, err := s.Client.Rollback(ctx, "f", 0); err != nil { // takes it back
		t.Fatal(err)
	}
	answers("", "three")
	_, err = s.Client.Rollback(ctx, "f", 2)
	refused(t, err, lambent.NotFound, "2")
}

// Calls that come while a function is deployed over and over are all answered, by
// a version that was there.
func TestDeployUnderLoad(t *testing.T) {
	s := servertest.Start(t)
	ctx := t.Context()
	python := client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler")}
	if _, err := s.Deploy(ctx, t, "f", source("v0"), python); err != nil {
		t.Fatal(err)
	}
	done, wrong := make(chan struct{}), make(chan string, 4)
	for range 4 {
		go func() {
			calls := 0
			for {
				select {
				case <-done:
					if calls == 0 {
						wrong <- "no call was made"
						return
					}
					wrong <- ""
					return
				default:
				}
				if out := call(t, s, "f", ""); len(out) != 2 || out[0] != 'v' {
					wrong <- out
					return
				}
				calls++
			}
		}()
	}
	for _, v := range []string{"v1", "v2", "v3", "v4", "v5"} {
		if _, err := s.Deploy(ctx, t, "f", source(v), client.DeployRequest{}); err != nil {
			t.Error(err)
		}
		if out := call(t, s, "f", ""); out != v {
			t.Errorf("after the deploy of %s was acknowledged it answers %s", v, out)
		}
		if _, err := s.Deploy(ctx, t, "f", servertest.Files{"app.py": "raise ValueError('no')"}, client.DeployRequest{}); lambent.KindOf(err) != lambent.Broken {
			t.Errorf("a deploy of what does not start: %v", err)
		}
	}
	close(done)
	for range 4 {
		if w := <-wrong; w != "" {
			t.Errorf("a call during deploys: %s", w)
		}
	}
}

// Whoever changes a function while many others do, is done as well: a trial start
// takes longer than another's change to come in between, and is not for nothing then.
func TestDeployAmongOthers(t *testing.T) {
	s := servertest.Start(t)
	code := servertest.Files{"app.py": "import time\ntime.sleep(0.05)\ndef handler(event, context):\n    return context.memory_limit_in_mb\n"}
	made, err := s.Deploy(t.Context(), t, "f", code, client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler")})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			env := map[string]string{"N": strconv.Itoa(n)}
			if _, err := s.Client.Deploy(t.Context(), "f", &client.DeployRequest{Env: env, Publish: true}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if f, err := s.Client.Function(t.Context(), "f"); err != nil || f.LastVersion != 20 || f.Configuration.Code != made.Configuration.Code {
		t.Errorf("%+v, %v", f, err)
	}
}
