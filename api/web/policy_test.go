package web_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lambent"
	"lambent/auth"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

// Who may call a function's URL, and what everybody else is told.
func TestPolicy(t *testing.T) {
	data := filepath.Join(servertest.PublicDir(t), "data")
	if err := os.Mkdir(data, 0o711); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{"none": "", "wrong": "x"}
	for name, want := range map[string]auth.Token{
		"caller": {Project: "default", Role: auth.RoleInvoke}, "other": {Project: "other", Role: auth.RoleAdmin},
	} {
		if tokens[name], _, err = keys.Create(want); err != nil {
			t.Fatal(err)
		}
	}
	s := servertest.Start(t, func(c *server.Config) { c.Data = data })
	tokens["admin"] = s.Token
	policies := map[string]lambent.URLPolicy{"open": lambent.URLPublic, "closed": lambent.URLToken, "hidden": lambent.URLNone}
	for name, p := range policies {
		s.Python(t, name, "def handler(event, context):\n    return event['headers'].get('authorization', 'nobody')\n",
			func(r *client.DeployRequest) { r.URL.Policy = &p })
	}
	for _, c := range []struct {
		function, token string
		status          int
	}{
		{"open", "none", 200}, {"open", "wrong", 200}, {"open", "admin", 200},
		{"closed", "none", 401}, {"closed", "wrong", 401}, {"closed", "other", 403}, {"closed", "caller", 200}, {"closed", "admin", 200},
		{"hidden", "none", 403}, {"hidden", "admin", 403},
		{"missing", "none", 403}, {"missing", "admin", 403},
	} {
		for _, at := range []struct{ path, host string }{{"/", c.function + ".fn.localhost"}, {"/fn/" + c.function + "/", "localhost"}} {
			header := []string{"Host", at.host}
			if tokens[c.token] != "" {
				header = append(header, "Authorization", "Bearer "+tokens[c.token])
			}
			a := s.Get(t, at.path, header...)
			if a.StatusCode != c.status {
				t.Errorf("%s at %s with token %s: %d %s, want %d", c.function, at.host, c.token, a.StatusCode, a.Body, c.status)
			}
			switch c.status {
			case 401, 403:
				if a.Header.Get("X-Amzn-Errortype") != "AccessDeniedException" || !strings.HasPrefix(a.Body, `{"Message":"`) {
					t.Errorf("%s: %v %s", c.function, a.Header, a.Body)
				}
			}
		}
	}
	// A function without a URL looks like one that is not there.
	if a, b := s.Get(t, "/fn/hidden/"), s.Get(t, "/fn/missing/"); a.Body != b.Body || a.StatusCode != b.StatusCode {
		t.Errorf("a stranger can tell a function without a URL, %s, from none, %s", a.Body, b.Body)
	}
	// The credential was for us: the code must not get it to use.
	if a := s.Get(t, "/fn/closed/", "Authorization", "Bearer "+s.Token); strings.Contains(a.Body, s.Token) {
		t.Error("a function behind the policy token sees the token that its caller showed to the server")
	}
	if a := s.Get(t, "/fn/open/", "Authorization", "Basic me"); a.Body != "Basic me" {
		t.Errorf("a public function has its own ways to authenticate: it sees %s", a.Body)
	}
}

// Versions and aliases by path; a host is always latest.
func TestQualifier(t *testing.T) {
	s := servertest.Start(t)
	publish := func(n int) {
		s.Python(t, "f", "def handler(event, context):\n    return '"+strconv.Itoa(n)+" ' + context.function_version + ' ' + context.invoked_function_arn.split(':')[-1]\n",
			func(r *client.DeployRequest) { r.Publish = n < 3 })
	}
	for n := range 3 {
		publish(n + 1)
	}
	if _, err := s.Client.SetAlias(t.Context(), "f", client.Alias{Name: "live", Version: "1"}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/fn/f/": "3 $LATEST f", "/fn/f:1/": "1 1 1", "/fn/f:2/x": "2 2 2", "/fn/f:live/": "1 1 live", "/fn/f:latest/": "3 $LATEST $LATEST", "/fn/f.default:live/": "1 1 live",
	} {
		if a := s.Get(t, path); a.StatusCode != 200 || a.Body != want {
			t.Errorf("GET %s: %d %q, want %q", path, a.StatusCode, a.Body, want)
		}
	}
	for _, path := range []string{"/fn/f:9/", "/fn/f:nothing/", "/fn/f.other/", "/fn/../f", "/fn/f:a:b/", "/fn/a%2Fb/"} {
		if a := s.Get(t, path); a.StatusCode != http.StatusForbidden {
			t.Errorf("GET %s: %d %q", path, a.StatusCode, a.Body)
		}
	}
	if a := s.Get(t, "/", "Host", "f.default.fn.localhost"); a.Body != "3 $LATEST f" {
		t.Errorf("by host and project: %d %s", a.StatusCode, a.Body)
	}
}

// What cannot be taken on is refused at once, with when to come again.
func TestThrottle(t *testing.T) {
	s := servertest.Start(t, servertest.Plain, func(c *server.Config) { c.MaxQueue = 1 })
	s.Python(t, "stopped", "def handler(event, context): pass\n", func(r *client.DeployRequest) {
		r.Scaling = &client.ScalingRequest{Reserved: new(0)}
	})
	g := servertest.NewGate(t)
	s.Python(t, "busy", g.Python(), func(r *client.DeployRequest) {
		r.TimeoutMS, r.Scaling = new(int64(60_000)), &client.ScalingRequest{MaxInstances: new(1)}
	})
	check := func(a servertest.Answer) {
		t.Helper()
		if a.StatusCode != http.StatusTooManyRequests || a.Header.Get("X-Amzn-Errortype") != "TooManyRequestsException" {
			t.Errorf("%d %v %s", a.StatusCode, a.Header, a.Body)
		}
		if n, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || n < 1 {
			t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
		}
	}
	stopped := s.Get(t, "/fn/stopped/")
	if check(stopped); stopped.Header.Get("Retry-After") != "60" || !strings.Contains(stopped.Body, `"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded"`) {
		t.Errorf("a function that is stopped: %v %s", stopped.Header, stopped.Body)
	}
	answers := make(chan servertest.Answer, 10)
	for range 10 { // one runs, one waits, eight are refused
		go func() { answers <- s.Get(t, "/fn/busy/") }()
	}
	g.Wait(t)
	for range 8 {
		check(<-answers)
	}
	g.Open()
	for range 2 {
		if a := <-answers; a.StatusCode != 200 || a.Body != "done" {
			t.Errorf("%d %s", a.StatusCode, a.Body)
		}
	}
}
