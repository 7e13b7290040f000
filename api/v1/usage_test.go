package v1_test

import (
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/server/servertest"
)

// Each answered call has one record; the sums are theirs, and the bill is of the
// sums.
func TestUsage(t *testing.T) {
	s := servertest.Start(t)
	ctx := t.Context()
	s.Python(t, "good", "def handler(event, context):\n    return 'x'\n", func(r *client.DeployRequest) { r.MemoryMB = new(512) })
	s.Python(t, "bad", "def handler(event, context):\n    raise ValueError\n")
	ids := map[string]bool{}
	for i := range 10 {
		name := []string{"good", "bad"}[i%2]
		if i < 8 {
			o, err := s.Client.Invoke(ctx, client.InvokeRequest{Name: name}, io.Discard)
			if err != nil || (o.Fault != "") != (name == "bad") {
				t.Fatalf("%s: %+v, %v", name, o, err)
			}
			ids[o.RequestID] = true
		} else {
			ids[s.Get(t, "/fn/"+name+"/").Header.Get("X-Amzn-Requestid")] = true
		}
	}
	total := map[string]int64{}
	for _, name := range []string{"good", "bad"} {
		list, err := s.Client.Invocations(ctx, name, client.Period{Since: "1h"}, 100)
		if err != nil || len(list.Invocations) != 5 || list.More {
			t.Fatalf("%s: %+v, %v", name, list, err)
		}
		for i, u := range list.Invocations {
			if !ids[u.ID] {
				t.Errorf("%s: a record of no call, or twice: %+v", name, u)
			}
			delete(ids, u.ID)
			if i > 0 && u.Start.After(list.Invocations[i-1].Start) {
				t.Errorf("%s: not the newest first", name)
			}
			total[name] += u.BilledMS
			one, err := s.Client.Invocation(ctx, u.ID)
			if err != nil || len(one.Invocations) != 1 || one.Invocations[0] != u {
				t.Errorf("%s alone: %+v, %v", u.ID, one, err)
			}
		}
	}
	if len(ids) > 0 {
		t.Errorf("calls without a record: %v", ids)
	}
	page, err := s.Client.Invocations(ctx, "good", client.Period{}, 2)
	if err != nil || len(page.Invocations) != 2 || !page.More {
		t.Errorf("%+v, %v", page, err)
	}

	report, err := s.Client.Usage(ctx, client.Period{Since: "1h"}, "", "aws")
	if err != nil || len(report.Functions) != 2 || report.Bill == nil || len(report.Bill.Books) != 1 || report.Bill.Books[0].Name != "aws" {
		t.Fatalf("%+v, %v", report, err)
	}
	if own, err := s.Client.Usage(ctx, client.Period{Until: report.Until.Format(time.RFC3339Nano)}, "", "cloud"); err != nil || !reflect.DeepEqual(own.Bill, report.Bill) {
		t.Errorf("Lambda's functions are not priced by AWS's book: %+v, %v", own, err)
	}
	for _, f := range report.Functions {
		memory := map[string]float64{"good": 512, "bad": 128}[f.Function]
		errors := map[string]int64{"good": 0, "bad": 5}[f.Function]
		if f.Invocations != 5 || f.Errors != errors || f.BilledMS != total[f.Function] || math.Abs(f.GBSeconds-float64(f.BilledMS)/1000*memory/1024) > 1e-9 {
			t.Errorf("%+v", f)
		}
	}
	var lines float64
	for _, l := range report.Bill.Lines {
		amount, err := strconv.ParseFloat(l.Amount, 64)
		if err != nil {
			t.Error(err)
		}
		lines += amount
	}
	if sum, err := strconv.ParseFloat(report.Bill.Total, 64); err != nil || math.Abs(sum-lines) > 1e-9 || report.Bill.Currency != "USD" || sum <= 0 {
		t.Errorf("the bill %+v, %v; its lines sum up to %v", report.Bill, err, lines)
	}
	if one, err := s.Client.Usage(ctx, client.Period{}, "good", ""); err != nil || len(one.Functions) != 1 || one.Bill != nil {
		t.Errorf("%+v, %v", one, err)
	}
	_, err = s.Client.Usage(ctx, client.Period{}, "", "nosuch")
	refused(t, err, lambent.NotFound, "nosuch")
	_, err = s.Client.Usage(ctx, client.Period{Since: "soon"}, "", "")
	refused(t, err, lambent.Invalid, "soon")
	_, err = s.Client.Invocations(ctx, "nothing", client.Period{}, 1)
	refused(t, err, lambent.NotFound, "nothing")
	_, err = s.Client.Invocation(ctx, "8f5c3a0e-6f0b-4b8e-9d5a-3f6f3f1f2a10")
	refused(t, err, lambent.NotFound, "8f5c3a0e")
}

// What the server says of itself.
func TestServer(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	info, err := s.Client.Server(t.Context())
	if err != nil || info.Driver != "process" || !strings.HasPrefix(info.Isolation, "NOT ISOLATED") || info.DataDir != s.Data ||
		info.Limits.PayloadBytes != 6<<20 || info.Limits.MaxConcurrency != 1000 || info.Functions != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	runtimes, err := s.Client.Runtimes(t.Context())
	names := map[string]bool{}
	for _, r := range runtimes {
		names[r.Name] = true
	}
	if err != nil || !names["provided"] || !names["provided.al2023"] || !names[s.Newest(t, "python")] {
		t.Errorf("%+v, %v", runtimes, err)
	}
}
