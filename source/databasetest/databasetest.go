// Package databasetest starts real database servers for tests, as Debian has them: on
// free ports of loopback, in directories of their own, as another user where tests run as
// root, and no longer than the tests run.
package databasetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// nobody is who servers run as that refuse to be root.
const nobody = 65534

var (
	temporary = sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "databasetest")
		if err == nil {
			err = os.Chmod(dir, 0o755)
		}
		return dir, err
	})
	mu      sync.Mutex // guards started
	started []Process
)

// Main runs a package's tests, and ends what they share.
func Main(m interface{ Run() int }) int {
	code := m.Run()
	mu.Lock()
	defer mu.Unlock()
	for _, p := range started {
		p.Kill()
	}
	if dir, err := temporary(); err == nil {
		_ = os.RemoveAll(dir)
	}
	return code
}

// directory makes one for a server.
func directory() (string, error) {
	base, err := temporary()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(base, "")
	if err == nil && os.Getuid() == 0 {
		err = os.Chown(dir, nobody, nobody)
	}
	return dir, err
}

// command is one that runs as a server may.
func command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=" + dir}
	cmd.SysProcAttr = attributes()
	return cmd
}

// run runs a command to its end.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// copyOf is a copy of a server's data.
func copyOf(data string) (string, error) {
	dir, err := directory()
	if err == nil {
		err = run(command(dir, "cp", "-a", data+"/.", dir))
	}
	return dir, err
}

// A process is a server's.
type process struct {
	Port  int
	start func() (*exec.Cmd, error)
	alive func(context.Context) error // it answers

	mu   sync.Mutex // guards what follows
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// freePort returns a port that clients are given by nobody: who asks again and again whether
// there is a server at one of those may be let in by itself, and has the port then.
func freePort() (int, error) {
	for tries := 0; ; tries++ {
		port := 10000 + rand.IntN(20000) // below 32768
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			return port, l.Close()
		}
		if tries == 100 {
			return 0, err
		}
	}
}

// Start starts it again, and returns when it answers. What is left of one that was
// killed may have it end at first.
func (p *process) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		done, output, err := p.launch()
		if err != nil {
			return err
		}
		for ended := false; !ended; {
			err := p.alive(ctx)
			if err == nil {
				return nil
			}
			select {
			case <-done:
				ended = true
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			if ctx.Err() != nil {
				said, _ := os.ReadFile(output)
				return fmt.Errorf("the server on port %d does not answer: %w\n%s", p.Port, err, said)
			}
		}
	}
}

func (p *process) launch() (done chan struct{}, output string, err error) {
	cmd, err := p.start()
	if err != nil {
		return nil, "", err
	}
	output = filepath.Join(cmd.Dir, "output")
	out, err := os.Create(output)
	if err != nil {
		return nil, "", err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	done = make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.done = cmd, done
	return done, output, nil
}

// Kill ends it at once, as a crash does. Killing it again does no harm.
func (p *process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
		p.cmd = nil
	}
}

// own starts a server for one test.
func own(t testing.TB, p *process, err error) {
	t.Helper()
	if err == nil {
		t.Cleanup(p.Kill)
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A Process is a server's, which can be killed.
type Process interface {
	// Start starts it, again with the data that it had, and returns when it answers.
	Start() error

	// Kill ends it as a crash does. Killing it again does no harm.
	Kill()
}

// Share starts a server for all of a package's tests, which are to have Main.
func Share(p Process, err error) error {
	if err != nil {
		return err
	}
	mu.Lock()
	started = append(started, p)
	mu.Unlock()
	return p.Start()
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what + ", and LAMBENT_TEST_REQUIRE is set")
	}
	t.Skip(what)
}
