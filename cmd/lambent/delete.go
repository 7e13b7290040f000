package main

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"lambent/client"
)

const deleteHelp = `Delete a function with its versions, aliases, triggers and log. Its usage records
and its dead letters stay.

  lambent delete hello
  lambent delete hello --yes             without being asked, as scripts must`

func deleteCommand(p *program) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete NAME", Short: "Delete a function", Long: deleteHelp, Args: args(1, "NAME"), Aliases: []string{"rm"},
		ValidArgsFunction: p.completeFunctions,
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, _ []string) error {
		f, err := cl.Function(c.Context(), name)
		if err != nil {
			return err
		}
		if !yes {
			question := fmt.Sprintf("Delete %s with its %d versions and %d aliases?", f.Name, f.LastVersion, len(f.Aliases))
			if err := p.confirm(c, strconv.Quote(name), question, "lambent delete "+name+" --yes"); err != nil {
				return err
			}
		}
		if err := cl.Delete(c.Context(), name, f.Revision); err != nil {
			return err
		}
		p.note("deleted %s", name)
		return nil
	})
	return c
}

// confirm asks whether something is to go; command is how a script says so.
func (p *program) confirm(c *cobra.Command, what, question, command string) error {
	if !isTerminal(p.in) {
		e := usagef(c, "nobody is there to be asked whether %s is to go: nothing was deleted", what)
		e.hint = command
		return e
	}
	fmt.Fprintf(p.err, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(p.in).ReadString('\n') // nothing is no
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		p.note("nothing was deleted")
		return errSilent
	}
	return nil
}
