package bench_test

import (
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

// watchRows has a function take the rows of a new table, and returns the database.
func watchRows(b *testing.B) (d *daemon.Daemon, p databasetest.Postgres, database string) {
	b.Helper()
	p = databasetest.NewPostgres(b)
	database = p.Database(b, "CREATE TABLE orders (id bigserial PRIMARY KEY, body text NOT NULL)")
	l := languages[0]
	d = daemon.Start(b, filepath.Join(daemon.Dir(b), "data"))
	z := archive(b, filepath.Join("testdata", "python", "app.py"))
	code, err := d.PutCode(b.Context(), z, int64(z.Len()))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := d.Deploy(b.Context(), "rows", &client.DeployRequest{Runtime: &l.runtime, Handler: new("app.rows"), Code: code.Digest}, nil); err != nil {
		b.Fatal(err)
	}
	r := client.TriggerRequest{Function: "rows"}
	r.Database = &client.Database{URL: p.URL(database) + "?sslmode=disable", Tables: []string{"orders"}}
	if _, err := d.AddTrigger(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	return d, p, database
}

// BenchmarkRowToStart is how long it is from the end of a COMMIT to the start of the
// function that takes the row, one at a time.
func BenchmarkRowToStart(b *testing.B) {
	d, p, database := watchRows(b)
	conn := p.Connect(b, database)
	defer conn.Close(b.Context())
	var committed []time.Time
	b.ResetTimer()
	for range min(b.N, 2000) + 5 { // the first ones start instances
		if _, err := conn.Exec(b.Context(), "INSERT INTO orders (body) VALUES ('x')"); err != nil {
			b.Fatal(err)
		}
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
func BenchmarkRows(b *testing.B) {
	d, p, database := watchRows(b)
	const clients, together = 4, 100
	insert := fmt.Sprintf("INSERT INTO orders (body) SELECT '%s' FROM generate_series(1, %d)", strings.Repeat("x", 1000), together)
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		conn := p.Connect(b, database)
		defer conn.Close(b.Context())
		wg.Go(func() {
			for range max(1, b.N/together/clients) {
				if _, err := conn.Exec(b.Context(), insert); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	inserted := b.Elapsed()
	rows := float64(max(1, b.N/together/clients) * together * clients)
	done := b.Elapsed()
	for quiet := time.Now(); time.Since(quiet) < 500*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		all, err := d.Triggers(b.Context(), "rows")
		if err != nil {
			b.Fatal(err)
		}
		if t := &all[0]; t.Waiting > 0 || t.Lag == nil || t.Lag.BehindMS > 0 {
			quiet, done = time.Now(), b.Elapsed()
		}
	}
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
