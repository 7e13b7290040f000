package main

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lambent/client"
)

const versionsHelp = `List the versions of a function, the newest first. Every deploy that changes
something publishes one; see deploy --publish.

  lambent versions hello
  lambent versions hello --limit 5 -o json`

func versionsCommand(p *program) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "versions NAME", Short: "List a function's versions", Long: versionsHelp, Args: args(1, "NAME"),
		ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.Flags().IntVar(&limit, "limit", 0, "the most versions, the newest (default: all)")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, _ []string) error {
		f, err := cl.Function(c.Context(), name)
		if err != nil {
			return err
		}
		versions := []client.Version{}
		after := 0
		if limit > 0 {
			after = max(0, f.LastVersion-limit) // numbers may be missing: then there are fewer
		}
		for more := true; more; {
			page, err := cl.Versions(c.Context(), name, after, pageSize(0))
			if err != nil {
				return err
			}
			versions = append(versions, page.Versions...)
			after, more = page.Next, page.Next != 0
		}
		slices.Reverse(versions)
		return o.print(p.out, versions, versionNames(versions), versionTable(f, versions))
	})
	return c
}

func versionNames(versions []client.Version) []string {
	names := make([]string, 0, len(versions))
	for _, v := range versions {
		names = append(names, version(v.Version))
	}
	return names
}

func versionTable(f *client.Function, versions []client.Version) table {
	t := table{{"VERSION", "PUBLISHED", "RUNTIME", "MEMORY", "CODE", "SERVES", "DESCRIPTION"}}
	marked := false
	for _, v := range versions {
		var serves []string
		// Of several that are what latest is, the newest.
		if !marked && reflect.DeepEqual(v.Configuration, f.Configuration) {
			serves, marked = append(serves, "latest"), true
		}
		for _, n := range slices.Sorted(maps.Keys(f.Aliases)) {
			if a := f.Aliases[n]; a.Version == version(v.Version) || a.Other == version(v.Version) {
				serves = append(serves, n)
			}
		}
		t = append(t, []string{
			version(v.Version), when(v.Published), v.Configuration.Runtime, fmt.Sprintf("%d MB", v.Configuration.MemoryMB),
			short(v.Configuration.Code), strings.Join(serves, " "), v.Description,
		})
	}
	return t
}
