package meter_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"lambent"
	"lambent/meter"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func book(t testing.TB) *meter.PriceBook {
	t.Helper()
	p, err := meter.Book("aws")
	if err != nil {
		t.Fatal(err)
	}
	return p
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
	totals, err := l.Sum(t.Context(), meter.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(map[string]any{"totals": totals, "bill": book(t).Price(totals)}, "", "\t")
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
	b := book(t).Price([]meter.Total{{Function: "f", Count: 1_000_000, BilledMS: 1e9, BilledMBMS: 1024 * 1e9, TmpMBMS: 512 * 1e9}})
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

// A bill adds up, and is within half a unit of the exact price for each line.
func TestBillAddsUp(t *testing.T) {
	p := book(t)
	rapid.Check(t, func(t *rapid.T) {
		totals := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) meter.Total {
			return meter.Total{
				Function: rapid.StringMatching("[a-z]{1,4}").Draw(t, "function"), Count: rapid.Int64Range(0, 1e15).Draw(t, "count"),
				BilledMBMS: rapid.Int64Range(0, 1<<62).Draw(t, "duration"), TmpMBMS: rapid.Int64Range(0, 1<<62).Draw(t, "storage"),
			}
		}), 0, 20).Draw(t, "totals")
		b := p.Price(totals)
		var sum, exact decimal.Decimal
		for _, line := range b.Lines {
			sum = sum.Add(line.Amount)
			if line.Amount.Exponent() < -10 {
				t.Fatalf("%s has more than ten places", line.Amount)
			}
		}
		for _, c := range totals {
			exact = exact.Add(decimal.NewFromInt(c.Count).Mul(decimal.RequireFromString("0.0000002"))).
				Add(c.GBSeconds().Mul(decimal.RequireFromString("0.0000166667"))).
				Add(c.TmpGBSeconds().Mul(decimal.RequireFromString("0.0000000309")))
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
	for _, name := range meter.Books() {
		p, err := meter.Book(name)
		if err != nil || p.Name != name || p.Source == "" || p.Date == "" {
			t.Errorf("book %s: %+v, %v", name, p, err)
		}
	}
	if _, err := meter.Book("../aws"); !lambent.Is(err, lambent.NotFound) {
		t.Errorf("a book that is not there: %v", err)
	}
	own := `{"name":"own","currency":"EUR","prices":[{"item":"requests","price":1,"per":1000,"unit":"request"}]}`
	p, err := meter.ParseBook([]byte(own))
	if err != nil {
		t.Fatal(err)
	}
	if b := p.Price([]meter.Total{{Count: 1500}}); b.Total.String() != "1.5" || b.Currency != "EUR" {
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
		{`"prices":[{"item":"requests","price":1,"per":1000,"unit":"request"}]`, `"prices":[]`, "no prices"},
	} {
		_, err := meter.ParseBook([]byte(strings.Replace(own, bad.from, bad.to, 1)))
		if !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), bad.word) {
			t.Errorf("%s: %v", bad.to, err)
		}
	}
}
