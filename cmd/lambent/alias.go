package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"lambent/client"
)

const aliasHelp = `Name a version, or share the traffic between two.

  lambent alias set hello live 3
  lambent alias set hello live 3=90%,4=10%
  lambent invoke hello:live
  lambent alias list hello
  lambent alias delete hello live`

func aliasCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "alias", Short: "Name versions", Long: aliasHelp},
		aliasSetCommand(p), aliasListCommand(p), aliasDeleteCommand(p))
}

func aliasSetCommand(p *program) *cobra.Command {
	var description string
	c := &cobra.Command{
		Use: "set NAME ALIAS V[=W%,V=W%]", Short: "Make or change an alias", Long: aliasHelp, Args: args(3, "NAME", "ALIAS", "VERSION"),
		ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "name", "json", "yaml")
	c.Flags().StringVar(&description, "description", "", "what it is for")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, args []string) error {
		a, err := parseSplit(args[1])
		if err != nil {
			return usagef(c, "%v", err)
		}
		a.Name, a.Description = args[0], description
		set, err := cl.SetAlias(c.Context(), name, a)
		if err != nil {
			return err
		}
		p.note("%s:%s is %s", name, set.Name, split(*set))
		return o.print(p.out, set, []string{name + ":" + set.Name}, nil)
	})
	return c
}

func aliasListCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use: "list NAME", Short: "List aliases", Args: args(1, "NAME"), Aliases: []string{"ls"}, ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, _ []string) error {
		aliases, err := cl.Aliases(c.Context(), name)
		if err != nil {
			return err
		}
		var names []string
		t := table{{"ALIAS", "SERVES", "DESCRIPTION"}}
		for _, a := range aliases {
			names = append(names, a.Name)
			t = append(t, []string{a.Name, split(a), a.Description})
		}
		return o.print(p.out, aliases, names, t)
	})
	return c
}

func aliasDeleteCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME ALIAS", Short: "Delete an alias", Args: args(2, "NAME", "ALIAS"), Aliases: []string{"rm"},
		ValidArgsFunction: p.completeFunctions,
		RunE: p.on(func(c *cobra.Command, cl *client.Client, name string, args []string) error {
			if err := cl.DeleteAlias(c.Context(), name, args[0]); err != nil {
				return err
			}
			p.note("deleted %s:%s", name, args[0])
			return nil
		}),
	}
}

// parseSplit reads V, or V=W%,V=W%.
func parseSplit(s string) (client.Alias, error) {
	first, second, two := strings.Cut(s, ",")
	if !two {
		v, share, err := parseShare(s)
		if err == nil && share != 100 {
			err = fmt.Errorf("%q: one version gets 100%% of the traffic", s)
		}
		return client.Alias{Version: v}, err
	}
	a, x, err := parseShare(first)
	if err != nil {
		return client.Alias{}, err
	}
	b, y, err := parseShare(second)
	if err != nil {
		return client.Alias{}, err
	}
	if math.Abs(x+y-100) > 1e-9 {
		return client.Alias{}, fmt.Errorf("%q: the shares add up to %g%%, not to 100%%", s, x+y)
	}
	return client.Alias{Version: a, Other: b, Weight: y / 100}, nil
}

// parseShare reads V=W%, or V, which is all of it.
func parseShare(s string) (version string, percent float64, err error) {
	version, share, ok := strings.Cut(s, "=")
	if n, err := strconv.Atoi(version); version != "latest" && (err != nil || n < 1) {
		return "", 0, fmt.Errorf("%q: a version is a number from 1, or latest", version)
	}
	if !ok {
		return version, 100, nil
	}
	percent, err = strconv.ParseFloat(strings.TrimSuffix(share, "%"), 64)
	if err != nil || !strings.HasSuffix(share, "%") || percent < 0 || percent > 100 {
		return "", 0, fmt.Errorf("%q: a share is a number from 0%% to 100%%", share)
	}
	return version, percent, nil
}

// split is an alias as parseSplit reads it.
func split(a client.Alias) string {
	if a.Other == "" {
		return a.Version
	}
	other := math.Round(a.Weight*1e6) / 1e4
	return fmt.Sprintf("%s=%g%%,%s=%g%%", a.Version, 100-other, a.Other, other)
}
