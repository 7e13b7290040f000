package v1

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/meter"
)

// An Invocation is the usage record of one attempt: raw facts, no prices.
type Invocation struct {
	ID          string    `json:"id" example:"8f5c3a0e-6f0b-4b8e-9d5a-3f6f3f1f2a10"`
	Attempt     int       `json:"attempt" doc:"From 1" example:"1"`
	Project     string    `json:"project" example:"default"`
	Function    string    `json:"function" example:"thumbs"`
	Version     string    `json:"version" example:"latest"`
	Alias       string    `json:"alias,omitempty" doc:"That led to the version" example:"live"`
	Trigger     string    `json:"trigger" doc:"What made it: invoke, http, or of what kind its trigger is, such as schedule" example:"invoke"`
	Runtime     string    `json:"runtime" example:"python3.11"`
	Guest       string    `json:"guest,omitempty" doc:"The contract with its code: lambda, or gcf for Google's functions and other web servers" example:"lambda"`
	Instance    string    `json:"instance"`
	InitType    string    `json:"init_type,omitempty" enum:"on-demand,provisioned-concurrency" doc:"Of the instance, as AWS calls it: provisioned-concurrency is one of those that the minimum keeps ready" example:"on-demand"`
	Start       time.Time `json:"start" doc:"When the request arrived"`
	End         time.Time `json:"end" doc:"When the answer's last byte was ready"`
	QueueUS     int64     `json:"queue_us" doc:"Waited for an instance, or for the start of one"`
	PlaceUS     int64     `json:"place_us" doc:"A sandbox was taken or made, and the code put into it; 0 on a warm start"`
	InitUS      int64     `json:"init_us" doc:"Initialised the code; 0 on a warm start"`
	AheadUS     int64     `json:"ahead_us,omitempty" doc:"Of the first call in an instance that was initialised before anybody called: what that took. It is no part of the call, and not billed"`
	RunUS       int64     `json:"run_us" doc:"In the function" example:"1234"`
	ShareUS     int64     `json:"share_us,omitempty" doc:"Of run_us, where others ran in the instance at the same time, which divide what is billed; absent: all of it"`
	BusyUS      int64     `json:"busy_us,omitempty" doc:"Where concurrency is there: how long the instance was busy without a pause, its init included; absent: it still was"`
	StreamUS    int64     `json:"stream_us,omitempty" doc:"Of run_us, where the answer was streamed: it was handed on to its caller, who may be slow"`
	RespondUS   int64     `json:"respond_us" doc:"The answer was handed on once the function was done"`
	BilledMS    int64     `json:"billed_ms" example:"2"`
	MemoryMB    int       `json:"memory_mb" doc:"The limit" example:"128"`
	TmpMB       int       `json:"tmp_mb" example:"512"`
	Concurrency int       `json:"concurrency,omitempty" doc:"How many at a time the instance may serve; absent: one" example:"80"`
	PeakMB      int64     `json:"peak_mb" doc:"The most that the instance has used so far" example:"46"`
	CPUUS       int64     `json:"cpu_us" doc:"CPU time of the sandbox"`
	BytesIn     int64     `json:"bytes_in"`
	BytesOut    int64     `json:"bytes_out"`
	Cold        bool      `json:"cold" doc:"An instance was started for it"`
	Outcome     string    `json:"outcome" doc:"ok, or the kind of the fault" example:"ok"`
	Error       string    `json:"error,omitempty" doc:"The fault's type" example:"ValueError"`
}

func invocation(u *lambent.Usage) Invocation {
	return Invocation{
		ID: u.ID, Attempt: u.Attempt, Project: u.Project, Function: u.Function, Version: u.Version, Alias: u.Alias,
		Trigger: u.Trigger, Runtime: u.Runtime, Guest: u.Guest, Instance: u.Instance, InitType: u.InitType, Start: u.Start, End: u.End,
		QueueUS: u.QueueUS, PlaceUS: u.PlaceUS, InitUS: u.InitUS, AheadUS: u.AheadUS, RunUS: u.RunUS, ShareUS: u.ShareUS, BusyUS: u.BusyUS, StreamUS: u.StreamUS, RespondUS: u.RespondUS, BilledMS: u.BilledMS, MemoryMB: u.MemoryMB, TmpMB: u.TmpMB,
		Concurrency: u.Concurrency, PeakMB: u.PeakMB, CPUUS: u.CPUUS, BytesIn: u.BytesIn, BytesOut: u.BytesOut, Cold: u.Cold, Outcome: u.Outcome, Error: u.Error,
	}
}

// An InvocationList holds usage records.
type InvocationList struct {
	Invocations []Invocation `json:"invocations" doc:"The newest first"`
	More        bool         `json:"more,omitempty" doc:"There are older ones: ask again with until"`
}

// A Total is what one function used.
type Total struct {
	Project      string  `json:"project" example:"default"`
	Function     string  `json:"function" example:"thumbs"`
	Invocations  int64   `json:"invocations" doc:"Attempts" example:"1000"`
	Errors       int64   `json:"errors" doc:"Of them, that did not succeed"`
	ColdStarts   int64   `json:"cold_starts"`
	BilledMS     int64   `json:"billed_ms"`
	GBSeconds    float64 `json:"gb_seconds" doc:"Memory limit x billed time; a GB is 1024 MB" example:"12.5"`
	TmpGBSeconds float64 `json:"tmp_gb_seconds" doc:"What /tmp has over 512 MB x billed time"`
	RunUS        int64   `json:"run_us"`
	InitUS       int64   `json:"init_us"`
	QueueUS      int64   `json:"queue_us"`
	CPUUS        int64   `json:"cpu_us"`
	BytesIn      int64   `json:"bytes_in"`
	BytesOut     int64   `json:"bytes_out"`
	PeakMB       int64   `json:"peak_mb" doc:"The highest"`
	Amount       string  `json:"amount,omitempty" doc:"What that costs, where a price book was asked for" example:"0.0002083338"`
}

func total(t *meter.Total) Total {
	return Total{
		Project: t.Project, Function: t.Function, Invocations: t.Count, Errors: t.Errors, ColdStarts: t.ColdStarts, BilledMS: t.BilledMS,
		GBSeconds: t.GBSeconds().InexactFloat64(), TmpGBSeconds: t.TmpGBSeconds().InexactFloat64(),
		RunUS: t.RunUS, InitUS: t.InitUS, QueueUS: t.QueueUS, CPUUS: t.CPUUS, BytesIn: t.BytesIn, BytesOut: t.BytesOut, PeakMB: t.PeakMB,
	}
}

// A Bill is what usage would cost by price books. Amounts are decimal numbers.
type Bill struct {
	Books    []PriceBook `json:"books" doc:"Those of the lines"`
	Currency string      `json:"currency" example:"USD"`
	Lines    []BillLine  `json:"lines"`
	Total    string      `json:"total" doc:"The sum of the lines" example:"0.0002083338"`
}

// A PriceBook is the price list of a cloud.
type PriceBook struct {
	Name   string `json:"name" example:"aws"`
	Title  string `json:"title" example:"AWS Lambda, x86, us-east-1"`
	Source string `json:"source,omitempty" doc:"Where the prices are published"`
	Date   string `json:"date,omitempty" doc:"As of when"`
	Note   string `json:"note,omitempty" doc:"What is priced, and what is not"`
}

// A BillLine is one item of one function.
type BillLine struct {
	Function string `json:"function" example:"thumbs"`
	Book     string `json:"book" doc:"The price book's name" example:"aws"`
	Item     string `json:"item" example:"duration"`
	Unit     string `json:"unit" example:"GB-second"`
	Quantity string `json:"quantity" example:"12.5"`
	Amount   string `json:"amount" doc:"Rounded to ten decimal places" example:"0.0002083338"`
}

func bill(b *meter.Bill) *Bill {
	out := &Bill{
		Books: make([]PriceBook, 0, len(b.Books)), Currency: b.Currency, Lines: make([]BillLine, 0, len(b.Lines)), Total: b.Total.String(),
	}
	for _, p := range b.Books {
		out.Books = append(out.Books, PriceBook{p.Name, p.Title, p.Source, p.Date, p.Note})
	}
	for _, l := range b.Lines {
		out.Lines = append(out.Lines, BillLine{l.Function, l.Book, l.Item, l.Unit, l.Quantity.String(), l.Amount.String()})
	}
	return out
}

// A UsageReport says what functions used.
type UsageReport struct {
	Since     *time.Time `json:"since,omitempty"`
	Until     time.Time  `json:"until"`
	Functions []Total    `json:"functions"`
	Bill      *Bill      `json:"bill,omitempty" doc:"Where a price book was asked for"`
}

type (
	invocationsInput struct {
		FunctionInput
		Since string `query:"since" doc:"A time (RFC 3339), or a duration before now such as 5m" example:"24h"`
		Until string `query:"until" doc:"Likewise"`
		Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"100" example:"100"`
	}
	invocationsOutput struct{ Body InvocationList }
	invocationInput   struct {
		Scope
		ID string `path:"id" doc:"The invocation's id" example:"8f5c3a0e-6f0b-4b8e-9d5a-3f6f3f1f2a10"`
	}
	usageInput struct {
		Scope
		Since    string `query:"since" doc:"A time (RFC 3339), or a duration before now such as 30d" example:"30d"`
		Until    string `query:"until" doc:"Likewise"`
		Function string `query:"function" doc:"Only this one" example:"thumbs"`
		Price    string `query:"price" doc:"A price book, aws or gcp, or cloud for that of each function's own cloud" example:"cloud"`
	}
	usageOutput struct{ Body UsageReport }
)

func (s *service) usageOperations(api huma.API) {
	operation(s, api, huma.Operation{
		OperationID: "list-invocations", Method: http.MethodGet, Path: "/v1/functions/{name}/invocations", Tags: []string{"invocations"},
		Summary: "List a function's usage records",
	}, s.listInvocations)
	operation(s, api, huma.Operation{
		OperationID: "get-invocation", Method: http.MethodGet, Path: "/v1/invocations/{id}", Tags: []string{"invocations"},
		Summary:     "Get an invocation's usage records",
		Description: "One for each attempt.",
	}, s.getInvocation)
	operation(s, api, huma.Operation{
		OperationID: "usage", Method: http.MethodGet, Path: "/v1/usage", Tags: []string{"usage"},
		Summary: "Sum up what functions used, and price it",
	}, s.usage)
}

// between reads since and until.
func between(since, until string) (from, to time.Time, err error) {
	now := time.Now()
	for _, b := range []struct {
		name, said string
		t          *time.Time
	}{{"since", since, &from}, {"until", until, &to}} {
		if *b.t, err = moment(b.said, now); err != nil {
			return from, to, lambent.Errorf(lambent.Invalid, "v1", "%s is %.100q: a time (RFC 3339) or a duration such as 30d is needed", b.name, b.said)
		}
	}
	return from, to, nil
}

func (s *service) listInvocations(ctx context.Context, in *invocationsInput) (*invocationsOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	filter := meter.Filter{Project: name.Project, Function: name.Function}
	if filter.Since, filter.Until, err = between(in.Since, in.Until); err != nil {
		return nil, err
	}
	out := &invocationsOutput{Body: InvocationList{Invocations: []Invocation{}}}
	for u, err := range s.Ledger.Recent(ctx, filter) {
		if err != nil {
			return nil, err
		}
		if len(out.Body.Invocations) == in.Limit {
			out.Body.More = true
			break
		}
		out.Body.Invocations = append(out.Body.Invocations, invocation(u))
	}
	if len(out.Body.Invocations) == 0 { // a function that was deleted still has its records; one that never was is a mistake
		if _, err := s.Control.Get(name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// maxAttempts bounds what is read for one invocation.
const maxAttempts = 1000

func (s *service) getInvocation(ctx context.Context, in *invocationInput) (*invocationsOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	out := &invocationsOutput{Body: InvocationList{Invocations: []Invocation{}}}
	for u, err := range s.Ledger.Recent(ctx, meter.Filter{Project: project, Request: in.ID}) {
		if err != nil {
			return nil, err
		}
		out.Body.Invocations = append(out.Body.Invocations, invocation(u))
		if u.Attempt <= 1 || len(out.Body.Invocations) == maxAttempts {
			break // the newest come first: nothing is before the first attempt
		}
	}
	if len(out.Body.Invocations) == 0 {
		return nil, lambent.Errorf(lambent.NotFound, "v1.invocation", "there is no record of invocation %.64q in project %q: it did not run, runs still, or is older than what is kept", in.ID, project)
	}
	return out, nil
}

func (s *service) usage(ctx context.Context, in *usageInput) (*usageOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	filter := meter.Filter{Project: project, Function: in.Function}
	if filter.Since, filter.Until, err = between(in.Since, in.Until); err != nil {
		return nil, err
	}
	var tally *meter.Tally
	if in.Price != "" {
		books, err := meter.Choose(in.Price)
		if err != nil {
			return nil, err
		}
		tally = meter.NewTally(books...)
	}
	totals, err := s.Ledger.Sum(ctx, filter, tally)
	if err != nil {
		return nil, err
	}
	out := &usageOutput{Body: UsageReport{Until: filter.Until, Functions: make([]Total, 0, len(totals))}}
	for i := range totals {
		out.Body.Functions = append(out.Body.Functions, total(&totals[i]))
	}
	if !filter.Since.IsZero() {
		out.Body.Since = &filter.Since
	}
	if out.Body.Until.IsZero() {
		out.Body.Until = time.Now().UTC()
	}
	if tally != nil {
		b := tally.Bill()
		out.Body.Bill = bill(&b)
		for i := range totals {
			out.Body.Functions[i].Amount = b.Of(totals[i].Project, totals[i].Function).String()
		}
	}
	return out, nil
}
