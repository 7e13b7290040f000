package guesttest

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
)

// several holds what is promised of an instance that serves several invocations at
// a time.
func (s suite) several(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"instances", s.fewInstances}, {"one-instance", s.oneInstance}, {"logs", s.interleaved}, {"crash", s.crashOfSeveral},
		{"out-of-memory", s.memoryOfSeveral}, {"timeout", s.timeoutOfOne}, {"streams", s.streamsAtOnce}, {"hammer", s.hammer},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

func (s suite) concurrency(n int) lambent.Config {
	c := s.config()
	c.Concurrency, c.MemoryMB = n, 1024
	return c
}

// calls makes calls at once and waits for all.
func (p Platform) calls(t *testing.T, events ...string) []*Answer {
	answers := make([]*Answer, len(events))
	var wg sync.WaitGroup
	for i, event := range events {
		wg.Go(func() { answers[i] = p.Call(t, event) })
	}
	wg.Wait()
	return answers
}

func times(n int, event string) []string {
	events := make([]string, n)
	for i := range events {
		events[i] = event
	}
	return events
}

// served counts the calls that each instance served, and those that waited for its start.
func served(answers []*Answer) (calls, cold map[string]int) {
	calls, cold = map[string]int{}, map[string]int{}
	for _, a := range answers {
		calls[a.Result.Usage.Instance]++
		if a.Result.Usage.Cold {
			cold[a.Result.Usage.Instance]++
		}
	}
	return calls, cold
}

func (s suite) fewInstances(t *testing.T) {
	p := s.deploy(t, s.concurrency(10))
	answers := p.calls(t, times(50, `{"do":"sleep","ms":200}`)...)
	for _, a := range answers {
		if ok(t, a); a.Result.Usage.RunUS < 200_000 {
			t.Errorf("it ran for %d us", a.Result.Usage.RunUS)
		}
	}
	calls, cold := served(answers)
	if len(calls) < 3 || len(calls) > 7 {
		t.Errorf("50 calls, 10 at a time, on %d instances: %v", len(calls), calls)
	}
	for instance, n := range cold {
		if n != 1 {
			t.Errorf("%d calls were the first of %s", n, instance)
		}
	}
}

func (s suite) oneInstance(t *testing.T) {
	p := s.deploy(t, s.concurrency(100))
	answers := p.calls(t, times(50, `{"do":"sleep","ms":200}`)...)
	var shares, paid, busy, last int64
	first := answers[0].Result.Usage.Start
	for _, a := range answers {
		ok(t, a)
		u := a.Result.Usage
		share := cmp.Or(u.ShareUS, u.RunUS)
		shares, paid, busy = shares+share, paid+share+u.InitUS, busy+u.BusyUS
		if u.Start.Before(first) {
			first = u.Start
		}
	}
	for _, a := range answers {
		last = max(last, a.Result.Usage.End.Sub(first).Microseconds())
	}
	if calls, _ := served(answers); len(calls) != 1 {
		t.Errorf("50 calls, 100 at a time, on %d instances", len(calls))
	}
	// The instance was busy from its start on, and paid for once.
	if shares > last || shares < 200_000 {
		t.Errorf("%d us are shared of %d us", shares, last)
	}
	if paid != busy {
		t.Errorf("%d us are paid for, and it was busy for %d", paid, busy)
	}
}

func (s suite) interleaved(t *testing.T) {
	p := s.deploy(t, s.concurrency(10))
	ok(t, p.Call(t, `{"do":"echo","value":1}`))
	answers := p.calls(t, times(10, `{"do":"tell","n":10,"ms":20}`)...)
	for _, a := range answers {
		ok(t, a)
		id := a.Result.Usage.ID
		lines := strings.Split(strings.TrimSuffix(string(a.Result.LogTail), "\n"), "\n")
		if len(lines) != 13 || lines[0] != "START RequestId: "+id+" Version: $LATEST" || lines[11] != "END RequestId: "+id ||
			!strings.HasPrefix(lines[12], "REPORT RequestId: "+id+"\t") {
			t.Fatalf("the log of %s is\n%s", id, a.Result.LogTail)
		}
		for i, line := range lines[1:11] {
			if !strings.Contains(line, id) || !strings.HasSuffix(line, fmt.Sprintf("told %d", i)) {
				t.Errorf("line %d of %s is %q", i, id, line)
			}
		}
	}
	if calls, _ := served(answers); len(calls) > 2 {
		t.Errorf("ten calls had %d instances", len(calls))
	}
}

// together makes calls that are in flight in one instance together, and then one more.
func (p Platform) together(t *testing.T, others []string, event string) (rest []*Answer, last *Answer) {
	ok(t, p.Call(t, `{"do":"echo","value":1}`))
	done := make(chan []*Answer)
	go func() { done <- p.calls(t, others...) }()
	time.Sleep(2 * time.Second) // they are on their way, beside a busy machine too
	last = p.Call(t, event)
	return <-done, last
}

func (s suite) crashOfSeveral(t *testing.T) {
	p := s.deploy(t, s.concurrency(10))
	others, last := p.together(t, times(5, `{"do":"sleep","ms":15000}`), `{"do":"exit","code":3}`)
	for _, a := range append(others, last) {
		f := s.says(t, a, s.words().ExitThree, "")
		if f.Kind != lambent.FaultExit || a.Result.Usage.Instance != last.Result.Usage.Instance {
			t.Errorf("kind %q, in %s; the crash was in %s", f.Kind, a.Result.Usage.Instance, last.Result.Usage.Instance)
		}
		if !strings.Contains(string(a.Result.LogTail), "END RequestId: "+a.Result.Usage.ID) {
			t.Errorf("the log has no end:\n%s", a.Result.LogTail)
		}
	}
	if a := p.Call(t, `{"do":"echo","value":1}`); ok(t, a) != "1" || a.Result.Usage.Instance == last.Result.Usage.Instance {
		t.Errorf("after the crash: %+v", a.Result.Usage)
	}
}

func (s suite) memoryOfSeveral(t *testing.T) {
	c := s.concurrency(10)
	c.MemoryMB = 512
	p := s.deploy(t, c)
	others, last := p.together(t, times(2, `{"do":"sleep","ms":15000}`), `{"do":"hog"}`)
	for _, a := range append(others, last) {
		f := s.says(t, a, s.words().Memory, "")
		if f.Kind != lambent.FaultMemory {
			t.Errorf("kind %q", f.Kind)
		}
	}
}

func (s suite) timeoutOfOne(t *testing.T) {
	c := s.concurrency(10)
	c.Timeout = 8 * time.Second // each of the others may have to load the code, beside a busy machine
	p := s.deploy(t, c)
	ok(t, p.Call(t, `{"do":"echo","value":1}`))
	late := make(chan *Answer)
	go func() { late <- p.Call(t, `{"do":"sleep","ms":40000}`) }()
	time.Sleep(5 * time.Second)
	done := make(chan []*Answer)
	go func() { done <- p.calls(t, times(3, `{"do":"sleep","ms":4000}`)...) }()
	slow := <-late
	s.says(t, slow, s.words().Timeout, "8.00")
	if a := p.Call(t, `{"do":"echo","value":1}`); ok(t, a) != "1" || a.Result.Usage.Instance == slow.Result.Usage.Instance {
		t.Errorf("an instance in which one has timed out takes another: %+v", a.Result.Usage)
	}
	for _, a := range <-done {
		if ok(t, a); a.Result.Usage.Instance != slow.Result.Usage.Instance {
			t.Errorf("one that was there already ended in %s, and not in %s", a.Result.Usage.Instance, slow.Result.Usage.Instance)
		}
	}
}

func (s suite) streamsAtOnce(t *testing.T) {
	if s.l.Stream == "" {
		t.Skip("AWS's client for this language cannot stream; nor does ours")
	}
	c := s.concurrency(10)
	c.Handler = s.l.Stream
	p := s.deploy(t, c)
	ok(t, p.Call(t, `{"do":"stream"}`))
	answers := p.calls(t, append(times(9, `{"do":"stream"}`), `{"do":"stream","fail":true}`)...)
	for _, a := range answers[:9] {
		if got := ok(t, a); got != "part 0\npart 1\npart 2\n" || a.Parts < 3 {
			t.Errorf("got %q in %d parts", got, a.Parts)
		}
	}
	if f := fault(t, answers[9]); !strings.HasSuffix(f.Type, s.words().Broken.Type) {
		t.Errorf("fault %q", f.Type)
	}
}

func (s suite) hammer(t *testing.T) {
	p := s.deploy(t, s.concurrency(16))
	seen := sync.Map{}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 40 {
				want := fmt.Sprint(i*1000 + j)
				a := p.Call(t, `{"do":"echo","value":`+want+`}`)
				if a.Err != nil || a.Result.Fault != nil || strings.TrimSpace(a.Body.String()) != want {
					t.Errorf("got %q, %v, %v, want %s", a.Body.String(), a.Err, a.Result.Fault, want)
				}
				seen.Store(a.Result.Usage.Instance, true)
			}
		})
	}
	wg.Wait()
	n := 0
	seen.Range(func(any, any) bool { n++; return true })
	if n > 4 {
		t.Errorf("32 callers had %d instances of 16", n)
	}
}
