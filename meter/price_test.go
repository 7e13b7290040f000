package meter_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"lambent"
	"lambent/meter"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func tally(t testing.TB, price string) *meter.Tally {
	t.Helper()
	books, err := meter.Choose(price)
	if err != nil {
		t.Fatal(err)
	}
	return meter.NewTally(books...)
}

// The bill of a known month, to the last digit.
func TestBill(t *testing.T) {
	end := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	l := open(t, meter.Options{})
	add := func(n int, u lambent.Usage) {
		for i := range n {
			u.ID, u.Attempt, u.Project, u.End = fmt.Sprint(u.Function, i), 1, "default", end
			if err := l.Append(&u); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(1, lambent.Usage{Function: "once", BilledMS: 1, MemoryMB: 128, TmpMB: 512, Outcome: "ok", Cold: true, PeakMB: 40})
	add(1000, lambent.Usage{Function: "thumbs", BilledMS: 250, MemoryMB: 1769, TmpMB: 1024, Outcome: "ok", CPUUS: 7, BytesIn: 10, BytesOut: 20})
	add(3, lambent.Usage{Function: "thumbs", BilledMS: 3000, MemoryMB: 1769, TmpMB: 1024, Outcome: "timeout"})
	aws := tally(t, "aws")
	totals, err := l.Sum(t.Context(), meter.Filter{}, aws)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(map[string]any{"totals": totals, "bill": aws.Bill()}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "bill.golden.json", append(got, '\n'))
	if totals[0].GBSeconds().String() != "0.000125" {
		t.Errorf("128 MB for 1 ms are %s GB-s", totals[0].GBSeconds())
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(got) != string(want) {
		t.Errorf("%s differs (go test -update rewrites it): %v\n%s", path, err, got)
	}
}

// One million requests of 1 GB for one second: what AWS's own page would say.
func TestListPrice(t *testing.T) {
	aws := tally(t, "aws")
	for range 1_000_000 {
		aws.Add(&lambent.Usage{Function: "f", BilledMS: 1000, MemoryMB: 1024, TmpMB: 1024})
	}
	b := aws.Bill()
	want := map[string]string{"requests": "0.2", "duration": "16.6667", "storage": "0.01545"}
	for _, line := range b.Lines {
		if line.Amount.String() != want[line.Item] {
			t.Errorf("%s: %s %s of %s cost %s, want %s", line.Item, line.Quantity, line.Unit, b.Currency, line.Amount, want[line.Item])
		}
	}
	if b.Total.String() != "16.88215" || b.Currency != "USD" || !b.Of("", "f").Equal(b.Total) {
		t.Errorf("the total is %s %s", b.Total, b.Currency)
	}
}

// What requests cost that overlap, by hand: each cloud's functions by its own book.
func TestBillOfOverlaps(t *testing.T) {
	l := open(t, meter.Options{})
	end := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	for i, u := range []lambent.Usage{
		// An instance starts for 230 ms, then has one request from 0 to 300 ms, one from 100
		// to 200 and one from 250 to 450, and ever so much later another. They end in the
		// order of these records, and share what overlaps.
		{Function: "api", Instance: "a", RunUS: 100_000, ShareUS: 50_000},
		{Function: "api", Instance: "a", InitUS: 230_000, RunUS: 300_000, ShareUS: 225_000, Cold: true},
		{Function: "api", Instance: "a", RunUS: 200_000, ShareUS: 175_000, BusyUS: 680_000},
		{Function: "api", Instance: "a", RunUS: 20_000, BusyUS: 20_000},
		// One at a time; the last is a start that failed, and then one that was not tried again so soon.
		{Function: "event", Instance: "b", RunUS: 40_000},
		{Function: "event", Instance: "b", RunUS: 100_000},
		{Function: "event", Instance: "b", RunUS: 100_001},
		{Function: "event", Instance: "c", InitUS: 1_234_567, Cold: true},
		{Function: "event"},
		// Of a size that Google has not, and larger than any.
		{Function: "large", Instance: "d", RunUS: 1, MemoryMB: 3000},
		{Function: "large", Instance: "e", RunUS: 1, MemoryMB: 65536},
		// AWS's own.
		{Function: "one", Instance: "f", RunUS: 300, BilledMS: 1, MemoryMB: 128, Guest: "lambda"},
		{Function: "one", Instance: "f", RunUS: 300, BilledMS: 1, MemoryMB: 128}, // as records were
	} {
		u.ID, u.Attempt, u.Project, u.End, u.Outcome = fmt.Sprint(i), 1, "default", end, "ok"
		switch u.Function {
		case "api":
			u.Guest, u.MemoryMB, u.Concurrency, u.BilledMS = "gcf", 512, 80, 1000
		case "event":
			u.Guest, u.MemoryMB = "gcf", 256
		case "large":
			u.Guest = "gcf"
		}
		if err := l.Append(&u); err != nil {
			t.Fatal(err)
		}
	}
	own := tally(t, meter.OwnCloud)
	if _, err := l.Sum(t.Context(), meter.Filter{}, own); err != nil {
		t.Fatal(err)
	}
	b := own.Bill()
	var got []string
	for _, line := range b.Lines {
		got = append(got, fmt.Sprintf("%s by %s: %s %ss, %s", line.Function, line.Book, line.Quantity, line.Unit, line.Amount))
	}
	want := []string{
		"api by gcp: 4 requests, 0.0000016",               // x 0.40 / 1,000,000
		"api by gcp: 0.8 vCPU-seconds, 0.0000192",         // (680 -> 700 ms, 20 -> 100 ms) x 1 x 0.000024
		"api by gcp: 0.4 GiB-seconds, 0.000001",           // 0.8 s x 1/2 GiB x 0.0000025
		"event by gcp: 5 requests, 0.000002",              //
		"event by gcp: 0.2839 vCPU-seconds, 0.0000068136", // (100 + 100 + 200 + 1300 ms) x 0.167
		"event by gcp: 0.425 GiB-seconds, 0.0000010625",   // 1.7 s x 1/4 GiB
		"large by gcp: 2 requests, 0.0000008",
		"large by gcp: 1 vCPU-seconds, 0.000024",             // 0.1 s x 2 + 0.1 s x 8
		"large by gcp: 6.69296875 GiB-seconds, 0.0000167324", // 0.1 s x (2.9296875 + 64)
		"one by aws: 2 requests, 0.0000004",
		"one by aws: 0.00025 GB-seconds, 0.0000000042", // 2 ms x 1/8 GB x 0.0000166667
	}
	if !slices.Equal(got, want) {
		t.Errorf("the bill is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if b.Total.String() != "0.0000736127" || len(b.Books) != 2 || b.Books[0].Name != "gcp" || b.Books[1].Name != "aws" {
		t.Errorf("%s in all, by %d books", b.Total, len(b.Books))
	}
	if api := b.Of("default", "api").String(); api != "0.0000218" {
		t.Errorf("api costs %s", api)
	}
	// The same by one book, whoever's the functions are.
	aws, gcp := tally(t, "aws"), tally(t, "gcp")
	for u, err := range l.Scan(t.Context(), meter.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		aws.Add(u)
		gcp.Add(u)
	}
	ofAWS, ofGCP := aws.Bill(), gcp.Bill()
	if got := ofAWS.Of("default", "api").String(); got != "0.0000341334" { // 4 x 0.0000002 + 4 s x 1/2 GB x 0.0000166667
		t.Errorf("api costs %s on AWS", got)
	}
	if got := ofGCP.Of("default", "one").String(); got != "0.0000012609" { // 2 x 0.0000004 + 0.2 s x (0.083 x 0.000024 + 1/8 GiB x 0.0000025)
		t.Errorf("one costs %s on Google Cloud", got)
	}
}

// A bill adds up, and is within half a unit of the exact price for each line.
func TestBillAddsUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *lambent.Usage {
			return &lambent.Usage{
				Function: rapid.StringMatching("[a-c]").Draw(t, "function"), BilledMS: rapid.Int64Range(0, 1<<40).Draw(t, "billed"),
				MemoryMB: rapid.IntRange(1, 1<<20).Draw(t, "memory"), TmpMB: rapid.IntRange(0, 1<<20).Draw(t, "tmp"),
			}
		}), 0, 20).Draw(rt, "records")
		aws := tally(t, "aws")
		for _, u := range records {
			aws.Add(u)
		}
		b, t := aws.Bill(), rt
		var sum, exact decimal.Decimal
		for _, line := range b.Lines {
			sum = sum.Add(line.Amount)
			if line.Amount.Exponent() < -10 {
				t.Fatalf("%s has more than ten places", line.Amount)
			}
		}
		for _, u := range records {
			gbs := decimal.NewFromInt(u.BilledMS).Mul(decimal.RequireFromString("0.0000009765625")) // of 1 MB
			exact = exact.Add(decimal.RequireFromString("0.0000002")).
				Add(gbs.Mul(decimal.NewFromInt(int64(u.MemoryMB))).Mul(decimal.RequireFromString("0.0000166667"))).
				Add(gbs.Mul(decimal.NewFromInt(int64(max(0, u.TmpMB-512)))).Mul(decimal.RequireFromString("0.0000000309")))
		}
		if !sum.Equal(b.Total) {
			t.Fatalf("lines add up to %s, the total is %s", sum, b.Total)
		}
		half := decimal.New(5, -11).Mul(decimal.NewFromInt(int64(len(b.Lines))))
		if exact.Sub(b.Total).Abs().GreaterThan(half) {
			t.Fatalf("the total is %s, exactly %s", b.Total, exact)
		}
	})
}

func TestBooks(t *testing.T) {
	all, err := meter.Choose(meter.OwnCloud)
	if err != nil || len(all) != len(meter.Books()) || all[0].Name != "aws" {
		t.Fatalf("%+v, %v", all, err)
	}
	of := map[string]string{}
	for i, name := range meter.Books() {
		one, err := meter.Choose(name)
		if err != nil || len(one) != 1 || one[0].Name != name || one[0].Source == "" || one[0].Date == "" || !reflect.DeepEqual(one[0], all[i]) {
			t.Errorf("book %s: %+v, %v", name, one, err)
		}
		if all[i].Currency != all[0].Currency {
			t.Errorf("prices of %s are in %s, and others in %s: they do not add up", name, all[i].Currency, all[0].Currency)
		}
		for _, guest := range all[i].Guests {
			if of[guest] != "" {
				t.Errorf("guest %s is in the books %s and %s", guest, of[guest], name)
			}
			of[guest] = name
		}
	}
	if _, err := meter.Choose("../aws"); !lambent.Is(err, lambent.NotFound) {
		t.Errorf("a book that is not there: %v", err)
	}
	own := `{"name":"own","currency":"EUR","round_ms":10,"vcpu":{"concurrent":1,"by_memory":[{"memory_mb":128,"vcpu":0.5},{"memory_mb":256,"vcpu":1}]},` +
		`"prices":[{"item":"requests","price":1,"per":1000,"unit":"request"}]}`
	p, err := meter.ParseBook([]byte(own))
	if err != nil {
		t.Fatal(err)
	}
	mine := meter.NewTally(p)
	for range 1500 {
		mine.Add(&lambent.Usage{})
	}
	if b := mine.Bill(); b.Total.String() != "1.5" || b.Currency != "EUR" {
		t.Errorf("%+v", b)
	}
	for _, bad := range []struct{ from, to, word string }{
		{own, `[`, "price book"},
		{`"own"`, `""`, "name"},
		{`"EUR"`, `""`, "currency"},
		{`"requests"`, `"rows"`, "rows"},
		{`"price":1`, `"price":-1`, "negative"},
		{`"price":1`, `"price":1e999999999`, "digits"},
		{`"price":1`, `"price":"1 EUR"`, "price book"},
		{`"per":1000`, `"per":0`, "over 0"},
		{`"per":1000`, `"per":1e-999999`, "over 0"},
		{`"per":1000`, `"pre":1000`, "pre"},
		{`"round_ms":10`, `"round_ms":-1`, "round_ms"},
		{`"round_ms":10`, `"round_ms":9000000000000000000`, "round_ms"},
		{`{"memory_mb":128,"vcpu":0.5},{"memory_mb":256,"vcpu":1}`, ``, "by_memory"},
		{`"memory_mb":256`, `"memory_mb":128`, "128 MB follow 128"},
		{`"vcpu":0.5`, `"vcpu":0`, "over 0"},
		{`"vcpu":0.5`, `"vcpu":1e-999999`, "over 0"},
		{`"concurrent":1`, `"concurrent":-1`, "concurrent"},
		{`"vcpu":{"concurrent":1,"by_memory":[{"memory_mb":128,"vcpu":0.5},{"memory_mb":256,"vcpu":1}]},"prices":[{"item":"requests"`, `"prices":[{"item":"vcpu"`, "how many"},
		{`"prices":[{"item":"requests","price":1,"per":1000,"unit":"request"}]`, `"prices":[]`, "no prices"},
	} {
		_, err := meter.ParseBook([]byte(strings.Replace(own, bad.from, bad.to, 1)))
		if !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), bad.word) {
			t.Errorf("%s: %v", bad.to, err)
		}
	}
}
