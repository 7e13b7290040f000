// Package guesttest is the suite that every guest passes with every language that
// it runs: the same function, written once in each, asked for the same things,
// through the whole synchronous path.
//
// It makes no platform: its caller gives one, and the language's function.
package guesttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
)

// A Language is the suite's function in one language.
type Language struct {
	Name    string
	Runtime string // that Config names
	Handler string // of the function that answers at once
	Stream  string // of the one that streams; empty: the cloud's client for the language cannot
	Code    string // digest of the function's tree
	Several bool   // its client takes several invocations at a time
	Server  bool   // it is a web server: what only handlers have is left out
	Words   Words  // of its cloud; the zero value: AWS's

	// What the language calls the error of "error", and the one of "init".
	ErrorType, InitErrorType string
}

// A Platform runs one function.
type Platform struct {
	lambent.Invoker
	Name lambent.Name
	Log  func() string // everything that the function has logged
}

// Deploy makes a function of a configuration, to be gone when the test ends.
type Deploy func(*testing.T, lambent.Config) Platform

// An Answer is what a caller got.
type Answer struct {
	Status int
	Header map[string][]string
	Body   bytes.Buffer
	Parts  int // Writes that came before End
	Result lambent.Result
	Err    error // the platform's
}

// Begin implements lambent.Reply.
func (a *Answer) Begin(status int, header map[string][]string) error {
	a.Status, a.Header = status, header
	return nil
}

// Write implements lambent.Reply.
func (a *Answer) Write(b []byte) (int, error) {
	a.Parts++
	return a.Body.Write(b)
}

// End implements lambent.Reply.
func (a *Answer) End(r lambent.Result) { a.Result = r }

var ids struct {
	sync.Mutex
	n int
}

func newID() string {
	ids.Lock()
	defer ids.Unlock()
	ids.n++
	return fmt.Sprintf("00000000-0000-4000-8000-%012d", ids.n)
}

// Call invokes with a raw event.
func (p Platform) Call(t *testing.T, event string) *Answer {
	t.Helper()
	return p.Do(t, &lambent.Invocation{Raw: []byte(event)})
}

// Do invokes with what the invocation says: its id and target are filled in.
func (p Platform) Do(t *testing.T, inv *lambent.Invocation) *Answer {
	inv.ID, inv.Target, inv.WantLog = newID(), p.Name, true
	a := &Answer{}
	a.Err = p.Invoke(t.Context(), inv, a)
	return a
}

// Run runs the suite for one language.
func Run(t *testing.T, l Language, deploy Deploy) {
	s := suite{l, deploy}
	type testCase struct {
		name string
		test func(*testing.T)
	}
	cases := []testCase{
		{"echo", s.echo}, {"error", s.error}, {"init error", s.initError}, {"timeout", s.timeout}, {"exit", s.exit},
		{"signal", s.signal}, {"out of memory", s.outOfMemory}, {"large payloads", s.large}, {"unicode", s.unicode},
		{"binary", s.binary}, {"streaming", s.streaming}, {"streaming error midway", s.streamingError},
		{"log capture", s.logCapture}, {"concurrent calls", s.concurrent},
	}
	if !l.Server {
		cases = append(cases, testCase{"context", s.context}, testCase{"deadline", s.deadline}, testCase{"env", s.env}, testCase{"custom error class", s.custom})
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
	if l.Several {
		t.Run("several-at-a-time", s.several)
	}
}

type suite struct {
	l      Language
	deploy Deploy
}

func (s suite) config() lambent.Config {
	return lambent.Config{
		Runtime: s.l.Runtime, Handler: s.l.Handler, Code: s.l.Code,
		MemoryMB: 256, Timeout: 20 * time.Second, Env: map[string]string{"GREETING": "hello"},
	}.WithDefaults()
}

// ok returns the answer's body and fails the test on any failure.
func ok(t *testing.T, a *Answer) string {
	t.Helper()
	if a.Err != nil {
		t.Fatalf("the platform fails: %v", a.Err)
	}
	if f := a.Result.Fault; f != nil {
		t.Fatalf("the function fails: %v: %s", f, f.Payload)
	}
	return a.Body.String()
}

// fault returns the answer's fault and fails the test if there is none.
func fault(t *testing.T, a *Answer) *lambent.Fault {
	t.Helper()
	if a.Err != nil {
		t.Fatalf("the platform fails: %v", a.Err)
	}
	if a.Result.Fault == nil {
		t.Fatalf("no fault, but the answer %.200q", a.Body.String())
	}
	return a.Result.Fault
}

func (s suite) echo(t *testing.T) {
	p := s.deploy(t, s.config())
	warm := 0
	for i := range 3 {
		a := p.Call(t, fmt.Sprintf(`{"do":"echo","value":{"n":%d,"list":[1,2.5,null,true],"deep":{"a":{"b":"c"}}}}`, i))
		var got any
		if err := json.Unmarshal([]byte(ok(t, a)), &got); err != nil {
			t.Fatal(err)
		}
		if b, _ := json.Marshal(got); string(b) != fmt.Sprintf(`{"deep":{"a":{"b":"c"}},"list":[1,2.5,null,true],"n":%d}`, i) {
			t.Errorf("got %s", b)
		}
		if a.Status != 200 || a.Result.Version != lambent.Latest {
			t.Errorf("status %d, version %q", a.Status, a.Result.Version)
		}
		u := a.Result.Usage
		if i == 0 && !u.Cold || u.Cold != (u.InitUS > 0) || u.BilledMS < 1 || u.RunUS <= 0 || u.Outcome != lambent.OutcomeOK {
			t.Errorf("call %d: usage %+v", i, u)
		}
		if !u.Cold {
			warm++
		}
	}
	// A start is made where it may beat an instance that is slow to ask for more.
	if warm == 0 {
		t.Error("no call found an instance that was warm")
	}
}

func (s suite) context(t *testing.T) {
	p := s.deploy(t, s.config())
	a := p.Call(t, `{"do":"context"}`)
	var got struct {
		RequestID, Name, Version, ARN, LogGroup string
		MemoryMB, RemainingMS                   int
	}
	if err := json.Unmarshal([]byte(ok(t, a)), &got); err != nil {
		t.Fatal(err)
	}
	if got.RequestID != a.Result.Usage.ID || got.Name != p.Name.Function || got.Version != "$LATEST" || got.ARN != p.Name.ARN() ||
		got.MemoryMB != 256 || got.LogGroup != "/aws/lambda/"+p.Name.Function {
		t.Errorf("got %+v", got)
	}
}

func (s suite) deadline(t *testing.T) {
	p := s.deploy(t, s.config())
	var got struct{ RemainingMS int }
	if err := json.Unmarshal([]byte(ok(t, p.Call(t, `{"do":"context"}`))), &got); err != nil {
		t.Fatal(err)
	}
	if got.RemainingMS <= 0 || got.RemainingMS > 20_000 {
		t.Errorf("%d ms remain of 20 s", got.RemainingMS)
	}
}

func (s suite) env(t *testing.T) {
	p := s.deploy(t, s.config())
	names := `["GREETING","AWS_LAMBDA_FUNCTION_NAME","AWS_LAMBDA_FUNCTION_MEMORY_SIZE","_HANDLER","AWS_REGION","TZ","AWS_LAMBDA_INITIALIZATION_TYPE","LAMBENT_TOKEN","NOT_SET"]`
	var got map[string]*string
	if err := json.Unmarshal([]byte(ok(t, p.Call(t, `{"do":"env","names":`+names+`}`))), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"GREETING": "hello", "AWS_LAMBDA_FUNCTION_NAME": p.Name.Function, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"_HANDLER": s.l.Handler, "AWS_REGION": lambent.Region, "TZ": ":UTC", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
	} {
		if got[name] == nil || *got[name] != want {
			t.Errorf("%s is %v, want %q", name, got[name], want)
		}
	}
	if got["NOT_SET"] != nil || got["LAMBENT_TOKEN"] != nil {
		t.Errorf("there are variables that nobody set: %v", got)
	}
}

func (s suite) error(t *testing.T) {
	p := s.deploy(t, s.config())
	first := p.Call(t, `{"do":"error"}`)
	f := fault(t, first)
	s.payload(t, f, s.l.ErrorType, "that went wrong")
	if f.Kind != lambent.FaultHandler {
		t.Errorf("kind %q", f.Kind)
	}
	for range 50 { // a busy machine may start another instance for the next calls
		a := p.Call(t, `{"do":"echo","value":1}`)
		if ok(t, a) == "1" && a.Result.Usage.Instance == first.Result.Usage.Instance {
			return
		}
	}
	t.Error("the instance does not live on after an error")
}

func (s suite) custom(t *testing.T) {
	s.payload(t, fault(t, s.deploy(t, s.config()).Call(t, `{"do":"custom"}`)), "OutOfCheese", "redo from start")
}

func (s suite) initError(t *testing.T) {
	c := s.config()
	c.Env["FAIL_INIT"] = "1"
	p := s.deploy(t, c)
	for range 2 { // the next call tries again
		a := p.Call(t, `{"do":"echo","value":1}`)
		f := fault(t, a)
		if f.Kind != lambent.FaultInit || a.Result.Usage.Outcome != string(lambent.FaultInit) {
			t.Errorf("kind %q, outcome %q", f.Kind, a.Result.Usage.Outcome)
		}
		message := "no start today"
		switch {
		case s.l.Server:
			message = "exit(1)"
		case s.l.InitErrorType == "Runtime.ExitError":
			message = "Runtime exited with error: exit status 1"
		}
		s.payload(t, f, s.l.InitErrorType, message)
	}
}

func (s suite) timeout(t *testing.T) {
	c := s.config()
	c.Timeout = time.Second
	p := s.deploy(t, c)
	start := time.Now()
	a := p.Call(t, `{"do":"sleep","ms":15000}`)
	f := s.says(t, a, s.words().Timeout, "1.00")
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	if f.Kind != lambent.FaultTimeout || a.Result.Usage.RunUS < 1_000_000 {
		t.Errorf("kind %q, usage %+v", f.Kind, a.Result.Usage)
	}
	if !strings.Contains(p.Log(), "sleeping") || !strings.Contains(p.Log(), strings.TrimPrefix(f.Message, "RequestId: "+a.Result.Usage.ID+" Error: ")) {
		t.Errorf("the log lacks what came before the timeout, or the timeout:\n%s", p.Log())
	}
	if a := p.Call(t, `{"do":"echo","value":1}`); ok(t, a) != "1" || !a.Result.Usage.Cold {
		t.Errorf("a timeout must end the instance: %+v", a.Result.Usage)
	}
}

func (s suite) exit(t *testing.T) {
	p := s.deploy(t, s.config())
	s.says(t, p.Call(t, `{"do":"exit","code":0}`), s.words().ExitZero, "")
	s.says(t, p.Call(t, `{"do":"exit","code":3}`), s.words().ExitThree, "")
	if got := ok(t, p.Call(t, `{"do":"echo","value":1}`)); got != "1" {
		t.Errorf("after an exit: %q", got)
	}
}

func (s suite) signal(t *testing.T) {
	p := s.deploy(t, s.config())
	f := s.says(t, p.Call(t, `{"do":"signal"}`), s.words().Killed, "")
	if f.Kind != lambent.FaultExit {
		t.Errorf("kind %q", f.Kind)
	}
}

func (s suite) outOfMemory(t *testing.T) {
	p := s.deploy(t, s.config())
	a := p.Call(t, `{"do":"hog"}`)
	f := s.says(t, a, s.words().Memory, "")
	if f.Kind != lambent.FaultMemory || a.Result.Usage.PeakMB < 200 {
		t.Errorf("kind %q, peak %d MB", f.Kind, a.Result.Usage.PeakMB)
	}
}

func (s suite) large(t *testing.T) {
	c := s.config()
	c.MemoryMB = 512
	p := s.deploy(t, c)
	const limit = 6 << 20
	around := len(`{"do":"size","value":""}`)
	in := strings.Repeat("y", limit-around)
	if got := ok(t, p.Call(t, `{"do":"size","value":"`+in+`"}`)); strings.ReplaceAll(got, " ", "") != fmt.Sprintf(`{"bytes":%d}`, len(in)) {
		t.Errorf("6 MB in: %s", got)
	}
	if got := ok(t, p.Call(t, fmt.Sprintf(`{"do":"grow","bytes":%d}`, limit-2))); len(got) != limit {
		t.Errorf("6 MB out: %d bytes", len(got))
	}
	if s.l.Server { // which may stream as much as it likes
		return
	}
	f := fault(t, p.Call(t, fmt.Sprintf(`{"do":"grow","bytes":%d}`, limit+100)))
	s.payload(t, f, "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (6291556 bytes).")
	if got := ok(t, p.Call(t, `{"do":"echo","value":1}`)); got != "1" {
		t.Errorf("after a response that was too large: %q", got)
	}
}

func (s suite) unicode(t *testing.T) {
	p := s.deploy(t, s.config())
	const text = "grüße, 世界 🎈 \u00a0\u2028 é"
	var got string
	if err := json.Unmarshal([]byte(ok(t, p.Call(t, `{"do":"echo","value":"`+text+`"}`))), &got); err != nil || got != text {
		t.Errorf("got %q, %v", got, err)
	}
}

// request is a call by HTTP.
func (p Platform) request(t *testing.T, method, body, contentType string) *Answer {
	return p.Do(t, &lambent.Invocation{HTTP: &lambent.Request{
		Method: method, Proto: "HTTP/1.1", Scheme: "http", Host: "f.fn.localhost:9700", Path: "/a%20b", RawQuery: "x=1&x=2",
		Header: map[string][]string{"Content-Type": {contentType}}, Body: strings.NewReader(body), ContentLength: int64(len(body)),
		RemoteIP: "127.0.0.1",
	}})
}

func (s suite) binary(t *testing.T) {
	p := s.deploy(t, s.config())
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	a := p.request(t, "PUT", string(all), "application/octet-stream")
	if got := ok(t, a); got != string(all) {
		t.Errorf("got %q", got)
	}
	if a.Status != 201 || strings.Join(a.Header["X-Method"], ",") != "PUT" || len(a.Header["Set-Cookie"]) != 2 {
		t.Errorf("status %d, header %v", a.Status, a.Header)
	}
}

func (s suite) streams(t *testing.T) Platform {
	if s.l.Stream == "" {
		t.Skip("AWS's client for this language cannot stream; nor does ours")
	}
	c := s.config()
	c.Handler = s.l.Stream
	return s.deploy(t, c)
}

func (s suite) streaming(t *testing.T) {
	p := s.streams(t)
	const want = "part 0\npart 1\npart 2\n"
	a := p.Call(t, `{"do":"stream"}`)
	if got := ok(t, a); got != want || a.Parts < 3 {
		t.Errorf("got %q in %d parts", got, a.Parts)
	}
	a = p.request(t, "GET", "", "")
	if got := ok(t, a); got != want || a.Status != 203 || strings.Join(a.Header["X-Stream"], "") != "yes" || len(a.Header["Set-Cookie"]) != 1 {
		t.Errorf("got %q with status %d, header %v", got, a.Status, a.Header)
	}
}

func (s suite) streamingError(t *testing.T) {
	p := s.streams(t)
	a := p.Call(t, `{"do":"stream","fail":true}`)
	f := fault(t, a)
	if !strings.HasSuffix(f.Type, s.words().Broken.Type) || !strings.HasPrefix(a.Body.String(), "part 0\n") {
		t.Errorf("fault %q after %q", f.Type, a.Body.String())
	}
	if got := ok(t, p.Call(t, `{"do":"stream"}`)); got != "part 0\npart 1\npart 2\n" {
		t.Errorf("after a failed stream: %q", got)
	}
}

func (s suite) logCapture(t *testing.T) {
	p := s.deploy(t, s.config())
	a := p.Call(t, `{"do":"log"}`)
	ok(t, a)
	id := a.Result.Usage.ID
	tail := string(a.Result.LogTail)
	last := -1
	for _, want := range []string{"START RequestId: " + id + " Version: $LATEST\n", "to stdout: grüße\n", "END RequestId: " + id + "\n", "REPORT RequestId: " + id + "\tDuration: "} {
		i := strings.Index(tail, want)
		if i <= last {
			t.Fatalf("the tail lacks %q, or has it too early:\n%s", want, tail)
		}
		last = i
	}
	for _, want := range []string{"to stderr\n", " ms\tMemory Size: 256 MB\tMax Memory Used: ", "\tInit Duration: "} {
		if !strings.Contains(tail, want) {
			t.Errorf("the tail lacks %q:\n%s", want, tail)
		}
	}
	b := p.Call(t, `{"do":"echo","value":1}`)
	// A busy machine may have started another instance for it.
	if tail := string(b.Result.LogTail); strings.Contains(tail, "to stdout") || strings.Contains(tail, "Init Duration") != b.Result.Usage.Cold {
		t.Errorf("the next call's tail has lines of another:\n%s", tail)
	}
}

func (s suite) concurrent(t *testing.T) {
	p := s.deploy(t, s.config())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				want := fmt.Sprint(i*100 + j)
				a := p.Call(t, `{"do":"echo","value":`+want+`}`)
				if a.Err != nil || a.Result.Fault != nil || strings.TrimSpace(a.Body.String()) != want {
					t.Errorf("got %q, %v, %v, want %s", a.Body.String(), a.Err, a.Result.Fault, want)
				}
			}
		})
	}
	wg.Wait()
}
