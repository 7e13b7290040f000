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
  lambent project set shop --network none`

const projectSetHelp = `Say what the functions of a project may connect to that do not say it themselves:
none, internet, or CIDR, CIDR:PORT, HOST and HOST:PORT with commas between them;
default takes back what was said. It takes the administrator's token.

It is a default, not a ceiling: what a function says itself, in lambent.toml or by
deploy --network, holds, be it less or more. "deploy --network internet" has the
internet in any project. Instances that are started from then on are as the project
says; the others end once they have answered the calls that they have.

  lambent project set shop --network none
  lambent project set shop --network db.internal:5432,10.1.2.0/24
  lambent project set shop --network default`

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
		t := table{{"PROJECT", "FUNCTIONS", "NETWORK"}}
		for _, one := range projects {
			names = append(names, one.Name)
			t = append(t, []string{one.Name, fmt.Sprint(one.Functions), network(one.Network)})
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
			{"project", one.Name}, {"functions", fmt.Sprint(one.Functions)}, {"network", network(one.Network)},
			{"revision", one.Revision}, {"modified", when(one.Modified)},
		})
	}
	return c
}

func projectSetCommand(p *program) *cobra.Command {
	var opens string
	c := &cobra.Command{Use: "set NAME --network ...", Short: "Change a project", Long: projectSetHelp, Args: args(1, "NAME")}
	c.Flags().StringVar(&opens, "network", "", "what its functions may connect to that do not say their own")
	o := outputFlag(c, "name", "json", "yaml")
	c.RunE = func(c *cobra.Command, args []string) error {
		if !c.Flags().Changed("network") {
			return usagef(c, "nothing is said about project %q: --network is needed", args[0])
		}
		if _, err := lambent.ParseNetwork(opens); err != nil {
			return usagef(c, "--network: %s", lambent.UserMessage(err))
		}
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		one, err := cl.SetProject(c.Context(), args[0], client.ProjectRequest{Network: strings.Split(opens, ",")})
		if err != nil {
			return err
		}
		p.note("functions of %s may connect to: %s, unless they say their own", one.Name, network(one.Network))
		return o.print(p.out, one, []string{one.Name}, nil)
	}
	return c
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
