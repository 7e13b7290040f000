package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
)

const logsHelp = `Print a function's log, the newest lines last.

  lambent logs hello
  lambent logs hello -f
  lambent logs hello --since 5m --grep 'ERROR|WARN'
  lambent logs hello --request 8f5c3a0e-6f0b-4b8e-9d5a-3f6f3f1f2a10
  lambent logs hello --build             what npm, pip or go said at the last deploy`

// followTail is how much of the past a follower sees first.
const followTail = 10

func logsCommand(p *program) *cobra.Command {
	var q client.LogQuery
	var build bool
	c := &cobra.Command{
		Use: "logs NAME", Short: "Print a function's log", Long: logsHelp, Args: args(1, "NAME"), ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "text", "json")
	f := c.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with the lines that come")
	f.StringVar(&q.Since, "since", "", "a duration before now, such as 5m or 2d, or a time (RFC 3339)")
	f.StringVar(&q.Until, "until", "", "likewise")
	f.StringVar(&q.Grep, "grep", "", "only lines that match this regular expression")
	f.StringVar(&q.Request, "request", "", "only lines of this invocation")
	f.IntVar(&q.Limit, "limit", 0, "the most lines of the past (default: 1000, or all since --since)")
	f.BoolVar(&build, "build", false, "what the last build said, instead")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, _ []string) error {
		if build {
			return p.printBuildLog(c.Context(), cl, name)
		}
		if _, err := regexp.Compile(q.Grep); err != nil {
			return usagef(c, "--grep %q: %v", q.Grep, err)
		}
		if q.Follow && q.Limit == 0 && q.Since == "" {
			q.Limit = followTail
		}
		for line, err := range cl.Logs(c.Context(), name, q) {
			if q.Follow && lambent.Is(err, lambent.Canceled) {
				return nil // whoever follows ends it this way
			}
			if err != nil {
				return err
			}
			if err := p.printLogLine(o, &line); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

func (p *program) printBuildLog(ctx context.Context, cl *client.Client, name string) error {
	var text strings.Builder
	if err := cl.BuildLog(ctx, name, &text); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		if isTerminal(p.out) {
			line = printable(strings.TrimSuffix(line, "\n")) + "\n"
		}
		if _, err := io.WriteString(p.out, line); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) printLogLine(o *output, l *client.LogLine) error {
	if o.format == "json" {
		return json.NewEncoder(p.out).Encode(l)
	}
	text := l.Text
	if isTerminal(p.out) {
		text = printable(text)
	}
	_, err := fmt.Fprintf(p.out, "%s %s\n", l.Time.UTC().Format("2006-01-02T15:04:05.000Z"), text)
	return err
}
