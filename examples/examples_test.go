package examples_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent/server"
	"lambent/server/servertest"
)

// An example is one that is deployed, as its reader would have it.
type example struct {
	*platform
	dir  string
	name string   // of the function, if there is one
	url  *url.URL // that deploy printed, of one
}

// cases says what each directory's function does. A directory without a case
// fails, and so does a case without a directory.
var cases = map[string]struct {
	needs []string // programs, of the machine or the family of a runtime
	check func(*testing.T, *example)
	own   func(*testing.T) *platform // a server with what it needs, or nil for the one of all
}{
	"aws-go-hello":         {needs: []string{"go"}, check: hello("go")},
	"aws-node-audit":       {needs: []string{"nodejs", "npm"}, check: audit, own: withDatabase},
	"aws-node-hello":       {needs: []string{"nodejs"}, check: hello("nodejs")},
	"aws-node-queue":       {needs: []string{"nodejs"}, check: takes},
	"aws-node-stream":      {needs: []string{"nodejs"}, check: stream},
	"aws-python-errors":    {needs: []string{"python"}, check: failures},
	"aws-python-hello":     {needs: []string{"python"}, check: hello("python")},
	"aws-python-rule":      {needs: []string{"python"}, check: matches},
	"aws-python-schedule":  {needs: []string{"python"}, check: fires},
	"aws-python-thumbnail": {needs: []string{"python"}, check: shrinks},
	"aws-python-upload":    {needs: []string{"python"}, check: hears},
	"aws-shell-hello":      {needs: []string{"curl"}, check: hello("sh")},

	"gcp-go-events": {needs: []string{"google-go"}, check: events("go-ordered", "go-shipped",
		heard{"go-stored", "stored.json", stored + ": photos/cat.jpg", uploaded("go-photos"), stored + ": go-photos/dog.jpg"},
		heard{"go-published", "published.json", "2: two teas", sent("go-orders"), ": three teas"},
		heard{"go-received", "published.json", "received: two teas", sent("go-kitchen"), "received: three teas"})},
	"gcp-go-hello":  {needs: []string{"google-go"}, check: hello("go")},
	"gcp-go-stream": {needs: []string{"google-go"}, check: streams},
	"gcp-java-events": {needs: []string{"google-java", "javac"}, check: events("java-ordered", "java-shipped",
		heard{"java-stored", "stored.json", stored + " of objects/cat.jpg: {", uploaded("java-photos"), stored + " of objects/dog.jpg: {"},
		heard{"java-published", "published.json", published + " 2: {", sent("java-orders"), "dGhyZWUgdGVhcw=="},
		heard{"java-received", "published.json", "google.pubsub.topic.publish: two teas", sent("java-kitchen"), "google.pubsub.topic.publish: three teas"})},
	"gcp-java-hello":  {needs: []string{"google-java", "javac"}, check: javaHello},
	"gcp-java-stream": {needs: []string{"google-java", "javac"}, check: func(t *testing.T, e *example) { lines(t, e); together(t, e) }},
	"gcp-node-events": {needs: []string{"nodejs"}, check: events("", "node-shipped",
		heard{"node-stored", "stored.json", stored + ": photos/cat.jpg", uploaded("node-photos"), stored + ": node-photos/dog.jpg"},
		heard{"node-published", "published.json", "2: two teas", sent("node-orders"), ": three teas"},
		heard{"node-received", "published.json", "google.pubsub.topic.publish 2: two teas", sent("node-kitchen"), ": three teas"})},
	"gcp-node-hello":  {needs: []string{"nodejs"}, check: hello("nodejs")},
	"gcp-node-stream": {needs: []string{"nodejs"}, check: streams},
	"gcp-python-events": {needs: []string{"python"}, check: events("python-ordered", "python-shipped",
		heard{"python-published", "published.json", "2: two teas", sent("python-orders"), ": three teas"},
		heard{"python-received", "published.json", "google.pubsub.topic.publish 2: two teas", sent("python-kitchen"), ": three teas"})},
	"gcp-python-hello":  {needs: []string{"python"}, check: hello("python")},
	"gcp-python-stream": {needs: []string{"python"}, check: streams},
	"gcp-python-upload": {needs: []string{"python"}, check: events("", "",
		heard{"gcp-python-upload", "upload.json", stored + ": photos/cat.jpg", uploaded("python-photos"), stored + ": python-photos/dog.jpg"})},
}

// What the events of an upload and of a message are called at Google's.
const stored, published = "google.cloud.storage.object.v1.finalized", "google.cloud.pubsub.topic.v1.messagePublished"

func TestMain(m *testing.M) {
	if code, is := servertest.Gateway(); is {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func TestExamples(t *testing.T) {
	dirs, err := filepath.Glob("*/lambent.toml")
	if err != nil {
		t.Fatal(err)
	}
	for i, dir := range dirs {
		dirs[i] = filepath.Dir(dir)
	}
	if want := slices.Sorted(maps.Keys(cases)); !slices.Equal(dirs, want) {
		t.Fatalf("the directories are %q, and the cases %q", dirs, want)
	}
	p := start(t)
	for _, dir := range dirs {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			for _, needed := range cases[dir].needs {
				p.need(t, needed)
			}
			p := p
			if own := cases[dir].own; own != nil {
				p = own(t)
			}
			cases[dir].check(t, p.deploy(t, dir))
		})
	}
}

// hello expects a greeting by name: at the URL, and called directly.
func hello(language string) func(*testing.T, *example) {
	return func(t *testing.T, e *example) {
		check := func(said []byte, name string) {
			t.Helper()
			var answer struct{ Message, Runtime string }
			if err := json.Unmarshal(said, &answer); err != nil {
				t.Fatalf("%v: %q", err, said)
			}
			if answer.Message != "Hello, "+name+"!" || !strings.HasPrefix(answer.Runtime, family[language]) {
				t.Errorf("the answer to %s is %s", name, said)
			}
		}
		check([]byte(e.get(t, "?name=Grace").Body), "Grace")
		if strings.HasPrefix(e.dir, "gcp-") { // Lambda's has been started by the deploy
			e.fromZero(t)
		}
		out, _ := e.lambent(t, 0, "invoke", e.name, "-d", `{"name": "Ada"}`)
		check(out, "Ada")
		out, _ = e.lambent(t, 0, "invoke", e.name)
		check(out, "world")
		a := servertest.Do(t, e.server.Request(t, http.MethodGet, "/fn/"+e.name+"/?name=Edsger", nil)) // as its README says
		check([]byte(a.Body), "Edsger")

		out, _ = e.lambent(t, 0, "logs", e.name)
		for _, name := range []string{"Ada", "world", "Grace", "Edsger"} {
			if !bytes.Contains(out, []byte("saying hello to "+name+" in request ")) {
				t.Errorf("the log says nothing of %s:\n%s", name, out)
			}
		}
	}
}

// family is what the hellos say of their runtime, by language.
var family = map[string]string{"go": "go1.", "nodejs": "nodejs ", "python": "python 3.", "sh": "sh"}

// stream expects lines as they are made, and to see where a stream breaks off.
func stream(t *testing.T, e *example) {
	lines(t, e)
	counts(t, e)
	resp, err := http.DefaultTransport.RoundTrip(e.request(t, "?count=5&delay=10&fail=2"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if string(got) != "1 of 5\n2 of 5\n" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream that fails gives %q and ends with %v", got, err)
	}
}

// lines expects lines as they are made.
func lines(t *testing.T, e *example) {
	t.Helper()
	begun := time.Now()
	resp, err := http.DefaultTransport.RoundTrip(e.request(t, "?count=3&delay=300"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind, of, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/plain" || of["charset"] != "utf-8" {
		t.Errorf("the content type is %q", resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewReader(resp.Body)
	first, err := lines.ReadString('\n')
	if err != nil || first != "1 of 3\n" {
		t.Fatalf("the first line is %q, %v", first, err)
	}
	firstAfter := time.Since(begun)
	rest, err := io.ReadAll(lines)
	if err != nil || string(rest) != "2 of 3\n3 of 3\n" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	// The function sleeps three times after its first line.
	if gap := time.Since(begun) - firstAfter; gap < 600*time.Millisecond {
		t.Errorf("the first line came %v before the end of a stream that takes 900 ms after it", gap)
	}
}

// counts expects a stream of a direct call, too.
func counts(t *testing.T, e *example) {
	t.Helper()
	out, _ := e.lambent(t, 0, "invoke", e.name, "-d", `{"count": 2, "delay": 1}`)
	if !bytes.HasSuffix(out, []byte("1 of 2\n2 of 2\n")) {
		t.Errorf("a direct call gives %q", out)
	}
}

// failures expects each way to fail to be told apart, and success after each.
func failures(t *testing.T, e *example) {
	for _, c := range []struct{ event, kind, out, says string }{
		{`{"case": "error", "item": "tea"}`, "error", `"errorMessage": "tea is out of stock", "errorType": "OutOfStock"`, `OutOfStock: tea is out of stock`},
		{`{"case": "exit", "code": 3}`, "exit", `"errorType":"Runtime.ExitError"`, `exit status 3`},
		{`{"case": "slow"}`, "timeout", `"errorType":"Sandbox.Timedout"`, `Task timed out after 1.00 seconds`},
		{`{"case": "memory"}`, "oom", `"errorType":"Runtime.OutOfMemory"`, `Runtime.OutOfMemory`},
	} {
		out, errs := e.lambent(t, 1, "invoke", e.name, "-d", c.event)
		if !strings.Contains(string(out), c.out) {
			t.Errorf("%s: the answer is %s, without %s", c.event, out, c.out)
		}
		if !strings.Contains(errs, "failed ("+c.kind+"): ") || !strings.Contains(errs, c.says) {
			t.Errorf("%s: standard error says %s, not (%s) and %q", c.event, errs, c.kind, c.says)
		}
		if out, _ := e.lambent(t, 0, "invoke", e.name); !bytes.Contains(out, []byte(`"case": "ok"`)) {
			t.Errorf("after %s: %s", c.event, out)
		}
	}
	if a := e.get(t, "?case=error"); a.StatusCode != http.StatusBadGateway {
		t.Errorf("at its URL a failure has status %d: %s", a.StatusCode, a.Body)
	}
	if a := e.get(t, ""); a.StatusCode != http.StatusOK || !strings.Contains(a.Body, "remaining_ms") {
		t.Errorf("at its URL success has status %d: %s", a.StatusCode, a.Body)
	}
}

// streams expects lines as they are made, of an instance that makes several at a time.
func streams(t *testing.T, e *example) {
	lines(t, e)
	counts(t, e)
	together(t, e)
}

// together expects an instance to make several streams at a time.
func together(t *testing.T, e *example) {
	t.Helper()
	var wg sync.WaitGroup
	var most atomic.Int32
	for range 10 {
		wg.Go(func() {
			a := e.get(t, "?count=1&delay=1500")
			running, err := strconv.Atoi(a.Header.Get("X-Running"))
			if err != nil || a.Body != "1 of 1\n" {
				t.Errorf("status %d, %q, running %v", a.StatusCode, a.Body, err)
			}
			for n := most.Load(); int32(running) > n && !most.CompareAndSwap(n, int32(running)); n = most.Load() {
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n < 5 {
		t.Errorf("of 10 requests at a time one instance had at most %d", n)
	}
}

// fromZero expects that what was called so far has begun with a cold start.
func (e *example) fromZero(t *testing.T) {
	t.Helper()
	if out, _ := e.lambent(t, 0, "logs", e.name); !bytes.Contains(out, []byte("Init Duration")) {
		t.Errorf("the first call of %s was no cold start:\n%s", e.name, out)
	}
}

// javaHello expects a greeting, of a query alone.
func javaHello(t *testing.T, e *example) {
	for query, want := range map[string]string{"?name=Grace": `{"message":"Hello, Grace!","runtime":"java `, "": `{"message":"Hello, world!","runtime":"java `} {
		if a := e.get(t, query); a.StatusCode != http.StatusOK || !strings.HasPrefix(a.Body, want) {
			t.Errorf("%q: status %d, %s", query, a.StatusCode, a.Body)
		}
	}
	e.fromZero(t)
	e.lambent(t, 0, "invoke", e.name)
	if out, _ := e.lambent(t, 0, "logs", e.name); !bytes.Contains(out, []byte("saying hello to Grace")) {
		t.Errorf("the log says nothing of her:\n%s", out)
	}
}

// events expects of functions that they hear of events: of those that they are handed,
// each of which is a cold start, and of those that happen. Of one, if there is one, it
// expects that it takes an order and answers with it.
func events(ordered, ships string, all ...heard) func(*testing.T, *example) {
	return func(t *testing.T, e *example) {
		for _, h := range all {
			e.lambent(t, 0, "invoke", h.function, "-d", "@"+filepath.Join(e.dir, h.event))
			out, _ := e.lambent(t, 0, "logs", h.function)
			if !bytes.Contains(out, []byte(h.of)) {
				t.Errorf("the log of %s does not say %q:\n%s", h.function, h.of, out)
			}
			if !bytes.Contains(out, []byte("Init Duration")) {
				t.Errorf("the first call of %s was no cold start:\n%s", h.function, out)
			}
			h.happens(t, e)
			e.saidBy(t, h.function, h.thatHappened)
		}
		if ships != "" {
			shipped(t, e, ships)
		}
		if ordered == "" {
			return
		}
		const order = `{"item": "tea", "count": 2}`
		check := func(said []byte) {
			t.Helper()
			var got struct {
				Item  string
				Count int
			}
			if err := json.Unmarshal(said, &got); err != nil || got.Item != "TEA" || got.Count != 2 {
				t.Errorf("%s: the answer is %s, %v", ordered, said, err)
			}
		}
		out, _ := e.lambent(t, 0, "invoke", ordered, "-d", order)
		check(out)
		a := servertest.Do(t, e.server.Request(t, http.MethodPost, "/fn/"+ordered+"/", strings.NewReader(order), "Content-Type", "application/json"))
		check([]byte(a.Body))
	}
}

// installed returns an example of Google's as it is once what it depends on has been
// installed as its README says.
func installed(t *testing.T, dir string) string {
	t.Helper()
	language := strings.Split(dir, "-")[1]
	part, into := "functions-framework-"+language, "."
	switch language {
	case "go":
		return dir
	case "java":
		part, into = "java-function-invoker", "invoker"
	}
	found, err := filepath.Glob(filepath.Join("..", ".venv", part+"-*[0-9]"))
	if err != nil || len(found) == 0 {
		servertest.Missing(t, part+" is not installed: tools/setup.sh test")
	}
	whole := filepath.Join(t.TempDir(), dir)
	if err := errors.Join(os.CopyFS(whole, os.DirFS(dir)), os.CopyFS(filepath.Join(whole, into), os.DirFS(found[0]))); err != nil {
		t.Fatal(err)
	}
	if language == "java" {
		compile(t, whole)
	}
	return whole
}

// compile compiles Java where Maven would.
func compile(t *testing.T, dir string) {
	t.Helper()
	invoker, err := filepath.Glob(filepath.Join(dir, "invoker", "*.jar"))
	sources, e := filepath.Glob(filepath.Join(dir, "src", "main", "java", "com", "example", "*.java"))
	if err := errors.Join(err, e); err != nil || len(invoker) == 0 {
		t.Fatalf("no invoker: %v", err)
	}
	cmd := exec.Command("javac", append([]string{"-cp", invoker[0], "-d", filepath.Join(dir, "target", "classes")}, sources...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
}

// A platform is a server, and the program as users have it.
type platform struct {
	server  *servertest.Server
	program string
	env     map[string]string // of who deploys, and of what is deployed
	shop    *shop             // nil: there is none
}

func start(t *testing.T, change ...func(*server.Config)) *platform {
	t.Helper()
	program := filepath.Join(t.TempDir(), "lambent")
	if out, err := exec.Command("go", "build", "-o", program, "lambent/cmd/lambent").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return &platform{program: program, server: servertest.Start(t, append(change, func(c *server.Config) {
		c.GoCache = goEnv(t, "GOCACHE") // compiled packages are this machine's, modules the server's own
	})...)}
}

// deploy deploys a directory as its README says. Of Google's nothing is started until it
// is called.
func (p *platform) deploy(t *testing.T, dir string) *example {
	t.Helper()
	name, aws := strings.CutPrefix(dir, "aws-")
	args := []string{"deploy", dir}
	if !aws {
		args = []string{"deploy", installed(t, dir), "--check=false"}
	}
	for name, value := range p.env {
		args = append(args, "--env", name+"="+value)
	}
	out, _ := p.lambent(t, 0, args...)
	e := &example{platform: p, dir: dir, name: name}
	if strings.HasSuffix(dir, "-events") || len(out) == 0 { // several functions, or one that only events invoke
		return e
	}
	var err error
	if e.url, err = url.Parse(strings.TrimSpace(string(out))); err != nil || e.url.Host == "" {
		t.Fatalf("deploy prints %q, which is no URL: %v", out, err)
	}
	return e
}

// lambent runs the program and expects an exit status.
func (p *platform) lambent(t *testing.T, status int, args ...string) (stdout []byte, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), p.program, args...)
	cmd.Env = append(os.Environ(), "LAMBENT_URL="+p.server.URL(), "LAMBENT_TOKEN="+p.server.Token, "LAMBENT_DATA=", "NO_COLOR=1")
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Fatalf("lambent %s: exit status %d\n%s%s", strings.Join(args, " "), got, &out, &errs)
	}
	return out.Bytes(), errs.String()
}

// request asks at the function's URL. What resolves *.localhost is the client's
// affair: here it is the test.
func (e *example) request(t *testing.T, query string) *http.Request {
	t.Helper()
	return e.server.Request(t, http.MethodGet, "/"+query, nil, "Host", e.url.Host)
}

func (e *example) get(t *testing.T, query string) servertest.Answer {
	t.Helper()
	return servertest.Do(t, e.request(t, query))
}

// need skips a test without a program or runtime, or fails it in CI.
func (p *platform) need(t *testing.T, what string) {
	t.Helper()
	if what == "python" || what == "nodejs" || strings.HasPrefix(what, "google-") {
		p.server.Newest(t, what)
		return
	}
	if _, err := exec.LookPath(what); err != nil {
		servertest.Missing(t, what+" is not installed")
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
