package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/sandbox"
	"lambent/sandbox/fake"
)

// obedient does what the event says: "1s" sleeps for so long, "1s crash" ends the
// process then, "1s oom" has the kernel take a child.
func obedient(ctx context.Context, in *scripted, inv *lambent.Invocation, out lambent.Reply) error {
	d, then, _ := strings.Cut(string(inv.Raw), " ")
	took, err := time.ParseDuration(d)
	if err != nil {
		panic(err)
	}
	select {
	case <-time.After(took):
	case <-in.sandbox.Done():
		return errors.New("the connection broke")
	case <-ctx.Done():
		return ctx.Err()
	}
	box := sandbox.Unwrap(in.sandbox).(*fake.Box)
	switch then {
	case "crash":
		go in.sandbox.Destroy()
		<-in.sandbox.Done()
		return errors.New("the connection broke")
	case "oom":
		box.OOM.Store(true)
	}
	box.CPUUS.Add(took.Microseconds() / 100)
	answer(out, strconv.Itoa(in.n))
	return nil
}

// newWideBench is a bench whose instances serve so many at a time.
func newWideBench(t *testing.T, concurrency int, change ...func(*dispatch.Config)) *bench {
	b := newBench(t, &script{invoke: obedient}, change...)
	c := lambent.Config{Runtime: "r", Timeout: 10 * time.Second, Concurrency: concurrency}.WithDefaults()
	b.rev = lambent.NewRevision(b.rev.Name, lambent.Latest, &c)
	return b
}

// send makes a call at a time from now, and has its answer in the reply when all are waited for.
func (b *bench) send(wg *sync.WaitGroup, after time.Duration, event string) *reply {
	r := &reply{}
	wg.Go(func() {
		time.Sleep(after)
		inv := &lambent.Invocation{ID: lambent.NewID(), Target: lambent.Name{Project: "default", Function: "f"}, Raw: []byte(event), WantLog: true}
		r.err = b.Invoke(context.Background(), inv, r)
	})
	return r
}

// The busiest that has room is the first, then another, and one is started by the
// same rule as ever.
func TestConcurrencySpills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWideBench(t, 3)
		var wg sync.WaitGroup
		var replies []*reply
		for i := range 4 {
			replies = append(replies, b.send(&wg, time.Duration(i)*time.Millisecond, "1s"))
		}
		quick := b.send(&wg, 100*time.Millisecond, "1ms")    // beside the one in the second
		filling := b.send(&wg, 200*time.Millisecond, "50ms") // so is this, and
		beside := b.send(&wg, 210*time.Millisecond, "50ms")  // this, and then
		third := b.send(&wg, 220*time.Millisecond, "50ms")   // there is no room
		wg.Wait()
		for i, want := range []string{"1", "1", "1", "2"} {
			wantBody(t, replies[i], want)
		}
		for _, r := range []*reply{quick, filling, beside} {
			wantBody(t, r, "2")
		}
		if s := third.body.String(); s != "2" && s != "3" {
			t.Errorf("served by %q", s)
		}
		b.send(&wg, 0, "1s")
		second := b.send(&wg, time.Millisecond, "1s")
		wg.Wait()
		busy := second.body.String() // of the hottest
		again := b.send(&wg, 0, "1ms")
		wg.Wait()
		wantBody(t, again, busy)
	})
}

// With many at a time a crowd has one instance, and what one is full of another takes.
func TestConcurrencyOfACrowd(t *testing.T) {
	for concurrency, want := range map[int]int32{10: 5, 100: 1, 1: 50} {
		synctest.Test(t, func(t *testing.T) {
			b := newWideBench(t, concurrency)
			b.guest.init = func(context.Context, int) error { time.Sleep(20 * time.Millisecond); return nil }
			var wg sync.WaitGroup
			for range 50 {
				b.send(&wg, 0, "200ms")
			}
			wg.Wait()
			if n := b.guest.starts.Load(); n != want {
				t.Errorf("%d instances for 50 calls, %d at a time", n, concurrency)
			}
			cold := 0
			for _, u := range b.records() {
				if u.Cold {
					cold++
				}
			}
			if cold != int(want) {
				t.Errorf("%d cold starts", cold)
			}
		})
	}
}

// One that takes too long is answered; the instance takes no more, and ends when
// the others are done.
func TestTimeoutOfOneOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWideBench(t, 10)
		var wg sync.WaitGroup
		late := b.send(&wg, 0, "1h")
		there := b.send(&wg, 5*time.Second, "9s")
		also := b.send(&wg, 5*time.Second, "1h") // bounded by its own deadline
		next := b.send(&wg, 10*time.Second+time.Millisecond, "1ms")
		wg.Go(func() {
			time.Sleep(14*time.Second + 500*time.Millisecond)
			if n := b.driver.Alive(); n != 2 {
				t.Errorf("%d sandboxes, want the one that ends and the one in its place", n)
			}
		})
		wg.Wait()
		wantBody(t, there, "1")
		wantBody(t, next, "2")
		for _, r := range []*reply{late, also} {
			if r.result.Fault == nil || r.result.Fault.Kind != lambent.FaultTimeout {
				t.Errorf("got %q, %v", r.body.String(), r.result.Fault)
			}
		}
		synctest.Wait()
		if n := b.driver.Alive(); n != 1 {
			t.Errorf("%d sandboxes are left", n)
		}
		b.once(t, 4)
	})
}

// once holds that each call has one record.
func (b *bench) once(t *testing.T, calls int) {
	t.Helper()
	ids := map[string]int{}
	for _, u := range b.records() {
		ids[u.ID]++
	}
	if len(ids) != calls || len(b.records()) != calls {
		t.Errorf("%d records of %d invocations, want %d", len(b.records()), len(ids), calls)
	}
}

func TestCrashOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWideBench(t, 10)
		var wg sync.WaitGroup
		var replies []*reply
		for i := range 5 {
			replies = append(replies, b.send(&wg, time.Duration(i)*time.Millisecond, "5s"))
		}
		replies = append(replies, b.send(&wg, time.Second, "1s crash"))
		before := b.send(&wg, time.Second, "10ms")
		wg.Wait()
		wantBody(t, before, "1")
		for _, r := range replies {
			if r.ended != 1 || r.result.Fault == nil || r.result.Fault.Kind != lambent.FaultExit {
				t.Errorf("%d ends, %v, %v", r.ended, r.err, r.result.Fault)
			}
			if u := r.result.Usage; u.Outcome != string(lambent.FaultExit) || u.RunUS < 1_000_000 {
				t.Errorf("%+v", u)
			}
		}
		b.once(t, 7)
		if n := b.driver.Alive(); n != 0 {
			t.Errorf("%d sandboxes are left", n)
		}
	})
}

func TestOutOfMemoryOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWideBench(t, 10)
		var wg sync.WaitGroup
		replies := []*reply{b.send(&wg, 0, "2s"), b.send(&wg, time.Millisecond, "1s oom")}
		after := b.send(&wg, 1500*time.Millisecond, "1ms")
		wg.Wait()
		for _, r := range replies {
			if r.result.Fault == nil || r.result.Fault.Kind != lambent.FaultMemory {
				t.Errorf("got %q, %v", r.body.String(), r.result.Fault)
			}
		}
		wantBody(t, after, "2")
		b.once(t, 3)
	})
}

func TestNoFreezeWhileOneIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var box *fake.Box
		b := newWideBench(t, 10, func(c *dispatch.Config) { c.FreezeAfter = time.Second })
		b.driver.OnPark = func(x *fake.Box) { box = x }
		var wg sync.WaitGroup
		b.send(&wg, 0, "9s")
		b.send(&wg, time.Second, "1ms")
		b.send(&wg, 5*time.Second, "1ms")
		wg.Wait()
		if n := box.Freezes.Load(); n != 0 {
			t.Errorf("frozen %d times under a call", n)
		}
		time.Sleep(3 * time.Second)
		if n := box.Freezes.Load(); n != 1 {
			t.Errorf("frozen %d times", n)
		}
	})
}

// What several are billed for together is the time that their instance was busy, which
// the last of them says; one that is alone is billed as ever.
func TestSharesAreBilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWideBench(t, 10)
		b.guest.init = func(context.Context, int) error { time.Sleep(20 * time.Millisecond); return nil }
		var wg sync.WaitGroup
		cold := b.send(&wg, 0, "3s")
		within := b.send(&wg, time.Second, "1s")
		beyond := b.send(&wg, 3*time.Second, "1s")
		wg.Wait()
		alone := b.send(&wg, time.Second, "1234us")
		wg.Wait()
		for _, c := range []struct {
			r                             *reply
			run, share, busy, billed, cpu int64
		}{
			{cold, 3_000_000, 2_490_000, 0, 2510, 20_000}, {within, 1_000_000, 500_000, 0, 500, 5_000},
			{beyond, 1_000_000, 990_000, 4_000_000, 990, 25_000}, {alone, 1234, 0, 1234, 2, 12},
		} {
			u := c.r.result.Usage
			if u.RunUS != c.run || u.ShareUS != c.share || u.BusyUS != c.busy || u.BilledMS != c.billed || u.CPUUS != c.cpu || u.Guest != "script" || u.Concurrency != 10 {
				t.Errorf("ran %d us, its share %d, of %d, billed %d ms, CPU %d us, on %q with %d; want %+v", u.RunUS, u.ShareUS, u.BusyUS, u.BilledMS, u.CPUUS, u.Guest, u.Concurrency, c)
			}
		}
	})
}

// A start that failed is paid for, too, and once.
func TestFailedStartIsBilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWideBench(t, 10)
		b.guest.init = func(context.Context, int) error {
			time.Sleep(20 * time.Millisecond)
			return &lambent.Fault{Kind: lambent.FaultInit, Type: "Bad"}
		}
		for _, want := range []int64{20_000, 0} { // the second is told at once
			u := b.call(t.Context()).result.Usage
			if u.InitUS != want || u.BusyUS != want || u.Guest != "script" || u.Outcome != string(lambent.FaultInit) {
				t.Errorf("%+v, want %d us", u, want)
			}
		}
	})
}

// linesOf keeps a log by request.
type linesOf struct {
	mu    sync.Mutex
	lines map[string][]string
}

func (l *linesOf) Line(_ time.Time, _, request string, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines[request] = append(l.lines[request], string(text))
}

// A line is the one's whose id it has, else the only one's, else nobody's.
func TestLinesOfSeveral(t *testing.T) {
	log := &linesOf{lines: map[string][]string{}}
	b := newWideBench(t, 10, func(c *dispatch.Config) { c.Log = func(lambent.Name) dispatch.Log { return log } })
	b.driver.Silent = false
	begun, end := make(chan string), map[string]chan bool{"a": make(chan bool), "b": make(chan bool)}
	var box *fake.Box
	b.guest.invoke = func(_ context.Context, in *scripted, inv *lambent.Invocation, out lambent.Reply) error {
		box = sandbox.Unwrap(in.sandbox).(*fake.Box)
		begun <- inv.ID
		<-end[string(inv.Raw)]
		answer(out, "ok")
		return nil
	}
	var wga, wg sync.WaitGroup
	say := func(text string) { fmt.Fprint(box.Stdout, text) }
	ra := b.send(&wga, 0, "a")
	ida := <-begun
	say("only a\nthe beginning")
	rb := b.send(&wg, 0, "b")
	idb := <-begun
	say(" and the end\nanybody's\n2026-01-02T03:04:05.678Z\t" + idb + "\tINFO\tb says\n[WARNING]\t2026-01-02T03:04:05.678Z\t" + ida + "\ta says\n")
	say(`{"level":"INFO","requestId":"` + ida + `","message":"a, too"}` + "\nno id 00000000-0000-4000-8000-000000000000\n")
	end["a"] <- true
	wga.Wait() // its END is there
	say("only b\n")
	end["b"] <- true
	wg.Wait()
	report := func(id string) string { return "REPORT RequestId: " + id }
	for id, want := range map[string][]string{
		ida: {"START RequestId: " + ida + " Version: $LATEST", "only a", "[WARNING]\t2026-01-02T03:04:05.678Z\t" + ida + "\ta says", `{"level":"INFO","requestId":"` + ida + `","message":"a, too"}`, "END RequestId: " + ida, report(ida)},
		idb: {"START RequestId: " + idb + " Version: $LATEST", "2026-01-02T03:04:05.678Z\t" + idb + "\tINFO\tb says", "only b", "END RequestId: " + idb, report(idb)},
		"":  {"the beginning and the end", "anybody's", "no id 00000000-0000-4000-8000-000000000000"},
	} {
		got := slices.Clone(log.lines[id])
		for i := range got {
			got[i], _, _ = strings.Cut(got[i], "\tDuration")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q has\n%q, want\n%q", id, got, want)
		}
	}
	for id, r := range map[string]*reply{ida: ra, idb: rb} {
		if tail := string(r.result.LogTail); tail != strings.Join(log.lines[id], "\n")+"\n" {
			t.Errorf("the tail of %s is\n%s", id, tail)
		}
	}
}

// Everything at once, on few instances, with each kind of end.
func TestHammerOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWideBench(t, 7)
		b.scaling.MaxInstances = 5
		events := []string{"1ms", "3ms", "10ms", "50ms", "1s", "20ms crash", "5ms oom", "11s"}
		var wg sync.WaitGroup
		var replies []*reply
		for i := range 3000 {
			event := events[i%5]
			if i%100 == 7 {
				event = events[5+i/100%3]
			}
			replies = append(replies, b.send(&wg, time.Duration(i)*3*time.Millisecond, event))
		}
		wg.Wait()
		served := 0
		for _, r := range replies {
			if r.err == nil {
				served++
				if r.ended != 1 {
					t.Errorf("%d ends", r.ended)
				}
			} else if !lambent.Is(r.err, lambent.Throttled) || r.ended != 0 {
				t.Errorf("%d ends, %v", r.ended, r.err)
			}
		}
		b.once(t, served)
		busy, paid, stretches := map[string]int64{}, map[string]int64{}, map[string]int64{}
		for _, u := range b.records() {
			share := u.ShareUS
			if share == 0 {
				share = u.RunUS
			}
			busy[u.Instance] += share
			paid[u.Instance] += share + u.InitUS
			stretches[u.Instance] += u.BusyUS
			if share > u.RunUS+1 {
				t.Errorf("%d us of %d", share, u.RunUS)
			}
		}
		if !maps.Equal(paid, stretches) {
			t.Errorf("instances were busy for %v us, and what is paid for is %v", stretches, paid)
		}
		for instance, us := range busy {
			first, last := time.Time{}, time.Time{}
			for _, u := range b.records() {
				if begun := u.End.Add(-time.Duration(u.RunUS) * time.Microsecond); u.Instance == instance {
					if first.IsZero() || begun.Before(first) {
						first = begun
					}
					if u.End.After(last) {
						last = u.End
					}
				}
			}
			if span := last.Sub(first).Microseconds(); us > span+1 {
				t.Errorf("%s was busy for %d us of the %d that it was there", instance, us, span)
			}
		}
		time.Sleep(time.Hour)
		if n := b.driver.Alive(); n != 0 {
			t.Errorf("%d sandboxes are left", n)
		}
		if got := b.Snapshot(); got != (dispatch.Snapshot{}) {
			t.Errorf("%+v", got)
		}
	})
}
