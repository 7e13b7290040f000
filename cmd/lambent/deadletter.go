package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"lambent/client"
)

const deadLetterHelp = `Asynchronous invocations that failed as often as their function allows, or grew too
old, are dead letters: they are kept, with their payload and the last error, until
they are run again or removed, and for two weeks at most (serve --keep-dead). Of one
function there are 10,000 (serve --max-dead), and 640 MB: of more the oldest are
removed, which the server's log says.

  lambent deadletter list thumbs
  lambent deadletter show thumbs ID > payload.json
  lambent deadletter redrive thumbs          all of them; with an ID, that one
  lambent deadletter redrive thumbs --since 2h --error 'connection refused' --dry-run
  lambent deadletter purge thumbs ID

What selects some of them is the same for list, redrive and purge.`

func deadLetterCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "deadletter", Short: "What failed for good", Long: deadLetterHelp},
		deadLetterListCommand(p), deadLetterShowCommand(p), deadLetterRedriveCommand(p), deadLetterPurgeCommand(p))
}

func deadLetterListCommand(p *program) *cobra.Command {
	var s client.DeadSelection
	var limit int
	c := &cobra.Command{
		Use: "list NAME", Short: "List dead letters, the oldest first", Args: args(1, "NAME"), Aliases: []string{"ls"}, ValidArgsFunction: p.completeFunctions,
	}
	deadFlags(c, &s)
	c.Flags().IntVar(&limit, "limit", 100, "the most of them, 1 to 1000")
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, _ []string) error {
		if err := checkSelection(c); err != nil {
			return err
		}
		list, err := cl.DeadLetters(c.Context(), name, s, limit)
		if err != nil {
			return err
		}
		ids := []string{}
		t := table{{"ID", "DIED", "ATTEMPTS", "REASON"}}
		for _, d := range list.DeadLetters {
			ids = append(ids, d.ID)
			t = append(t, []string{d.ID, d.Died.Local().Format(time.DateTime), strconv.Itoa(d.Attempts), d.Reason})
		}
		if n := len(ids); n < list.Total {
			p.note("%d of %d", n, list.Total)
		}
		return o.print(p.out, list.DeadLetters, ids, t)
	})
	return c
}

func deadLetterShowCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME ID", Short: "Print a dead letter's payload, byte for byte, and on standard error what became of it", Args: args(2, "NAME", "ID"),
		ValidArgsFunction: p.completeFunctions,
		RunE: p.on(func(c *cobra.Command, cl *client.Client, name string, args []string) error {
			d, err := cl.DeadLetter(c.Context(), name, args[0])
			if err != nil {
				return err
			}
			p.note("accepted %s, dead since %s, attempts %d: %s", d.Accepted.Local().Format(time.DateTime), d.Died.Local().Format(time.DateTime), d.Attempts, d.Reason)
			_, err = p.out.Write(d.Payload)
			return err
		}),
	}
}

// deadFlags adds what selects dead letters.
func deadFlags(c *cobra.Command, s *client.DeadSelection) {
	selectFlags(c, &s.Selection, "dead")
	c.Flags().StringVar(&s.Error, "error", "", "with that text in the last failure, in upper or lower case")
}

func deadLetterRedriveCommand(p *program) *cobra.Command {
	var s client.DeadSelection
	var dry bool
	c := &cobra.Command{
		Use: "redrive NAME [ID]", Short: "Run dead letters again, one, some or all", Args: args(1, "NAME", "ID"), ValidArgsFunction: p.completeFunctions,
	}
	deadFlags(c, &s)
	c.Flags().BoolVar(&dry, "dry-run", false, "only count them")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, args []string) (err error) {
		if s.ID, err = optionalID(c, args); err != nil {
			return err
		}
		if err := checkSelection(c); err != nil {
			return err
		}
		done := p.step("dead letters of %s are run again", name)
		n, err := cl.RedriveDeadLetters(c.Context(), name, s, dry)
		done()
		switch {
		case err != nil:
			return err
		case dry:
			p.note("dead letters: %d", n)
		default:
			p.note("dead letters run again: %d", n)
		}
		return nil
	})
	return c
}

func deadLetterPurgeCommand(p *program) *cobra.Command {
	var s client.DeadSelection
	var dry, yes bool
	c := &cobra.Command{
		Use: "purge NAME [ID]", Short: "Remove dead letters, one, some or all", Args: args(1, "NAME", "ID"), ValidArgsFunction: p.completeFunctions,
	}
	deadFlags(c, &s)
	c.Flags().BoolVar(&dry, "dry-run", false, "only count them")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask whether those without an ID are to go")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, args []string) (err error) {
		if s.ID, err = optionalID(c, args); err != nil {
			return err
		}
		if err := checkSelection(c); err != nil {
			return err
		}
		if dry || s.ID == "" && !yes {
			n, err := cl.PurgeDeadLetters(c.Context(), name, s, true)
			switch {
			case err != nil:
				return err
			case dry:
				p.note("dead letters: %d", n)
				return nil
			}
			question := fmt.Sprintf("Remove %d dead letters of %s, with what is in them?", n, name)
			if err := p.confirm(c, fmt.Sprintf("what %q has of them", name), question, "lambent deadletter purge "+name+" --yes"); err != nil {
				return err
			}
		}
		done := p.step("dead letters of %s are removed", name)
		n, err := cl.PurgeDeadLetters(c.Context(), name, s, false)
		done()
		if err == nil {
			p.note("dead letters removed: %d", n)
		}
		return err
	})
	return c
}

// optionalID is the id that a command line may have: an empty one is a variable of a
// script's that is not set, and not all of them.
func optionalID(c *cobra.Command, args []string) (string, error) {
	switch {
	case len(args) == 0:
		return "", nil
	case args[0] == "":
		return "", usagef(c, "the id is empty")
	}
	return args[0], nil
}
