package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lambent"
)

const rootHelp = `lambent runs serverless functions on your own machines. Functions written for
AWS Lambda run unmodified.

  lambent serve                      start a server
  lambent init hello                 write a first function
  lambent deploy hello               deploy it
  lambent invoke hello -d '{}'       call it

The server is LAMBENT_URL (http://127.0.0.1:9700). The credential is
LAMBENT_TOKEN, or that of the data directory (LAMBENT_DATA) of a server on this
machine.`

func rootCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use: "lambent", Short: "Serverless functions on your own machines", Long: rootHelp,
		SilenceErrors: true, SilenceUsage: true,
		Args:                       cobra.ArbitraryArgs, // so that what follows words the refusal
		SuggestionsMinimumDistance: 2,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return unknownCommand(c, args[0])
		},
	}
	c.SetIn(p.in)
	c.SetOut(p.out)
	c.SetErr(p.err)
	c.PersistentFlags().StringVar(&p.project, "project", "", "the project (default: that of the credential, or default)")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if f := c.Flags(); c.HasSubCommands() && f.NArg() > 0 { // the flag is of that one
			return unknownCommand(c, f.Arg(0))
		}
		return usagef(c, "%v", err)
	})
	return c
}

// group is a command that only has commands below it.
func group(c *cobra.Command, below ...*cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef(c, "%s needs a command: one of %s", c.CommandPath(), strings.Join(namesOf(below), ", "))
		}
		return unknownCommand(c, args[0])
	}
	c.AddCommand(below...)
	return c
}

func namesOf(commands []*cobra.Command) []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name())
	}
	return names
}

func unknownCommand(c *cobra.Command, name string) error {
	e := usagef(c, "there is no command %q", strings.TrimPrefix(c.CommandPath()+" "+name, "lambent "))
	if near := c.SuggestionsFor(name); len(near) > 0 {
		e.hint = c.CommandPath() + " " + near[0]
	}
	return e
}

// A usageError is a command line that was not understood: exit status 2.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

func usagef(c *cobra.Command, format string, args ...any) *usageError {
	return &usageError{fmt.Sprintf(format, args...), c.CommandPath() + " --help"}
}

// args takes so many arguments; names are how they are called.
func args(least int, names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef(c, "%s needs %s", c.CommandPath(), strings.Join(names[len(args):least], " and "))
		case len(args) > len(names):
			return usagef(c, "%s does not take %q", c.CommandPath(), args[len(names)])
		}
		return nil
	}
}

// errSilent ends the program with status 1 where everything has been said.
var errSilent = errors.New("said already")

// finish says what went wrong, if anything did, and returns the exit status.
func (p *program) finish(err error) int {
	if err == nil {
		return 0
	}
	if err == errSilent {
		return 1
	}
	if u, ok := errors.AsType[*usageError](err); ok {
		p.complain(u.message, u.hint)
		return 2
	}
	e, ok := errors.AsType[*lambent.Error](err)
	if !ok {
		p.complain(err.Error(), "")
		return 1
	}
	p.complain(cmp.Or(e.Message, e.Kind.String()), e.Hint)
	switch e.Kind {
	case lambent.Unauthenticated, lambent.Forbidden:
		return 4
	}
	return 1
}

// complain says in one line what is wrong, and in another what mends it.
func (p *program) complain(message, hint string) {
	fmt.Fprintf(p.err, "lambent: %s\n", printable(message))
	if hint != "" {
		fmt.Fprintf(p.err, "  try: %s\n", printable(hint))
	}
}

// note says something that is not data.
func (p *program) note(format string, args ...any) {
	fmt.Fprintf(p.err, "%s\n", printable(fmt.Sprintf(format, args...)))
}

// printable keeps what others wrote from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}
