package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
)

const projectHelp = `Show and change what is said about all functions of a project.

  lambent project list
  lambent project show shop
  lambent project set shop --network none --max-concurrency 100`

const projectSetHelp = `Say what holds for all functions of a project. It takes the administrator's token.

--max-concurrency is how many invocations there may be at a time, of all functions
together, those that wait in line too. One more gets status 429, with the reason
ConcurrentInvocationLimitExceeded. 0 is no limit.

--network is what the functions may connect to that do not say it themselves: none,
or internet, CIDR, CIDR:PORT, HOST and HOST:PORT with commas between them; default
takes back what was said. It is a default, not a ceiling: what a function says itself, in lambent.toml or by
deploy --network, holds, be it less or more. "deploy --network internet" has the
internet in any project. Instances that are started from then on are as the project
says; the others end once they have answered the calls that they have.

  lambent project set shop --network none
  lambent project set shop --network db.internal:5432,10.1.2.0/24
  lambent project set shop --network default
  lambent project set shop --max-concurrency 100`

func projectCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "project", Short: "Show and change what holds for a project's functions", Long: projectHelp},
		projectListCommand(p), projectShowCommand(p), projectSetCommand(p))
}

func projectListCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List projects", Long: projectHelp, Args: args(0), Aliases: []string{"ls"}}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		projects, err := cl.Projects(c.Context())
		if err != nil {
			return err
		}
		var names []string
		t := table{{"PROJECT", "FUNCTIONS", "CONCURRENCY", "NETWORK"}}
		for _, one := range projects {
			names = append(names, one.Name)
			t = append(t, []string{one.Name, fmt.Sprint(one.Functions), concurrency(&one), network(one.Network)})
		}
		return o.print(p.out, projects, names, t)
	}
	return c
}

func projectShowCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "show [NAME]", Short: "Show a project", Long: projectHelp, Args: args(0, "NAME")}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		name := cmp.Or(strings.Join(args, ""), cl.Project, lambent.DefaultProject)
		one, err := cl.ProjectNamed(c.Context(), name)
		if err != nil {
			return err
		}
		return o.print(p.out, one, []string{one.Name}, table{
			{"project", one.Name}, {"functions", fmt.Sprint(one.Functions)}, {"concurrency", concurrency(one)}, {"network", network(one.Network)},
			{"revision", one.Revision}, {"modified", when(one.Modified)},
		})
	}
	return c
}

func projectSetCommand(p *program) *cobra.Command {
	var opens string
	var most int
	c := &cobra.Command{Use: "set NAME [--network ...] [--max-concurrency N]", Short: "Change a project", Long: projectSetHelp, Args: args(1, "NAME")}
	c.Flags().StringVar(&opens, "network", "", "what its functions may connect to that do not say their own")
	c.Flags().IntVar(&most, "max-concurrency", 0, "invocations at a time, of all its functions together; 0: no limit")
	o := outputFlag(c, "name", "json", "yaml")
	c.RunE = func(c *cobra.Command, args []string) error {
		r := client.ProjectRequest{}
		if c.Flags().Changed("network") {
			r.Network = strings.Split(opens, ",")
		}
		if c.Flags().Changed("max-concurrency") {
			r.MaxConcurrency = &most
		}
		if r.Network == nil && r.MaxConcurrency == nil {
			return usagef(c, "nothing is said about project %q: --network or --max-concurrency is needed", args[0])
		}
		if _, err := lambent.ParseNetwork(opens); err != nil {
			return usagef(c, "--network: %s", lambent.UserMessage(err))
		}
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		one, err := cl.SetProject(c.Context(), args[0], r)
		if err != nil {
			return err
		}
		if r.Network != nil {
			p.note("functions of %s may connect to: %s, unless they say their own", one.Name, network(one.Network))
		}
		if r.MaxConcurrency != nil {
			p.note("functions of %s may have together, at a time: %s", one.Name, concurrency(one))
		}
		return o.print(p.out, one, []string{one.Name}, nil)
	}
	return c
}

func concurrency(p *client.Project) string {
	if p.MaxConcurrency == 0 {
		return "no limit"
	}
	return fmt.Sprintf("%d invocations", p.MaxConcurrency)
}

// networkOf says what a function may connect to, and who says so.
func networkOf(f *client.Function) string {
	own := f.Configuration.Network
	switch {
	case len(own) == 0 && len(f.Network) > 0:
		return network(f.Network) + ", as the project says"
	case slices.Equal(own, []string{"internet"}):
		return network(own) + ", whatever the project says"
	}
	return network(own)
}
