package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/source/databasetest"
	"lambent/source/postgres"
)

const orders = `CREATE TABLE orders (id int PRIMARY KEY, note text, total numeric(10,2))`

// What is done to rows is told, with what REPLICA IDENTITY gives of them.
func TestOperations(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, orders, `CREATE TABLE other (id int)`, `CREATE SCHEMA "My Shop"`,
		`CREATE TABLE "My Shop"."Full" (a int, b text, c text)`, `ALTER TABLE "My Shop"."Full" REPLICA IDENTITY FULL`)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"orders", "My Shop.Full"}})
	pg.Exec(t, db,
		`INSERT INTO orders VALUES (1, 'a"b', 12.50), (2, NULL, NULL)`, `UPDATE orders SET note = 'c' WHERE id = 1`, `UPDATE orders SET id = 3 WHERE id = 2`,
		`INSERT INTO other VALUES (1)`, `DELETE FROM orders WHERE id = 3`, `BEGIN`, `INSERT INTO orders VALUES (9)`, `ROLLBACK`, `TRUNCATE orders`,
		`INSERT INTO "My Shop"."Full" VALUES (1, 'x', repeat('y', 3))`, `UPDATE "My Shop"."Full" SET b = 'z'`, `DELETE FROM "My Shop"."Full"`)
	w.want(
		`insert orders {"id":1} - {"id":1,"note":"a\"b","total":"12.50"}`,
		`insert orders {"id":2} - {"id":2,"note":null,"total":null}`,
		`update orders {"id":1} - {"id":1,"note":"c","total":"12.50"}`,
		`update orders {"id":3} {"id":2} {"id":3,"note":null,"total":null}`,
		`delete orders {"id":3} {"id":3} -`,
		`truncate orders - - -`,
		`insert Full - - {"a":1,"b":"x","c":"yyy"}`,
		`update Full - {"a":1,"b":"x","c":"yyy"} {"a":1,"b":"z","c":"yyy"}`,
		`delete Full - {"a":1,"b":"z","c":"yyy"} -`,
	)
	types := ""
	for i, e := range w.events {
		types += " " + strings.TrimPrefix(e.Type, "dev.lambent.")
		if e.Source != "/triggers/"+w.trigger.ID || e.DataContentType != "application/json" || time.Since(e.Time) > time.Minute || time.Since(e.Time) < 0 {
			t.Errorf("%d: %+v", i, e)
		}
	}
	if want := strings.Repeat(" row.inserted", 2) + strings.Repeat(" row.updated", 2) + " row.deleted table.truncated row.inserted row.updated row.deleted"; types != want {
		t.Error(types)
	}
	if e := w.events[3]; e.Subject != "public.orders" || e.Extensions["partitionkey"] != "public.orders/3" {
		t.Errorf("%+v", e)
	}
	if e := w.events[6]; e.Subject != "My Shop.Full" || e.Extensions["partitionkey"] != "My Shop.Full" {
		t.Errorf("%+v", e)
	}
	all := w.wait(2)
	if all[0].Transaction == "" || all[0].Transaction != all[1].Transaction || all[0].Index != 0 || all[1].Index != 1 || all[2].Index != 0 || all[0].Schema != "public" || all[0].Position != all[1].Position {
		t.Errorf("%+v", all)
	}
}

// Every type has a JSON form of which nothing is lost.
func TestTypes(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, `CREATE TYPE mood AS ENUM ('sad', 'so, "so"')`, `CREATE DOMAIN age AS int CHECK (value > 0)`, `CREATE DOMAIN ages AS age[]`, `CREATE TYPE pair AS (a int, b text)`)
	for i, c := range []struct{ kind, value, want string }{
		{"boolean", "true", "true"}, {"boolean", "NULL", "null"},
		{"smallint", "-32768", "-32768"}, {"int", "2147483647", "2147483647"},
		{"bigint", "9007199254740991", "9007199254740991"}, {"bigint", "9007199254740992", `"9007199254740992"`}, {"bigint", "-9223372036854775808", `"-9223372036854775808"`},
		{"numeric", "12345678901234567890.10", `"12345678901234567890.10"`}, {"numeric", "'NaN'", `"NaN"`}, {"numeric", "'-Infinity'", `"-Infinity"`},
		{"real", "0.1", "0.1"}, {"double precision", "1e300", "1e+300"}, {"double precision", "0.1::float8 + 0.2", "0.30000000000000004"},
		{"double precision", "'NaN'", `"NaN"`}, {"double precision", "'-Infinity'", `"-Infinity"`},
		{"text", `E'\\"\u2028\x01ü'`, `"\\\"\u2028\u0001ü"`}, {"varchar(5)", "'a'", `"a"`}, {"char(3)", "'a'", `"a  "`},
		{"json", `'{"a" : 1e400, "b": [9007199254740993]}'`, `{"a" : 1e400, "b": [9007199254740993]}`}, {"jsonb", `'"x"'`, `"x"`}, {"jsonb", "'null'", "null"},
		{"bytea", `'\xff00'`, `"/wA="`}, {"uuid", "'6A7E8FEB-b491-4cf7-a9f1-bf3703467718'", `"6a7e8feb-b491-4cf7-a9f1-bf3703467718"`},
		{"timestamptz", "'2026-11-27 18:00:00.123456+01'", `"2026-11-27T17:00:00.123456Z"`}, {"timestamptz", "'infinity'", `"infinity"`}, {"timestamptz", "'0044-03-15 12:00:00 BC'", `"0044-03-15 12:00:00+00 BC"`},
		{"timestamp", "'2026-11-27 18:00'", `"2026-11-27T18:00:00"`}, {"date", "'2026-11-27'", `"2026-11-27"`}, {"time", "'18:00:00.5'", `"18:00:00.5"`}, {"timetz", "'18:00+01'", `"18:00:00+01"`},
		{"interval", "'1 day 2 hours'", `"P1DT2H"`}, {"inet", "'10.0.0.1/8'", `"10.0.0.1/8"`}, {"bit(3)", "B'101'", `"101"`}, {"int4range", "'[1,5)'", `"[1,5)"`}, {"point", "'(1,2)'", `"(1,2)"`},
		{"mood", `'so, "so"'`, `"so, \"so\""`}, {"age", "7", "7"}, {"pair", `'(1,"x y")'`, `"(1,\"x y\")"`}, {"oid", "4294967295", "4294967295"}, {"xml", "'<a/>'", `"<a/>"`},
		{"int[]", "'{{1,NULL},{3,4}}'", "[[1,null],[3,4]]"}, {"int[]", "'{}'", "[]"}, {"int[]", "'[0:1]={1,2}'", "[1,2]"}, {"bigint[]", "'{9007199254740993}'", `["9007199254740993"]`},
		{"text[]", `ARRAY['a,b', '"', '\', 'NULL', NULL, '', '{}']`, `["a,b","\"","\\","NULL",null,"","{}"]`}, {"mood[]", `ARRAY['sad', 'so, "so"']::mood[]`, `["sad","so, \"so\""]`},
		{"age[]", "'{1,2}'", "[1,2]"}, {"ages", "'{1,2}'", "[1,2]"}, {"jsonb[]", `ARRAY['{"a": [1]}']::jsonb[]`, `[{"a": [1]}]`}, {"timestamptz[]", "ARRAY['2026-11-27 17:00Z'::timestamptz]", `["2026-11-27T17:00:00Z"]`},
		{"box[]", "'{(1,1),(0,0);(2,2),(0,0)}'", `["(1,1),(0,0)","(2,2),(0,0)"]`}, {"bytea[]", `ARRAY['\xff'::bytea]`, `["/w=="]`}, {"boolean[]", "'{t,f}'", "[true,false]"},
	} {
		t.Run(fmt.Sprint(i, " ", c.kind), func(t *testing.T) {
			t.Parallel()
			table := fmt.Sprint("t", i)
			pg.Exec(t, db, fmt.Sprintf("CREATE TABLE %s (v %s)", table, c.kind))
			// As a snapshot, and as it is told.
			pg.Exec(t, db, fmt.Sprintf("INSERT INTO %s VALUES (%s)", table, c.value))
			w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{table}, Operations: []string{"insert"}, Snapshot: true})
			w.wait(1)
			pg.Exec(t, db, fmt.Sprintf("INSERT INTO %s VALUES (%s)", table, c.value))
			w.wait(2)
			for _, e := range w.events {
				if !strings.Contains(string(e.Data), `"new":{"v":`+c.want+`}`) {
					t.Errorf("%s, want %s", e.Data, c.want)
				}
			}
		})
	}
}

// Transactions come whole, in the order of their commits, whoever else is at work.
func TestTransactions(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, `CREATE TABLE t (id int PRIMARY KEY, tx int)`)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"t"}})
	a, b := pg.Connect(t, db), pg.Connect(t, db)
	for i, step := range []string{"aBEGIN", "bBEGIN", "a1", "b2", "a1", "b2", "bCOMMIT", "a1", "aCOMMIT"} {
		conn, sql := a, step[1:]
		if step[0] == 'b' {
			conn = b
		}
		if sql == "1" || sql == "2" {
			sql = fmt.Sprintf("INSERT INTO t VALUES (%d, %s)", i, sql)
		}
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	pg.Exec(t, db, "INSERT INTO t SELECT n, 3 FROM generate_series(100, 5099) n")
	order := ""
	for _, d := range w.wait(5005)[:6] {
		order += string(d.New["tx"])
	}
	if order != "221113" {
		t.Error(order)
	}
	for i, d := range w.wait(5005)[5:] {
		if want := fmt.Sprint(100 + i); string(d.New["id"]) != want || d.Index != i {
			t.Fatalf("%d: %s, want %s", i, &d, want)
		}
	}
}

// Filters leave out operations and columns; the key is there.
func TestFilters(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, orders)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"public.orders"}, Columns: []string{"note"}, Operations: []string{"update", "delete"}})
	pg.Exec(t, db, `INSERT INTO orders VALUES (1, 'a', 1)`, `UPDATE orders SET note = 'b'`, `TRUNCATE orders`, `INSERT INTO orders VALUES (1, 'a', 1)`, `DELETE FROM orders`)
	w.want(`update orders {"id":1} - {"note":"b"}`, `delete orders {"id":1} {} -`)
}

// A restart of either goes on where it was, and a transaction that was told in part is
// gone on with.
func TestRestarts(t *testing.T) {
	t.Parallel()
	pg := databasetest.NewPostgres(t)
	db := pg.Database(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"t"}})
	pg.Exec(t, db, "INSERT INTO t SELECT generate_series(1, 100)")
	w.wait(100)
	w.stop()
	pg.Exec(t, db, "INSERT INTO t SELECT generate_series(101, 200)")
	w.start()
	w.wait(200)
	for range 2 {
		pg.Kill()
		if err := pg.Start(); err != nil {
			t.Fatal(err)
		}
		pg.Exec(t, db, "INSERT INTO t SELECT count(*) + n FROM t, generate_series(1, 100) n GROUP BY n ORDER BY n")
	}
	w.wait(400)
	// Both at once, in the middle of a large one.
	w.set(func() { w.most = 2000 })
	pg.Exec(t, db, "INSERT INTO t SELECT generate_series(401, 8000)")
	w.wait(2000)
	w.stop()
	w.set(func() { w.most = 0 })
	pg.Kill()
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	w.start()
	for i, d := range w.wait(8000) {
		if string(d.New["id"]) != fmt.Sprint(i+1) {
			t.Fatalf("%d: %s", i, &d)
		}
	}
	time.Sleep(20 * time.Millisecond)
	w.set(func() {
		if len(w.events) != 8000 || w.repeats > 1000 {
			t.Errorf("%d events, %d repeated", len(w.events), w.repeats)
		}
	})
}

// What is not taken is not lost, and PostgreSQL is not left without an answer.
func TestRefusedForAWhile(t *testing.T) {
	t.Parallel()
	pg := databasetest.NewPostgres(t, "wal_sender_timeout=3s")
	db := pg.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"t"}})
	w.set(func() { w.most = 1 })
	pg.Exec(t, db, "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 8000) n")
	until(t, "it is told", func() bool {
		lag, known := w.source.Lag(w.trigger)
		return known && strings.Contains(lag.Warning, "the lane is full")
	})
	time.Sleep(4 * time.Second)
	w.set(func() { w.most = 0 })
	w.wait(8000)
	if err := w.failure(); err != nil {
		t.Error(err)
	}
}

// A snapshot and what is told afterwards are all that there is, without a gap.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v int, w int GENERATED ALWAYS AS (v + 1) STORED)`, `INSERT INTO t SELECT n, 0 FROM generate_series(1, 3000) n`,
		`CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)`, `CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)`, `INSERT INTO p VALUES (1)`)
	ctx, cancel := context.WithCancel(t.Context())
	writer := pg.Connect(t, db)
	written := make(chan int, 1)
	go func() { // meanwhile somebody writes
		n := 3000
		for ; ctx.Err() == nil; n++ {
			if _, err := writer.Exec(context.Background(), fmt.Sprintf("INSERT INTO t VALUES (%d, 0)", n+1)); err != nil {
				t.Error(err)
				break
			}
		}
		written <- n
	}()
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"t", "p"}, Snapshot: true})
	w.wait(3000)
	time.Sleep(50 * time.Millisecond)
	cancel()
	n := <-written
	pg.Exec(t, db, `INSERT INTO p VALUES (2)`)
	seen := map[string]int{}
	snapshots := 0
	for i, d := range w.wait(n + 2) {
		seen[d.Table+row(d.New)]++
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
		if k := fmt.Sprintf(`t{"id":%d,"v":0}`, i+1); seen[k] != 1 {
			t.Fatalf("%s is there %d times", k, seen[k])
		}
	}
	if len(seen) != n+2 || seen[`p{"id":1}`] != 1 || seen[`p{"id":2}`] != 1 || snapshots < 3000 {
		t.Errorf("%d of %d, %d of a snapshot", len(seen), n+2, snapshots)
	}
}

// A snapshot that is cut off begins anew; rows as they were count once.
func TestSnapshotAnew(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`, `INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 8000) n`)
	tr := lambent.Database{URL: pg.URL(db), Tables: []string{"t"}, Snapshot: true}
	w := watchMost(t, tr, 1000)
	w.wait(1000)
	w.stop()
	w.set(func() { w.most = 0 })
	pg.Exec(t, db, `UPDATE t SET v = 'y' WHERE id IN (1, 8000)`)
	w.start()
	w.wait(8001) // the first, as it is now, once more
	pg.Exec(t, db, `DELETE FROM t WHERE id = 1`)
	w.wait(8002)
	if w.events[8001].Type != lambent.EventRowDeleted {
		t.Errorf("%+v", w.events[8001])
	}
}

// A schema may change while changes are on their way.
func TestSchemaChange(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, orders)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}})
	w.stop()
	pg.Exec(t, db, `INSERT INTO orders VALUES (1)`, `ALTER TABLE orders ADD COLUMN tags text[] DEFAULT '{a}'`, `INSERT INTO orders VALUES (2)`, `ALTER TABLE orders DROP COLUMN note`,
		`INSERT INTO orders VALUES (3)`, `ALTER TABLE orders RENAME COLUMN total TO sum`, `ALTER TABLE orders ALTER COLUMN sum TYPE bigint`, `INSERT INTO orders VALUES (4, 5)`)
	w.start()
	w.want(`insert orders {"id":1} - {"id":1,"note":null,"total":null}`, `insert orders {"id":2} - {"id":2,"note":null,"tags":["a"],"total":null}`,
		`insert orders {"id":3} - {"id":3,"tags":["a"],"total":null}`, `insert orders {"id":4} - {"id":4,"sum":5,"tags":["a"]}`)
	pg.Exec(t, db, `ALTER TABLE orders RENAME TO bills`, `INSERT INTO bills VALUES (5)`)
	if d := w.wait(5)[4]; d.Table != "bills" {
		t.Errorf("%s", &d)
	}
}

// Large values that an update leaves as they are are filled in where the row before is
// told, and named elsewhere.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	const large = `(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) n)`
	db := pg.Database(t, `CREATE TABLE a (id int PRIMARY KEY, v text, n int)`, `CREATE TABLE b (id int PRIMARY KEY, v text, n int)`, `ALTER TABLE b REPLICA IDENTITY FULL`,
		`INSERT INTO a VALUES (1, `+large+`, 1)`, `INSERT INTO b SELECT * FROM a`)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"a", "b"}})
	pg.Exec(t, db, `UPDATE a SET n = 2`, `UPDATE b SET n = 2`)
	all := w.wait(2)
	if all[0].String() != `update a {"id":1} - {"id":1,"n":2} unchanged v` {
		t.Errorf("%s", &all[0])
	}
	if b := all[1]; len(b.New["v"]) != 6402 || string(b.New["v"]) != string(b.Old["v"]) || b.Unchanged != nil || row(b.Key) != `{"id":1}` {
		t.Errorf("%s", &b)
	}
}

// A row that makes too large an event comes without what is large, and holds up nothing.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v text, n int)`, `ALTER TABLE t REPLICA IDENTITY FULL`)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"t"}})
	w.set(func() { w.limit = 1 << 20 })
	pg.Exec(t, db, `INSERT INTO t VALUES (1, repeat('x', 1000000), 1)`, `INSERT INTO t VALUES (2, repeat('x', 3000000), 1)`, `INSERT INTO t VALUES (3, 'x', 1)`, `UPDATE t SET n = 2 WHERE id = 1`)
	all := w.wait(4)
	if len(all[0].New["v"]) != 1000002 || all[0].Omitted != nil {
		t.Errorf("%.200s", &all[0])
	}
	for i, want := range map[int]string{1: `insert t {"id":2} - {"id":2,"n":1} omitted v`, 2: `insert t {"id":3} - {"id":3,"n":1,"v":"x"}`, 3: `update t {"id":1} {"id":1,"n":1} {"id":1,"n":2} omitted v`} {
		if all[i].String() != want {
			t.Errorf("%.200s", &all[i])
		}
	}
}

// A slot that is gone is an error that says so, and a trigger that is enabled again
// begins anew.
func TestDropped(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, orders)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}})
	pg.Exec(t, db, `INSERT INTO orders VALUES (1)`)
	w.wait(1)
	w.stop()
	pg.Exec(t, db, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
	w.start()
	until(t, "it is told", func() bool {
		err := w.failure()
		return err != nil && strings.Contains(lambent.UserMessage(err), "lambent trigger disable "+w.trigger.ID+" && lambent trigger enable "+w.trigger.ID)
	})
	w.stop()
	if err := w.source.Forget(t.Context(), w.trigger); err != nil {
		t.Error(err)
	}
	w.trigger.Since = time.Now()
	if err := w.source.Prepare(t.Context(), w.trigger, w.sink); err != nil {
		t.Fatal(err)
	}
	w.start()
	pg.Exec(t, db, `INSERT INTO orders VALUES (2)`)
	w.wait(2)
}

// Nothing is left of a trigger, though its source still runs.
func TestForget(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, orders)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}})
	const count = `SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()), (SELECT count(*) FROM pg_publication)`
	if got := pg.Value(t, db, count); got != "1 1" {
		t.Error(got)
	}
	until(t, "it runs", func() bool { _, known := w.source.Lag(w.trigger); return known })
	for range 2 {
		if err := w.source.Forget(t.Context(), w.trigger); err != nil {
			t.Error(err)
		}
		if got := pg.Value(t, db, count); got != "0 0" {
			t.Error(got)
		}
	}
}

// An idle trigger has PostgreSQL keep nothing, whatever else is written there.
func TestIdle(t *testing.T) {
	t.Parallel()
	pg := databasetest.NewPostgres(t)
	db := pg.Database(t, orders, `CREATE TABLE other (v text)`)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}})
	const slot = `SELECT confirmed_flush_lsn FROM pg_replication_slots`
	before := pg.Value(t, db, slot)
	pg.Exec(t, db, `INSERT INTO other SELECT repeat('x', 100) FROM generate_series(1, 50000)`)
	written := pg.Value(t, db, `SELECT pg_current_wal_lsn()`)
	until(t, "it has gone on", func() bool {
		return pg.Value(t, db, `SELECT confirmed_flush_lsn >= '`+written+`' FROM pg_replication_slots`) == "t"
	})
	if got := pg.Value(t, db, slot); got == before {
		t.Error(got)
	}
	if lag, known := w.source.Lag(w.trigger); !known || lag.Behind != 0 || lag.Warning != "" {
		t.Errorf("%+v, %v", lag, known)
	}
}

// What cannot be watched is refused before it is kept, with what mends it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	replica := databasetest.NewPostgres(t, "wal_level=replica")
	app, reader := fmt.Sprint("app", time.Now().UnixNano()), fmt.Sprint("reader", time.Now().UnixNano())
	db := pg.Database(t, orders, `CREATE TABLE bare (v int)`, `CREATE VIEW seen AS SELECT * FROM orders`, `CREATE UNLOGGED TABLE fast (id int PRIMARY KEY)`,
		`CREATE ROLE `+app+` LOGIN PASSWORD 'secret'`, `CREATE ROLE `+reader+` LOGIN REPLICATION PASSWORD 'secret'`)
	url := pg.URL(db)
	tables := []string{"orders"}
	for _, c := range []struct {
		d    lambent.Database
		want string
	}{
		{lambent.Database{URL: replica.URL("postgres"), Tables: tables}, "ALTER SYSTEM SET wal_level = 'logical', and restart PostgreSQL"},
		{lambent.Database{URL: "postgres://postgres:secret@127.0.0.1:1/" + db, Tables: tables}, "does not answer"},
		{lambent.Database{URL: strings.Replace(url, "secret", "se%40cret", 1), Tables: tables}, "password authentication failed"},
		{lambent.Database{URL: pg.URL("nosuch"), Tables: tables}, `database "nosuch" does not exist`},
		{lambent.Database{URL: url, Tables: []string{"order"}}, "has no table public.order. There are: public.bare, public.fast, public.orders"},
		{lambent.Database{URL: url, Tables: []string{"seen"}}, "it is a view"},
		{lambent.Database{URL: url, Tables: []string{"fast"}}, "unlogged"},
		{lambent.Database{URL: url, Tables: []string{"bare"}}, `ALTER TABLE "public"."bare" REPLICA IDENTITY FULL`},
		{lambent.Database{URL: url, Tables: []string{"bare"}, Operations: []string{"insert", "truncate"}}, ""},
		{lambent.Database{URL: url, Tables: tables, Columns: []string{"amount"}}, "table public.orders has id, note, total"},
		{lambent.Database{URL: url + "?sslkey=/etc/passwd", Tables: tables}, `parameter "sslkey"`},
		{lambent.Database{URL: pg.URLOf(app, db), Tables: tables}, `ALTER ROLE "` + app + `" REPLICATION`},
		{lambent.Database{URL: pg.URLOf(reader, db), Tables: tables}, `CREATE PUBLICATION lambent FOR TABLE "public"."orders" WITH (publish_via_partition_root = true)`},
		{lambent.Database{URL: pg.URLOf(reader, db), Tables: tables, Snapshot: true}, `GRANT SELECT ON "public"."orders" TO "` + reader + `"`},
	} {
		err := (&postgres.Source{}).Check(newTrigger(c.d))
		if c.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(lambent.UserMessage(err), c.want) || strings.Contains(err.Error(), "cret@") || strings.Contains(err.Error(), "cret:") {
			t.Errorf("%+v: %v, want %q", c.d, err, c.want)
		}
	}

	// What the error says is what mends it: a role that may publish nothing reads what
	// was published for it.
	pg.Exec(t, db, `CREATE PUBLICATION lambent FOR TABLE bare WITH (publish_via_partition_root = true, publish = 'insert')`)
	d := lambent.Database{URL: pg.URLOf(reader, db), Tables: tables}
	for _, want := range []string{`ALTER PUBLICATION lambent ADD TABLE "public"."orders"`, `ALTER PUBLICATION lambent SET (publish = 'insert, update, delete, truncate')`} {
		if err := (&postgres.Source{}).Check(newTrigger(d)); err == nil || !strings.Contains(lambent.UserMessage(err), want) {
			t.Errorf("%v, want %q", err, want)
		}
		pg.Exec(t, db, want)
	}
	w := watch(t, d)
	pg.Exec(t, db, `INSERT INTO bare VALUES (1)`, `INSERT INTO orders VALUES (1)`)
	w.want(`insert orders {"id":1} - {"id":1,"note":null,"total":null}`)
}

// A transaction that stays open has no slot made, and is named.
func TestOpenTransaction(t *testing.T) {
	t.Parallel()
	pg := databasetest.NewPostgres(t)
	db := pg.Database(t, orders)
	conn := pg.Connect(t, db)
	for _, sql := range []string{"BEGIN", "INSERT INTO orders VALUES (1)"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	tr, s := newTrigger(lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}}), &postgres.Source{}
	err := s.Prepare(t.Context(), tr, &sink{})
	if want := fmt.Sprintf("pg_terminate_backend(%d)", conn.PgConn().PID()); err == nil || !strings.Contains(lambent.UserMessage(err), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if err := s.Forget(t.Context(), tr); err != nil {
		t.Error(err)
	}
	if got := pg.Value(t, db, `SELECT count(*) FROM pg_replication_slots`); got != "0" {
		t.Error(got)
	}
}
