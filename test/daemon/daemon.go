// Package daemon runs the real program for tests and benchmarks: built once, a
// process of its own, which can be signalled, killed and started again on the same
// data. It mocks nothing and gives up nothing silently: a process that it started
// is gone when the test ends.
package daemon

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent/client"
)

var dir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "lambent-bin-") })

// building builds a program, once.
func building(name string, flags ...string) func() (file string, err error) {
	return sync.OnceValues(func() (string, error) {
		dir, err := dir()
		if err != nil {
			return "", err
		}
		file := filepath.Join(dir, name)
		args := append(append([]string{"build", "-o", file}, flags...), "lambent/cmd/lambent")
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			return "", &exec.Error{Name: "go build", Err: errorString(out)}
		}
		return file, nil
	})
}

var (
	plain  = building("lambent")
	racing = building("lambent-race", "-race")
)

type errorString []byte

func (e errorString) Error() string { return string(e) }

// Main runs the tests of a package that starts daemons, and removes the programs
// that they shared.
func Main(m *testing.M) int {
	code := m.Run()
	if dir, err := dir(); err == nil {
		os.RemoveAll(dir)
	}
	return code
}

// Program returns the built program.
func Program(t testing.TB) string {
	t.Helper()
	return must(t, plain)
}

func must(t testing.TB, program func() (string, error)) string {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Dir returns a directory that any user can reach: as root, functions run under
// users of their own.
func Dir(t testing.TB) string {
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

// A Daemon is a running server.
type Daemon struct {
	*client.Client // of the administrator
	Data           string
	Ready          time.Duration // from exec to the first answer

	cmd    *exec.Cmd
	stderr *bytes.Buffer
	exited chan struct{}
	err    error // of Wait, once exited is closed
}

// Start starts a server on a data directory, and returns when it answers.
func Start(t testing.TB, data string, args ...string) *Daemon {
	t.Helper()
	return start(t, []string{Program(t)}, data, args...)
}

// StartUnder starts one by another program, which becomes it.
func StartUnder(t testing.TB, wrapper []string, data string, args ...string) *Daemon {
	t.Helper()
	return start(t, append(wrapper, Program(t)), data, args...)
}

// StartRacing starts one that is built with the race detector. What that finds is on
// its standard error.
func StartRacing(t testing.TB, data string, args ...string) *Daemon {
	t.Helper()
	return start(t, []string{must(t, racing)}, data, args...)
}

func start(t testing.TB, program []string, data string, args ...string) *Daemon {
	t.Helper()
	d := &Daemon{Data: data, exited: make(chan struct{}), stderr: new(bytes.Buffer)}
	d.cmd = exec.Command(program[0], slices.Concat(program[1:], []string{"serve", "--listen", "127.0.0.1:0", "--data", data}, args)...)
	d.cmd.Stderr = d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	go func() { d.err = d.cmd.Wait(); close(d.exited) }()
	t.Cleanup(d.Kill)
	if err != nil {
		<-d.exited
		t.Fatalf("the server did not start: %v\n%s", d.err, d.stderr)
	}
	token, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	d.Client = client.New(strings.TrimSpace(url), strings.TrimSpace(string(token)))
	if _, err := d.Server(context.Background()); err != nil {
		t.Fatal(err)
	}
	d.Ready = time.Since(begun)
	t.Cleanup(d.Close)
	return d
}

// PID is the process's id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Signal sends a signal.
func (d *Daemon) Signal(s syscall.Signal) { _ = d.cmd.Process.Signal(s) } // it may have ended

// Kill ends the process at once, as kill -9 does, and waits for that.
func (d *Daemon) Kill() {
	d.Signal(syscall.SIGKILL)
	<-d.exited
}

// Wait returns how the process ended, and what it wrote to standard error.
func (d *Daemon) Wait(t testing.TB) (*os.ProcessState, string) {
	t.Helper()
	select {
	case <-d.exited:
	case <-time.After(time.Minute):
		t.Fatal("the server does not end")
	}
	return d.cmd.ProcessState, d.stderr.String()
}

// Answers reports whether the server takes calls.
func (d *Daemon) Answers() bool {
	resp, err := http.Get(d.URL + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Metric returns a figure of the server's own, by its name and labels; 0 if there is none.
func (d *Daemon) Metric(t testing.TB, name string) (n float64) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, d.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.Token)
	resp, err := d.HTTP.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	_, after, _ := strings.Cut(string(text), "\n"+name+" ")
	_, _ = fmt.Sscan(after, &n)
	return n
}
