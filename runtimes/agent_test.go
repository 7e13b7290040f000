package runtimes_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/runtimes"
)

// A call is one function as a user would deploy it, with what it is sent.
type call struct {
	files   map[string]string // of the code, and of the layers under "opt/"
	handler string
	env     map[string]string // beside what every function gets
	events  []event
}

type event struct {
	body   string
	header map[string]string // beside what every invocation gets
}

// A transcript is all that the platform sees of a function.
type transcript struct {
	Answers []answer
	Output  string
	Exit    string // how the process ended by itself; empty if it waited for the next invocation
}

type answer struct {
	Kind        string // "response", "error" or "init"
	ID          string
	Body        string
	ContentType string
	ErrorType   string `json:",omitempty"`
	Mode        string `json:",omitempty"`
	Failed      string `json:",omitempty"` // the trailers of a stream that broke off
}

// api is a scripted Runtime API: it hands out the events and notes the answers.
type api struct {
	script  []event
	mu      sync.Mutex
	given   int
	answers []answer
	conns   sync.WaitGroup
	idle    chan struct{} // closed when the runtime asks for more than there is
}

func newAPI(events []event) *api { return &api{script: events, idle: make(chan struct{})} }

// serve speaks on one connection until it ends. With hold it keeps the answer to
// a POST back until the next request, as the real server does for our agents.
func (a *api) serve(conn net.Conn, hold bool) error {
	in := bufio.NewReader(conn)
	var held []byte
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		path := strings.Split(strings.TrimPrefix(r.URL.Path, "/2018-06-01/runtime/"), "/")
		var reply []byte
		if r.Method == "GET" {
			reply = a.next()
			if reply == nil {
				close(a.idle)
				return nil
			}
		} else {
			a.note(path, r, body)
			reply = []byte("HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"OK\"}")
			if hold && path[0] != "init" {
				held = append(held, reply...)
				continue
			}
		}
		if _, err := conn.Write(append(held, reply...)); err != nil {
			return err
		}
		held = nil
	}
}

// listen serves every connection that comes in, as AWS's clients want it.
func (a *api) listen(listener net.Listener) {
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a.conns.Go(func() {
				a.serve(conn, false)
				if !a.waiting() {
					conn.Close()
				}
			})
		}
	}()
}

// waiting says whether the runtime has asked for more than there is.
func (a *api) waiting() bool {
	select {
	case <-a.idle:
		return true
	default:
		return false
	}
}

// answered says whether every event that was given has its answer.
func (a *api) answered() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.answers) >= a.given
}

// deadline is far enough that the remaining time has a known number of digits.
var deadline = time.Now().Add(5 * time.Hour).UnixMilli()

func (a *api) next() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given == len(a.script) {
		return nil
	}
	e := a.script[a.given]
	a.given++
	header := map[string]string{
		"Content-Type":                        "application/json",
		"Lambda-Runtime-Aws-Request-Id":       fmt.Sprintf("00000000-0000-4000-8000-%012d", a.given),
		"Lambda-Runtime-Deadline-Ms":          fmt.Sprint(deadline),
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
	}
	for k, v := range e.header {
		header[k] = v
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	for k, v := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(e.body), e.body)
	return b.Bytes()
}

func (a *api) note(path []string, r *http.Request, body []byte) {
	got := answer{
		Kind: path[len(path)-1], Body: string(body), ContentType: r.Header.Get("Content-Type"),
		Mode: r.Header.Get("Lambda-Runtime-Function-Response-Mode"), ErrorType: r.Header.Get("Lambda-Runtime-Function-Error-Type"),
	}
	if path[0] == "init" {
		got.Kind = "init"
	} else {
		got.ID = path[1][len(path[1])-2:]
	}
	if t := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); t != "" {
		got.Failed = t + " " + r.Trailer.Get("Lambda-Runtime-Function-Error-Body")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = append(a.answers, got)
}

// layOut writes the code of a call and returns its directory, and that of its layers.
func layOut(t *testing.T, c call) (task, opt string) {
	t.Helper()
	root := t.TempDir()
	task, opt = filepath.Join(root, "task"), filepath.Join(root, "opt")
	for name, text := range c.files {
		dir := task
		if rest, ok := strings.CutPrefix(name, "opt/"); ok {
			dir, name = opt, rest
		}
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(task, 0o755); err != nil {
		t.Fatal(err)
	}
	return task, opt
}

func functionEnv(c call, task, opt string) map[string]string {
	env := map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f", "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/02/[$LATEST]00",
		"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_REGION": "us-east-1", "LAMBDA_TASK_ROOT": task, "_HANDLER": c.handler,
		"LANG": "C.UTF-8", "TZ": ":UTC", "PATH": "/usr/local/bin:/usr/bin:/bin",
	}
	for k, v := range c.env {
		env[k] = strings.ReplaceAll(v, "OPT", opt)
	}
	return env
}

// A process is a started runtime with its collected output.
type process struct {
	*exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

func start(t *testing.T, argv []string, env map[string]string, dir string, extra ...*os.File) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	p := &process{Cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), exited: make(chan struct{})}
	for k, v := range env {
		p.Env = append(p.Env, k+"="+v)
	}
	p.Dir, p.ExtraFiles, p.Stdout, p.Stderr = dir, extra, &p.output, &p.output
	p.WaitDelay = 5 * time.Second
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.exited
	})
	return p
}

// A parked agent has booted and waits for its assignment.
type parked struct {
	*process
	conn net.Conn
}

// park boots an agent as a driver does.
func park(t *testing.T, rt lambent.Runtime) *parked {
	t.Helper()
	conn, theirs := socketpair(t)
	p := &parked{start(t, rt.Boot, rt.Env, "/", theirs), conn}
	theirs.Close()
	hello := make([]byte, 10)
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(conn, hello); err != nil || string(hello) != "LAMBENT/1\n" {
		p.Process.Kill()
		<-p.exited
		t.Fatalf("the agent said %q, %v\n%s", hello, err, p.output.String())
	}
	conn.SetReadDeadline(time.Time{})
	return p
}

// rehearse has the agent rehearse. Python's would end early for what is to be read
// next, so its end is waited for, where the system tells of it: meanwhile the agent
// looks for something to be read without waiting.
func (p *parked) rehearse(t *testing.T) {
	t.Helper()
	if _, err := p.conn.Write(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(p.Path, "python") {
		return
	}
	looks := func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/3", p.Process.Pid))
		_, flags, _ := strings.Cut(string(b), "flags:")
		var n int
		_, _ = fmt.Sscanf(flags, "%o", &n)
		return n&syscall.O_NONBLOCK != 0
	}
	began := false
	for end := time.Now().Add(time.Second); time.Now().Before(end) && (!began || looks()); time.Sleep(time.Millisecond) {
		began = began || looks()
	}
}

func (p *parked) assign(t *testing.T, c call, task, opt string) {
	t.Helper()
	layers := opt
	if _, err := os.Stat(opt); err != nil {
		opt = ""
	}
	b, err := json.Marshal(map[string]any{"env": functionEnv(c, task, layers), "handler": c.handler, "task": task, "opt": opt, "concurrency": 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.conn.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...), '\n')); err != nil {
		t.Fatal(err)
	}
}

// run sends the events of a call through one of our agents.
func run(t *testing.T, rt lambent.Runtime, c call) transcript {
	t.Helper()
	return runParked(t, park(t, rt), c)
}

// rehearsed does the same after a rehearsal.
func rehearsed(t *testing.T, rt lambent.Runtime, c call) transcript {
	t.Helper()
	p := park(t, rt)
	p.rehearse(t)
	return runParked(t, p, c)
}

func runParked(t *testing.T, p *parked, c call) transcript {
	t.Helper()
	task, opt := layOut(t, c)
	p.assign(t, c, task, opt)
	a := newAPI(c.events)
	a.conns.Go(func() { a.serve(p.conn, true) })
	waited := a.wait(t, p.process)
	p.conn.Close()
	<-p.exited
	a.conns.Wait()
	return a.transcript(p.process, waited, task, opt)
}

// wait returns true once the runtime has answered everything and asks for more,
// and false if it ended before.
func (a *api) wait(t *testing.T, p *process) bool {
	t.Helper()
	select {
	case <-a.idle:
		return true
	case <-p.exited:
		a.conns.Wait() // what it had said before is read up to the end
		return a.waiting()
	}
}

func (a *api) transcript(p *process, waited bool, task, opt string) transcript {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := transcript{Answers: a.answers, Output: p.output.String()}
	if !waited {
		s.Exit = p.ProcessState.String()
	}
	s.Output = normal(s.Output, task, opt)
	for i := range s.Answers {
		s.Answers[i].Body = normal(s.Answers[i].Body, task, opt)
		s.Answers[i].Failed = normalFailure(s.Answers[i].Failed, task, opt)
	}
	return s
}

var (
	discovered []lambent.Runtime
	discover   = sync.OnceValue(func() error {
		dir, err := os.MkdirTemp("", "agents")
		if err != nil {
			return err
		}
		home, err := runtimes.Install(dir)
		if err != nil {
			return err
		}
		discovered, _ = runtimes.Discover(context.Background(), runtimes.Options{
			Agents: home, Path: filepath.SplitList(os.Getenv("PATH") + ":" + os.Getenv("LAMBENT_TEST_INTERPRETERS")),
		})
		return nil
	})
)

// family returns the runtimes of one language on this machine.
func family(t *testing.T, prefix string) []lambent.Runtime {
	t.Helper()
	if err := discover(); err != nil {
		t.Fatal(err)
	}
	var list []lambent.Runtime
	for _, rt := range discovered {
		if strings.HasPrefix(rt.Name, prefix) {
			list = append(list, rt)
		}
	}
	if len(list) == 0 {
		lacking(t, "no interpreter for %s here", prefix)
	}
	return list
}

// lacking skips a test for what the machine does not have, or fails it where
// nothing may be left out.
func lacking(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
