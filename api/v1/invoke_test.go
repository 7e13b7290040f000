package v1_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	v1 "lambent/api/v1"
	"lambent/auth"
	"lambent/client"
	"lambent/internal/intake"
)

// invoker is a lambent.Invoker that a test scripts.
type invoker func(context.Context, *lambent.Invocation, lambent.Reply) error

func (f invoker) Invoke(ctx context.Context, inv *lambent.Invocation, r lambent.Reply) error {
	return f(ctx, inv, r)
}

// face is the API over a scripted invoker, for one who may do everything.
func face(f invoker) http.Handler {
	return v1.New(v1.Config{
		Invoker: f, Limits: lambent.DefaultLimits(),
		Authenticate: func(*http.Request) (auth.Identity, error) { return auth.Identity{Role: auth.RoleAdmin}, nil },
	})
}

func listen(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = nil
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func post(t testing.TB, url, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func body(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("the answer broke off after %q: %v", b, err)
	}
	return string(b)
}

// answer replies as the guest does to a buffered response, through dispatch.
func answer(r lambent.Reply, payload []byte, res lambent.Result) {
	_ = r.Begin(http.StatusOK, map[string][]string{"Content-Type": {"application/json"}, "Content-Length": {itoa(len(payload))}})
	_, _ = r.Write(payload)
	r.End(res)
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

const path = "/v1/functions/f/invocations"

// The function gets the bytes that were sent, and the caller those that it
// answered, whatever they are.
func TestInvokePassesBytesOn(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	s := listen(t, face(func(_ context.Context, inv *lambent.Invocation, r lambent.Reply) error {
		if inv.Raw == nil || inv.HTTP != nil || inv.Events != nil {
			t.Error("the invocation must carry raw bytes and nothing else")
		}
		answer(r, inv.Raw, lambent.Result{Version: "7"})
		return nil
	}))
	for name, payload := range map[string]string{
		"none": "", "every byte": string(every), "not JSON": "{", "6 MB": strings.Repeat("x", 6<<20), "a line": "\n",
	} {
		t.Run(name, func(t *testing.T) {
			resp := post(t, s.URL+path, payload)
			if got := body(t, resp); got != payload || resp.StatusCode != http.StatusOK {
				t.Errorf("status %d, %d bytes, want 200 and the %d that were sent", resp.StatusCode, len(got), len(payload))
			}
			if resp.ContentLength != int64(len(payload)) {
				t.Errorf("Content-Length is %d", resp.ContentLength)
			}
			if v, id := resp.Header.Get("Lambent-Version"), resp.Header.Get("Lambent-Request-Id"); v != "7" || len(id) != 36 {
				t.Errorf("version %q, request id %q", v, id)
			}
			if resp.Header.Get("Lambent-Usage") != "" || resp.Header.Get("Lambent-Log-Tail") != "" {
				t.Error("nobody asked for usage or log")
			}
		})
	}
}

func TestInvokePayloadLimit(t *testing.T) {
	s := listen(t, face(func(context.Context, *lambent.Invocation, lambent.Reply) error {
		t.Error("the function must not see it")
		return nil
	}))
	over := strings.Repeat("x", 6<<20+1)
	for name, r := range map[string]io.Reader{"with a length": strings.NewReader(over), "without": io.MultiReader(strings.NewReader(over))} {
		t.Run(name, func(t *testing.T) {
			resp, err := http.Post(s.URL+path, "", r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			wantProblem(t, resp, http.StatusRequestEntityTooLarge, "too_large", "over the limit of 6291456 bytes")
		})
	}
}

func TestInvokeFault(t *testing.T) {
	fault := &lambent.Fault{Kind: lambent.FaultHandler, Type: "ValueError", Message: "über\r\nX-Evil: 1", Payload: []byte(`{"errorType":"ValueError"}`)}
	s := listen(t, face(func(_ context.Context, inv *lambent.Invocation, r lambent.Reply) error {
		r.End(lambent.Result{Version: "latest", Fault: fault, LogTail: []byte("a\nb\n"), Usage: lambent.Usage{ID: inv.ID, BilledMS: 3, Outcome: "error"}})
		return nil
	}))
	resp := post(t, s.URL+path, "{}", "Lambent-Log", "tail", "Lambent-Report", "usage")
	if got := body(t, resp); got != string(fault.Payload) || resp.StatusCode != http.StatusOK {
		t.Errorf("status %d, body %s", resp.StatusCode, got)
	}
	h := resp.Header
	if h.Get("Lambent-Fault") != "error" || h.Get("Lambent-Fault-Message") != "ValueError: über  X-Evil: 1" || h.Get("X-Evil") != "" {
		t.Errorf("headers %v", h)
	}
	if tail, _ := base64.StdEncoding.DecodeString(h.Get("Lambent-Log-Tail")); string(tail) != "a\nb\n" {
		t.Errorf("log tail %q", tail)
	}
	var u v1.Invocation
	if err := json.Unmarshal([]byte(h.Get("Lambent-Usage")), &u); err != nil || u.BilledMS != 3 || u.ID != h.Get("Lambent-Request-Id") {
		t.Errorf("usage %+v, %v", u, err)
	}
}

// streamed replies with pieces of no announced length, each of which must reach
// the client before the next is written.
func streamed(seen <-chan struct{}, res lambent.Result, pieces ...string) invoker {
	return func(_ context.Context, _ *lambent.Invocation, r lambent.Reply) error {
		_ = r.Begin(http.StatusOK, map[string][]string{"Content-Type": {"text/plain"}})
		for _, p := range pieces {
			if _, err := r.Write([]byte(p)); err != nil {
				return err
			}
			<-seen
		}
		r.End(res)
		return nil
	}
}

func TestInvokeStreams(t *testing.T) {
	seen := make(chan struct{})
	s := listen(t, face(streamed(seen, lambent.Result{Version: "2", LogTail: []byte("log")}, "one", "two")))
	resp := post(t, s.URL+path, "{}", "Lambent-Log", "tail")
	buf := make([]byte, 3)
	for _, want := range []string{"one", "two"} {
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("got %q, %v, want %q while the function still runs", buf, err, want)
		}
		seen <- struct{}{}
	}
	if rest := body(t, resp); rest != "" || resp.ContentLength != -1 {
		t.Errorf("rest %q, length %d", rest, resp.ContentLength)
	}
	if v, l := resp.Trailer.Get("Lambent-Version"), resp.Trailer.Get("Lambent-Log-Tail"); v != "2" || l == "" {
		t.Errorf("trailers %v", resp.Trailer)
	}
}

// An answer that breaks off must not look whole.
func TestInvokeStreamFault(t *testing.T) {
	seen := make(chan struct{})
	close(seen)
	fault := &lambent.Fault{Kind: lambent.FaultTimeout, Type: "Sandbox.Timedout", Message: "Task timed out after 3.00 seconds"}
	s := listen(t, face(streamed(seen, lambent.Result{Version: "2", Fault: fault}, "half")))
	t.Run("a client that reads no trailers", func(t *testing.T) {
		resp := post(t, s.URL+path, "{}")
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%q ended as if it were whole", b)
		}
	})
	t.Run("one that does", func(t *testing.T) {
		resp := post(t, s.URL+path, "{}", "TE", "trailers")
		if b := body(t, resp); b != "half" || resp.Trailer.Get("Lambent-Fault") != "timeout" {
			t.Errorf("body %q, trailers %v", b, resp.Trailer)
		}
	})
	t.Run("ours", func(t *testing.T) {
		var out bytes.Buffer
		c := client.New(s.URL, "")
		defer c.Close()
		o, err := c.Invoke(t.Context(), client.InvokeRequest{Name: "f"}, &out)
		if err != nil || out.String() != "half" || o.Fault != lambent.FaultTimeout || o.FaultMessage != fault.Error() {
			t.Errorf("%q, %+v, %v", out.String(), o, err)
		}
	})
}

// More or fewer bytes than announced are the function's mistake: what was sent is
// passed on as a stream, without a length that would be wrong.
func TestInvokeWrongLength(t *testing.T) {
	s := listen(t, face(func(_ context.Context, _ *lambent.Invocation, r lambent.Reply) error {
		_ = r.Begin(http.StatusOK, map[string][]string{"Content-Length": {"10"}})
		_, _ = r.Write([]byte("four"))
		r.End(lambent.Result{})
		return nil
	}))
	if got := body(t, post(t, s.URL+path, "")); got != "four" {
		t.Errorf("got %q", got)
	}
}

func TestInvokeErrors(t *testing.T) {
	next := make(chan error, 1)
	s := listen(t, face(func(_ context.Context, _ *lambent.Invocation, r lambent.Reply) error {
		err := <-next
		if errors.Is(err, io.ErrUnexpectedEOF) { // the ledger fails once a stream has begun
			_ = r.Begin(http.StatusOK, nil)
			_, _ = r.Write([]byte("begun"))
		}
		return err
	}))
	throttled := lambent.Errorf(lambent.Throttled, "dispatch", "too many")
	throttled.RetryAfter = 1001 * time.Millisecond
	next <- throttled
	resp := post(t, s.URL+path, "")
	wantProblem(t, resp, http.StatusTooManyRequests, "throttled", "too many")
	if resp.Header.Get("Retry-After") != "2" || len(resp.Header.Get("Lambent-Request-Id")) != 36 {
		t.Errorf("headers %v", resp.Header)
	}
	next <- errors.New("/secret/path")
	resp = post(t, s.URL+path, "")
	if p := wantProblem(t, resp, http.StatusInternalServerError, "internal", "internal error"); strings.Contains(p.Detail, "secret") {
		t.Errorf("a stranger reads %q", p.Detail)
	}
	next <- io.ErrUnexpectedEOF
	if b, err := io.ReadAll(post(t, s.URL+path, "").Body); err == nil {
		t.Errorf("%q ended as if it were whole", b)
	}
	for query, want := range map[string]string{"?nosuch=1": "nosuch: unknown query parameter", "?qualifier=a%20b": `qualifier "a b"`} {
		wantProblem(t, post(t, s.URL+path+query, ""), http.StatusBadRequest, "invalid", want)
	}
	wantProblem(t, post(t, s.URL+path, "", "Lambent-Log", "all"), http.StatusBadRequest, "invalid", `header Lambent-Log is "all"`)
}

// wantProblem checks a refusal, in its form and in what it says.
func wantProblem(t testing.TB, resp *http.Response, status int, kind, words string) v1.Problem {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p v1.Problem
	if err := json.Unmarshal(b, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s is no problem: %s %q", resp.Request.URL, resp.Status, b)
	}
	if resp.StatusCode != status || p.Status != status || p.Kind != kind || !strings.Contains(p.Detail, words) || strings.ContainsAny(p.Detail, "\r\n") {
		t.Fatalf("%s %s: status %d, %+v; want %d %s and %q", resp.Request.Method, resp.Request.URL, resp.StatusCode, p, status, kind, words)
	}
	return p
}

// Many callers at once get their own answers: buffers are pooled.
func TestInvokeHammer(t *testing.T) {
	s := listen(t, face(func(_ context.Context, inv *lambent.Invocation, r lambent.Reply) error {
		answer(r, inv.Raw, lambent.Result{Version: "1"})
		return nil
	}))
	c := client.New(s.URL, "")
	defer c.Close()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 50 {
				want := strings.Repeat(string(rune('a'+i%26)), 1+i*j*37%9000)
				var out bytes.Buffer
				if _, err := c.Invoke(t.Context(), client.InvokeRequest{Name: "f", Payload: strings.NewReader(want)}, &out); err != nil || out.String() != want {
					t.Errorf("%d bytes, %v, want %d of %q", out.Len(), err, len(want), want[:1])
				}
			}
		})
	}
	wg.Wait()
}

// discard is the cheapest http.ResponseWriter.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkInvoke is what the API itself costs on the hot path.
func BenchmarkInvoke(b *testing.B) {
	payload := []byte(`{"hello":"world"}`)
	head := map[string][]string{"Content-Type": {"application/json"}, "Content-Length": {itoa(len(payload))}}
	h := face(func(_ context.Context, _ *lambent.Invocation, r lambent.Reply) error {
		_ = r.Begin(http.StatusOK, head)
		_, _ = r.Write(payload)
		r.End(lambent.Result{Version: "latest"})
		return nil
	})
	body := bytes.NewReader(payload)
	req := httptest.NewRequest(http.MethodPost, path, body)
	w := &discard{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(payload)
		clear(w.h)
		h.ServeHTTP(w, req)
	}
}

// While payloads take all that there is for them others are refused, as for load, but for small
// ones; and no more once the calls have ended.
func TestPayloadsAreBounded(t *testing.T) {
	large := strings.Repeat("x", 100<<10)
	came, ends := make(chan bool), make(chan bool)
	s := listen(t, v1.New(v1.Config{
		Invoker: invoker(func(_ context.Context, inv *lambent.Invocation, r lambent.Reply) error {
			if inv.Target.Function == "waits" {
				came <- true
				<-ends
			}
			answer(r, inv.Raw, lambent.Result{})
			return nil
		}),
		Limits: lambent.DefaultLimits(), Intake: intake.New(256 << 10),
		Authenticate: func(*http.Request) (auth.Identity, error) { return auth.Identity{Role: auth.RoleAdmin}, nil },
	}))
	send := func(function, payload string, want int) {
		t.Helper()
		resp := post(t, s.URL+"/v1/functions/"+function+"/invocations", payload)
		if b := body(t, resp); resp.StatusCode != want || (want == http.StatusTooManyRequests) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("%d bytes: %s %.200q, Retry-After %q, want %d", len(payload), resp.Status, b, resp.Header.Get("Retry-After"), want)
		}
	}
	waited := make(chan bool)
	go func() {
		defer close(waited)
		send("waits", large, http.StatusOK)
	}()
	<-came
	send("f", large, http.StatusTooManyRequests)
	send("f", large[:4<<10], http.StatusOK)
	close(ends)
	<-waited
	send("f", large, http.StatusOK)
}
