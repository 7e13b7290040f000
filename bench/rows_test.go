package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/source/databasetest"
	"lambent/test/daemon"
)

// databases are what rows come from: a server, what its URLs say of TLS, and an orders
// table.
var databases = map[string]struct {
	start  func(testing.TB) databasetest.Server
	plain  string
	orders string
}{
	"postgres": {func(t testing.TB) databasetest.Server { return databasetest.NewPostgres(t) }, "?sslmode=disable", "CREATE TABLE orders (id bigserial PRIMARY KEY, body text NOT NULL)"},
	"mariadb":  {func(t testing.TB) databasetest.Server { return databasetest.MariaDB.New(t) }, "?ssl-mode=disabled", "CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, body text NOT NULL)"},
}

// each runs a benchmark with each database, whose rows a function takes.
func each(b *testing.B, run func(b *testing.B, d *daemon.Daemon, session func() func(sql string))) {
	for name, db := range databases {
		b.Run(name, func(b *testing.B) {
			server := db.start(b)
			database := server.Database(b, db.orders)
			d := watchRows(b, server.URL(database)+db.plain, "app.rows", nil)
			run(b, d, func() func(string) { return server.Session(b, database) })
		})
	}
}

// watchRows has a function take the rows of a table.
func watchRows(b *testing.B, url, handler string, scaling *client.ScalingRequest) *daemon.Daemon {
	b.Helper()
	l := languages[0]
	d := daemon.Start(b, filepath.Join(daemon.Dir(b), "data"))
	z := archive(b, filepath.Join("testdata", "python", "app.py"))
	code, err := d.PutCode(b.Context(), z, int64(z.Len()))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := d.Deploy(b.Context(), "rows", &client.DeployRequest{Runtime: &l.runtime, Handler: &handler, Code: code.Digest, Scaling: scaling}, nil); err != nil {
		b.Fatal(err)
	}
	r := client.TriggerRequest{Function: "rows"}
	r.Database = &client.Database{URL: url, Tables: []string{"orders"}}
	if _, err := d.AddTrigger(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	return d
}

// BenchmarkRowToStart is how long it is from the end of a COMMIT to the start of the
// function that takes the row, one at a time.
func BenchmarkRowToStart(b *testing.B) { each(b, benchmarkRowToStart) }

func benchmarkRowToStart(b *testing.B, d *daemon.Daemon, session func() func(sql string)) {
	exec := session()
	var committed []time.Time
	b.ResetTimer()
	for range min(b.N, 2000) + 5 { // the first ones start instances
		exec("INSERT INTO orders (body) VALUES ('x')")
		committed = append(committed, time.Now())
		time.Sleep(25 * time.Millisecond)
	}
	b.StopTimer()
	drained(b, d)
	list, err := d.Invocations(b.Context(), "rows", client.Period{}, 10_000)
	if err != nil {
		b.Fatal(err)
	}
	if len(list.Invocations) != len(committed) {
		b.Fatalf("%d rows are %d invocations", len(committed), len(list.Invocations))
	}
	var all bench.Latencies
	for i, r := range list.Invocations { // the newest first
		if n := len(committed) - 1 - i; n >= 5 {
			started := r.Start.Add(time.Duration(r.QueueUS+r.PlaceUS+r.InitUS) * time.Microsecond)
			all = append(all, started.Sub(committed[n]))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(us(all.Percentile(50)), "p50-us")
	b.ReportMetric(us(all.Percentile(99)), "p99-us")
}

// BenchmarkRows is how many rows of 1 KB a second a function takes, that four clients
// insert, a hundred in a transaction.
func BenchmarkRows(b *testing.B) { each(b, benchmarkRows) }

func benchmarkRows(b *testing.B, d *daemon.Daemon, session func() func(sql string)) {
	const clients, together = 4, 100
	insert := "INSERT INTO orders (body) VALUES " + strings.Repeat(fmt.Sprintf(", ('%s')", strings.Repeat("x", 1000)), together)[2:]
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		exec := session()
		wg.Go(func() {
			for range max(1, b.N/together/clients) {
				exec(insert)
			}
		})
	}
	wg.Wait()
	inserted := b.Elapsed()
	rows := float64(max(1, b.N/together/clients) * together * clients)
	done := inserted + caughtUp(b, d)
	b.StopTimer()
	list, err := d.Invocations(b.Context(), "rows", client.Period{}, 10_000)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rows/inserted.Seconds(), "inserts/s")
	b.ReportMetric(rows/done.Seconds(), "rows/s")
	b.ReportMetric(rows/float64(len(list.Invocations)), "rows/call")
}

// caughtUp waits until no row has waited for half a second, and returns how long that
// took, without that half.
func caughtUp(b *testing.B, d *daemon.Daemon) time.Duration {
	b.Helper()
	begun := time.Now()
	last := begun
	for ; time.Since(last) < 500*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		all, err := d.Triggers(b.Context(), "rows")
		if err != nil {
			b.Fatal(err)
		}
		if t := &all[0]; t.Waiting > 0 || t.Lag == nil || t.Lag.BehindMS > 0 {
			last = time.Now()
		}
	}
	return last.Sub(begun)
}

// BenchmarkUnaffectedRows is how long rows take to reach a function, ten thousand a second
// in transactions of ten, from before their INSERT to the start of their batch: alone, beside
// a hundred calls a second of another function, and beside as many of one that always
// fails, in turns of a second. What is reported is the mean of the turns' percentiles.
func BenchmarkUnaffectedRows(b *testing.B) {
	const n, together, turns, interval = 1000, 10, 8, time.Millisecond
	db := databases["postgres"]
	server := db.start(b)
	database := server.Database(b, db.orders)
	d := watchRows(b, server.URL(database)+db.plain, "app.ages", &client.ScalingRequest{MaxInstances: new(1)})
	l := languages[0]
	l.deploy(b, d, "works")
	l.deploy(b, d, "fails")
	exec := server.Session(b, database)
	ages := func() (took struct {
		Rows     int
		P50, P99 float64 // in seconds
	}) {
		next := time.Now()
		for range n {
			time.Sleep(time.Until(next))
			next = next.Add(interval)
			row := fmt.Sprintf(", ('%.6f')", float64(time.Now().UnixMicro())/1e6)
			exec("INSERT INTO orders (body) VALUES " + strings.Repeat(row, together)[2:])
		}
		caughtUp(b, d)
		var out bytes.Buffer
		if _, err := d.Invoke(b.Context(), client.InvokeRequest{Name: "rows", Payload: strings.NewReader("null"), Length: -1}, &out); err != nil {
			b.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &took); err != nil || took.Rows == 0 {
			b.Fatalf("%s: %v", &out, err)
		}
		return took
	}
	ages() // it is warm
	others := map[string]*producer{
		"alone": nil,
		"works": newProducer(b, d, "works", []byte(`{"body":"hello"}`)),
		"fails": newProducer(b, d, "fails", []byte(`{"no":"body"}`)),
	}
	taken := 0.0
	sum := map[string]float64{}
	for b.Loop() {
		for range turns {
			taken++
			for other, p := range others {
				stop := p.every(b, 10*time.Millisecond)
				took := ages()
				stop()
				sum[other+"-p50-us"] += took.P50 * 1e6
				sum[other+"-p99-us"] += took.P99 * 1e6
				sum["rows"] += float64(took.Rows) / float64(len(others))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for name, of := range sum {
		b.ReportMetric(of/taken, name)
	}
}
