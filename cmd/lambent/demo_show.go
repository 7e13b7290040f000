package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"lambent"
)

// A command of the demo, and what must come of it.
type command struct {
	args   []string
	want   string // somewhere in what it prints
	status int
	note   string
}

// run runs commands, as they would be typed, in this process.
func (d *demo) run(ctx context.Context, commands ...command) error {
	for _, c := range commands {
		begun := time.Now()
		shown, ended := d.start(ctx, c.args...)
		status := <-ended
		if ctx.Err() != nil {
			return lambent.Errorf(lambent.Canceled, "demo", "given up")
		}
		took := elapsed(begun)
		if c.note != "" {
			took = c.note + ", " + took
		}
		if status != 0 {
			took = fmt.Sprintf("exit status %d, %s", status, took)
		}
		shown.newLine()
		d.say("  (%s)", took)
		if status != c.status || !strings.Contains(shown.text(), c.want) {
			return d.failed("lambent %s: exit status %d and %q were to come", strings.Join(c.args, " "), c.status, c.want)
		}
	}
	return nil
}

// start begins a command; ended gets its exit status.
func (d *demo) start(ctx context.Context, args ...string) (shown *screen, ended <-chan int) {
	quoted := make([]string, len(args))
	for i, a := range args {
		if quoted[i] = a; strings.ContainsAny(a, " {}\"") {
			quoted[i] = "'" + a + "'"
		}
	}
	d.say("$ lambent %s", strings.Join(quoted, " "))
	shown = &screen{w: d.out, news: make(chan struct{}, 1)}
	status := make(chan int, 1)
	p := &program{in: strings.NewReader(""), out: shown, err: aside{shown}, getenv: d.env}
	go func() { status <- p.run(ctx, args) }()
	return shown, status
}

func elapsed(begun time.Time) string {
	d := time.Since(begun)
	if d > time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// env is the environment of the demo's commands.
func (d *demo) env(key string) string {
	switch key {
	case "LAMBENT_URL":
		return d.server.URL()
	case "LAMBENT_DATA":
		return d.data
	case "LAMBENT_TOKEN", "LAMBENT_PROJECT":
		return ""
	}
	return d.getenv(key)
}

// request asks for something at a function's URL.
func (d *demo) request(ctx context.Context, function, query string) (*http.Response, error) {
	_, port, _ := strings.Cut(strings.TrimPrefix(d.server.URL(), "http://"), ":")
	url := "http://" + function + ".fn.localhost:" + port + "/" + query
	d.say("$ curl '%s'", url)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return nil, d.failed("%s: %v", url, err)
	}
	return resp, nil
}

// get calls a function by HTTP.
func (d *demo) get(ctx context.Context, function, query, want string) error {
	begun := time.Now()
	resp, err := d.request(ctx, function, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(b, []byte(want)) {
		return d.failed("%s answered %s %q, %v; %q was to come", resp.Request.URL, resp.Status, b, err, want)
	}
	d.say("  %s\n  (%s, %s)", printable(string(b)), resp.Status, elapsed(begun))
	return nil
}

func (d *demo) failed(format string, args ...any) error {
	return lambent.Errorf(lambent.Internal, "demo", "the demo did not go as it should: "+format, args...).WithHint("lambent doctor")
}

// A screen shows what a command prints, indented, and remembers it.
type screen struct {
	w    io.Writer
	news chan struct{} // of capacity 1: there is more text

	mu   sync.Mutex
	seen []byte
}

// Write implements io.Writer.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	for line := range bytes.Lines(b) {
		if n := len(s.seen); n == 0 || s.seen[n-1] == '\n' {
			out = append(out, "  "...)
		}
		out = append(out, line...)
		s.seen = append(s.seen, line...)
	}
	_, err := s.w.Write(out)
	select {
	case s.news <- struct{}{}:
	default:
	}
	return len(b), err
}

// newLine ends a line that has begun.
func (s *screen) newLine() {
	if t := s.text(); t != "" && !strings.HasSuffix(t, "\n") {
		_, _ = io.WriteString(s, "\n")
	}
}

// An aside is a screen's standard error: what it says stands on lines of its own.
type aside struct{ *screen }

func (a aside) Write(b []byte) (int, error) {
	a.newLine()
	return a.screen.Write(b)
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.seen)
}

// wait returns when these have been printed, one after the other.
func (s *screen) wait(ctx context.Context, texts ...string) error {
	for !inOrder(s.text(), texts) {
		select {
		case <-s.news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func inOrder(s string, texts []string) bool {
	for _, t := range texts {
		_, rest, ok := strings.Cut(s, t)
		if !ok {
			return false
		}
		s = rest
	}
	return true
}
