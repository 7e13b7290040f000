package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/source/databasetest"
	"lambent/source/postgres"
)

func TestMain(m *testing.M) { os.Exit(databasetest.Main(m)) }

// watch adds a trigger and runs it until the test ends.
func watch(t *testing.T, d lambent.Database) *databasetest.Watched {
	t.Helper()
	return databasetest.Watch(t, &postgres.Source{}, d)
}

func TestSuite(t *testing.T) {
	t.Parallel()
	databasetest.Suite(t, databasetest.Kind{
		Source:    func() databasetest.DatabaseSource { return &postgres.Source{} },
		Shared:    func(t testing.TB) databasetest.Server { return databasetest.SharedPostgres(t) },
		New:       func(t testing.TB) databasetest.Server { return databasetest.NewPostgres(t) },
		Impatient: func(t testing.TB) databasetest.Server { return databasetest.NewPostgres(t, "wal_sender_timeout=3s") },
		Text:      "text",
		Whole:     func(table string) []string { return []string{"ALTER TABLE " + table + " REPLICA IDENTITY FULL"} },
		Secure:    func(t testing.TB, p *databasetest.Pair) databasetest.Server { return secure(t, p) },
		Modes:     [2]string{"sslmode=require", "sslmode=verify-ca"},
	})
}

// secure is a server with TLS.
func secure(t testing.TB, p *databasetest.Pair) databasetest.Postgres {
	t.Helper()
	who := filepath.Join(filepath.Dir(p.CertificateFile), "hba")
	if err := os.WriteFile(who, []byte("hostssl all certified all scram-sha-256 clientcert=verify-ca\nhost all postgres all scram-sha-256\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pg := databasetest.NewPostgres(t, "ssl=on", "ssl_cert_file="+p.CertificateFile, "ssl_key_file="+p.KeyFile, "ssl_ca_file="+p.CertificateFile, "hba_file="+who)
	pg.Exec(t, "postgres", `CREATE ROLE certified LOGIN SUPERUSER PASSWORD 'secret'`)
	return pg
}

// Each of several hosts is held against its own name.
func TestHosts(t *testing.T) {
	t.Parallel()
	pair := databasetest.NewPair(t)
	pg := secure(t, pair)
	db := pg.Database(t, orders)
	for hosts, want := range map[string]string{"127.0.0.77,127.0.0.1": "", "127.0.0.77,localhost": "match localhost"} { // the port is the last one's
		d := lambent.Database{URL: strings.Replace(pg.URL(db), "127.0.0.1", hosts, 1), Tables: []string{"orders"}, Certificates: lambent.Certificates{CA: pair.CA}}
		err := (&postgres.Source{}).Check(databasetest.NewTrigger(d))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", hosts, err, want)
		}
	}
}

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
	w.Want(
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
	for i, e := range w.Events {
		types += " " + strings.TrimPrefix(e.Type, "dev.lambent.")
		if e.Source != "/triggers/"+w.Trigger.ID || e.DataContentType != "application/json" || time.Since(e.Time) > time.Minute || time.Since(e.Time) < 0 {
			t.Errorf("%d: %+v", i, e)
		}
	}
	if want := strings.Repeat(" row.inserted", 2) + strings.Repeat(" row.updated", 2) + " row.deleted table.truncated row.inserted row.updated row.deleted"; types != want {
		t.Error(types)
	}
	if e := w.Events[3]; e.Subject != "public.orders" || e.Extensions["partitionkey"] != "public.orders/3" {
		t.Errorf("%+v", e)
	}
	if e := w.Events[6]; e.Subject != "My Shop.Full" || e.Extensions["partitionkey"] != "My Shop.Full" {
		t.Errorf("%+v", e)
	}
	all := w.Wait(2)
	if all[0].Transaction == "" || all[0].Transaction != all[1].Transaction || all[0].Index != 0 || all[1].Index != 1 || all[2].Index != 0 || all[0].Schema != "public" || all[0].Position != all[1].Position {
		t.Errorf("%+v", all)
	}
}

// What is to look like DynamoDB's has no truncate, and says so.
func TestShape(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, orders)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}, Shape: lambent.ShapeDynamoDB})
	pg.Exec(t, db, `INSERT INTO orders VALUES (1)`, `TRUNCATE orders`, `INSERT INTO orders VALUES (2)`, `DELETE FROM orders`)
	w.Want(
		`insert orders {"id":1} - {"id":1,"note":null,"total":null}`,
		`insert orders {"id":2} - {"id":2,"note":null,"total":null}`,
		`delete orders {"id":2} {"id":2} -`,
	)
	for _, e := range w.Events {
		if e.Extensions[lambent.RowShape] != lambent.ShapeDynamoDB {
			t.Errorf("%+v", e)
		}
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
			w.Wait(1)
			pg.Exec(t, db, fmt.Sprintf("INSERT INTO %s VALUES (%s)", table, c.value))
			w.Wait(2)
			for _, e := range w.Events {
				if !strings.Contains(string(e.Data), `"new":{"v":`+c.want+`}`) {
					t.Errorf("%s, want %s", e.Data, c.want)
				}
			}
		})
	}
}

// Filters leave out operations and columns; the key is there.
func TestFilters(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, orders)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"public.orders"}, Columns: []string{"note"}, Operations: []string{"update", "delete"}})
	pg.Exec(t, db, `INSERT INTO orders VALUES (1, 'a', 1)`, `UPDATE orders SET note = 'b'`, `TRUNCATE orders`, `INSERT INTO orders VALUES (1, 'a', 1)`, `DELETE FROM orders`)
	w.Want(`update orders {"id":1} - {"note":"b"}`, `delete orders {"id":1} {} -`)
}

// A snapshot has what is told of changes, too: the rows of partitions as those of their
// table, and no generated columns.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v int, w int GENERATED ALWAYS AS (v + 1) STORED)`, `INSERT INTO t VALUES (1, 0)`,
		`CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)`, `CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)`, `INSERT INTO p VALUES (1)`)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"t", "p"}, Snapshot: true})
	w.Wait(2)
	pg.Exec(t, db, `INSERT INTO t VALUES (2, 0)`, `INSERT INTO p VALUES (2)`)
	w.Want(`insert t {"id":1} - {"id":1,"v":0}`, `insert p {"id":1} - {"id":1}`, `insert t {"id":2} - {"id":2,"v":0}`, `insert p {"id":2} - {"id":2}`)
}

// A schema may change while changes are on their way.
func TestSchemaChange(t *testing.T) {
	t.Parallel()
	pg := databasetest.SharedPostgres(t)
	db := pg.Database(t, orders)
	w := watch(t, lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}})
	w.Stop()
	pg.Exec(t, db, `INSERT INTO orders VALUES (1)`, `ALTER TABLE orders ADD COLUMN tags text[] DEFAULT '{a}'`, `INSERT INTO orders VALUES (2)`, `ALTER TABLE orders DROP COLUMN note`,
		`INSERT INTO orders VALUES (3)`, `ALTER TABLE orders RENAME COLUMN total TO sum`, `ALTER TABLE orders ALTER COLUMN sum TYPE bigint`, `INSERT INTO orders VALUES (4, 5)`)
	w.Start()
	w.Want(`insert orders {"id":1} - {"id":1,"note":null,"total":null}`, `insert orders {"id":2} - {"id":2,"note":null,"tags":["a"],"total":null}`,
		`insert orders {"id":3} - {"id":3,"tags":["a"],"total":null}`, `insert orders {"id":4} - {"id":4,"sum":5,"tags":["a"]}`)
	pg.Exec(t, db, `ALTER TABLE orders RENAME TO bills`, `INSERT INTO bills VALUES (5)`)
	if d := w.Wait(5)[4]; d.Table != "bills" {
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
	all := w.Wait(2)
	if all[0].String() != `update a {"id":1} - {"id":1,"n":2} unchanged v` {
		t.Errorf("%s", &all[0])
	}
	if b := all[1]; len(b.New["v"]) != 6402 || string(b.New["v"]) != string(b.Old["v"]) || b.Unchanged != nil || databasetest.Row(b.Key) != `{"id":1}` {
		t.Errorf("%s", &b)
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
	w.Wait(1)
	w.Stop()
	databasetest.Until(t, "the slot's connection has ended in PostgreSQL too", func() bool {
		return pg.Value(t, db, `SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND active`) == "0"
	})
	pg.Exec(t, db, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()`)
	w.Start()
	databasetest.Until(t, "it is told", func() bool {
		err := w.Failure()
		return err != nil && strings.Contains(lambent.UserMessage(err), "lambent trigger disable "+w.Trigger.ID+" && lambent trigger enable "+w.Trigger.ID)
	})
	w.Stop()
	if err := w.Source.Forget(t.Context(), w.Trigger); err != nil {
		t.Error(err)
	}
	w.Trigger.Since = time.Now()
	if err := w.Source.Prepare(t.Context(), w.Trigger, w.Sink); err != nil {
		t.Fatal(err)
	}
	w.Start()
	pg.Exec(t, db, `INSERT INTO orders VALUES (2)`)
	w.Wait(2)
}

// A standby that is promoted is gone on with, where it has the slot, as standbys of
// PostgreSQL 17 may.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := databasetest.NewLaterPostgres(t)
	standby := primary.NewStandby(t, "sync_replication_slots=on")
	db := primary.Database(t, orders)
	w := watch(t, lambent.Database{URL: primary.URL(db), Tables: []string{"orders"}})
	primary.Exec(t, db, `INSERT INTO orders VALUES (1), (2)`)
	w.Wait(2)
	id := 3
	databasetest.Until(t, "the standby has the slot", func() bool { // it takes it over once the primary's has moved on
		primary.Exec(t, db, fmt.Sprintf(`INSERT INTO orders VALUES (%d)`, id), `SELECT pg_log_standby_snapshot()`)
		w.Wait(id)
		id++
		return standby.Value(t, "postgres", `SELECT count(*) FROM pg_replication_slots WHERE synced AND NOT temporary AND failover`) == "1"
	})
	w.Stop()
	primary.Exec(t, db, fmt.Sprintf(`INSERT INTO orders VALUES (%d)`, id))
	follows(t, primary, standby)
	promote(t, primary, standby)
	standby.Exec(t, db, fmt.Sprintf(`INSERT INTO orders VALUES (%d)`, id+1))
	w.Start()
	for i, d := range w.Wait(id + 1) {
		if want := fmt.Sprint(i + 1); string(d.New["id"]) != want {
			t.Errorf("%s, want %s", &d, want)
		}
	}
	if w.Repeats > 0 {
		t.Errorf("%d came again", w.Repeats)
	}
}

// follows waits until a standby has what its primary has.
func follows(t *testing.T, primary, standby databasetest.Postgres) {
	t.Helper()
	at := primary.Value(t, "postgres", `SELECT pg_current_wal_flush_lsn()`)
	databasetest.Until(t, "the standby follows", func() bool {
		return standby.Value(t, "postgres", `SELECT pg_last_wal_replay_lsn() >= '`+at+`'`) == "t"
	})
}

// promote ends a primary, and has its standby be one in its place.
func promote(t *testing.T, primary, standby databasetest.Postgres) {
	t.Helper()
	primary.Kill()
	standby.Exec(t, "postgres", `SELECT pg_promote()`)
	standby.Kill()
	standby.Port = primary.Port
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
}

// A standby that was promoted without what the trigger was told has other things at the
// same places of its log: they are not taken for told, whoever made the slot there.
func TestFailoverBehind(t *testing.T) {
	t.Parallel()
	primary := databasetest.NewPostgres(t)
	standby := primary.NewStandby(t)
	db := primary.Database(t, orders)
	w := watch(t, lambent.Database{URL: primary.URL(db), Tables: []string{"orders"}})
	primary.Exec(t, db, `INSERT INTO orders VALUES (1)`)
	w.Wait(1)
	follows(t, primary, standby)
	standby.Kill()
	primary.Exec(t, db, `INSERT INTO orders VALUES (2)`)
	w.Wait(2)
	w.Stop()
	primary.Kill()
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	promote(t, primary, standby)
	standby.Exec(t, db, `INSERT INTO orders SELECT g FROM generate_series(10, 2000) g`)
	slot := standby.Value(t, db, `SELECT pubname FROM pg_publication`)
	standby.Exec(t, db, fmt.Sprintf(`SELECT pg_create_logical_replication_slot('%s', 'pgoutput')`, slot))
	w.Start()
	databasetest.Until(t, "it is told", func() bool {
		err := w.Failure()
		return err != nil && strings.Contains(lambent.UserMessage(err), "a standby became the primary") && strings.Contains(lambent.UserMessage(err), "lambent trigger disable "+w.Trigger.ID)
	})
	if n := len(w.Wait(2)); n != 2 {
		t.Errorf("%d events", n)
	}
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
	databasetest.Until(t, "it runs", func() bool { _, known := w.Source.Lag(w.Trigger); return known })
	for range 2 {
		if err := w.Source.Forget(t.Context(), w.Trigger); err != nil {
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
	databasetest.Until(t, "it has gone on", func() bool {
		return pg.Value(t, db, `SELECT confirmed_flush_lsn >= '`+written+`' FROM pg_replication_slots`) == "t"
	})
	if got := pg.Value(t, db, slot); got == before {
		t.Error(got)
	}
	if lag, known := w.Source.Lag(w.Trigger); !known || lag.Behind != 0 || lag.Warning != "" {
		t.Errorf("%+v, %v", lag, known)
	}
}

// What PostgreSQL keeps of its log for a trigger is measured, and warned of while it is over
// the limit: here for a transaction that stays open, since that is told whole or not at all.
func TestRetained(t *testing.T) {
	t.Parallel()
	pg := databasetest.NewPostgres(t)
	db := pg.Database(t, orders, `CREATE TABLE other (v text)`)
	warned := make(chan string, 10)
	src := &postgres.Source{MaxRetained: 4 << 20, Warn: func(tr *lambent.Trigger, what string) { warned <- tr.ID + " " + what }}
	w := databasetest.Watch(t, src, lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}})
	open := pg.Session(t, db)
	open("BEGIN")
	open("INSERT INTO orders VALUES (1)")
	databasetest.Until(t, "it is measured", func() bool {
		lag, known := src.Lag(w.Trigger)
		return known && lag.Retained < 4<<20 && lag.Warning == ""
	})
	pg.Exec(t, db, `INSERT INTO other SELECT repeat('x', 100) FROM generate_series(1, 50000)`, `CHECKPOINT`)
	databasetest.Until(t, "it is warned of", func() bool {
		lag, known := src.Lag(w.Trigger)
		return known && lag.Retained > 4<<20 && strings.Contains(lag.Warning, "MB of its log for the trigger")
	})
	open("COMMIT")
	w.Wait(1)
	databasetest.Until(t, "all is well", func() bool {
		pg.Exec(t, db, `CHECKPOINT`) // with which PostgreSQL sees from where it needs its log
		lag, known := src.Lag(w.Trigger)
		return known && lag.Retained < 4<<20 && lag.Warning == ""
	})
	if got := <-warned; !strings.HasPrefix(got, w.Trigger.ID+" PostgreSQL keeps ") || len(warned) > 0 {
		t.Errorf("%q, and %d more", got, len(warned))
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
		{lambent.Database{URL: url + "?sslkey=/etc/passwd", Tables: tables}, "by --key FILE"},
		{lambent.Database{URL: url + "?passfile=/etc/passwd", Tables: tables}, `parameter "passfile"`},
		{lambent.Database{URL: url + "?sslrootcert=/dev/zero", Tables: tables}, "by --ca FILE"},
		{lambent.Database{URL: pg.URLOf(app, db), Tables: tables}, `ALTER ROLE "` + app + `" REPLICATION`},
		{lambent.Database{URL: pg.URLOf(reader, db), Tables: tables}, `CREATE PUBLICATION lambent FOR TABLE "public"."orders" WITH (publish_via_partition_root = true)`},
		{lambent.Database{URL: pg.URLOf(reader, db), Tables: tables, Snapshot: true}, `GRANT SELECT ON "public"."orders" TO "` + reader + `"`},
	} {
		err := (&postgres.Source{}).Check(databasetest.NewTrigger(c.d))
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
		if err := (&postgres.Source{}).Check(databasetest.NewTrigger(d)); err == nil || !strings.Contains(lambent.UserMessage(err), want) {
			t.Errorf("%v, want %q", err, want)
		}
		pg.Exec(t, db, want)
	}
	w := watch(t, d)
	pg.Exec(t, db, `INSERT INTO bare VALUES (1)`, `INSERT INTO orders VALUES (1)`)
	w.Want(`insert orders {"id":1} - {"id":1,"note":null,"total":null}`)
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
	tr, s := databasetest.NewTrigger(lambent.Database{URL: pg.URL(db), Tables: []string{"orders"}}), &postgres.Source{}
	err := s.Prepare(t.Context(), tr, &databasetest.Sink{})
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
