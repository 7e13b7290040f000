package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"lambent/client"
)

const deadLetterHelp = `Asynchronous invocations that failed as often as their function allows, or grew too
old, are dead letters: they are kept, with their payload and the last error, until
they are run again or removed.

  lambent deadletter list thumbs
  lambent deadletter show thumbs ID > payload.json
  lambent deadletter redrive thumbs          all of them; with an ID, that one
  lambent deadletter purge thumbs ID`

func deadLetterCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "deadletter", Short: "What failed for good", Long: deadLetterHelp},
		deadLetterListCommand(p), deadLetterShowCommand(p),
		deadLetterChangeCommand(p, "redrive", "Run dead letters again", "run again", (*client.Client).RedriveDeadLetters),
		deadLetterChangeCommand(p, "purge", "Remove dead letters", "removed", (*client.Client).PurgeDeadLetters))
}

func deadLetterListCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use: "list NAME", Short: "List dead letters, the oldest first", Args: args(1, "NAME"), Aliases: []string{"ls"}, ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, _ []string) error {
		letters, err := cl.DeadLetters(c.Context(), name)
		if err != nil {
			return err
		}
		ids := []string{}
		t := table{{"ID", "DIED", "ATTEMPTS", "REASON"}}
		for _, d := range letters {
			ids = append(ids, d.ID)
			t = append(t, []string{d.ID, d.Died.Local().Format(time.DateTime), strconv.Itoa(d.Attempts), d.Reason})
		}
		return o.print(p.out, letters, ids, t)
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

func deadLetterChangeCommand(p *program, verb, short, done string, do func(*client.Client, context.Context, string, string) (int, error)) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME [ID]", Short: short, Args: args(1, "NAME", "ID"), ValidArgsFunction: p.completeFunctions,
		RunE: p.on(func(c *cobra.Command, cl *client.Client, name string, args []string) error {
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			n, err := do(cl, c.Context(), name, id)
			if err != nil {
				return err
			}
			p.note("dead letters %s: %d", done, n)
			return nil
		}),
	}
}
