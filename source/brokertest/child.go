package brokertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/source"
	"lambent/source/databasetest"
)

// A child is a process of the source that can be killed.
type child struct {
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	errors bytes.Buffer  // what its source has ended with, from when it has
}

// said ends it, with the stacks of its goroutines, and returns what it has said.
func (c *child) said() string {
	_ = c.cmd.Process.Signal(syscall.SIGQUIT)
	<-c.done
	return c.errors.String()
}

const childEnv, childFile = "BROKERTEST_TRIGGER", "BROKERTEST_FILE"

// Main runs a package's tests, or what they have in a process of its own, which is killed: a
// server of NATS, or the source, if there is one.
func Main(m interface{ Run() int }, s source.Source) int {
	var err error
	switch {
	case os.Getenv(natsEnv) != "":
		err = beNATS()
	case os.Getenv(childEnv) != "":
		err = beChild(s)
	default:
		return databasetest.Main(m)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// beChild runs the source until it is killed.
func beChild(s source.Source) error {
	var t lambent.Trigger
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &t); err != nil {
		return err
	}
	path := os.Getenv(childFile)
	events, whole, err := parseEvents(path)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := file.Truncate(whole); err != nil { // a torn last line was not acknowledged
		return err
	}
	if _, err := file.Seek(whole, 0); err != nil {
		return err
	}
	sink := &databasetest.Sink{Limit: limit, File: file}
	sink.Know(events...)
	for last := ""; ; {
		if err := s.Run(context.Background(), t, sink); err != nil && err.Error() != last {
			last = err.Error()
			fmt.Fprintln(os.Stderr, last)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func startChild(t testing.TB, trigger *lambent.Trigger, file string) *child {
	t.Helper()
	b, err := json.Marshal(trigger)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(b), childFile+"="+file)
	c := &child{cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = &c.errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Signal(syscall.SIGKILL)
	<-c.done
}

func readEvents(t testing.TB, path string) []lambent.Event {
	t.Helper()
	events, _, err := parseEvents(path)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// parseEvents returns the events of a file, and how long its whole lines are.
func parseEvents(path string) (events []lambent.Event, whole int64, err error) {
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, 0, err
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var e lambent.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, 0, err
		}
		events, whole = append(events, e), whole+int64(len(line))
	}
	return events, whole, nil
}
