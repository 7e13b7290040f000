package main

import (
	"github.com/spf13/cobra"

	"lambent"
)

const runtimeHelp = `Show what functions can run on: interpreters that the server found on its
machine, and provided, which is any program named bootstrap.

  lambent runtime list`

func runtimeCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "runtime", Short: "Show what functions can run on", Long: runtimeHelp},
		runtimeListCommand(p), runtimeAddCommand())
}

func runtimeListCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List runtimes", Long: runtimeHelp, Args: args(0), Aliases: []string{"ls"}}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		runtimes, err := cl.Runtimes(c.Context())
		if err != nil {
			return err
		}
		var names []string
		t := table{{"RUNTIME", "WHERE"}}
		for _, r := range runtimes {
			names = append(names, r.Name)
			t = append(t, []string{r.Name, r.Note})
		}
		return o.print(p.out, runtimes, names, t)
	}
	return c
}

// runtimeAddCommand answers for a command that errors of the server name already.
func runtimeAddCommand() *cobra.Command {
	return &cobra.Command{
		Use: "add RUNTIME", Hidden: true, Args: cobra.ArbitraryArgs, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return lambent.Errorf(lambent.Unsupported, "", "runtimes cannot be added in this release: install the interpreter on the server's machine, and start the server again").
				WithHint("lambent doctor")
		},
	}
}
