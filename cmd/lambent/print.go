package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"
	"golang.org/x/term"
)

// An output is how data is printed: the value of -o.
type output struct {
	format  string
	allowed []string
}

// outputFlag adds -o to a command. The first format is the default.
func outputFlag(c *cobra.Command, allowed ...string) *output {
	o := &output{format: allowed[0], allowed: allowed}
	c.Flags().VarP(o, "output", "o", "how to print: "+strings.Join(allowed, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there
	return o
}

// Set, String and Type implement pflag.Value.

func (o *output) Set(s string) error {
	if !slices.Contains(o.allowed, s) {
		return fmt.Errorf("it is one of %s", strings.Join(o.allowed, ", "))
	}
	o.format = s
	return nil
}
func (o *output) String() string { return o.format }
func (o *output) Type() string   { return "format" }

// A table is data for people: the first row is the head.
type table [][]string

// print prints data in the format that was asked for: v as the API has it, names
// one on each line, or the table.
func (o *output) print(w io.Writer, v any, names []string, t table) error {
	switch o.format {
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	case "yaml":
		return printYAML(w, v)
	case "name":
		for _, n := range names {
			if _, err := fmt.Fprintln(w, n); err != nil {
				return err
			}
		}
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range t {
		for i, cell := range row {
			row[i] = printable(strings.ReplaceAll(cell, "\t", " "))
			if row[i] == "" {
				row[i] = "-"
			}
		}
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// printYAML prints what JSON would say, keys in the same order: JSON is YAML
// already, in another style.
func printYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return err
	}
	blockStyle(&n)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return err
	}
	_, err = w.Write(out.Bytes())
	return err
}

func blockStyle(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		n.Style &^= yaml.DoubleQuotedStyle
	} else {
		n.Style &^= yaml.FlowStyle
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// isTerminal reports whether a person is at the other end.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// ms is a duration that the API has in milliseconds.
func ms(n int64) string { return (time.Duration(n) * time.Millisecond).String() }

// microseconds is one that it has in microseconds, as the REPORT line prints it.
func microseconds(n int64) string { return fmt.Sprintf("%.2f ms", float64(n)/1000) }

// step tells of something that takes over a second, once it does.
func (p *program) step(format string, args ...any) (done func()) {
	what, begun, ended := fmt.Sprintf(format, args...), time.Now(), make(chan struct{})
	var said sync.WaitGroup
	said.Go(func() {
		for after := time.Second; ; after = 10 * time.Second {
			select {
			case <-time.After(after):
			case <-ended:
				return
			}
			if took := time.Since(begun).Round(time.Second); took < 10*time.Second {
				p.note("%s ...", what)
			} else {
				p.note("%s ... for %v", what, took)
			}
		}
	})
	return func() {
		close(ended)
		said.Wait()
	}
}

// bytesOf is a size for people.
func bytesOf(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KB", n>>10)
	}
	return fmt.Sprintf("%d MB", n>>20)
}
