package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
)

const invokeHelp = `Call a function. Standard output is what it returned, byte for byte. If the
function fails, that is its error, the exit status is 1, and standard error has
a line that says so, after the last lines of what code said that does not start.

  lambent invoke hello -d '{"name":"you"}'
  lambent invoke hello -d @event.json --report
  lambent invoke hello:live --log < /dev/null
  lambent invoke hello -d @event.json --async      prints the invocation's id; it runs when it can
  cat photo.jpg | lambent invoke thumbs -d @-`

func invokeCommand(p *program) *cobra.Command {
	var data, qualifier, key string
	var report, log, async bool
	var wait time.Duration
	c := &cobra.Command{
		Use: "invoke NAME", Short: "Call a function", Long: invokeHelp, Args: args(1, "NAME"), ValidArgsFunction: p.completeFunctions,
	}
	f := c.Flags()
	f.StringVarP(&data, "data", "d", "", "the payload: text, @FILE, or @- for standard input (default: {})")
	f.StringVar(&qualifier, "qualifier", "", "a version or an alias (default: latest)")
	f.BoolVar(&report, "report", false, "print the REPORT line on standard error")
	f.BoolVar(&log, "log", false, "print the end of the invocation's log on standard error")
	f.DurationVar(&wait, "wait", 0, "do not begin later than that, such as 500ms (default: whenever it can)")
	f.BoolVar(&async, "async", false, "do not wait: once the payload is on the server's disk, print the invocation's id")
	f.StringVar(&key, "key", "", "with --async: the same key again is the same invocation")
	c.RunE = func(c *cobra.Command, args []string) error {
		if async && (report || log || wait != 0) {
			return usagef(c, "--report, --log and --wait are about an answer, which nobody waits for with --async")
		}
		if key != "" && !async {
			return usagef(c, "--key is for --async")
		}
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		name, qualifier, err := p.qualified(c, cl, args[0], qualifier)
		if err != nil {
			return err
		}
		payload, err := p.payload("-d", data)
		if err != nil {
			return err
		}
		defer payload.Close()
		if async {
			id, err := cl.InvokeAsync(c.Context(), client.InvokeRequest{Name: name, Qualifier: qualifier, Payload: payload}, key)
			if err == nil {
				fmt.Fprintln(p.out, id)
			}
			return err
		}
		out, err := cl.Invoke(c.Context(), client.InvokeRequest{
			Name: name, Qualifier: qualifier, Payload: payload, Log: true, Usage: true, Wait: wait,
		}, p.out)
		if err != nil {
			return err
		}
		p.printLog(out.LogTail, log, report)
		if out.Fault == "" {
			return nil
		}
		hint := fmt.Sprintf("lambent logs %s --request %s", name, out.RequestID)
		if said := saidAtStart(out); len(said) > 0 {
			hint = "lambent logs " + name // they are of no request
			for _, line := range said {
				if !log {
					p.note("  %s", line)
				}
			}
		}
		p.complain(fmt.Sprintf("function %q failed (%s): %s", name, out.Fault, out.FaultMessage), hint)
		if where := limit(out.Fault, out.Usage); where != "" {
			p.note("  %s", where)
		}
		return errSilent
	}
	return c
}

// limit says which limit ended an invocation, and where its time went.
func limit(fault lambent.FaultKind, u *client.Invocation) string {
	if fault != lambent.FaultTimeout || u == nil {
		return ""
	}
	return fmt.Sprintf("the function's timeout: queue %s, place %s, init %s, run %s",
		microseconds(u.QueueUS), microseconds(u.PlaceUS), microseconds(u.InitUS), microseconds(u.RunUS))
}

// saidAtStart returns the last lines of what code said that did not start: in the log
// they come before the call.
func saidAtStart(o *client.Outcome) []string {
	said, _, found := strings.Cut(string(o.LogTail), "START RequestId: "+o.RequestID)
	if !found || said == "" {
		return nil
	}
	lines := strings.Split(strings.TrimRight(said, "\n"), "\n")
	return lines[max(0, len(lines)-10):]
}

// payload opens what a flag such as -d names.
func (p *program) payload(flag, data string) (io.ReadCloser, error) {
	switch {
	case data == "@-":
		return io.NopCloser(p.in), nil
	case strings.HasPrefix(data, "@"):
		f, err := os.Open(data[1:])
		if err != nil {
			return nil, lambent.Errorf(lambent.Invalid, "", "%s %s: %w", flag, data, err)
		}
		return f, nil
	}
	return io.NopCloser(strings.NewReader(data)), nil
}

// printLog prints the end of a log, or only the line that reports.
func (p *program) printLog(tail []byte, all, report bool) {
	for line := range bytes.Lines(tail) {
		if all || report && bytes.HasPrefix(line, []byte("REPORT ")) {
			fmt.Fprintf(p.err, "%s\n", printable(strings.TrimRight(string(line), "\n")))
		}
	}
}
