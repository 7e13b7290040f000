package main

import (
	"reflect"
	"strconv"

	"github.com/spf13/cobra"

	"lambent/client"
)

const rollbackHelp = `Make latest what a version is: the one that is named, or else the newest that
latest is not, so that a second rollback takes back the first. Aliases stay.

  lambent rollback hello
  lambent rollback hello 3`

func rollbackCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use: "rollback NAME [VERSION]", Short: "Make latest what a version is", Long: rollbackHelp, Args: args(1, "NAME", "VERSION"),
		ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "name", "json", "yaml")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, args []string) error {
		number := 0
		if len(args) == 1 {
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 1 {
				return usagef(c, "version %q: a number from 1 is needed", args[0])
			}
			number = n
		}
		defer p.step("starting the version on trial")()
		f, err := cl.Rollback(c.Context(), name, number)
		if err != nil {
			return err
		}
		p.note("latest of %s is %s again", f.Name, p.versionOf(c, cl, f, number))
		return o.print(p.out, f, []string{f.Name}, nil)
	})
	return c
}

// versionOf says which version latest is.
func (p *program) versionOf(c *cobra.Command, cl *client.Client, f *client.Function, number int) string {
	for after, more := 0, number == 0; more; {
		page, err := cl.Versions(c.Context(), f.Name, after, pageSize(0))
		if err != nil {
			break // the rollback itself is done
		}
		for _, v := range page.Versions {
			if reflect.DeepEqual(v.Configuration, f.Configuration) {
				number = v.Version
			}
		}
		after, more = page.Next, page.Next != 0
	}
	if number == 0 {
		return "an older version"
	}
	return "version " + strconv.Itoa(number)
}
