package web_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lambent"
	"lambent/api/web"
	"lambent/internal/intake"
)

type invoker func(context.Context, *lambent.Invocation, lambent.Reply) error

func (f invoker) Invoke(ctx context.Context, inv *lambent.Invocation, r lambent.Reply) error {
	return f(ctx, inv, r)
}

// While bodies take all that there is for them others are refused, as for load, but for small
// ones; and no more once the calls have ended.
func TestBodiesAreBounded(t *testing.T) {
	const large = 100 << 10
	came, ends := make(chan bool), make(chan bool)
	f := web.New(web.Config{
		Invoker: invoker(func(_ context.Context, inv *lambent.Invocation, out lambent.Reply) error {
			if inv.HTTP.Path == "/waits" {
				came <- true
				<-ends
			}
			_ = out.Begin(http.StatusOK, map[string][]string{"Content-Length": {"2"}})
			_, _ = out.Write([]byte("ok"))
			out.End(lambent.Result{})
			return nil
		}),
		Resolve: func(lambent.Name) (lambent.Target, error) {
			return lambent.Target{Revision: lambent.NewRevision(lambent.Name{}, "latest", &lambent.Config{}), URL: &lambent.URL{Policy: lambent.URLPublic}}, nil
		},
		Streams: func(*lambent.Revision) bool { return false },
		MaxBody: 6 << 20, Intake: intake.New(256 << 10),
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.ServeName(w, r, lambent.Name{Project: "default", Function: "f"})
	}))
	defer s.Close()
	send := func(path string, size int, want int) {
		t.Helper()
		// It has no length, so that memory is for what has come.
		resp, err := http.Post(s.URL+path, "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", size))))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); resp.StatusCode != want || err != nil || (want == http.StatusTooManyRequests) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("%d bytes: %s %q, Retry-After %q, want %d", size, resp.Status, b, resp.Header.Get("Retry-After"), want)
		}
	}
	waited := make(chan bool)
	go func() {
		defer close(waited)
		send("/waits", large, http.StatusOK)
	}()
	<-came
	send("/", large, http.StatusTooManyRequests)
	send("/", 4<<10, http.StatusOK)
	close(ends)
	<-waited
	send("/", large, http.StatusOK)
}
