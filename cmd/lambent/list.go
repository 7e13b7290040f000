package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"lambent/client"
)

const listHelp = `List the functions of a project, in the order of their names.

  lambent list
  lambent list -o name | xargs -n1 lambent show`

func listCommand(p *program) *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List functions", Long: listHelp, Args: args(0), Aliases: []string{"ls"},
	}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.Flags().IntVar(&limit, "limit", 0, "the most functions (default: all)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		functions := []client.Function{}
		for after, more := "", true; more && (limit == 0 || len(functions) < limit); {
			page, err := cl.Functions(c.Context(), after, pageSize(limit-len(functions)))
			if err != nil {
				return err
			}
			functions = append(functions, page.Functions...)
			after, more = page.Next, page.Next != ""
		}
		names := make([]string, 0, len(functions))
		t := table{{"NAME", "RUNTIME", "MEMORY", "TIMEOUT", "VERSION", "MODIFIED", "URL"}}
		for _, f := range functions {
			names = append(names, f.Name)
			t = append(t, []string{
				f.Name, f.Configuration.Runtime, fmt.Sprintf("%d MB", f.Configuration.MemoryMB), ms(f.Configuration.TimeoutMS),
				version(f.LastVersion), when(f.Modified), f.URL.Href,
			})
		}
		return o.print(p.out, functions, names, t)
	}
	return c
}

// pageSize is how many items to ask for where so many are wanted yet.
func pageSize(wanted int) int {
	const most = 1000
	if wanted <= 0 || wanted > most {
		return most
	}
	return wanted
}

// version is a version's number, "" where there is none.
func version(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}
