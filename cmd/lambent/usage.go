package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"lambent/client"
)

const usageHelp = `Sum up what functions used, and what that would cost elsewhere: those for Lambda on AWS, Google's and
web servers on Google Cloud, or all of them on the one that --price names.

  lambent usage
  lambent usage --since 24h --function hello
  lambent usage --price aws -o csv > bill.csv
  lambent usage -o json            # with each item of the bill, and what its prices are of

BILLED and GB-SECONDS are as on AWS, each call up to the next millisecond. Google's prices are of the time for which an
instance is busy, however many requests it has, up to the next 100 ms.`

func usageCommand(p *program) *cobra.Command {
	var period client.Period
	var function, price string
	c := &cobra.Command{Use: "usage", Short: "Sum up what functions used, and price it", Long: usageHelp, Args: args(0)}
	o := outputFlag(c, "table", "json", "csv", "yaml")
	periodFlags(c, &period, "30d")
	c.Flags().StringVar(&function, "function", "", "only this one")
	c.Flags().StringVar(&price, "price", "cloud", "the price book: aws, gcp, or cloud for each function's own; \"\" for none")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		defer p.step("reading the ledger")()
		r, err := cl.Usage(c.Context(), period, function, price)
		if err != nil {
			return err
		}
		if o.format == "csv" {
			return usageCSV(p.out, r)
		}
		if r.Bill != nil && o.format == "table" {
			defer func() {
				for _, b := range r.Bill.Books {
					p.note("prices: %s, %s, as of %s", b.Name, b.Source, b.Date)
				}
			}()
		}
		return o.print(p.out, r, nil, usageTable(r))
	}
	return c
}

func usageTable(r *client.UsageReport) table {
	head := []string{"FUNCTION", "CALLS", "ERRORS", "COLD", "BILLED", "GB-SECONDS", "CPU", "PEAK"}
	if r.Bill != nil {
		head = append(head, r.Bill.Currency)
	}
	t := table{head}
	var all client.Total
	row := func(name string, f *client.Total, amount string) {
		cells := []string{
			name, strconv.FormatInt(f.Invocations, 10), strconv.FormatInt(f.Errors, 10), strconv.FormatInt(f.ColdStarts, 10),
			ms(f.BilledMS), fmt.Sprintf("%.3f", f.GBSeconds), fmt.Sprintf("%.3f s", float64(f.CPUUS)/1e6), fmt.Sprintf("%d MB", f.PeakMB),
		}
		if r.Bill != nil {
			cells = append(cells, amount)
		}
		t = append(t, cells)
	}
	for i := range r.Functions {
		f := &r.Functions[i]
		row(f.Function, f, f.Amount)
		all.Invocations += f.Invocations
		all.Errors += f.Errors
		all.ColdStarts += f.ColdStarts
		all.BilledMS += f.BilledMS
		all.GBSeconds += f.GBSeconds
		all.CPUUS += f.CPUUS
		all.PeakMB = max(all.PeakMB, f.PeakMB)
	}
	sum := ""
	if r.Bill != nil {
		sum = r.Bill.Total
	}
	row("all", &all, sum)
	return t
}

// usageCSV prints one line for each function, with units in the names of the
// columns, and no sum: spreadsheets make their own.
func usageCSV(w io.Writer, r *client.UsageReport) error {
	out := csv.NewWriter(w)
	currency := "none"
	if r.Bill != nil {
		currency = r.Bill.Currency
	}
	_ = out.Write([]string{
		"project", "function", "invocations", "errors", "cold_starts", "billed_ms", "gb_seconds", "tmp_gb_seconds",
		"run_us", "init_us", "queue_us", "cpu_us", "bytes_in", "bytes_out", "peak_mb", "amount", "currency",
	}) // an error stays, and is Error's
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	g := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	for _, f := range r.Functions {
		_ = out.Write([]string{
			f.Project, f.Function, n(f.Invocations), n(f.Errors), n(f.ColdStarts), n(f.BilledMS), g(f.GBSeconds), g(f.TmpGBSeconds),
			n(f.RunUS), n(f.InitUS), n(f.QueueUS), n(f.CPUUS), n(f.BytesIn), n(f.BytesOut), n(f.PeakMB), f.Amount, currency,
		})
	}
	out.Flush()
	return out.Error()
}
