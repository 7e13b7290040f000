package test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lambent/client"
	"lambent/test/daemon"
)

// What functions depend on comes from the registries of the world, through the fence of
// a sandbox, and they answer.
func TestBuildsFromRegistries(t *testing.T) {
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	hello := call{"", `{"name": "Ada"}`, [2]string{"Hello, ", "Hi, "}, [2]string{"Hello, ", "Hi, "}}
	var built atomic.Int32
	t.Cleanup(func() { // once all are through, and before the server is ended
		if want := fmt.Sprintf("\nlambent_builds_total{outcome=%q} %d\n", "ok", built.Load()); built.Load() > 0 && !strings.Contains(metrics(t, d), want) {
			t.Errorf("the metrics lack %q", want)
		}
	})
	for name, c := range map[string]struct {
		tools    []string
		registry string
		source   string
		changed  string // what the deploy of another source says
		call     call
		builds   int32 // of a deploy: one for each function
	}{
		"gcp-node-hello":   {[]string{"/usr/bin/node", "npm"}, "registry.npmjs.org:443", "index.js", "nothing of what is installed has changed", hello, 1},
		"gcp-python-hello": {[]string{"/usr/bin/python3"}, "pypi.org:443", "main.py", "nothing of what is installed has changed", hello, 1},
		"gcp-java-hello":   {[]string{"mvn", "javac"}, "repo.maven.apache.org:443", "src/main/java/com/example/Hello.java", "what the manifests ask for is there from an earlier build", hello, 1},
		"gcp-java-events": {[]string{"mvn", "javac"}, "repo.maven.apache.org:443", "src/main/java/com/example/Ordered.java", "what the manifests ask for is there from an earlier build",
			call{"java-ordered", `{"item": "Tea", "count": 2}`, [2]string{"toUpperCase", "toLowerCase"}, [2]string{`"TEA"`, `"tea"`}}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needs(t, c.registry, c.tools...)
			dir := filepath.Join(t.TempDir(), name)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", name))); err != nil {
				t.Fatal(err)
			}
			deploy := func() string {
				t.Helper()
				built.Add(c.builds)
				return said(t, d, "deploy", dir)
			}
			answers := func(want string) {
				t.Helper()
				var out bytes.Buffer
				function := cmp.Or(c.call.function, name)
				if _, err := d.Invoke(t.Context(), client.InvokeRequest{Name: function, Payload: strings.NewReader(c.call.payload)}, &out); err != nil || !strings.Contains(out.String(), want) {
					t.Errorf("Invoke = %v: %s", err, &out)
				}
			}
			deploy()
			answers(c.call.answers[0])
			if said := deploy(); !strings.Contains(said, "nothing of what is installed has changed") || !strings.Contains(said, "nothing changed in "+cmp.Or(c.call.function, name)) {
				t.Errorf("again:\n%s", said)
			}
			text, err := os.ReadFile(filepath.Join(dir, c.source))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, c.source), bytes.ReplaceAll(text, []byte(c.call.words[0]), []byte(c.call.words[1])), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			if said := deploy(); !strings.Contains(said, c.changed) {
				t.Errorf("with another source:\n%s", said)
			}
			answers(c.call.answers[1])
		})
	}
}

// needs skips a test without programs, or a registry that answers.
func needs(t *testing.T, registry string, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, err.Error())
		}
	}
	conn, err := net.DialTimeout("tcp", registry, 5*time.Second)
	if err != nil {
		missing(t, err.Error())
	}
	conn.Close()
}

// said runs a command of the program's, and returns what that says.
func said(t *testing.T, d *daemon.Daemon, args ...string) string {
	t.Helper()
	cmd := exec.Command(daemon.Program(t), args...)
	cmd.Env = append(os.Environ(), "LAMBENT_URL="+d.URL, "LAMBENT_DATA="+d.Data, "LAMBENT_TOKEN=")
	said, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(said), "needs pip") {
		missing(t, string(said))
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return string(said)
}

// A call is one of a function, and how its answer changes with a word of the source.
type call struct {
	function, payload string
	words, answers    [2]string
}

// metrics are what a server tells of itself.
func metrics(t *testing.T, d *daemon.Daemon) string {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, d.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.Token)
	resp, err := d.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	told, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(told)
}

// missing skips a test for something that is not there, or fails it in CI.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
