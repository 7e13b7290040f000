package databasetest

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"testing"
)

// A Daemon is a server of a kind that another package knows: it listens on Port, and has
// a directory of its own.
type Daemon struct{ *process }

// NewDaemon is one that was not started yet. start is its command, as [Command] makes it,
// and alive asks whether it answers.
func NewDaemon(start func(dir string, port int) *exec.Cmd, alive func(ctx context.Context, port int) error) (Daemon, error) {
	dir, err := directory()
	port, err2 := freePort()
	if err := errors.Join(err, err2); err != nil {
		return Daemon{}, err
	}
	return Daemon{&process{
		Port:  port,
		start: func() (*exec.Cmd, error) { return start(dir, port), nil },
		alive: func(ctx context.Context) error { return alive(ctx, port) },
	}}, nil
}

// Command is one of a server, in its directory, that ends with the tests.
func Command(dir, program string, args ...string) *exec.Cmd { return command(dir, program, args...) }

// FreePort is one more for a server that listens on several.
func FreePort() (int, error) { return freePort() }

// Missing skips a test that lacks its server, or fails where none may be lacking.
func Missing(t testing.TB, what string) { t.Helper(); missing(t, what) }

// Terminate asks it to end, and waits until it has, as whoever shuts a machine down does.
func (s Daemon) Terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.done
		s.cmd = nil
	}
}
