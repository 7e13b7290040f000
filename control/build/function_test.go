package build_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/control/build"
)

const framework = "github.com/GoogleCloudPlatform/functions-framework-go"

// online are options that take modules from this machine's cache, and those that it
// lacks from the network.
func online(t *testing.T) build.Options {
	t.Helper()
	if testing.Short() {
		t.Skip("builds Google's functions framework")
	}
	o := options(t)
	o.GoModCache, o.Proxy, o.SumDB = goEnv(t, "GOMODCACHE"), goEnv(t, "GOPROXY"), goEnv(t, "GOSUMDB")
	cmd := exec.Command("go", "mod", "download", framework+"@v1.9.2")
	if out, err := cmd.CombinedOutput(); err != nil {
		if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
			t.Fatalf("go mod download: %v\n%s", err, out)
		}
		t.Skipf("Google's functions framework for Go cannot be downloaded: %v", err)
	}
	return o
}

// tidy does to a module what its author does.
func tidy(t *testing.T, dir string, commands ...string) {
	t.Helper()
	for _, c := range commands {
		cmd := exec.Command("go", strings.Fields(c)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", c, err, out)
		}
	}
}

// served builds a source, starts the program in its place, and returns what a
// function answers to a request.
func served(t *testing.T, o build.Options, src, target string, header ...string) string {
	t.Helper()
	before := listing(t, src)
	var progress bytes.Buffer
	out, err := made(t, o, build.Request{Kind: "go"}, src, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if after := listing(t, src); after != before {
		t.Errorf("the source was\n%s\nand is\n%s", before, after)
	}
	return ask(t, out, target, header...)
}

// ask starts a program that was built, and asks one of its functions.
func ask(t *testing.T, dir, target string, header ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var said bytes.Buffer
	cmd := exec.Command("./bootstrap")
	cmd.Dir, cmd.Env, cmd.Stderr = dir, []string{"PORT=" + port, "FUNCTION_TARGET=" + target}, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { cmd.Process.Kill(); <-ended }()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1:"+port, strings.NewReader(`{"name":"Ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for {
		resp, err := http.DefaultClient.Do(r.Clone(t.Context()))
		if err == nil {
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%d %s", resp.StatusCode, b)
		}
		select {
		case err := <-ended:
			ended <- err
			return said.String()
		case <-time.After(5 * time.Millisecond): // until it listens
		}
		r.Body = io.NopCloser(strings.NewReader(`{"name":"Ada"}`))
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		fmt.Fprintln(&b, path, info.ModTime(), info.Size())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const (
	googles = "module hello\n\ngo 1.21\n\nrequire " + framework + " v1.9.2\n"

	// registered is a package as Google's documentation has it.
	registered = `package hello

import (
	"net/http"
	"os"

	"` + framework + `/functions"
)

func init() {
	functions.HTTP("hello", greet)
	functions.Typed("typed", func(in struct{ Name string }) (string, error) { return in.Name, nil })
}

func greet(w http.ResponseWriter, r *http.Request) {
	text, err := os.ReadFile("serverless_function_source_code/data/greeting.txt")
	if err != nil {
		http.Error(w, err.Error(), 500)
	}
	w.Write(text)
}
`

	// plain is one of before functions registered themselves.
	plain = `package hello

import (
	"context"
	"errors"
	"net/http"

	"example.com/sub"
)

func Hello(w http.ResponseWriter, r *http.Request) { w.Write([]byte(sub.Text)) }

type Message struct{ Name string }

func Heard(ctx context.Context, m Message) error { return errors.New("heard " + m.Name) }

func Pick[T any](a, b T) T { return a }

func Join(a, b string) string { return a + b }
`

	events = `package hello

import (
	"context"
	"errors"

	"github.com/cloudevents/sdk-go/v2/event"
)

func Stored(ctx context.Context, e event.Event) error { return errors.New("stored " + e.ID()) }
`
)

func TestBuildFunction(t *testing.T) {
	o := online(t)
	t.Run("registered", func(t *testing.T) {
		src := source(t, "go.mod", googles, "hello.go", registered, "data/greeting.txt", "Hello!", "cmd/main.go", "package main\n\nimport _ \"hello\"\n\nfunc main() {}\n")
		tidy(t, src, "mod tidy")
		var progress bytes.Buffer
		out, err := made(t, o, build.Request{Kind: "go"}, src, &progress)
		if err != nil {
			t.Fatalf("%v\n%s", err, &progress)
		}
		for target, want := range map[string]string{"hello": "200 Hello!", "typed": `200 "Ada"`} {
			if got := ask(t, out, target); got != want {
				t.Errorf("%s: %q, want %q", target, got, want)
			}
		}
		if got := ask(t, out, "missing"); !strings.Contains(got, `The function cannot be served: no matching function found with name: "missing"`) {
			t.Errorf("one that is not there: %q", got)
		}
	})
	t.Run("plain", func(t *testing.T) { // go.mod does not require the framework, and there is no go.sum
		src := source(t, "go.mod", "module hello\n\ngo 1.21\n\nrequire example.com/sub v0.0.0\n\nreplace example.com/sub => ./sub\n", "hello.go", plain,
			"sub/go.mod", "module example.com/sub\n\ngo 1.21\n", "sub/sub.go", "package sub\n\nconst Text = \"plain\"\n")
		if got := served(t, o, src, "Hello"); got != "200 plain" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("events", func(t *testing.T) {
		src := source(t, "go.mod", googles, "hello.go", strings.NewReplacer("\n\t\"example.com/sub\"\n", "", "sub.Text", `"plain"`).Replace(plain), "events.go", events, "events_test.go", "package hello_test\n")
		tidy(t, src, "get github.com/cloudevents/sdk-go/v2/event")
		ce := []string{"Ce-Id", "7", "Ce-Source", "here", "Ce-Type", "t", "Ce-Specversion", "1.0"}
		if got := served(t, o, src, "Stored", ce...); !strings.HasPrefix(got, "500 ") {
			t.Errorf("got %q", got)
		}
		if got := served(t, o, src, "Heard"); got != "500 Function error: heard Ada\n" {
			t.Errorf("got %q", got)
		}
		if got := served(t, o, src, "Join"); !strings.Contains(got, "The function cannot be served: ") {
			t.Errorf("a function that is none of Google's: %q", got)
		}
	})
	t.Run("elsewhere", func(t *testing.T) { // registered by another package than the one at the top
		src := source(t, "go.mod", googles, "hello.go", "package hello\n\nimport _ \"hello/all\"\n", "all/all.go", registered, "data/greeting.txt", "Hello!")
		tidy(t, src, "mod tidy")
		if got := served(t, o, src, "hello"); got != "200 Hello!" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("vendored", func(t *testing.T) {
		o.Proxy, o.GoModCache = "off", t.TempDir()
		src := source(t, "go.mod", googles, "hello.go", registered, "data/greeting.txt", "Hello!")
		tidy(t, src, "mod tidy", "mod vendor")
		_, err := made(t, o, build.Request{Kind: "go"}, src, io.Discard)
		if e, ok := err.(*lambent.Error); !ok || e.Kind != lambent.Broken || !strings.Contains(e.Message, "vendor lacks "+framework+"/funcframework") || !strings.Contains(e.Hint, "go mod vendor") {
			t.Errorf("without the server of the framework: %+v", err)
		}
		if err := os.WriteFile(filepath.Join(src, "serve.go"), []byte("package hello\n\nimport _ \""+framework+"/funcframework\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		tidy(t, src, "mod tidy", "mod vendor")
		if got := served(t, o, src, "hello"); got != "200 Hello!" {
			t.Errorf("got %q", got)
		}
	})
}
