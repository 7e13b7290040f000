package gcf_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/guest/gcf"
	"lambent/guest/guesttest"
	"lambent/guest/platformtest"
)

// each runs a test on every driver, beside other tests: most of them wait most of the time.
func each(t *testing.T, test func(*testing.T, *platformtest.Platform)) {
	t.Parallel()
	for driver := range platformtest.Drivers {
		t.Run(driver, func(t *testing.T) { test(t, platformtest.New(t, driver)) })
	}
}

// eachWay runs a test on every driver, and with a language's framework loaded ahead.
func eachWay(t *testing.T, language string, test func(*testing.T, *platformtest.Platform)) {
	each(t, test)
	t.Run("ahead", func(t *testing.T) {
		p := platformtest.New(t, "namespace")
		p.LoadAhead(t, language)
		test(t, p)
	})
}

// tree copies a directory of testdata to where every user can read it.
func tree(t *testing.T, name string) string {
	t.Helper()
	code := filepath.Join(platformtest.PublicDir(t), "code")
	if err := os.CopyFS(code, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	return code
}

// framework is a tree with Google's framework in it.
func framework(t *testing.T, language string) string {
	t.Helper()
	code := tree(t, language)
	platformtest.Framework(t, language, code)
	return code
}

// on returns a configuration: of a family of runtimes, or of one by name.
func on(t *testing.T, p *platformtest.Platform, runtime, code string) lambent.Config {
	t.Helper()
	if _, ok := p.Runtimes[runtime]; !ok {
		runtime = p.Newest(t, runtime)
	}
	return lambent.Config{Runtime: runtime, Code: code, MemoryMB: 512, Timeout: 30 * time.Second}
}

func bare(t *testing.T, p *platformtest.Platform) lambent.Config {
	c := on(t, p, "google-nodejs", tree(t, "server"))
	c.Command = []string{"node", "server.js", "bare", "node"}
	return c
}

// get asks by HTTP.
func get(t *testing.T, p guesttest.Platform, path string) *guesttest.Answer {
	t.Helper()
	return ask(t, p, "GET", path, nil, nil)
}

func ask(t *testing.T, p guesttest.Platform, method, path string, header http.Header, body []byte) *guesttest.Answer {
	t.Helper()
	return p.Do(t, &lambent.Invocation{HTTP: request(method, path, header, body)})
}

func request(method, path string, header http.Header, body []byte) *lambent.Request {
	path, query, _ := strings.Cut(path, "?")
	return &lambent.Request{
		Method: method, Proto: "HTTP/1.1", Scheme: "https", Host: "f.fn.example:9700", Path: path, RawQuery: query, Header: header,
		Body: bytes.NewBuffer(body), ContentLength: int64(len(body)), RemoteIP: "203.0.113.9",
	}
}

// body returns the answer's body and fails the test unless it is a success.
func body(t *testing.T, a *guesttest.Answer) string {
	t.Helper()
	if a.Err != nil {
		t.Fatalf("the platform fails: %v", a.Err)
	}
	if f := a.Result.Fault; f != nil {
		t.Fatalf("the function fails: %v: %s", f, f.Payload)
	}
	return a.Body.String()
}

// fault returns the answer's fault, whose kind and words are as expected.
func fault(t *testing.T, a *guesttest.Answer, kind lambent.FaultKind, words string) *lambent.Fault {
	t.Helper()
	if a.Err != nil {
		t.Fatalf("the platform fails: %v", a.Err)
	}
	f := a.Result.Fault
	if f == nil {
		t.Fatalf("no fault, but the answer %.200q", a.Body.String())
	}
	if f.Kind != kind || !strings.Contains(f.Message, words) {
		t.Errorf("the fault is %s, %q; want %s, ...%s", f.Kind, f.Message, kind, words)
	}
	return f
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %.300q", err, text)
	}
	return v
}

func TestNode(t *testing.T) {
	eachWay(t, "node", func(t *testing.T, p *platformtest.Platform) {
		code := framework(t, "node")
		c := on(t, p, "google-nodejs", code)
		c.Handler = "web"
		c.Env = map[string]string{"GREETING": "hello", "PORT": "9", "FUNCTION_TARGET": "nothing"}
		f := p.Deploy(t, c.WithDefaults())
		t.Run("request", func(t *testing.T) { passedOn(t, f) })
		t.Run("environment", func(t *testing.T) {
			env := decode[map[string]string](t, body(t, get(t, f, "/env")))
			for name, want := range map[string]string{
				"FUNCTION_TARGET": "web", "K_SERVICE": "suite", "K_CONFIGURATION": "suite", "K_REVISION": "suite-latest",
				"CLOUD_RUN_TIMEOUT_SECONDS": "30", "GREETING": "hello", "NODE_ENV": "production",
			} {
				if env[name] != want {
					t.Errorf("%s is %q, want %q", name, env[name], want)
				}
			}
			if env["PORT"] == "9" || env["LAMBENT_TOKEN"] != "" || strings.Contains(strings.Join(keys(env), " "), "AWS") {
				t.Errorf("the environment is %v", env)
			}
		})
		t.Run("error", func(t *testing.T) {
			if a := get(t, f, "/throw"); a.Status != 500 || a.Result.Fault != nil {
				t.Errorf("status %d, %v: what the framework answers is the answer", a.Status, a.Result.Fault)
			}
			if !strings.Contains(f.Log(), "out of cheese") {
				t.Errorf("the log is\n%s", f.Log())
			}
		})
		t.Run("no-content", func(t *testing.T) {
			if a := get(t, f, "/none"); body(t, a) != "" || a.Status != 204 {
				t.Errorf("status %d, %q", a.Status, a.Body.String())
			}
		})
		t.Run("large", func(t *testing.T) {
			in := bytes.Repeat([]byte("x"), 6<<20)
			a := ask(t, f, "POST", "/size", http.Header{"Content-Type": {"application/octet-stream"}}, in)
			if got := body(t, a); got != fmt.Sprintf(`{"bytes":%d}`, len(in)) {
				t.Errorf("6 MB in: %s", got)
			}
			if got := body(t, get(t, f, "/large?bytes=20000000")); len(got) != 20_000_000 {
				t.Errorf("20 MB out: %d bytes", len(got))
			}
		})
		t.Run("stream", func(t *testing.T) { streams(t, f, "/stream?ms=400") })
		t.Run("head-alone", func(t *testing.T) { streams(t, f, "/headers-first?ms=800") })
		t.Run("reuse", func(t *testing.T) {
			first := body(t, get(t, f, "/port"))
			for range 3 {
				if got := body(t, get(t, f, "/port")); got != first {
					t.Errorf("from %s, and before from %s: the connection was not kept", got, first)
				}
			}
		})
		t.Run("crash", func(t *testing.T) {
			fault(t, get(t, f, "/crash"), lambent.FaultExit, "Container terminated on signal: killed")
			if !strings.Contains(f.Log(), "about to crash") {
				t.Errorf("the log is\n%s", f.Log())
			}
			a := get(t, f, "/crash-midway")
			fault(t, a, lambent.FaultExit, "Container terminated on signal: killed")
			if got := a.Body.String(); got != "some of it\n" {
				t.Errorf("before the crash: %q", got)
			}
			if got := body(t, get(t, f, "/port")); got == "" {
				t.Error("no answer after a crash")
			}
		})
		t.Run("hang-up", func(t *testing.T) {
			before := get(t, f, "/port").Result.Usage.Instance
			fault(t, get(t, f, "/hang-up"), lambent.FaultBroken, "it was closed before its response began")
			fault(t, get(t, f, "/hang-up-midway"), lambent.FaultBroken, "it was closed in the middle of its response")
			a := get(t, f, "/port")
			if body(t, a); a.Result.Usage.Instance != before {
				t.Error("a connection that is closed ends the instance")
			}
		})
		t.Run("timeout", func(t *testing.T) {
			c := c
			c.Timeout = 2 * time.Second
			f := p.Deploy(t, c.WithDefaults())
			body(t, get(t, f, "/port"))
			begun := time.Now()
			got := fault(t, get(t, f, "/sleep?ms=60000"), lambent.FaultTimeout, "reached the maximum request timeout of 2s")
			if took := time.Since(begun); took < 2*time.Second || took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if string(got.Payload) != `{"error":{"code":504,"message":"The request has been terminated because it has reached the maximum request timeout of 2s.","status":"DEADLINE_EXCEEDED"}}` {
				t.Errorf("the payload is %s", got.Payload)
			}
			body(t, get(t, f, "/port"))
		})
		t.Run("cloudevent", func(t *testing.T) {
			c := c
			c.Handler, c.Env = "event", nil
			cloudEvent(t, p.Deploy(t, c.WithDefaults()))
		})
		t.Run("background", func(t *testing.T) {
			c := c
			c.Handler, c.Env = "background", map[string]string{"FUNCTION_SIGNATURE_TYPE": "event"}
			f := p.Deploy(t, c.WithDefaults())
			body(t, f.Call(t, storageEvent))
			if log := f.Log(); !strings.Contains(log, `background {"data":{"kind":"storage#object","bucket":"b","name":"grüße.txt"},"context":{"eventId":"1","timestamp":"2026-01-02T03:04:05Z","eventType":"google.storage.object.finalize",`) {
				t.Errorf("the log is\n%s", log)
			}
		})
		t.Run("no-such-target", func(t *testing.T) {
			c := c
			c.Handler, c.Env = "missing", nil
			noSuchTarget(t, p.Deploy(t, c.WithDefaults()), "Function 'missing' is not defined")
		})
		t.Run("large-header", func(t *testing.T) { largeHeader(t, f, "/none") })
	})
}

// noSuchTarget expects a framework to end when it does not find its function, and its own
// words in the log.
func noSuchTarget(t *testing.T, f guesttest.Platform, words string) {
	t.Helper()
	fault(t, get(t, f, "/"), lambent.FaultInit, "It ended before that: Container called exit(")
	if log := f.Log(); !strings.Contains(log, words) {
		t.Errorf("the framework's own words are not in the log:\n%s", log)
	}
}

// largeHeader expects a server that refuses a header of 1 MB, by an answer or by closing
// the connection, to serve on.
func largeHeader(t *testing.T, f guesttest.Platform, path string) {
	t.Helper()
	before := get(t, f, path).Result.Usage.Instance
	for range 2 {
		a := ask(t, f, "GET", path, http.Header{"X-Large": {strings.Repeat("x", 1<<20)}}, nil)
		if fault := a.Result.Fault; a.Err != nil || fault == nil && a.Status/100 != 4 || fault != nil && fault.Kind != lambent.FaultBroken {
			t.Errorf("a header of 1 MB: %d, %v, %v", a.Status, a.Err, fault)
		}
	}
	if a := get(t, f, path); a.Err != nil || a.Result.Fault != nil || a.Result.Usage.Instance != before {
		t.Errorf("afterwards: %v, %v, of %s", a.Err, a.Result.Fault, a.Result.Usage.Instance)
	}
}

func keys(m map[string]string) (names []string) {
	for k := range m {
		names = append(names, k)
	}
	return names
}

// storageEvent is the envelope of an upload.
const storageEvent = `{"specversion": "1.0", "id": "1", "source": "//storage.googleapis.com/projects/_/buckets/b", "type": "google.cloud.storage.object.v1.finalized",
	"subject": "objects/grüße.txt", "time": "2026-01-02T03:04:05Z", "datacontenttype": "application/json", "bucket": "b", "data": {"kind":"storage#object","bucket":"b","name":"grüße.txt"}}`

func cloudEvent(t *testing.T, f guesttest.Platform) {
	t.Helper()
	body(t, f.Call(t, storageEvent))
	if log := f.Log(); !strings.Contains(log, `event {`) || !strings.Contains(log, "google.cloud.storage.object.v1.finalized") || !strings.Contains(log, `storage#object`) {
		t.Errorf("the log is\n%s", log)
	}
	got := fault(t, f.Call(t, `{"specversion":"1.0","id":"2","source":"here","type":"t","data":{"fail":true}}`), lambent.FaultHandler, "The function answered the event with status 500 Internal Server Error")
	if len(got.Payload) == 0 || got.Type != "Status 500" {
		t.Errorf("type %q, payload %q", got.Type, got.Payload)
	}
	if a := f.Call(t, `{"specversion":"1.0","id":"2","source":"here","type":"t","time":"yesterday"}`); !lambent.Is(a.Err, lambent.Invalid) {
		t.Errorf("an event that is none: %v, %v", a.Err, a.Result.Fault)
	}
}

// passedOn holds what a function sees of a request.
func passedOn(t *testing.T, f guesttest.Platform) {
	header := http.Header{
		"Content-Type": {"text/plain"}, "X-Twice": {"1", "2"}, "Cookie": {"a=b"},
		"X-Forwarded-For": {"198.51.100.7"}, "X-Forwarded-Proto": {"gopher"}, "X-Forwarded-Host": {"elsewhere"}, "Function-Execution-Id": {"mine"},
		"Connection": {"X-Private, keep-alive"}, "X-Private": {"1"}, "Te": {"trailers"}, "Upgrade": {"h2c"}, "Proxy-Authorization": {"x"}, "Keep-Alive": {"1"},
	}
	a := ask(t, f, "PATCH", "/echo?x=1&x=%20&y", header, []byte("gr\xfc\x00e"))
	got := decode[struct {
		URL, Body string
		Headers   map[string]string
		Raw       []string
	}](t, body(t, a))
	if a.Status != 201 || strings.Join(a.Header["X-Method"], "") != "PATCH" || strings.Join(a.Header["Set-Cookie"], "; ") != "a=1; b=2" {
		t.Errorf("status %d, header %v", a.Status, a.Header)
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Transfer-Encoding"} {
		if a.Header[name] != nil {
			t.Errorf("the answer has %s: %q", name, a.Header[name])
		}
	}
	if got.URL != "/echo?x=1&x=%20&y" {
		t.Errorf("the URL is %q", got.URL)
	}
	if b, _ := base64.StdEncoding.DecodeString(got.Body); string(b) != "gr\xfc\x00e" {
		t.Errorf("the body is %q", b)
	}
	for name, want := range map[string]string{
		"host": "f.fn.example:9700", "x-forwarded-for": "198.51.100.7, 203.0.113.9", "x-forwarded-proto": "https", "x-forwarded-host": "f.fn.example:9700",
		"function-execution-id": a.Result.Usage.ID, "x-twice": "1, 2", "cookie": "a=b", "content-length": "5", "content-type": "text/plain",
		"te": "trailers", // it is ours to take them, and we do
	} {
		if got.Headers[name] != want {
			t.Errorf("%s is %q, want %q", name, got.Headers[name], want)
		}
	}
	for _, name := range []string{"x-private", "upgrade", "proxy-authorization", "keep-alive"} {
		if v, ok := got.Headers[name]; ok {
			t.Errorf("%s: %q is of the hop before", name, v)
		}
	}
	trace := got.Headers["traceparent"]
	if len(trace) != 55 || !strings.HasPrefix(got.Headers["x-cloud-trace-context"], trace[3:35]+"/") {
		t.Errorf("traceparent %q, X-Cloud-Trace-Context %q", trace, got.Headers["x-cloud-trace-context"])
	}
	const mine = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	got2 := decode[struct{ Headers map[string]string }](t, body(t, ask(t, f, "GET", "/echo", http.Header{"Traceparent": {mine}}, nil)))
	if h := got2.Headers; h["traceparent"] != mine || h["x-cloud-trace-context"] != "4bf92f3577b34da6a3ce929d0e0e4736/67667974448284343;o=1" || h["content-length"] != "" {
		t.Errorf("of a trace that was begun: %v", h)
	}
}

// A timed reply notes when its parts came.
type timed struct {
	guesttest.Answer
	begun time.Time
	parts []time.Duration
	texts []string
}

func (r *timed) Write(b []byte) (int, error) {
	r.parts, r.texts = append(r.parts, time.Since(r.begun)), append(r.texts, string(b))
	return r.Answer.Write(b)
}

// streams expects the first part of an answer well before its end.
func streams(t *testing.T, f guesttest.Platform, path string) {
	t.Helper()
	body(t, get(t, f, "/none")) // an instance is there
	r := &timed{begun: time.Now()}
	if err := f.Invoke(t.Context(), &lambent.Invocation{ID: lambent.NewID(), Target: f.Name, HTTP: request("GET", path, nil, nil)}, r); err != nil || r.Result.Fault != nil {
		t.Fatalf("%v, %v", err, r.Result.Fault)
	}
	if last := len(r.parts) - 1; last < 1 || r.parts[last]-r.parts[0] < 500*time.Millisecond {
		t.Errorf("the parts came at %v: %q", r.parts, r.texts)
	}
}

func TestPython(t *testing.T) {
	eachWay(t, "python", func(t *testing.T, p *platformtest.Platform) {
		code := framework(t, "python")
		c := on(t, p, "google-python", code)
		c.Handler = "web"
		f := p.Deploy(t, c.WithDefaults())
		t.Run("request", func(t *testing.T) {
			a := ask(t, f, "PUT", "/a%20b?x=1", http.Header{"X-Mine": {"yes"}}, []byte("grüße"))
			got := decode[struct {
				Method, Path, Body string
				Headers            map[string]string
			}](t, body(t, a))
			if a.Status != 201 || got.Method != "PUT" || got.Path != "/a b" || got.Body != "grüße" || got.Headers["X-Mine"] != "yes" || got.Headers["Function-Execution-Id"] != a.Result.Usage.ID {
				t.Errorf("status %d, %+v", a.Status, got)
			}
		})
		t.Run("environment", func(t *testing.T) {
			env := decode[map[string]string](t, body(t, get(t, f, "/env")))
			if env["FUNCTION_TARGET"] != "web" || env["K_SERVICE"] != "suite" || env["PYTHONPATH"] == "" || env["CLOUD_RUN_TIMEOUT_SECONDS"] != "0" {
				t.Errorf("the environment is %v", env)
			}
		})
		t.Run("error", func(t *testing.T) {
			if a := get(t, f, "/throw"); a.Status != 500 || !strings.Contains(f.Log(), "ValueError: out of cheese") {
				t.Errorf("status %d, and the log is\n%s", a.Status, f.Log())
			}
		})
		t.Run("stream", func(t *testing.T) { streams(t, f, "/stream") })
		t.Run("cloudevent", func(t *testing.T) {
			c := c
			c.Handler, c.Env = "event", map[string]string{"FUNCTION_SIGNATURE_TYPE": "cloudevent"}
			cloudEvent(t, p.Deploy(t, c.WithDefaults()))
		})
		t.Run("background", func(t *testing.T) {
			c := c
			c.Handler, c.Env = "background", map[string]string{"FUNCTION_SIGNATURE_TYPE": "event"}
			f := p.Deploy(t, c.WithDefaults())
			body(t, f.Call(t, storageEvent))
			if log := f.Log(); !strings.Contains(log, `"event_type": "google.storage.object.finalize"`) {
				t.Errorf("the log is\n%s", log)
			}
		})
		t.Run("no-such-target", func(t *testing.T) {
			c := c
			c.Handler = "missing"
			noSuchTarget(t, p.Deploy(t, c.WithDefaults()), "expected to contain a function named 'missing'")
		})
		t.Run("large-header", func(t *testing.T) { largeHeader(t, f, "/none") })
		t.Run("asleep", func(t *testing.T) { // for longer than its server lets its worker be silent
			c := c
			c.Timeout = 2 * time.Second
			f := p.Deploy(t, c.WithDefaults())
			before := get(t, f, "/env").Result.Usage.Instance
			for range 2 {
				time.Sleep(4 * time.Second)
				a := get(t, f, "/env")
				if body(t, a); a.Result.Usage.Instance != before {
					t.Errorf("another instance than before: %s\n%s", a.Result.Usage.Instance, f.Log())
				}
			}
		})
		t.Run("server", func(t *testing.T) { // of no framework
			c := c
			c.Handler, c.Env = "", map[string]string{"GUNICORN_CMD_ARGS": "--workers 2"}
			c.Command = []string{"python3", "-c", `
import http.server, json, os

class Environment(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())

http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Environment).serve_forever()`}
			env := decode[map[string]string](t, body(t, get(t, p.Deploy(t, c.WithDefaults()), "/")))
			if _, ok := env["CLOUD_RUN_TIMEOUT_SECONDS"]; ok || env["GUNICORN_CMD_ARGS"] != "--timeout=0 --workers 2" {
				t.Errorf("the environment is %v", env)
			}
		})
		t.Run("several", func(t *testing.T) {
			c := c
			c.Concurrency, c.Env = 8, map[string]string{"THREADS": "8"}
			f := p.Deploy(t, c.WithDefaults())
			if n := instances(t, f, 8, "/sleep?ms=1000"); n != 1 {
				t.Errorf("8 at a time on %d instances", n)
			}
		})
	})
}

// instances makes requests at once, and returns how many instances they had.
func instances(t *testing.T, f guesttest.Platform, calls int, path string) int {
	t.Helper()
	return together(t, calls, func() *guesttest.Answer {
		a := get(t, f, path)
		if a.Err == nil && a.Result.Fault == nil && a.Status != 200 {
			t.Errorf("status %d", a.Status)
		}
		return a
	})
}

// together makes calls at once, and returns how many instances they had.
func together(t *testing.T, calls int, call func() *guesttest.Answer) int {
	t.Helper()
	seen := sync.Map{}
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			a := call()
			if a.Err != nil || a.Result.Fault != nil {
				t.Errorf("%v, %v", a.Err, a.Result.Fault)
			}
			seen.Store(a.Result.Usage.Instance, true)
		})
	}
	wg.Wait()
	n := 0
	seen.Range(func(any, any) bool { n++; return true })
	return n
}

func TestBare(t *testing.T) {
	each(t, func(t *testing.T, p *platformtest.Platform) {
		c := bare(t, p)
		f := p.Deploy(t, c.WithDefaults())
		if got := body(t, get(t, f, "/")); got != "hello of bare" {
			t.Errorf("got %q", got)
		}
		for _, c := range []struct{ path, want string }{
			{"/close", "the last"}, {"/early-hints", "hinted"}, {"/hop", "hop"}, {"/close", "the last"},
		} {
			a := get(t, f, c.path)
			if got := body(t, a); got != c.want {
				t.Errorf("%s: %q", c.path, got)
			}
			if c.path == "/hop" && (a.Header["X-Private"] != nil || a.Header["Keep-Alive"] != nil || a.Header["X-Public"] == nil) {
				t.Errorf("of the answer's header comes %v", a.Header)
			}
		}
		if a := ask(t, f, "HEAD", "/head", nil, nil); body(t, a) != "" || a.Header["Content-Length"][0] != "5" {
			t.Errorf("HEAD: %q, %v", a.Body.String(), a.Header)
		}
		in := bytes.Repeat([]byte("0123456789abcdef"), 384<<10) // 6 MB
		if got := body(t, ask(t, f, "POST", "/pipe", nil, in)); got != string(in) {
			t.Errorf("of 6 MB there and back %d bytes came", len(got))
		}
		if a := ask(t, f, "POST", "/early", nil, in); body(t, a) != "too much" || a.Status != 413 {
			t.Errorf("an answer before all was read: %d, %q", a.Status, a.Body.String())
		}
		t.Run("broken", func(t *testing.T) { broken(t, f) })
		t.Run("endless", func(t *testing.T) {
			c := c
			c.Timeout = time.Second
			f := p.Deploy(t, c.WithDefaults())
			a := get(t, f, "/endless")
			fault(t, a, lambent.FaultTimeout, "maximum request timeout")
			if !strings.HasPrefix(a.Body.String(), "and on and on ") {
				t.Errorf("before the timeout: %q", a.Body.String())
			}
			if log := f.Log(); !strings.Contains(log, "endless") || !strings.Contains(log, "DEADLINE_EXCEEDED: The request has been terminated") {
				t.Errorf("the log is\n%s", log)
			}
			a = get(t, f, "/less-and-waits")
			fault(t, a, lambent.FaultTimeout, "maximum request timeout")
			if got := a.Body.String(); got != "less" {
				t.Errorf("before the timeout: %q", got)
			}
		})
		t.Run("nobody-let-in", func(t *testing.T) { // the next call has another instance
			f := p.Deploy(t, c.WithDefaults())
			before := get(t, f, "/close-server").Result.Usage.Instance
			a := get(t, f, "/")
			for range 5 {
				if a.Result.Usage.Instance != before {
					break
				}
				time.Sleep(1100 * time.Millisecond) // the connection that is open may serve until it is too old
				a = get(t, f, "/")
			}
			if body(t, a); a.Result.Usage.Instance == before {
				t.Error("a server that lets nobody in is asked again and again")
			}
		})
		t.Run("asked-to-end", func(t *testing.T) {
			c := c
			c.Env = map[string]string{"OTHER": "1"}
			var f guesttest.Platform
			t.Cleanup(func() { // once it is closed
				if log := f.Log(); !strings.Contains(log, "asked to end") {
					t.Errorf("nobody has asked it to end:\n%s", log)
				}
			})
			f = p.Deploy(t, c.WithDefaults())
			body(t, get(t, f, "/"))
			time.Sleep(1500 * time.Millisecond) // it is frozen, where the driver can
		})
		t.Run("asked-in-vain", func(t *testing.T) { // it has ten seconds, and is killed
			c := c
			c.Env = map[string]string{"STAYS": "1"}
			var f guesttest.Platform
			var begun time.Time
			t.Cleanup(func() {
				took := time.Since(begun)
				if log := f.Log(); took < 9*time.Second || took > 20*time.Second || !strings.Contains(log, "asked to end") {
					t.Errorf("after %v it has ended:\n%s", took, log)
				}
			})
			f = p.Deploy(t, c.WithDefaults())
			t.Cleanup(func() { begun = time.Now() })
			body(t, get(t, f, "/"))
		})
	})
}

func TestSeveral(t *testing.T) {
	eachWay(t, "node", func(t *testing.T, p *platformtest.Platform) {
		c := on(t, p, "google-nodejs", framework(t, "node"))
		c.Handler, c.Concurrency = "web", 100
		f := p.Deploy(t, c.WithDefaults())
		body(t, get(t, f, "/none"))
		begun := time.Now()
		if n := instances(t, f, 100, "/sleep?ms=1000"); n != 1 {
			t.Errorf("100 at a time on %d instances", n)
		}
		if took := time.Since(begun); took > 15*time.Second {
			t.Errorf("100 sleeps of a second at a time take %v", took)
		}
		if most := decode[struct{ Most int }](t, body(t, get(t, f, "/sleep?ms=1"))).Most; most < 50 {
			t.Errorf("at most %d of 100 were there together", most)
		}
		// A crash takes all of them along.
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { fault(t, get(t, f, "/sleep?ms=20000"), lambent.FaultExit, "signal: killed") })
		}
		time.Sleep(2 * time.Second)
		fault(t, get(t, f, "/crash"), lambent.FaultExit, "signal: killed")
		wg.Wait()

		c.Concurrency = 1
		if n := instances(t, p.Deploy(t, c.WithDefaults()), 3, "/sleep?ms=3000"); n != 3 {
			t.Errorf("one at a time, three calls on %d instances", n)
		}
	})
}

func TestGo(t *testing.T) {
	each(t, func(t *testing.T, p *platformtest.Platform) {
		code := filepath.Join(platformtest.PublicDir(t), "code")
		cmd := exec.Command("go", "build", "-o", filepath.Join(code, "server"), "./testdata/go")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		c := on(t, p, "web", code)
		c.Command = []string{"./server", "an argument"}
		f := p.Deploy(t, c.WithDefaults())
		if got := body(t, get(t, f, "/")); got != "hello of [an argument] in suite" {
			t.Errorf("got %q", got)
		}
		if a := ask(t, f, "PUT", "/echo", nil, []byte("there and back")); body(t, a) != "there and back" || a.Header["X-Method"][0] != "PUT" {
			t.Errorf("got %q, %v", a.Body.String(), a.Header)
		}
		if got := body(t, f.Call(t, `{"hello":"you"}`)); !strings.HasPrefix(got, "hello of") {
			t.Errorf("a direct call gets %q", got)
		}
		environment(t, f, "")
		large := http.Header{"X-Large": {strings.Repeat("x", 1<<20)}} // which Go's server takes
		body(t, ask(t, f, "GET", "/", large, nil))
		c.Concurrency = 1000
		f = p.Deploy(t, c.WithDefaults())
		body(t, get(t, f, "/"))
		if n := instances(t, f, 1000, "/sleep?ms=5000"); n != 1 {
			t.Errorf("1000 at a time on %d instances", n)
		}
	})
}

func TestCheck(t *testing.T) {
	web, java := lambent.Runtime{Name: "web"}, lambent.Runtime{Name: "java17", Boot: []string{"java"}}
	golang := lambent.Runtime{Name: "go126", LateBoot: []string{"./bootstrap"}}
	for name, c := range map[string]struct {
		config lambent.Config
		rt     lambent.Runtime
		words  string
	}{
		"command":    {lambent.Config{Command: []string{"./server"}}, web, ""},
		"program":    {lambent.Config{Handler: "Hello"}, golang, ""},
		"class":      {lambent.Config{Handler: "com.example.Hello"}, java, ""},
		"no command": {lambent.Config{}, web, "runtime web runs a command, and none is given"},
		"lambda":     {lambent.Config{Handler: "com.example.Hello::handle"}, java, "is one of Lambda's for Java"},
		"event":      {lambent.Config{Handler: "hello", Timeout: 540 * time.Second, Env: map[string]string{"FUNCTION_SIGNATURE_TYPE": "event"}}, java, ""},
		"long event": {lambent.Config{Handler: "hello", Timeout: 541 * time.Second, Env: map[string]string{"FUNCTION_SIGNATURE_TYPE": "cloudevent"}}, java, "timeout 9m1s is over the limit of 9m0s for a function of events"},
		"long":       {lambent.Config{Handler: "hello", Timeout: time.Hour, Env: map[string]string{"FUNCTION_SIGNATURE_TYPE": "http"}}, java, ""},
		"too long":   {lambent.Config{Handler: "hello", Timeout: time.Hour + time.Second}, java, "timeout 1h0m1s is outside 1ms to 1h0m0s"},
		"signature":  {lambent.Config{Handler: "hello", Env: map[string]string{"FUNCTION_SIGNATURE_TYPE": "pubsub"}}, java, `signature type "pubsub"`},
	} {
		err := (&gcf.Guest{Limits: lambent.DefaultLimits()}).Check(&c.config, c.rt)
		if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
	}
}

// TestCompiled holds what is run of code that was compiled, and how Java is told of its
// memory.
func TestCompiled(t *testing.T) {
	each(t, func(t *testing.T, p *platformtest.Platform) {
		t.Run("go", func(t *testing.T) {
			code := filepath.Join(platformtest.PublicDir(t), "code")
			cmd := exec.Command("go", "build", "-o", filepath.Join(code, "bootstrap"), "./testdata/go")
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, out)
			}
			c := on(t, p, "google-go", code)
			c.Handler = "Hello"
			f := p.Deploy(t, c.WithDefaults())
			if got := body(t, get(t, f, "/")); got != "hello of [] in suite" {
				t.Errorf("got %q", got)
			}
			environment(t, f, "Hello")
		})
		t.Run("java", func(t *testing.T) {
			code := tree(t, "java")
			platformtest.Part(t, "java-function-invoker", filepath.Join(code, "invoker"))
			jars, err := filepath.Glob(filepath.Join(code, "invoker", "*.jar"))
			if err != nil || len(jars) == 0 {
				t.Fatalf("no invoker: %v", err)
			}
			if _, err := exec.LookPath("javac"); err != nil {
				platformtest.Missing(t, "there is no javac")
			}
			cmd := exec.Command("javac", "-cp", jars[0], "-d", filepath.Join(code, "target", "classes"), filepath.Join(code, "Web.java"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("javac: %v\n%s", err, out)
			}
			c := on(t, p, "google-java", code)
			c.Handler, c.Concurrency = "Web", 20
			f := p.Deploy(t, c.WithDefaults())
			heap := func(text string) {
				t.Helper()
				if mb := decode[int](t, text); mb < 512*50/100 || mb > 512*61/100 {
					t.Errorf("of 512 MB the heap may take %d", mb)
				}
			}
			heap(body(t, get(t, f, "/")))
			if a := ask(t, f, "PUT", "/echo", nil, []byte("grüße")); body(t, a) != "grüße" || a.Header["X-Method"][0] != "PUT" {
				t.Errorf("got %q, %v", a.Body.String(), a.Header)
			}
			if n := instances(t, f, 20, "/sleep?ms=1000"); n != 1 {
				t.Errorf("20 at a time on %d instances", n)
			}
			environment(t, f, "Web")
			largeHeader(t, f, "/")
			c.Handler = "com.example.Missing"
			noSuchTarget(t, p.Deploy(t, c.WithDefaults()), "com.example.Missing")

			c.Handler, c.Command, c.Concurrency = "", []string{"java", "-cp", "target/classes:invoker/*", "Web"}, 1
			heap(body(t, get(t, p.Deploy(t, c.WithDefaults()), "/")))
		})
	})
}

// environment expects of a function that it finds what the contract names, and of a
// server, which has no target, that it finds what is not for functions alone.
func environment(t *testing.T, f guesttest.Platform, target string) {
	t.Helper()
	env := decode[map[string]string](t, body(t, get(t, f, "/env")))
	want := map[string]string{
		"K_SERVICE": "suite", "K_CONFIGURATION": "suite", "K_REVISION": "suite-latest",
		"FUNCTION_TARGET": target, "CLOUD_RUN_TIMEOUT_SECONDS": "30", "FUNCTION_SIGNATURE_TYPE": "",
	}
	if target == "" {
		want["CLOUD_RUN_TIMEOUT_SECONDS"] = ""
	}
	for name, value := range want {
		if got, ok := env[name]; got != value || ok != (value != "") {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if env["PORT"] == "" || strings.Contains(strings.Join(keys(env), " "), "AWS") || strings.Contains(strings.Join(keys(env), " "), "LAMBENT") {
		t.Errorf("the environment is %v", env)
	}
}

// broken holds what becomes of responses that are none, or odd ones, of a process that
// lives on. Why is in the log, with what the code said itself.
func broken(t *testing.T, f guesttest.Platform) {
	before := get(t, f, "/").Result.Usage.Instance
	for path, words := range map[string]string{
		"/garbage": "malformed response head", "/two-lengths": "malformed response head", "/bad-chunk": "malformed chunked body",
		"/short": "it was closed in the middle of its response", "/only-interim": "it was closed before its response began", "/big-header": "over 64 KB",
	} {
		a := get(t, f, path)
		got := fault(t, a, lambent.FaultBroken, words)
		if got.Status != 503 || !strings.Contains(string(got.Payload), "UNAVAILABLE") || a.Result.Usage.Outcome != "broken" {
			t.Errorf("%s: status %d, payload %s, outcome %s", path, got.Status, got.Payload, a.Result.Usage.Outcome)
		}
		log := f.Log()
		if at := strings.Index(log, "raw "+path); at < 0 || !strings.Contains(log[at:], a.Result.Usage.ID+" UNAVAILABLE: The request failed") || !strings.Contains(log[at:], words) {
			t.Errorf("%s: the log is\n%s", path, log)
		}
	}
	for path, want := range map[string]string{"/long": "long", "/204": "", "/304": "", "/interim": "after"} {
		for range 3 { // nothing of it is taken for the next answer
			if a := get(t, f, path); body(t, a) != want {
				t.Errorf("%s: %d %q", path, a.Status, a.Body.String())
			}
		}
	}
	largeHeader(t, f, "/")
	if a := get(t, f, "/"); body(t, a) != "hello of bare" || a.Result.Usage.Instance != before {
		t.Errorf("afterwards: %q of %s", a.Body.String(), a.Result.Usage.Instance)
	}
}

// TestNoStart holds what becomes of code that is no server.
func TestNoStart(t *testing.T) {
	each(t, func(t *testing.T, p *platformtest.Platform) {
		limits := p.Limits
		defer func() { p.Limits = limits }()
		code := tree(t, "server")
		for _, c := range []struct {
			name    string
			command []string
			words   string
			log     string
		}{
			{"exits", []string{"/bin/sh", "-c", "echo no luck today >&2; exit 3"}, "It ended before that: Container called exit(3)", "no luck today"},
			{"is-killed", []string{"/bin/sh", "-c", "kill -9 $$"}, "Container terminated on signal: killed", ""},
			{"not-there", []string{"./missing"}, "the command cannot be executed: ./missing: no such file", ""},
			{"not-found", []string{"missing-program"}, "exit(127)", "missing-program"},
			{"nothing-to-run", nil, "no command says what to run", ""},
			{"never-listens", []string{"/bin/sh", "-c", "echo thinking; exec sleep 1000"}, "failed to start and listen on the port defined by the PORT=", "thinking"},
			{"listens-elsewhere", []string{"/bin/sh", "-c", "PORT=9999 exec node server.js"}, "failed to start and listen on the port", ""},
		} {
			t.Run(c.name, func(t *testing.T) {
				p.Limits = limits
				if c.name == "never-listens" || c.name == "listens-elsewhere" {
					p.Limits.InitTimeout = 2 * time.Second
				}
				config := on(t, p, "web", code)
				config.Command = c.command
				f := p.Deploy(t, config.WithDefaults())
				begun := time.Now()
				fault(t, get(t, f, "/"), lambent.FaultInit, c.words)
				if took := time.Since(begun); took > 8*time.Second {
					t.Errorf("it took %v", took)
				}
				if log := f.Log(); !strings.Contains(log, c.log) {
					t.Errorf("its own words are not in the log:\n%s", log)
				}
			})
		}
	})
}
