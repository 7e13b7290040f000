package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"lambent/client"
)

const invocationsHelp = `List a function's usage records, the newest first: one for each attempt.

  lambent invocations hello
  lambent invocations hello --since 1h --limit 20 -o json`

func invocationsCommand(p *program) *cobra.Command {
	var period client.Period
	var limit int
	c := &cobra.Command{
		Use: "invocations NAME", Short: "List a function's usage records", Long: invocationsHelp, Args: args(1, "NAME"),
		ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "table", "json", "yaml", "name")
	periodFlags(c, &period, "")
	c.Flags().IntVar(&limit, "limit", 50, "the most records, 1 to 10000")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, _ []string) error {
		list, err := cl.Invocations(c.Context(), name, period, limit)
		if err != nil {
			return err
		}
		var names []string
		t := table{{"START", "REQUEST", "VERSION", "OUTCOME", "START KIND", "DURATION", "BILLED", "PEAK", "QUEUED"}}
		for _, r := range list.Invocations {
			names = append(names, r.ID)
			kind := "warm"
			switch {
			case r.Cold:
				kind = "cold, " + microseconds(r.InitUS)
			case r.AheadUS > 0:
				kind = "ahead, " + microseconds(r.AheadUS)
			}
			outcome := r.Outcome
			if r.Error != "" {
				outcome += ": " + r.Error
			}
			t = append(t, []string{
				when(r.Start), r.ID, r.Version, outcome, kind, microseconds(r.RunUS),
				fmt.Sprintf("%d ms", r.BilledMS), fmt.Sprintf("%d MB", r.PeakMB), microseconds(r.QueueUS),
			})
		}
		return o.print(p.out, list.Invocations, names, t)
	})
	return c
}

// periodFlags adds --since and --until.
func periodFlags(c *cobra.Command, p *client.Period, since string) {
	c.Flags().StringVar(&p.Since, "since", since, "a duration before now, such as 5m or 30d, or a time (RFC 3339)")
	c.Flags().StringVar(&p.Until, "until", "", "likewise")
}
