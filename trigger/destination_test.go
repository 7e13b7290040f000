package trigger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"lambent"
	"lambent/trigger"
)

// answer is what a function returns, to whoever waits for it.
func (p *platform) answers(function, body string) {
	p.set(func() { p.bodies[function] = body })
}

// A record is what a destination is told, as AWS describes it.
type record struct {
	Version, Timestamp string
	RequestContext     struct {
		RequestID, FunctionArn, Condition string
		ApproximateInvokeCount            int
	}
	RequestPayload  json.RawMessage
	ResponseContext *struct {
		StatusCode                     int
		ExecutedVersion, FunctionError string
	}
	ResponsePayload json.RawMessage
}

// last waits for an attempt of a function, and returns it.
func (p *platform) last(function string) (inv lambent.Invocation) {
	p.t.Helper()
	p.until(function+" runs", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, one := range p.ran {
			if one.Target.Function == function {
				inv = one
			}
		}
		return inv.ID != ""
	})
	return inv
}

func read(t *testing.T, document []byte) (r record) {
	t.Helper()
	if err := json.Unmarshal(document, &r); err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	if _, err := time.Parse(time.RFC3339Nano, r.Timestamp); err != nil || r.Version != "1.0" {
		t.Errorf("%s: %v", document, err)
	}
	return r
}

// mixed fails in functions whose name says so.
func mixed(ctx context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
	inv.Started()
	if strings.HasPrefix(inv.Target.Function, "fails") {
		return &lambent.Fault{Kind: lambent.FaultHandler, Type: "ValueError", Message: "no", Payload: []byte(`{"errorType":"ValueError"}`)}, nil
	}
	return nil, nil
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, mixed)
	p.answers("good", `{"made":1}`)
	p.set(func() {
		p.async["good"] = lambent.Async{OnSuccess: "function:told:live", OnFailure: "function:nobody"}
		p.async["fails"] = lambent.Async{Attempts: 2, Backoff: time.Millisecond, OnSuccess: "function:nobody", OnFailure: "function:told"}
		p.async["failsToEvents"] = lambent.Async{Attempts: 1, OnFailure: lambent.ToEvents}
	})
	p.accept(lambent.Invocation{ID: "g", Raw: []byte(`{"make":1}`), Target: lambent.Name{Project: "default", Function: "good", Qualifier: "3"}, Trace: "00-1"})
	told := p.last("told")
	r := read(t, told.Raw)
	if told.Target.Qualifier != "live" || told.Hops != 1 || told.Trace != "00-1" || r.RequestContext.RequestID != "g" || r.RequestContext.Condition != "Success" ||
		r.RequestContext.FunctionArn != "arn:aws:lambda:us-east-1:000000000000:function:good:3" || r.RequestContext.ApproximateInvokeCount != 1 ||
		string(r.RequestPayload) != `{"make":1}` || string(r.ResponsePayload) != `{"made":1}` || r.ResponseContext.StatusCode != 200 || r.ResponseContext.ExecutedVersion != "$LATEST" || r.ResponseContext.FunctionError != "" {
		t.Errorf("%+v: %s", told, told.Raw)
	}
	p.set(func() { p.ran = nil })

	p.accept(lambent.Invocation{ID: "f", Raw: []byte("no JSON"), Target: name("fails")})
	told = p.last("told")
	r = read(t, told.Raw)
	if r.RequestContext.Condition != "RetriesExhausted" || r.RequestContext.ApproximateInvokeCount != 2 || r.RequestContext.FunctionArn != "arn:aws:lambda:us-east-1:000000000000:function:fails:$LATEST" ||
		string(r.RequestPayload) != `"no JSON"` || string(r.ResponsePayload) != `{"errorType":"ValueError"}` || r.ResponseContext.FunctionError != "Unhandled" {
		t.Errorf("%s", told.Raw)
	}
	p.until("nothing is left", func() bool { s := p.queue.Stats(); return s.Running+s.Waiting+s.Delayed+s.Dead == 0 })

	// Those who have a trigger hear of it as an event of EventBridge's.
	if _, err := p.broker.Add(t.Context(), lambent.Trigger{Target: name("hears"), Pattern: []byte(`{"source":["lambda"],"detail-type":["Lambda Function Invocation Result - Failure"],"detail":{"requestContext":{"condition":["RetriesExhausted"]}}}`)}); err != nil {
		t.Fatal(err)
	}
	p.accept(lambent.Invocation{ID: "e", Events: []lambent.Event{{ID: "e1", Source: "s", Type: "t", Data: []byte(`{"a":1}`)}}, Target: name("failsToEvents"), Trace: "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"})
	heard := p.last("hears")
	r = read(t, heard.Events[0].Data)
	if heard.Hops != 1 || heard.Trace != "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" || string(r.RequestPayload) != `{"specversion":"1.0","id":"e1","source":"s","type":"t","data":{"a":1}}` {
		t.Errorf("%+v: %s", heard, heard.Events[0].Data)
	}
	var aws events.EventBridgeEvent // and AWS's types read the record where they have it
	if err := json.Unmarshal(fmt.Appendf(nil, `{"detail":%s}`, heard.Events[0].Data), &aws); err != nil {
		t.Error(err)
	}
}

// A destination that cannot be told loses nothing, and functions that tell each other
// come to an end.
func TestDestinationsThatFail(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, mixed)
	p.set(func() {
		p.gone["gone"] = true
		p.async["good"] = lambent.Async{OnSuccess: "function:gone"}
		p.async["fails"] = lambent.Async{Attempts: 1, OnFailure: "function:gone"}
		p.async["loop"] = lambent.Async{OnSuccess: "function:loop"}
	})
	for _, function := range []string{"good", "fails", "loop"} {
		p.accept(lambent.Invocation{ID: "1", Raw: []byte("{}"), Target: name(function)})
		p.until("it is dead", func() bool { return len(p.dead(function)) == 1 })
	}
	if r := p.dead("good")[0].Reason; r != `it succeeded, and function:gone could not be told: function "gone" does not exist` {
		t.Error(r)
	}
	if r := p.dead("fails")[0].Reason; r != `ValueError: no; and function:gone could not be told: function "gone" does not exist` {
		t.Error(r)
	}
	loops := 0
	for _, inv := range p.ran {
		if inv.Target.Function == "loop" {
			loops++
		}
	}
	if r := p.dead("loop")[0].Reason; loops != 16 || !strings.Contains(r, "taken for a loop") {
		t.Errorf("%d in a row, and then: %s", loops, r)
	}
}

// lastSent waits for what goes to a queue or a receiver, and returns what is behind a prefix.
func (p *platform) lastSent(prefix string) (rest string) {
	p.t.Helper()
	p.until(prefix+" is told", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, one := range p.sent {
			if after, ok := strings.CutPrefix(one, prefix); ok {
				rest = after
			}
		}
		return rest != ""
	})
	return rest
}

func TestQueuesAsDestinations(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, mixed)
	p.set(func() {
		p.async["good"] = lambent.Async{OnSuccess: "queue:done"}
		p.async["fails"] = lambent.Async{Attempts: 1, OnFailure: "queue:gone"}
	})
	p.accept(lambent.Invocation{ID: "g", Raw: []byte("1"), Target: name("good")})
	if r := read(t, []byte(p.lastSent("default/done "))); r.RequestContext.RequestID != "g" || string(r.RequestPayload) != "1" {
		t.Errorf("%+v", r)
	}
	p.accept(lambent.Invocation{ID: "f", Raw: []byte("1"), Target: name("fails")})
	p.until("it is dead", func() bool { return len(p.dead("fails")) == 1 })
	if r := p.dead("fails")[0].Reason; r != `ValueError: no; and queue:gone could not be told: queue "gone" does not exist` {
		t.Error(r)
	}
}

// Receivers are told until they take it, across restarts, and the function has nothing
// to do with that.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, mixed)
	p.post = func(url string) error {
		switch url {
		case "https://away.example/":
			return lambent.Errorf(lambent.Unavailable, "test", "nobody answers")
		case "https://gone.example/":
			return lambent.Errorf(lambent.NotFound, "test", "410 Gone")
		}
		return nil
	}
	p.set(func() {
		p.async["good"] = lambent.Async{OnSuccess: "https://here.example/"}
		p.async["fails"] = lambent.Async{Attempts: 1, OnFailure: "https://gone.example/"}
		p.async["other"] = lambent.Async{OnSuccess: "https://away.example/"}
	})
	p.accept(lambent.Invocation{ID: "g", Raw: []byte("1"), Target: name("good")})
	id, body, _ := strings.Cut(p.lastSent("good https://here.example/ "), " ")
	var told struct {
		Type, Timestamp string
		Data            json.RawMessage
	}
	if err := json.Unmarshal([]byte(body), &told); err != nil || told.Type != "lambent.invocation.succeeded" || told.Timestamp == "" || id == "g" {
		t.Errorf("%s %s: %v", id, body, err)
	}
	if r := read(t, told.Data); r.RequestContext.RequestID != "g" {
		t.Errorf("%s", body)
	}

	// One that wants no more of it has a dead letter, which is told and not run again.
	p.accept(lambent.Invocation{ID: "f", Raw: []byte("1"), Target: name("fails")})
	p.until("it is dead", func() bool { return len(p.dead("fails")) == 1 })
	if d := p.dead("fails")[0]; d.Reason != "410 Gone" {
		t.Errorf("%+v", d)
	}
	p.set(func() { p.sent, p.ran = nil, nil })
	if n, err := p.broker.Redrive(t.Context(), name("fails"), trigger.Query{}, false); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	p.lastSent("fails https://gone.example/ ")
	if p.until("it is dead again", func() bool { return len(p.dead("fails")) == 1 }); len(p.ran) != 0 {
		t.Errorf("the function ran again: %+v", p.ran)
	}

	// One that is away is told later, under the same id, whatever becomes of the function.
	p.accept(lambent.Invocation{ID: "o", Raw: []byte("1"), Target: name("other")})
	first := p.lastSent("other https://away.example/ ")
	p.until("it waits", func() bool { return p.queue.Stats().Delayed == 1 })
	p.close()
	p.set(func() { p.sent, p.gone["other"], p.post = nil, true, nil })
	p.open()
	if again := p.lastSent("other https://away.example/ "); again != first {
		t.Errorf("at first %s, and then %s", first, again)
	}
	p.until("nothing is left but the dead letter", func() bool { s := p.queue.Stats(); return s.Running+s.Waiting+s.Delayed == 0 })
}

// What is too old was not run, and its destination is told so.
func TestDestinationOfTheAged(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, func(ctx context.Context, inv *lambent.Invocation) (*lambent.Fault, error) {
		if inv.Target.Function == "full" {
			return nil, lambent.Errorf(lambent.Throttled, "test", "full")
		}
		return mixed(ctx, inv)
	})
	p.set(func() { p.async["full"] = lambent.Async{MaxAge: 50 * time.Millisecond, OnFailure: "function:told"} })
	large := `"` + strings.Repeat("x", 1<<20-2) + `"`
	p.accept(lambent.Invocation{ID: "1", Raw: []byte(large), Target: name("full")})
	r := read(t, p.last("told").Raw)
	if r.RequestContext.Condition != "EventAgeExceeded" || r.RequestContext.ApproximateInvokeCount != 0 || r.ResponseContext != nil || string(r.RequestPayload) != "null" {
		t.Errorf("%+v", r)
	}
}

func TestDestinationForms(t *testing.T) {
	t.Parallel()
	for d, ok := range map[lambent.AsyncDestination]bool{
		"": true, "events": true, "function:f": true, "function:f:live": true,
		"f": false, "function:": false, "function:a b": false, "function:f:a b": false,
		"queue:jobs": true, "queue:": false, "queue:a b": false, "queue:jobs.fifo": false,
		"https://example.com/hook?a=b": true, "http://example.com": true, "https://": false, "https:///x": false, "https://a:b@example.com": false, "https://example.com/#x": false, "ftp://example.com": false,
	} {
		if err := (lambent.Async{OnSuccess: d}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", d, err)
		}
		if err := (lambent.Async{OnFailure: d}).Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", d, err)
		}
	}
}
