package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lambent"
	"lambent/client"
	"lambent/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What goes wrong on the way is an error of a kind, in a line that names the
// server; where a command mends it, that too.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		kind   lambent.Kind
		words  string
	}{
		{"a proxy's page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(502)
			_, _ = io.WriteString(w, "<html>\n<h1>Bad Gateway")
		}, lambent.Internal, "answered 502 Bad Gateway"},
		{"text", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "this server is not called \"x\"\nsecond line", http.StatusMisdirectedRequest)
		}, lambent.Internal, `answered 421 Misdirected Request: this server is not called "x"`},
		{"another API", func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) }, lambent.NotFound, "answered 404 Not Found: 404 page not found"},
		{"no credential", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, lambent.Unauthenticated, "answered 401"},
		{"a problem", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
			_, _ = io.WriteString(w, `{"kind":"throttled","detail":"too many","hint":"lambent show f"}`)
		}, lambent.Throttled, "too many"},
		{"a kind of the future", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"kind":"bewitched","detail":"new trouble"}`)
		}, lambent.Internal, "new trouble"},
		{"JSON cut short", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"name":`) }, lambent.Unavailable, "broke off"},
		{"nothing", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, lambent.Unavailable, "does not answer"},
		{"a body cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"name":"f"`)
		}, lambent.Unavailable, "broke off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewServer(c.answer)
			defer s.Close()
			cl := client.New(s.URL, "")
			defer cl.Close()
			_, err := cl.Function(t.Context(), "f")
			e, ok := errors.AsType[*lambent.Error](err)
			if !ok || e.Kind != c.kind || !strings.Contains(e.Message, c.words) || strings.Contains(e.Message, "\n") {
				t.Errorf("%+v, want %v with %q", err, c.kind, c.words)
			}
			if c.name == "a problem" && (e.Hint != "lambent show f" || e.RetryAfter != 7*time.Second) {
				t.Errorf("%+v", e)
			}
			if _, err := cl.Deploy(t.Context(), "f", &client.DeployRequest{}, nil); err == nil {
				t.Error("a deploy has no error")
			}
			if c.name == "JSON cut short" || c.name == "a body cut short" {
				return // for an invocation that is a body like any other, or tested below
			}
			if _, err := cl.Invoke(t.Context(), client.InvokeRequest{Name: "f"}, io.Discard); lambent.KindOf(err) != c.kind {
				t.Errorf("an invocation: %v", err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	for url, words := range map[string]string{
		"http://127.0.0.1:1": "no server answers at http://127.0.0.1:1", "127.0.0.1:1": "is not the address of a server",
		"nonsense": "is not the address of a server", "": "is not the address of a server", "http://": "is not the address of a server",
		"ftp://127.0.0.1": "does not answer", "http://\x00": "is not the address of a server",
	} {
		c := client.New(url, "")
		_, err := c.Function(t.Context(), "f")
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", url, err, words)
		}
		c.Close()
	}
}

// What comes with a request: who asks and for which project.
func TestScope(t *testing.T) {
	s := servertest.Start(t)
	s.Client.Project = "shop"
	s.Python(t, "f", "def handler(event, context):\n    return context.invoked_function_arn\n")
	var out bytes.Buffer
	if _, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: "f"}, &out); err != nil || !strings.HasSuffix(out.String(), `:function:f"`) || strings.Contains(out.String(), ":000000000000:") {
		t.Errorf("%s, %v", out.String(), err)
	}
	if a := s.Get(t, "/", "Host", "f.shop.fn.localhost"); a.StatusCode != 200 {
		t.Errorf("its URL: %d %s", a.StatusCode, a.Body)
	}
	s.Client.Project = ""
	if _, err := s.Client.Function(t.Context(), "f"); !lambent.Is(err, lambent.NotFound) {
		t.Errorf("in another project: %v", err)
	}
	s.Client.Project = "no/project"
	if _, err := s.Client.Functions(t.Context(), "", 1); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("in a project that cannot be: %v", err)
	}
	s.Client.Project, s.Client.Token = "", "x"
	if _, err := s.Client.Function(t.Context(), "f"); !lambent.Is(err, lambent.Unauthenticated) {
		t.Errorf("with a token that is not known: %v", err)
	}
}

// Payloads and answers pass through as they are, whatever their size; whoever
// gives up is told that they did.
func TestInvoke(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	g := servertest.NewGate(t)
	s.Python(t, "echo", "def handler(event, context):\n    return event\n")
	s.Python(t, "wait", g.Python(), func(r *client.DeployRequest) { r.TimeoutMS = new(int64(60_000)) })
	large := `"` + strings.Repeat("x", 2<<20) + `"`
	for name, r := range map[string]client.InvokeRequest{
		"length": {Payload: strings.NewReader(large)}, "no length": {Payload: io.MultiReader(strings.NewReader(large)), Length: -1},
	} {
		r.Name = "echo"
		var out bytes.Buffer
		if o, err := s.Client.Invoke(t.Context(), r, &out); err != nil || o.Fault != "" || out.String() != large {
			t.Errorf("%s: %d bytes, %+v, %v", name, out.Len(), o, err)
		}
	}
	_, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: "echo", Payload: strings.NewReader(`"` + strings.Repeat("x", 6<<20) + `"`)}, io.Discard)
	if !lambent.Is(err, lambent.TooLarge) || !strings.Contains(err.Error(), "limit") {
		t.Errorf("over the limit: %v", err)
	}
	_, err = s.Client.Invoke(t.Context(), client.InvokeRequest{Name: "echo"}, broken{})
	if err == nil || !strings.Contains(err.Error(), "the answer cannot be written: disk full") {
		t.Errorf("an answer that cannot be written: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { g.Wait(t); cancel(errors.New("enough")) }()
	if _, err := s.Client.Invoke(ctx, client.InvokeRequest{Name: "wait"}, io.Discard); !lambent.Is(err, lambent.Canceled) || !strings.Contains(err.Error(), "enough") {
		t.Errorf("given up: %v", err)
	}
	g.Open()
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }
