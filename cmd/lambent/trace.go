package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
)

const traceHelp = `Show where an invocation's time went: waiting for an instance, putting the code in place, its init, the run, the answer.

  lambent trace 8f5c3a0e-6f0b-4b8e-9d5a-3f6f3f1f2a10

The request's id is in the header X-Amzn-Requestid of the answer, in the function's log and in lambent invocations.`

func traceCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "trace REQUEST", Short: "Show where an invocation's time went", Long: traceHelp, Args: args(1, "REQUEST")}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		id := args[0]
		list, err := cl.Invocation(c.Context(), id)
		if err != nil {
			return err
		}
		if len(list.Invocations) == 0 {
			return lambent.Errorf(lambent.NotFound, "", "there is no record of %q: it may be another server's, or under way", id)
		}
		var names []string
		t := table{{"ATTEMPT", "STEP", "TIME", "WHEN"}}
		for _, r := range list.Invocations {
			names = append(names, r.ID)
			t = append(t, waterfall(&r)...)
		}
		return o.print(p.out, list.Invocations, names, t)
	}
	return c
}

// waterfall draws each step from where the one before it ended. What was streamed went out
// while the code ran, which is no step of its own.
func waterfall(r *client.Invocation) (rows table) {
	const width = 40
	type step struct {
		name string
		us   int64
	}
	steps := []step{{"queue", r.QueueUS}, {"place", r.PlaceUS}, {"init", r.InitUS}, {"run", r.RunUS}, {"respond", r.RespondUS}}
	total := int64(0)
	for _, s := range steps {
		total += s.us
	}
	total = max(total, 1)
	at := int64(0)
	for _, s := range steps {
		if s.us == 0 && s.name != "queue" && s.name != "run" {
			continue // a warm start has neither place nor init
		}
		from, to := int(at*width/total), int((at+s.us)*width/total)
		at += s.us
		rows = append(rows, []string{fmt.Sprint(r.Attempt), s.name, microseconds(s.us), strings.Repeat(" ", from) + strings.Repeat("█", max(1, to-from))})
		if s.name == "run" && r.StreamUS > 0 {
			rows = append(rows, []string{fmt.Sprint(r.Attempt), "stream", microseconds(r.StreamUS), "of the run: the caller took what was streamed"})
		}
	}
	if r.AheadUS > 0 {
		rows = append(rows, []string{fmt.Sprint(r.Attempt), "ahead", microseconds(r.AheadUS), "the init of its instance, before it came: " + r.InitType})
	}
	if where := limit(lambent.FaultKind(r.Outcome), r); where != "" {
		rows = append(rows, []string{fmt.Sprint(r.Attempt), "limit", "", where})
	}
	outcome := r.Outcome
	if r.Error != "" {
		outcome += ": " + r.Error
	}
	return append(rows, []string{fmt.Sprint(r.Attempt), "total", microseconds(total), r.Function + " " + r.Version + ", " + outcome})
}
