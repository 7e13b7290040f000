package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lambent/client"
)

const showHelp = `Show one function: its configuration, scaling, URL and aliases.

  lambent show hello
  lambent show hello -o json`

func showCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use: "show NAME", Short: "Show a function", Long: showHelp, Args: args(1, "NAME"), ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = p.on(func(c *cobra.Command, cl *client.Client, name string, _ []string) error {
		f, err := cl.Function(c.Context(), name)
		if err != nil {
			return err
		}
		return o.print(p.out, f, []string{f.Name}, describe(f))
	})
	return c
}

// describe lists what a person wants to know of a function. Values of its
// environment stay out: they may be secret, and -o json has them.
func describe(f *client.Function) table {
	cfg := &f.Configuration
	t := table{
		{"name", f.Name},
		{"project", f.Project},
		{"runtime", cfg.Runtime},
		{"handler", cfg.Handler},
		{"command", strings.Join(cfg.Command, " ")},
		{"memory", fmt.Sprintf("%d MB", cfg.MemoryMB)},
		{"tmp", fmt.Sprintf("%d MB", cfg.TmpMB)},
		{"timeout", ms(cfg.TimeoutMS)},
		{"on disconnect", string(cfg.OnDisconnect)},
		{"concurrency", fmt.Sprintf("%d in an instance", cfg.Concurrency)},
		{"instances", instances(&f.Scaling)},
		{"asynchronous", asynchronous(&f.Async)},
		{"network", networkOf(f)},
		{"env", strings.Join(slices.Sorted(maps.Keys(cfg.Env)), " ")},
		{"code", short(cfg.Code)},
		{"url", cmpURL(&f.URL)},
		{"last version", version(f.LastVersion)},
	}
	if len(cfg.FixedEnv) > 0 {
		t = append(t, []string{"boot", "at each start, for what it reads only then: " + strings.Join(cfg.FixedEnv, ", ")})
	}
	if cfg.Framework != "" {
		t = append(t, []string{"framework", cfg.Framework})
	}
	for _, n := range slices.Sorted(maps.Keys(f.Aliases)) {
		t = append(t, []string{"alias " + n, split(f.Aliases[n])})
	}
	return append(t,
		[]string{"arn", f.ARN}, []string{"revision", f.Revision},
		[]string{"created", when(f.Created)}, []string{"modified", when(f.Modified)})
}

func network(opens []string) string {
	if len(opens) == 0 || slices.Equal(opens, []string{"internet"}) {
		return "the internet, and nothing private"
	}
	return strings.Join(opens, " ")
}

func instances(s *client.Scaling) string {
	parts := []string{"as many as the server allows"}
	if s.MaxInstances > 0 {
		parts[0] = fmt.Sprintf("at most %d", s.MaxInstances)
	}
	if s.MinInstances > 0 {
		parts = append(parts, fmt.Sprintf("%d always ready", s.MinInstances))
	}
	if s.KeepAliveMS != nil {
		parts = append(parts, "kept idle for "+ms(*s.KeepAliveMS))
	}
	if s.Reserved != nil {
		reserved := fmt.Sprintf("%d calls at a time reserved", *s.Reserved)
		if *s.Reserved == 0 {
			reserved = "stopped: 0 calls at a time reserved"
		}
		parts = append(parts, reserved)
	}
	return strings.Join(parts, ", ")
}

func asynchronous(a *client.Async) string {
	again := "tried once"
	if a.Attempts > 1 {
		again = fmt.Sprintf("tried %d times, again after %s", a.Attempts, ms(a.BackoffMS))
	}
	if a.Attempts > 2 {
		again += fmt.Sprintf(" and %g times as long each further time", a.Factor)
	}
	again += ", within " + ms(a.MaxAgeMS)
	if a.OnSuccess != "" {
		again += "; of success it tells " + string(a.OnSuccess)
	}
	if a.OnFailure != "" {
		again += "; of failure it tells " + string(a.OnFailure)
	}
	return again
}

func cmpURL(u *client.URL) string {
	if u.Href == "" {
		return string(u.Policy)
	}
	return u.Href + " (" + string(u.Policy) + ")"
}

// short is enough of a digest to tell it from others.
func short(digest string) string { return digest[:min(12, len(digest))] }
