package databasetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"lambent"
)

// A Server is a database server of a test.
type Server interface {
	URL(database string) string
	URLOf(user, database string) string
	Database(t testing.TB, statements ...string) string
	Exec(t testing.TB, database string, statements ...string)
	Session(t testing.TB, database string) (exec func(sql string))
	Dial(ctx context.Context, database string) (*Conn, error)
	Kill()
	Start() error
}

// A Conn is a session with a server, for who expects errors.
type Conn struct {
	Exec  func(sql string) error
	Close func()
}

// session is one with a server that ends with the test, which its errors fail.
func session(t testing.TB, s Server, database string) (exec func(sql string)) {
	t.Helper()
	conn, err := s.Dial(context.Background(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return func(sql string) {
		t.Helper()
		if err := conn.Exec(sql); err != nil {
			t.Errorf("%.200s: %v", sql, err)
		}
	}
}

// A Kind is a source, and the servers that it watches.
type Kind struct {
	Source    func() DatabaseSource
	Shared    func(testing.TB) Server
	New       func(testing.TB) Server
	Impatient func(testing.TB) Server           // a new one that hangs up on who does not read for 3 s
	Text      string                            // a type that holds 3 MB of it
	Whole     func(table string) (sql []string) // has rows before changes told whole
	Secure    func(testing.TB, *Pair) Server    // a new one with TLS by that, whose user "certified" is to have it, too
	Modes     [2]string                         // the parameters that ask for TLS, and for a certificate of an authority that is trusted
}

func (k Kind) watch(t *testing.T, d lambent.Database) *Watched {
	t.Helper()
	return Watch(t, k.Source(), d)
}

// series is a SELECT of numbers n.
func series(columns string, from, to int) string {
	return fmt.Sprintf("WITH RECURSIVE s(n) AS (SELECT %d UNION ALL SELECT n + 1 FROM s WHERE n < %d) SELECT %s FROM s", from, to, columns)
}

// Suite is what all sources of databases do. The package is to have Main.
func Suite(t *testing.T, k Kind) {
	for name, test := range map[string]func(*testing.T, Kind){
		"Transactions": testTransactions, "Restarts": testRestarts, "RefusedForAWhile": testRefusedForAWhile, "Snapshot": testSnapshot, "SnapshotAnew": testSnapshotAnew, "TooLarge": testTooLarge, "TLS": testTLS,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// Transactions come whole, in the order of their commits, whoever else is at work.
func testTransactions(t *testing.T, k Kind) {
	s := k.Shared(t)
	db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY, tx int)`)
	w := k.watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"t"}})
	a, b := s.Session(t, db), s.Session(t, db)
	for i, step := range []string{"aBEGIN", "bBEGIN", "a1", "b2", "a1", "b2", "bCOMMIT", "a1", "aCOMMIT"} {
		exec, sql := a, step[1:]
		if step[0] == 'b' {
			exec = b
		}
		if sql == "1" || sql == "2" {
			sql = fmt.Sprintf("INSERT INTO t VALUES (%d, %s)", i, sql)
		}
		exec(sql)
	}
	s.Exec(t, db, "INSERT INTO t "+series("n, 3", 100, 5099))
	order := ""
	for _, d := range w.Wait(5005)[:6] {
		order += string(d.New["tx"])
	}
	if order != "221113" {
		t.Error(order)
	}
	for i, d := range w.Wait(5005)[5:] {
		if want := fmt.Sprint(100 + i); string(d.New["id"]) != want || d.Index != i {
			t.Fatalf("%d: %s, want %s", i, &d, want)
		}
	}
}

// A restart of either goes on where it was, and a transaction that was told in part is
// gone on with.
func testRestarts(t *testing.T, k Kind) {
	s := k.New(t)
	db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	w := k.watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"t"}})
	s.Exec(t, db, "INSERT INTO t "+series("n", 1, 100))
	w.Wait(100)
	w.Stop()
	s.Exec(t, db, "INSERT INTO t "+series("n", 101, 200))
	w.Start()
	w.Wait(200)
	for i := range 2 {
		s.Kill()
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, db, "INSERT INTO t "+series("n", 201+100*i, 300+100*i))
	}
	w.Wait(400)
	// Both at once, in the middle of a large one.
	w.Set(func() { w.Most = 2000 })
	s.Exec(t, db, "INSERT INTO t "+series("n", 401, 8000))
	w.Wait(2000)
	w.Stop()
	w.Set(func() { w.Most = 0 })
	s.Kill()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	w.Start()
	for i, d := range w.Wait(8000) {
		if string(d.New["id"]) != fmt.Sprint(i+1) {
			t.Fatalf("%d: %s", i, &d)
		}
	}
	time.Sleep(20 * time.Millisecond)
	w.Set(func() {
		if len(w.Events) != 8000 || w.Repeats > 1000 {
			t.Errorf("%d events, %d repeated", len(w.Events), w.Repeats)
		}
	})
}

// What is not taken is not lost, and the server does not take the trigger for dead.
func testRefusedForAWhile(t *testing.T, k Kind) {
	s := k.Impatient(t)
	db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	w := k.watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"t"}})
	w.Set(func() { w.Most = 1 })
	const rows = 20_000 // more than the sockets hold
	s.Exec(t, db, "INSERT INTO t "+series("n, repeat('x', 1000)", 1, rows))
	Until(t, "it is told", func() bool {
		lag, known := w.Source.Lag(w.Trigger)
		return known && strings.Contains(lag.Warning, "the lane is full")
	})
	time.Sleep(4 * time.Second)
	w.Set(func() { w.Most = 0 })
	w.Wait(rows)
	if err := w.Failure(); err != nil {
		t.Error(err)
	}
}

// A snapshot and what is told afterwards are all that there is, without a gap.
func testSnapshot(t *testing.T, k Kind) {
	s := k.Shared(t)
	db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v int)`, `INSERT INTO t `+series("n, 0", 1, 3000))
	ctx, cancel := context.WithCancel(t.Context())
	write := s.Session(t, db)
	written := make(chan int, 1)
	go func() { // meanwhile somebody writes
		n := 3000
		for ; ctx.Err() == nil; n++ {
			write(fmt.Sprintf("INSERT INTO t VALUES (%d, 0)", n+1))
		}
		written <- n
	}()
	w := k.watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"t"}, Snapshot: true})
	w.Wait(3000)
	time.Sleep(50 * time.Millisecond)
	cancel()
	n := <-written
	seen := map[string]int{}
	snapshots := 0
	for i, d := range w.Wait(n) {
		seen[Row(d.New)]++
		if d.Snapshot != (d.Transaction == "") || d.Snapshot && i != snapshots {
			t.Fatalf("%d: %+v", i, d)
		}
		if d.Snapshot {
			snapshots++
		}
		if d.Operation != "insert" || len(d.Key) != 1 {
			t.Fatalf("%+v", d)
		}
	}
	for i := range n {
		if k := fmt.Sprintf(`{"id":%d,"v":0}`, i+1); seen[k] != 1 {
			t.Fatalf("%s is there %d times", k, seen[k])
		}
	}
	if len(seen) != n || snapshots < 3000 {
		t.Errorf("%d of %d, %d of a snapshot", len(seen), n, snapshots)
	}
}

// A snapshot that is cut off begins anew; rows as they were count once.
func testSnapshotAnew(t *testing.T, k Kind) {
	s := k.Shared(t)
	db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`, `INSERT INTO t `+series("n, repeat('x', 1000)", 1, 8000))
	w := WatchMost(t, k.Source(), lambent.Database{URL: s.URL(db), Tables: []string{"t"}, Snapshot: true}, 1000)
	w.Wait(1000)
	w.Stop()
	w.Set(func() { w.Most = 0 })
	s.Exec(t, db, `UPDATE t SET v = 'y' WHERE id IN (1, 8000)`)
	w.Start()
	w.Wait(8001) // the first, as it is now, once more
	s.Exec(t, db, `DELETE FROM t WHERE id = 1`)
	w.Wait(8002)
	if w.Events[8001].Type != lambent.EventRowDeleted {
		t.Errorf("%+v", w.Events[8001])
	}
}

// A row that makes too large an event comes without what is large, and holds up nothing.
func testTooLarge(t *testing.T, k Kind) {
	s := k.Shared(t)
	db := s.Database(t, append([]string{`CREATE TABLE t (id int PRIMARY KEY, v ` + k.Text + `, n int)`}, k.Whole("t")...)...)
	w := k.watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"t"}})
	w.Set(func() { w.Limit = 1 << 20 })
	s.Exec(t, db, `INSERT INTO t VALUES (1, repeat('x', 1000000), 1)`, `INSERT INTO t VALUES (2, repeat('x', 3000000), 1)`, `INSERT INTO t VALUES (3, 'x', 1)`, `UPDATE t SET n = 2 WHERE id = 1`)
	all := w.Wait(4)
	if len(all[0].New["v"]) != 1000002 || all[0].Omitted != nil {
		t.Errorf("%.200s", &all[0])
	}
	for i, want := range map[int]string{1: `insert t {"id":2} - {"id":2,"n":1} omitted v`, 2: `insert t {"id":3} - {"id":3,"n":1,"v":"x"}`, 3: `update t {"id":1} {"id":1,"n":1} {"id":1,"n":2} omitted v`} {
		if all[i].String() != want {
			t.Errorf("%.200s", &all[i])
		}
	}
}
