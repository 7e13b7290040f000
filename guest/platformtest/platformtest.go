// Package platformtest is a platform for the tests of guests: dispatch, over a real
// driver and with the interpreters that are here, without a server around it.
//
// It keeps no function for longer than a test, and nothing on disk.
package platformtest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/guest"
	"lambent/guest/gcf"
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

// PublicDir returns a directory that the users of sandboxes can reach.
func PublicDir(t *testing.T) string {
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

// A Platform runs functions with one driver.
type Platform struct {
	driver   sandbox.Driver
	agents   string                     // where its sandboxes see them
	Runtimes map[string]lambent.Runtime // by name
	Parked   int                        // sandboxes that wait for cold starts
	Limits   lambent.Limits
}

// Drivers are those that the suite runs on: each opens its own, and says where it
// shows the agents and what it cannot run.
var Drivers = map[string]func(t *testing.T, dir, agents string) (sandbox.Driver, runtimes.Options){
	"process": func(t *testing.T, dir, agents string) (sandbox.Driver, runtimes.Options) {
		d, err := process.New(process.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return d, runtimes.Options{Agents: agents, Unprivileged: d.Unprivileged()}
	},
	"namespace": func(t *testing.T, dir, agents string) (sandbox.Driver, runtimes.Options) {
		if os.Geteuid() != 0 || runtime.GOOS != "linux" {
			Missing(t, "the driver namespace needs Linux and root")
		}
		d, err := namespace.New(namespace.Options{Dir: filepath.Dir(dir), Agents: agents})
		if err != nil {
			t.Fatal(err)
		}
		return d, runtimes.Options{Agents: namespace.AgentsInside, Unprivileged: true, Accepts: namespace.Accepts}
	},
}

func New(t *testing.T, driver string) *Platform {
	t.Helper()
	agents, err := runtimes.Install(PublicDir(t))
	if err != nil {
		t.Fatal(err)
	}
	d, o := Drivers[driver](t, filepath.Join(PublicDir(t), "run"), agents)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &Platform{driver: sandbox.Guard(d), Runtimes: map[string]lambent.Runtime{}, Limits: lambent.DefaultLimits()}
	p.agents = o.Agents
	o.Path = filepath.SplitList(os.Getenv("PATH"))
	found, _ := runtimes.Discover(t.Context(), o)
	for _, r := range append(found, runtimes.Servers(found, o.Agents)...) {
		p.Runtimes[r.Name] = r
	}
	return p
}

// Newest returns the newest runtime of a family, or skips the test.
func (p *Platform) Newest(t *testing.T, family string) string {
	t.Helper()
	best := ""
	for name, r := range p.Runtimes {
		if strings.HasPrefix(r.Family, family) && (len(name) > len(best) || len(name) == len(best) && name > best) {
			best = name
		}
	}
	if best == "" {
		Missing(t, "no "+family+" that the users of sandboxes can run")
	}
	return best
}

// Missing skips a test for something that is not there, or fails it in CI.
func Missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// Deploy implements guesttest.Deploy: the digest of the code is its directory.
func (p *Platform) Deploy(t *testing.T, c lambent.Config) guesttest.Platform {
	t.Helper()
	log := &memoryLog{}
	name := lambent.Name{Project: lambent.DefaultProject, Function: "suite"}
	rev := lambent.NewRevision(name, lambent.Latest, &c)
	limits := p.Limits
	d := dispatch.New(dispatch.Config{
		Resolve: func(lambent.Name) (lambent.Target, error) {
			return lambent.Target{Revision: rev, Scaling: &lambent.Scaling{}}, nil
		},
		Usage:   func(*lambent.Usage) error { return nil },
		Runtime: func(name string) (lambent.Runtime, error) { return p.Runtimes[name], nil },
		Tree:    func(rev *lambent.Revision, _ lambent.Runtime) (string, error) { return rev.Config.Code, nil },
		Log:     func(lambent.Name) dispatch.Log { return log },
		Driver:  p.driver,
		Guests:  map[string]guest.Guest{"lambda": &lambda.Guest{Limits: limits}, "gcf": &gcf.Guest{Limits: limits}},
		Limits:  limits, KeepAlive: new(time.Minute), MaxInstances: 100, MaxQueue: 1000, Parked: p.Parked, FreezeAfter: time.Second,
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

// Framework puts the functions framework of a language, "node" or "python", as
// tools/setup.sh has installed it, beside code.
func Framework(t *testing.T, language, code string) {
	t.Helper()
	Part(t, "functions-framework-"+language, code)
}

// Part puts a part of Google's, as tools/setup.sh has installed it, into a directory.
func Part(t *testing.T, part, into string) {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if found, _ := filepath.Glob(filepath.Join(dir, ".venv", part+"-*[0-9]")); len(found) > 0 {
			if err := os.CopyFS(into, os.DirFS(found[len(found)-1])); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	Missing(t, part+" is not installed: tools/setup.sh test")
}
