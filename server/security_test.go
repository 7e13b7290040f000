package server_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
	"lambent/auth"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

const hello = "def handler(event, context):\n    return 'hello'\n"

// A browser sends these headers with what a page asks for; the page cannot change
// them. TestBrowser has a real one do it.
func TestPageOfAnotherOrigin(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "hello", hello)
	pages := map[string][]string{
		"a function's host":             {"Origin", "http://hello.fn.localhost:" + s.Port(), "Sec-Fetch-Site", "same-site"},
		"a function's host, old":        {"Origin", "http://hello.fn.localhost:" + s.Port()},
		"the path of a function":        {"Origin", "null", "Sec-Fetch-Site", "cross-site"},
		"the path of a function, old":   {"Origin", "null"},
		"another program on this host":  {"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"},
		"a site":                        {"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"},
		"a page that tells no origin":   {"Sec-Fetch-Site", "cross-site"},
		"a function's host, as a form":  {"Origin", "http://hello.fn.localhost:" + s.Port(), "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate"},
		"localhost against its address": {"Origin", "http://localhost:" + s.Port(), "Sec-Fetch-Site", "cross-site"},
	}
	writes := []struct{ method, path, contentType, body string }{
		{"POST", "/v1/functions/hello/invocations", "application/x-www-form-urlencoded", "a=b"},
		{"POST", "/v1/functions/hello/invocations", "text/plain", "{}"},
		{"POST", "/v1/functions/hello/rollback", "multipart/form-data; boundary=x", "--x--"},
		{"POST", "/v1/code", "text/plain", "PK"},
		{"PUT", "/v1/functions/hello", "application/json", "{}"},
		{"DELETE", "/v1/functions/hello", "", ""},
	}
	for name, page := range pages {
		t.Run(name, func(t *testing.T) {
			for _, w := range writes {
				// Even with a credential, which no page has: it would be what a browser
				// attaches by itself.
				header := append([]string{"Content-Type", w.contentType, "Authorization", "Bearer " + s.Token}, page...)
				a := servertest.Do(t, s.Request(t, w.method, w.path, strings.NewReader(w.body), header...))
				if a.StatusCode != http.StatusForbidden {
					t.Errorf("%s %s: status %d: %s", w.method, w.path, a.StatusCode, a.Body)
				}
				checkNoCORS(t, a)
			}
			for _, path := range []string{"/v1/functions", "/v1/openapi.json", "/v1/nothing", "/metrics", "/debug/pprof/cmdline"} {
				a := s.Get(t, path, page...)
				if a.StatusCode != http.StatusUnauthorized && path != "/v1/nothing" {
					t.Errorf("GET %s: status %d", path, a.StatusCode)
				}
				checkNoCORS(t, a)
				pre := append([]string{"Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "authorization,content-type"}, page...)
				a = servertest.Do(t, s.Request(t, "OPTIONS", path, nil, pre...))
				if a.StatusCode/100 == 2 {
					t.Errorf("OPTIONS %s: status %d: a browser takes it for a yes", path, a.StatusCode)
				}
				checkNoCORS(t, a)
			}
		})
	}
	if f, err := s.Client.Function(t.Context(), "hello"); err != nil || f.Revision == "" {
		t.Errorf("the function is not as it was: %v, %v", f, err)
	}
}

func checkNoCORS(t *testing.T, a servertest.Answer) {
	t.Helper()
	for name := range a.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s %s is answered with %s", a.Request.Method, a.Request.URL.Path, name)
		}
	}
}

// A name that an attacker's DNS leads here makes a page of theirs ours by origin:
// it must get nothing.
func TestReboundHost(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "hello", hello)
	for _, host := range []string{
		"evil.example", "evil.example:" + s.Port(), "hello.fn.evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80",
		"[::2]:80", "10.0.0.1", "hello.fn.fn.localhost",
	} {
		for _, path := range []string{"/", "/v1/functions", "/fn/hello/", "/healthz", "/metrics"} {
			a := s.Get(t, path, "Host", host, "Authorization", "Bearer "+s.Token)
			if a.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("Host %s, GET %s: status %d: %s", host, path, a.StatusCode, a.Body)
			}
			checkNoCORS(t, a)
		}
	}
	for _, host := range []string{"localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:9700"} {
		if a := s.Get(t, "/healthz", "Host", host); a.StatusCode != http.StatusOK {
			t.Errorf("Host %s: status %d", host, a.StatusCode)
		}
	}
	named := servertest.Start(t, func(c *server.Config) { c.Hosts = []string{"Box.lan"} })
	if a := named.Get(t, "/healthz", "Host", "box.LAN:80"); a.StatusCode != http.StatusOK {
		t.Errorf("the host of --host: status %d: %s", a.StatusCode, a.Body)
	}
}

// What a function answers on the path that shares our origin is put into a
// sandbox, whatever the function says, and cookies of ours neither reach it nor
// come from it.
func TestPathSandbox(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "page", `def handler(event, context):
    return {"statusCode": 200, "body": repr(event.get("cookies")) + repr(event["headers"].get("cookie")),
        "headers": {"content-type": "text/html", "Content-Security-Policy": "default-src *", "Service-Worker-Allowed": "/",
            "Clear-Site-Data": '"*"', "Strict-Transport-Security": "max-age=9"},
        "cookies": ["mine=1", "lambent_session=x; Path=/", " lambent_a=b", "=lambent_session=x", "\tlambent_c=d"]}
`)
	a := s.Get(t, "/fn/page/x", "Cookie", "lambent_session=secret; theirs=2")
	if csp := a.Header["Content-Security-Policy"]; len(csp) != 2 || csp[0] != "sandbox" {
		t.Errorf("Content-Security-Policy %q: the sandbox must be there beside the function's own", csp)
	}
	for _, name := range []string{"Service-Worker-Allowed", "Clear-Site-Data", "Strict-Transport-Security"} {
		if v := a.Header.Get(name); v != "" {
			t.Errorf("%s: %s is for the whole origin, which is not the function's", name, v)
		}
	}
	if a.Body != "['theirs=2']'theirs=2'" {
		t.Errorf("the function sees cookies %s", a.Body)
	}
	own := s.Get(t, "/", "Host", "page.fn.localhost:"+s.Port(), "Cookie", "lambent_session=secret")
	if own.Header.Get("Service-Worker-Allowed") == "" || len(own.Header["Content-Security-Policy"]) != 1 {
		t.Errorf("on its own host a function decides for itself: %v", own.Header)
	}
	if own.Body != "NoneNone" {
		t.Errorf("the function sees cookies %s where there are only the platform's", own.Body)
	}
	for _, got := range []servertest.Answer{a, own} {
		if c := got.Header["Set-Cookie"]; len(c) != 1 || c[0] != "mine=1" {
			t.Errorf("Set-Cookie %q: those of the platform must not pass", c)
		}
		if strings.Contains(got.Body, "secret") {
			t.Errorf("the function sees the platform's cookie: %s", got.Body)
		}
	}
	for _, path := range []string{"/fn/nothing/", "/fn/page:9/", "/fn/", "/fn/page"} {
		if a := s.Get(t, path); a.StatusCode != http.StatusNotFound && a.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("GET %s: status %d without the sandbox", path, a.StatusCode)
		}
	}
}

// operations reads the OpenAPI document: what is added to it is covered.
func operations(t *testing.T, s *servertest.Server) map[string][]string {
	t.Helper()
	a := s.Get(t, "/v1/openapi.json", "Authorization", "Bearer "+s.Token)
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(a.Body), &document); err != nil || len(document.Paths) < 10 {
		t.Fatalf("the OpenAPI document: %v, %d paths", err, len(document.Paths))
	}
	all := map[string][]string{"/v1/openapi.json": {"GET"}}
	fill := strings.NewReplacer("{name}", "hello", "{version}", "1", "{alias}", "live", "{digest}", strings.Repeat("0", 64), "{id}", "x")
	for path, methods := range document.Paths {
		path = fill.Replace(path)
		if strings.Contains(path, "{") {
			t.Errorf("%s has a parameter that this test does not know", path)
		}
		for m := range methods {
			all[path] = append(all[path], strings.ToUpper(m))
		}
	}
	return all
}

// Whoever has no token may not use a single operation, and whoever has one for
// less may not use more.
func TestEveryOperationNeedsItsToken(t *testing.T) {
	data := filepath.Join(servertest.PublicDir(t), "data")
	if err := os.Mkdir(data, 0o711); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	token := func(project string, role auth.Role) string {
		token, _, err := keys.Create(auth.Token{Project: project, Role: role})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	other, caller := token("other", auth.RoleAdmin), token("default", auth.RoleInvoke)
	s := servertest.Start(t, func(c *server.Config) { c.Data = data })
	s.Python(t, "hello", hello)

	const invoke = "/v1/functions/hello/invocations"
	ask := func(method, path string, header ...string) int {
		a := servertest.Do(t, s.Request(t, method, path, strings.NewReader("{}"), append(header, "Content-Type", "application/json")...))
		checkNoCORS(t, a)
		return a.StatusCode
	}
	for path, methods := range operations(t, s) {
		for _, m := range methods {
			for _, credential := range []string{"", "Bearer", "Bearer x", "Bearer " + s.Token + "x", "Basic " + s.Token, "bearer  "} {
				header := []string{"Authorization", credential}
				if credential == "" {
					header = nil
				}
				if got := ask(m, path, header...); got != http.StatusUnauthorized {
					t.Errorf("%s %s with %.9q: status %d", m, path, credential, got)
				}
			}
			if got := ask(m, path+"?token="+s.Token, "Cookie", "token="+s.Token); got != http.StatusUnauthorized {
				t.Errorf("%s %s with the token in the URL and in a cookie: status %d", m, path, got)
			}
			for _, scope := range [][]string{{"Lambent-Project", "default"}, nil} {
				p := path
				if scope == nil {
					p += "?project=default"
				}
				got := ask(m, p, append(scope, "Authorization", "Bearer "+other)...)
				if got != http.StatusForbidden {
					t.Errorf("%s %s with another project's token: status %d", m, p, got)
				}
			}
			if path == "/v1/openapi.json" || path == invoke && m == "POST" {
				continue
			}
			// Whoever may call functions may have them called by an event; {} is none, but to webhooks.
			if want := map[string]int{"/v1/events": 400, "/v1/notifications/s3": 400, "/v1/webhooks": 202}[path]; want != 0 && m == "POST" {
				if got := ask(m, path, "Authorization", "Bearer "+caller); got != want {
					t.Errorf("%s %s with a token for calls: status %d, not %d", m, path, got, want)
				}
				continue
			}
			if got := ask(m, path, "Authorization", "Bearer "+caller); got != http.StatusForbidden {
				t.Errorf("%s %s with a token for calls only: status %d", m, path, got)
			}
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1"} {
		for header, want := range map[string]int{"": 401, "Bearer " + other: 403, "Bearer " + caller: 403} {
			if a := s.Get(t, path, "Authorization", header); a.StatusCode != want {
				t.Errorf("GET %s with %.9q: status %d", path, header, a.StatusCode)
			}
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/cmdline"} {
		if a := s.Get(t, path, "Authorization", "Bearer "+s.Token); a.StatusCode != http.StatusOK {
			t.Errorf("GET %s as administrator: status %d", path, a.StatusCode)
		}
	}
	if got := ask("POST", invoke, "Authorization", "Bearer "+caller); got != http.StatusOK {
		t.Errorf("a token for calls cannot call: status %d", got)
	}
}

// Other users of the machine may pass through the data directory to the code that
// functions run as such users, and see nothing else of it.
func TestDataDirectoryIsPrivate(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "hello", hello)
	if a := s.Get(t, "/fn/hello/"); a.Body != "hello" {
		t.Fatalf("the function answers %q", a.Body)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.TokenFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token file: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(s.Data); err != nil || info.Mode().Perm()&0o066 != 0 {
		t.Errorf("the data directory can be listed or written by others: %v, %v", info.Mode(), err)
	}
	if os.Geteuid() != 0 {
		return // then the directory itself is closed
	}
	open := []string{"code", "roots", "runtimes", "run"}
	entries, err := os.ReadDir(s.Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		isOpen := false
		for _, o := range open {
			isOpen = isOpen || e.Name() == o
		}
		if !isOpen && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v: others may look inside", e.Name(), info.Mode())
		}
	}
	err = filepath.WalkDir(s.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().Perm()&0o022 != 0 && d.Type()&fs.ModeSymlink == 0 {
			t.Errorf("%s has mode %v: others may write it", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A server without isolation does not take what it could not keep.
func TestNetworkNeedsIsolation(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	for _, r := range []client.DeployRequest{{}, {DryRun: true}, {Check: new(false)}} {
		r.Runtime, r.Handler, r.Network = new("python3"), new("app.handler"), []string{"none"}
		_, err := s.Deploy(t.Context(), t, "f", servertest.Files{"app.py": hello}, r)
		if !lambent.Is(err, lambent.Unsupported) || !strings.Contains(err.Error(), "driver process") {
			t.Errorf("got %v", err)
		}
	}
}
