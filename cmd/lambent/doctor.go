package main

import (
	"github.com/spf13/cobra"

	"lambent/server"
)

const doctorHelp = `Look at this machine as a server would find it: limits, kernel features, what
isolates functions, what they can run on, and what to install for more. Nothing
is changed. The exit status is 1 if a server would not start.

  lambent doctor
  lambent doctor --data ~/functions -o json`

func doctorCommand(p *program) *cobra.Command {
	cfg := server.DefaultConfig(p.getenv)
	c := &cobra.Command{Use: "doctor", Short: "Look at what this machine offers to functions", Long: doctorHelp, Args: args(0)}
	c.Flags().StringVar(&cfg.Listen, "listen", cfg.Listen, "the address that the server is to have")
	c.Flags().StringVar(&cfg.Data, "data", cfg.Data, "its data directory (LAMBENT_DATA)")
	o := outputFlag(c, "table", "json", "yaml")
	c.RunE = func(c *cobra.Command, _ []string) error {
		defer p.step("looking for interpreters")()
		findings := server.Examine(c.Context(), cfg)
		t := table{{"AREA", "WHAT", "STATE", "DETAIL", "MENDED BY"}}
		var failing []string
		for _, f := range findings {
			t = append(t, []string{f.Area, f.Name, string(f.State), f.Detail, f.Mend})
			if f.State == server.Failing {
				failing = append(failing, f.Name)
			}
		}
		if err := o.print(p.out, findings, nil, t); err != nil {
			return err
		}
		if len(failing) > 0 {
			p.complain("a server would not start here", "")
			return errSilent
		}
		return nil
	}
	return c
}
