package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/scale/replay"
)

const simulateHelp = `Play a recorded day of functions back through the code that decides how many
instances there are, to compare what keep-alive policies cost in memory and save
in waiting. Nothing is run, and no server is needed.

  lambent simulate --trace azure2019
  lambent simulate --trace azure2019 --policy default,fixed:1m,fixed:10m@150ms --init 100ms
  lambent simulate --trace azure2019 --policy histogram,none --out day.svg
  lambent simulate --trace azure2019 --memory 16000000

A trace is a directory with three files in the form of Azure's public data set of
2019: *inv.csv.gz (invocations in each minute), *run.csv.gz (percentiles of run
times), *mem.csv.gz (memory).

With --memory or --max-instances all functions share a node that has no more, as on
a server: idle instances give way, and who finds no place waits for one, fairly
between the trace's owners. Nobody is refused for waiting too long. Without, each
function is played by itself, and memory does not grow with their number.

Policies: default[:RATE] (RATE GB-s of idle memory are worth one second of delay),
fixed:DURATION, histogram (Shahrad et al., 2020), none; with @START for another
start than --start. The last one is what the others are compared with.

COLD are starts that somebody waited for, FIRST those of them that were their
function's first, GROWTH those of an instance more than it ever had (for which none
can have been kept), AHEAD starts for nobody yet. EVICTED are idle instances that gave
way to others, YIELDED such that did after a call. DELAY is between arrival and
start, summed up, PLACE that part of it in which the node had no place for another
instance. Idle memory includes that of instances which start.`

func simulateCommand(p *program) *cobra.Command {
	var dir, out string
	var policies []string
	var start, init time.Duration
	var concurrency int
	var opts replay.Options
	c := &cobra.Command{Use: "simulate --trace DIR", Short: "Compare keep-alive policies on a recorded day", Long: simulateHelp, Args: args(0)}
	f := c.Flags()
	f.StringVar(&dir, "trace", "", "the directory of the trace")
	f.StringSliceVar(&policies, "policy", []string{"default", "fixed:10m@150ms"}, "what to compare")
	f.DurationVar(&start, "start", 5*time.Millisecond, "what a cold start takes before the code's init")
	f.DurationVar(&init, "init", 0, "what the code's init takes")
	f.IntVar(&concurrency, "concurrency", 1, "calls at a time in one instance")
	f.BoolVar(&opts.Coarse, "coarse", false, "one instance for each function, and whole minutes: how papers look at traces")
	f.IntVar(&opts.Functions, "functions", 0, "make up so many functions from those of the trace (default: as they are)")
	f.IntVar(&opts.MemoryMB, "memory", 0, "MB that instances are promised together, at most (default: no bound)")
	f.IntVar(&opts.MaxInstances, "max-instances", 0, "instances of all functions together, at most (default: no bound)")
	f.IntVar(&opts.Minutes, "minutes", 0, "of the trace (default: all)")
	f.Uint64Var(&opts.Seed, "seed", 1, "the same seed gives the same result")
	f.StringVar(&out, "out", "", "write each minute to FILE.csv, or draw them to FILE.svg")
	o := outputFlag(c, "table", "json", "csv")
	c.RunE = func(c *cobra.Command, _ []string) error {
		write := map[string]func(io.Writer, []*replay.Result) error{"": nil, ".csv": replay.WriteCSV, ".svg": replay.WriteSVG}
		switch _, ok := write[filepath.Ext(out)]; {
		case dir == "":
			return usagef(c, "simulate needs --trace DIR")
		case !ok || out != "" && filepath.Ext(out) == "":
			return usagef(c, "--out %s: the name ends in .csv or .svg", out)
		case opts.Functions < 0 || opts.Minutes < 0 || opts.MemoryMB < 0 || opts.MaxInstances < 0 || concurrency < 1 || start < 0 || init < 0:
			return usagef(c, "--functions, --minutes, --memory, --max-instances, --start and --init are not negative, --concurrency is at least 1")
		case opts.Coarse && (opts.MemoryMB > 0 || opts.MaxInstances > 0):
			return usagef(c, "--coarse has no bounds: it goes without --memory and --max-instances")
		}
		var contenders []replay.Contender
		for _, s := range policies {
			k, err := replay.Parse(s, start, init)
			if err != nil {
				return err
			}
			k.Concurrency = concurrency
			contenders = append(contenders, k)
		}
		t, err := replay.Read(dir)
		if err != nil {
			return err
		}
		opts.Progress = p.progress("functions")
		if opts.MemoryMB > 0 || opts.MaxInstances > 0 {
			opts.Progress = p.progress("minutes")
		}
		results, err := replay.Run(c.Context(), t, opts, contenders)
		if err != nil {
			return err
		}
		if r := results[0]; r.TooLarge > 0 {
			p.note("functions that are larger than the node: %d; their %d calls are refused, and not counted", r.TooLarge, r.Refused)
		}
		if out != "" {
			if err := writeFile(out, func(w io.Writer) error { return write[filepath.Ext(out)](w, results) }); err != nil {
				return err
			}
			p.note("wrote %s", out)
		}
		sims := make([]simulation, len(results))
		for i, r := range results {
			sims[i] = summary(r, results[len(results)-1])
		}
		if o.format == "csv" {
			return simulationCSV(p.out, sims)
		}
		return o.print(p.out, sims, nil, simulationTable(sims))
	}
	return c
}

// A simulation is what one policy did, as it is printed.
type simulation struct {
	Policy       string  `json:"policy"`
	Invocations  int64   `json:"invocations"`
	ColdStarts   int64   `json:"cold_starts"`
	FirstTouches int64   `json:"first_touches"`
	Growth       int64   `json:"growth"`
	Ahead        int64   `json:"starts_ahead"`
	Evicted      int64   `json:"evicted"`
	Yielded      int64   `json:"yielded"`
	TooLarge     int64   `json:"too_large_functions"`
	Refused      int64   `json:"refused"`
	WarmShare    float64 `json:"warm_share"` // first touches excluded
	DelayS       float64 `json:"delay_s"`
	PlaceDelayS  float64 `json:"place_delay_s"` // of it
	MeanUS       float64 `json:"mean_delay_us"`
	P50US        int64   `json:"p50_delay_us"`
	P99US        int64   `json:"p99_delay_us"`
	IdleGBs      float64 `json:"idle_gb_s"`
	BusyGBs      float64 `json:"busy_gb_s"`
	Peak         float64 `json:"peak_instances"`
	PeakMB       int     `json:"peak_memory_mb"` // 0 where it has no bound
	DelayRatio   float64 `json:"delay_ratio"`    // to the last policy
	IdleRatio    float64 `json:"idle_ratio"`
}

func summary(r, base *replay.Result) simulation {
	ratio := func(a, b float64) float64 {
		if b == 0 {
			return 0
		}
		return a / b
	}
	return simulation{
		Policy: r.Name, Invocations: r.Invocations, ColdStarts: r.ColdStarts, FirstTouches: r.FirstTouches, Growth: r.NewPeaks, Ahead: r.Ahead,
		Evicted: r.Evicted, Yielded: r.Yielded, TooLarge: r.TooLarge, Refused: r.Refused,
		WarmShare: r.WarmShare(), DelayS: r.DelayS, PlaceDelayS: r.PlaceDelayS, MeanUS: ratio(r.DelayS*1e6, float64(r.Invocations)),
		P50US: r.Percentile(0.5).Microseconds(), P99US: r.Percentile(0.99).Microseconds(),
		IdleGBs: r.IdleGBs, BusyGBs: r.BusyGBs, Peak: r.Peak, PeakMB: r.PeakMB,
		DelayRatio: ratio(r.DelayS, base.DelayS), IdleRatio: ratio(r.IdleGBs, base.IdleGBs),
	}
}

func simulationTable(sims []simulation) table {
	t := table{{"POLICY", "CALLS", "COLD", "FIRST", "GROWTH", "AHEAD", "EVICTED", "YIELDED", "DELAY", "PLACE", "MEAN", "P50", "P99", "IDLE GB-S", "BUSY GB-S", "PEAK", "DELAY x", "IDLE x"}}
	for _, s := range sims {
		us := func(n int64) string { return (time.Duration(n) * time.Microsecond).String() }
		t = append(t, []string{
			s.Policy, fmt.Sprint(s.Invocations), fmt.Sprint(s.ColdStarts), fmt.Sprint(s.FirstTouches), fmt.Sprint(s.Growth), fmt.Sprint(s.Ahead),
			fmt.Sprint(s.Evicted), fmt.Sprint(s.Yielded), fmt.Sprintf("%.1f s", s.DelayS), fmt.Sprintf("%.1f s", s.PlaceDelayS), fmt.Sprintf("%.4f ms", s.MeanUS/1000), us(s.P50US), us(s.P99US),
			fmt.Sprintf("%.0f", s.IdleGBs), fmt.Sprintf("%.0f", s.BusyGBs), fmt.Sprintf("%.0f", s.Peak),
			fmt.Sprintf("%.3f", s.DelayRatio), fmt.Sprintf("%.3f", s.IdleRatio),
		})
	}
	return t
}

func simulationCSV(w io.Writer, sims []simulation) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{
		"policy", "invocations", "cold_starts", "first_touches", "growth", "starts_ahead", "warm_share", "delay_s", "mean_delay_us",
		"p50_delay_us", "p99_delay_us", "idle_gb_s", "busy_gb_s", "peak_instances", "delay_ratio", "idle_ratio",
		"evicted", "yielded", "too_large_functions", "refused", "place_delay_s", "peak_memory_mb",
	}) // an error stays, and is Error's
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	g := func(v float64) string { return strconv.FormatFloat(v, 'g', 8, 64) }
	for _, s := range sims {
		_ = out.Write([]string{
			s.Policy, n(s.Invocations), n(s.ColdStarts), n(s.FirstTouches), n(s.Growth), n(s.Ahead), g(s.WarmShare), g(s.DelayS), g(s.MeanUS),
			n(s.P50US), n(s.P99US), g(s.IdleGBs), g(s.BusyGBs), g(s.Peak), g(s.DelayRatio), g(s.IdleRatio),
			n(s.Evicted), n(s.Yielded), n(s.TooLarge), n(s.Refused), g(s.PlaceDelayS), strconv.Itoa(s.PeakMB),
		})
	}
	out.Flush()
	return out.Error()
}

// progress tells how far something is: in place on a terminal, else in a line for
// each tenth that takes over a second.
func (p *program) progress(what string) func(done, of int) {
	terminal := isTerminal(p.err)
	began := time.Now()
	last, tenth := began, 0
	return func(done, of int) {
		now := time.Now()
		switch {
		case terminal && (now.Sub(last) > 100*time.Millisecond || done == of && last != began):
			const width = 40
			full := width * done / of
			fmt.Fprintf(p.err, "\r[%s%s] %d of %d %s", strings.Repeat("#", full), strings.Repeat(".", width-full), done, of, what)
			if done == of {
				fmt.Fprintln(p.err)
			}
			last = now
		case !terminal && now.Sub(last) > time.Second && 10*done/of > tenth:
			tenth = 10 * done / of
			p.note("%d of %d %s", done, of, what)
			last = now
		}
	}
}

// writeFile makes a file. What was begun and fails is left for the user to see.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return lambent.Errorf(lambent.Invalid, "simulate", "%w", err)
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
