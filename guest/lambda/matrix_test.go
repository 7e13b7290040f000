package lambda_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/aws/aws-lambda-go/lambda" // of the suite's function in testdata, where go mod tidy does not look

	"lambent"
	"lambent/dispatch"
	"lambent/guest"
	"lambent/guest/guesttest"
	"lambent/guest/lambda"
	"lambent/runtimes"
	"lambent/sandbox"
	"lambent/sandbox/namespace"
	"lambent/sandbox/process"
)

// memoryLog keeps a function's log for the suite to read.
type memoryLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *memoryLog) Line(_ time.Time, _, _ string, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(text)
	l.buf.WriteByte('\n')
}

func (l *memoryLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// publicDir returns a directory that the users of sandboxes can reach.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lambent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// platform runs functions with one driver.
type platform struct {
	driver   sandbox.Driver
	runtimes map[string]lambent.Runtime
	parked   int // sandboxes that wait for cold starts
	limits   lambent.Limits
}

// drivers are those that the suite runs on: each opens its own, and says where it
// shows the agents and what it cannot run.
var drivers = map[string]func(t *testing.T, dir, agents string) (sandbox.Driver, runtimes.Options){
	"process": func(t *testing.T, dir, agents string) (sandbox.Driver, runtimes.Options) {
		d, err := process.New(process.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return d, runtimes.Options{Agents: agents, Unprivileged: d.Unprivileged()}
	},
	"namespace": func(t *testing.T, dir, agents string) (sandbox.Driver, runtimes.Options) {
		if os.Geteuid() != 0 || runtime.GOOS != "linux" {
			missing(t, "the driver namespace needs Linux and root")
		}
		d, err := namespace.New(namespace.Options{Dir: filepath.Dir(dir), Agents: agents})
		if err != nil {
			t.Fatal(err)
		}
		return d, runtimes.Options{Agents: namespace.AgentsInside, Unprivileged: true, Accepts: namespace.Accepts}
	},
}

func newPlatform(t *testing.T, driver string) *platform {
	t.Helper()
	agents, err := runtimes.Install(publicDir(t))
	if err != nil {
		t.Fatal(err)
	}
	d, o := drivers[driver](t, filepath.Join(publicDir(t), "run"), agents)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &platform{driver: sandbox.Guard(d), runtimes: map[string]lambent.Runtime{}, limits: lambent.DefaultLimits()}
	o.Path = filepath.SplitList(os.Getenv("PATH"))
	found, _ := runtimes.Discover(t.Context(), o)
	for _, r := range found {
		p.runtimes[r.Name] = r
	}
	return p
}

// newest returns the newest runtime of a family, or skips the test.
func (p *platform) newest(t *testing.T, family string) string {
	t.Helper()
	best := ""
	for name := range p.runtimes {
		if strings.HasPrefix(name, family) && (len(name) > len(best) || len(name) == len(best) && name > best) {
			best = name
		}
	}
	if best == "" {
		missing(t, "no "+family+" that the users of sandboxes can run")
	}
	return best
}

// missing skips a test for something that is not there, or fails it in CI.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// deploy implements guesttest.Deploy: the digest of the code is its directory.
func (p *platform) deploy(t *testing.T, c lambent.Config) guesttest.Platform {
	t.Helper()
	log := &memoryLog{}
	name := lambent.Name{Project: lambent.DefaultProject, Function: "suite"}
	rev := lambent.NewRevision(name, lambent.Latest, &c)
	limits := p.limits
	d := dispatch.New(dispatch.Config{
		Resolve: func(lambent.Name) (lambent.Target, error) {
			return lambent.Target{Revision: rev, Scaling: &lambent.Scaling{}}, nil
		},
		Usage:   func(*lambent.Usage) error { return nil },
		Runtime: func(name string) (lambent.Runtime, error) { return p.runtimes[name], nil },
		Tree:    func(digest string) (string, error) { return digest, nil },
		Log:     func(lambent.Name) dispatch.Log { return log },
		Driver:  p.driver,
		Guests:  map[string]guest.Guest{"lambda": &lambda.Guest{Limits: limits}},
		Limits:  limits, KeepAlive: new(time.Minute), MaxInstances: 100, MaxQueue: 1000, Parked: p.parked, FreezeAfter: time.Second,
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return guesttest.Platform{Invoker: d, Name: name, Log: log.String}
}

// tree copies the suite's function to where every user can read it.
func tree(t *testing.T, language string) string {
	t.Helper()
	dir := filepath.Join(publicDir(t), "code")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "guesttest", "testdata", language))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMatrix(t *testing.T) {
	for driver := range drivers {
		t.Run(driver, func(t *testing.T) { matrix(t, newPlatform(t, driver)) })
	}
}

// TestMatrixParked runs the suite in sandboxes that were parked.
func TestMatrixParked(t *testing.T) {
	p := newPlatform(t, "namespace")
	p.parked = 4
	matrix(t, p)
}

func matrix(t *testing.T, p *platform) {
	t.Run("python", func(t *testing.T) {
		guesttest.Run(t, guesttest.Language{
			Name: "python", Runtime: p.newest(t, "python"), Handler: "app.handler", Code: tree(t, "python"),
			ErrorType: "ValueError", InitErrorType: "RuntimeError", Several: true,
		}, p.deploy)
	})
	t.Run("nodejs", func(t *testing.T) {
		guesttest.Run(t, guesttest.Language{
			Name: "nodejs", Runtime: p.newest(t, "nodejs"), Handler: "app.handler", Stream: "app.stream", Code: tree(t, "nodejs"),
			ErrorType: "TypeError", InitErrorType: "RangeError", Several: true,
		}, p.deploy)
	})
	t.Run("go", func(t *testing.T) {
		code := filepath.Join(publicDir(t), "code")
		cmd := exec.Command("go", "build", "-o", filepath.Join(code, "bootstrap"), "../guesttest/testdata/go")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		guesttest.Run(t, guesttest.Language{
			Name: "go", Runtime: "provided.al2023", Handler: "bootstrap", Stream: "stream", Code: code,
			ErrorType: "errorString", InitErrorType: "Runtime.ExitError", Several: true,
		}, p.deploy)
	})
	t.Run("shell", func(t *testing.T) {
		for _, tool := range []string{"bash", "curl"} {
			if _, err := exec.LookPath(tool); err != nil {
				missing(t, tool+" is not installed")
			}
		}
		guesttest.Run(t, guesttest.Language{
			Name: "shell", Runtime: "provided", Handler: "bootstrap", Stream: "stream", Code: tree(t, "shell"),
			ErrorType: "ShellError", InitErrorType: "Shell.NoStart",
		}, p.deploy)
	})
}
