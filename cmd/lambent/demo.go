package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/examples"
	"lambent/server"
)

const demoHelp = `Show the main job, end to end, on a throw-away server: deploy a function in every
language that this machine has, call each by command and by HTTP, cold and warm;
a stream, a failure, a timeout, a rollback, the log, and what it all costs; events
that invoke functions: your own, the clock, a queue's messages, an upload. Each
line that begins with $ is a command that you could type.

Nothing is left behind. The exit status is 0 only if all of it went as it should.

  lambent demo
  lambent demo --stay                    keep the server until you interrupt it`

func demoCommand(p *program) *cobra.Command {
	var stay bool
	c := &cobra.Command{Use: "demo", Short: "Show what this is, on a throw-away server", Long: demoHelp, Args: args(0)}
	c.Flags().BoolVar(&stay, "stay", false, "keep the server until you interrupt it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		start := time.Now()
		d, err := openDemo(c.Context(), p)
		if err != nil {
			return err
		}
		err = d.show(c.Context())
		if err == nil && stay {
			d.say("\nThe server stays until you interrupt it (Ctrl-C). In another terminal:\n\n  export LAMBENT_URL=%s LAMBENT_DATA=%s", d.server.URL(), d.data)
			<-c.Context().Done()
		}
		if closed := d.close(); err == nil {
			err = closed
		}
		if err == nil {
			d.say("\nAll of it went as it should, in %.1f s. Next: lambent serve, and lambent init hello.", time.Since(start).Seconds())
		}
		return err
	}
	return c
}

// A demo is one run: a server, a directory of sources, and what was found.
type demo struct {
	*program
	server    *server.Server
	served    chan struct{}
	dir, data string
	http      *http.Client
	deployed  []string
}

// openDemo starts the server. As root, functions run under users of their own,
// who must reach the data directory.
func openDemo(ctx context.Context, p *program) (*demo, error) {
	dir, err := os.MkdirTemp("", "lambent-demo-")
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "demo", "no place for a throw-away server: %w", err)
	}
	d := &demo{program: p, dir: dir, data: filepath.Join(dir, "data"), served: make(chan struct{})}
	fail := func(err error) (*demo, error) {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return fail(err)
	}
	if err := os.Chdir(dir); err != nil { // commands name sources as if typed there
		return fail(err)
	}
	cfg := server.DefaultConfig(p.getenv)
	cfg.Listen, cfg.Data, cfg.Version = "127.0.0.1:0", d.data, readBuildVersion().Version
	cfg.Grace = 5 * time.Second
	if cfg.GoCache == "" { // what the user's own builds have cached spares the demo half a minute
		cfg.GoCache, cfg.GoModCache = goCaches(ctx)
	}
	start := time.Now()
	d.server, err = server.Open(ctx, cfg)
	if lambent.Is(err, lambent.Unsupported) { // as root without its rights; what the demo runs is its own
		cfg.Driver = "process"
		d.server, err = server.Open(ctx, cfg)
	}
	if err != nil {
		return fail(err)
	}
	go func() { defer close(d.served); _ = d.server.Serve() }()
	d.http = &http.Client{Transport: &http.Transport{
		// NAME.fn.localhost is this machine, whether the resolver knows it or not.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, d.server.Addr())
		},
	}}
	d.say("$ lambent serve --listen 127.0.0.1:0 --data %s", d.data)
	d.say("  %s, ready in %d ms\n  runtimes: %s\n  %s", d.server.URL(), time.Since(start).Milliseconds(),
		strings.Join(d.server.RuntimeNames(), ", "), d.server.Isolation())
	return d, nil
}

// goCaches returns the caches of the user's Go toolchain, if there is one.
func goCaches(ctx context.Context) (build, modules string) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOCACHE", "GOMODCACHE").Output()
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); err == nil && len(lines) == 2 {
		return lines[0], lines[1]
	}
	return "", ""
}

func (d *demo) close() error {
	d.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := d.server.Close(ctx)
	<-d.served
	if rm := os.RemoveAll(d.dir); err == nil {
		err = rm
	}
	return err
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// show runs the chapters.
func (d *demo) show(ctx context.Context) error {
	if err := d.languages(ctx); err != nil {
		return err
	}
	if d.has("nodejs") {
		if err := d.stream(ctx); err != nil {
			return err
		}
	}
	if d.has("python3") {
		if err := d.failures(ctx); err != nil {
			return err
		}
	}
	if len(d.deployed) == 0 {
		return lambent.Errorf(lambent.Unavailable, "demo", "no language was found on this machine").WithHint("lambent doctor")
	}
	for _, chapter := range []func(context.Context) error{d.events, d.rollback, d.tail, d.bill} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// has reports whether the server has a runtime of a family.
func (d *demo) has(family string) bool {
	for _, name := range d.server.RuntimeNames() {
		if strings.HasPrefix(name, family) {
			return true
		}
	}
	return false
}

// languages deploys and calls one function of each.
func (d *demo) languages(ctx context.Context) error {
	for _, l := range []struct {
		language, template string
		found              bool
		bring              string
	}{
		{"Python", "python", d.has("python3"), "apt-get install python3"},
		{"Node.js", "node", d.has("nodejs"), "apt-get install nodejs"},
		{"Go", "go", onPath("go"), "https://go.dev/dl"},
		{"a shell script, as any program may be a function", "", onPath("curl"), "apt-get install curl"},
	} {
		if !l.found {
			d.say("\n== %s: not found on this machine (%s)", l.language, l.bring)
			continue
		}
		d.say("\n== %s", l.language)
		name, source := "hello-"+l.template, "hello-"+l.template
		if l.template == "" {
			name, source = "shell-hello", "aws-shell-hello"
			if err := examples.Write(".", source); err != nil {
				return err
			}
		} else if err := d.run(ctx, command{args: []string{"init", source, "--template", l.template}, want: "wrote"}); err != nil {
			return err
		}
		// Without the trial start the first call is a cold one.
		if err := d.run(ctx,
			command{args: []string{"deploy", source, "--check=false"}, want: "deployed"},
			command{args: []string{"invoke", name, "-d", `{"name":"Ada"}`, "--report"}, want: "Init Duration", note: "cold"},
			command{args: []string{"invoke", name, "-d", `{"name":"Ada"}`, "--report"}, want: "Hello, Ada!", note: "warm"},
		); err != nil {
			return err
		}
		if err := d.get(ctx, name, "?name=Grace", "Hello, Grace!"); err != nil {
			return err
		}
		d.deployed = append(d.deployed, name)
	}
	return nil
}

func onPath(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// stream shows that each piece of an answer comes as the function writes it.
func (d *demo) stream(ctx context.Context) error {
	d.say("\n== A stream: each line comes when the function writes it")
	if err := examples.Write(".", "aws-node-stream"); err != nil {
		return err
	}
	if err := d.run(ctx, command{args: []string{"deploy", "aws-node-stream"}, want: "deployed"}); err != nil {
		return err
	}
	start := time.Now()
	resp, err := d.request(ctx, "node-stream", "?count=3&delay=150")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var at []time.Duration
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		at = append(at, time.Since(start))
		d.say("  %4d ms  %s", at[len(at)-1].Milliseconds(), printable(lines.Text()))
	}
	if lines.Err() != nil || len(at) != 3 || at[2]-at[0] < 200*time.Millisecond {
		return d.failed("three lines, 150 ms apart, came after %v (%v)", at, lines.Err())
	}
	return nil
}

// failures shows how what goes wrong in a function looks from outside.
func (d *demo) failures(ctx context.Context) error {
	d.say("\n== A function that fails, and one that takes too long")
	if err := examples.Write(".", "aws-python-errors"); err != nil {
		return err
	}
	return d.run(ctx,
		command{args: []string{"deploy", "aws-python-errors"}, want: "deployed"},
		command{args: []string{"invoke", "python-errors", "-d", `{"case":"error","item":"tea"}`}, want: "OutOfStock", status: 1},
		command{args: []string{"invoke", "python-errors", "-d", `{"case":"slow"}`}, want: "Task timed out after 1.00 seconds", status: 1},
	)
}

// rollback deploys a mistake, and takes it back.
func (d *demo) rollback(ctx context.Context) error {
	name := d.deployed[0]
	source := strings.Replace(name, "shell-", "aws-shell-", 1)
	d.say("\n== A deploy that was a mistake, and the way back\n$ sed -i 's/Hello/Goodbye/' %s/*", source)
	files, err := filepath.Glob(filepath.Join(source, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(f, bytes.ReplaceAll(b, []byte("Hello"), []byte("Goodbye")), 0o644); err != nil { // the mode stays
			return err
		}
	}
	return d.run(ctx,
		command{args: []string{"deploy", source}, want: "deployed"},
		command{args: []string{"invoke", name, "-d", `{"name":"Ada"}`}, want: "Goodbye, Ada!"},
		command{args: []string{"rollback", name}, want: "version 1 again"},
		command{args: []string{"invoke", name, "-d", `{"name":"Ada"}`}, want: "Hello, Ada!"},
		command{args: []string{"versions", name}, want: "2"},
	)
}

// tail follows a log while the function is called.
func (d *demo) tail(ctx context.Context) error {
	name := d.deployed[0]
	d.say("\n== The log, as it grows")
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	shown, ended := d.start(ctx, "logs", name, "-f", "--limit", "2")
	defer func() { stop(); <-ended }()
	if err := shown.wait(ctx, "\n"); err != nil {
		return d.failed("the log has no last lines")
	}
	if err := d.get(ctx, name, "?name=Linus", "Hello, Linus!"); err != nil {
		return err
	}
	if err := shown.wait(ctx, "saying hello to Linus", "REPORT RequestId"); err != nil {
		return d.failed("the log does not grow")
	}
	return nil
}

// bill shows what it all used, what that costs elsewhere, and where the functions are.
func (d *demo) bill(ctx context.Context) error {
	d.say("\n== The bill, had it been AWS's, or Google's")
	if err := d.run(ctx,
		command{args: []string{"invocations", d.deployed[0], "--limit", "3"}, want: "warm"},
		command{args: []string{"usage"}, want: "all"},
	); err != nil {
		return err
	}
	d.say("\n== The functions, and where they are")
	return d.run(ctx, command{args: []string{"list"}, want: d.deployed[0]})
}
