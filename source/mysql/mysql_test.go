package mysql_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"lambent"
	"lambent/source/databasetest"
	"lambent/source/mysql"
)

const orders = `CREATE TABLE orders (id int PRIMARY KEY, note text, total numeric(10,2))`

func TestMain(m *testing.M) { os.Exit(databasetest.Main(m)) }

// each runs a test with MariaDB, and with MySQL where that is there.
func each(t *testing.T, test func(*testing.T, *databasetest.Flavour)) {
	t.Helper()
	t.Parallel()
	for _, f := range []*databasetest.Flavour{databasetest.MariaDB, databasetest.Oracle} {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// watch adds a trigger and runs it until the test ends.
func watch(t *testing.T, d lambent.Database) *databasetest.Watched {
	t.Helper()
	return databasetest.Watch(t, &mysql.Source{}, d)
}

func TestSuite(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		databasetest.Suite(t, databasetest.Kind{
			Source:    func() databasetest.DatabaseSource { return &mysql.Source{} },
			Shared:    func(t testing.TB) databasetest.Server { return f.Shared(t) },
			New:       func(t testing.TB) databasetest.Server { return f.New(t) },
			Impatient: func(t testing.TB) databasetest.Server { return f.New(t, "--net-write-timeout=3") },
			Text:      "longtext",
			Whole:     func(string) []string { return nil },
			Secure: func(t testing.TB, p *databasetest.Pair) databasetest.Server {
				s := f.New(t, "--ssl-cert="+p.CertificateFile, "--ssl-key="+p.KeyFile, "--ssl-ca="+p.CertificateFile)
				s.Exec(t, "", `CREATE USER certified@'%' IDENTIFIED BY 'secret' REQUIRE X509`, `GRANT ALL ON *.* TO certified@'%'`)
				return s
			},
			Modes: [2]string{"ssl-mode=required", "ssl-mode=verify_ca"},
		})
	})
}

// What is done to rows is told, with the rows before, whole.
func TestOperations(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.Shared(t)
		db := s.Database(t, orders, `CREATE TABLE other (id int)`, "CREATE TABLE `Bare Table` (a int, b text)")
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders", db + ".Bare Table"}})
		s.Exec(t, db,
			`INSERT INTO orders VALUES (1, 'a"b', 12.50), (2, NULL, NULL)`, `UPDATE orders SET note = 'c' WHERE id = 1`, `UPDATE orders SET id = 3 WHERE id = 2`,
			`INSERT INTO other VALUES (1)`, `DELETE FROM orders WHERE id = 3`, `BEGIN`, `INSERT INTO orders VALUES (9, '', 0)`, `ROLLBACK`, `TRUNCATE orders`,
			`BEGIN`, "INSERT INTO `Bare Table` VALUES (1, 'x')", `SAVEPOINT a`, `INSERT INTO orders VALUES (9, '', 0)`, `ROLLBACK TO SAVEPOINT a`, "UPDATE `Bare Table` SET b = 'z'", `COMMIT`,
			"DELETE FROM `Bare Table`", "/* all */ truncate table `"+db+"` . `Bare Table`", `TRUNCATE other`)
		w.Want(
			`insert orders {"id":1} - {"id":1,"note":"a\"b","total":"12.50"}`,
			`insert orders {"id":2} - {"id":2,"note":null,"total":null}`,
			`update orders {"id":1} {"id":1,"note":"a\"b","total":"12.50"} {"id":1,"note":"c","total":"12.50"}`,
			`update orders {"id":3} {"id":2,"note":null,"total":null} {"id":3,"note":null,"total":null}`,
			`delete orders {"id":3} {"id":3,"note":null,"total":null} -`,
			`truncate orders - - -`,
			`insert Bare Table - - {"a":1,"b":"x"}`,
			`update Bare Table - {"a":1,"b":"x"} {"a":1,"b":"z"}`,
			`delete Bare Table - {"a":1,"b":"z"} -`,
			`truncate Bare Table - - -`,
		)
		types := ""
		for i, e := range w.Events {
			types += " " + strings.TrimPrefix(e.Type, "dev.lambent.")
			if e.Source != "/triggers/"+w.Trigger.ID || e.DataContentType != "application/json" || time.Since(e.Time) > time.Minute || time.Since(e.Time) < 0 {
				t.Errorf("%d: %+v", i, e)
			}
		}
		if want := strings.Repeat(" row.inserted", 2) + strings.Repeat(" row.updated", 2) + " row.deleted table.truncated row.inserted row.updated row.deleted table.truncated"; types != want {
			t.Error(types)
		}
		if e := w.Events[3]; e.Subject != db+".orders" || e.Extensions["partitionkey"] != db+".orders/3" {
			t.Errorf("%+v", e)
		}
		all := w.Wait(8)
		if all[0].Transaction == "" || all[0].Transaction != all[1].Transaction || all[0].Index != 0 || all[1].Index != 1 || all[2].Index != 0 || all[0].Schema != db || all[0].Position != all[1].Position {
			t.Errorf("%+v", all)
		}
		if all[6].Transaction != all[7].Transaction || all[7].Index != 1 {
			t.Errorf("%+v, %+v", all[6], all[7])
		}
	})
}

// Every type has a JSON form of which nothing is lost, as a snapshot and as it is told,
// whether or not the log has what columns are.
func TestTypes(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		f.Shared(t)
		for _, metadata := range []string{"FULL", "MINIMAL"} {
			t.Run(metadata, func(t *testing.T) {
				t.Parallel()
				s := f.New(t, "--binlog-row-metadata="+metadata, "--max-connections=500")
				testTypes(t, f, s)
			})
		}
	})
}

func testTypes(t *testing.T, f *databasetest.Flavour, s *databasetest.MySQL) {
	cases := []struct{ kind, value, want string }{
		{"boolean", "true", "1"}, {"boolean", "NULL", "null"}, {"tinyint", "-128", "-128"}, {"tinyint unsigned", "255", "255"}, {"smallint", "-32768", "-32768"}, {"smallint unsigned", "65535", "65535"},
		{"mediumint", "-8388608", "-8388608"}, {"mediumint unsigned", "16777215", "16777215"}, {"int", "-2147483648", "-2147483648"}, {"int unsigned", "4294967295", "4294967295"},
		{"int(8) unsigned zerofill", "42", "42"},
		{"bigint", "9007199254740991", "9007199254740991"}, {"bigint", "9007199254740992", `"9007199254740992"`}, {"bigint", "-9223372036854775808", `"-9223372036854775808"`},
		{"bigint unsigned", "18446744073709551615", `"18446744073709551615"`}, {"bigint unsigned", "7", "7"},
		{"decimal(30,10)", "12345678901234567890.10", `"12345678901234567890.1000000000"`}, {"decimal(5,2)", "-0.5", `"-0.50"`}, {"decimal(10,0)", "0", `"0"`},
		{"float", "0.1", "0.1"}, {"float", "16777217", "16777216"}, {"float", "3.4e38", "3.4e+38"}, {"double", "1e300", "1e+300"}, {"double", "0.1e0 + 0.2e0", "0.30000000000000004"}, {"double", "-1e-7", "-1e-07"},
		{"bit(1)", "1", "1"}, {"bit(10)", "b'1000000001'", "513"}, {"bit(64)", "~0", `"18446744073709551615"`}, {"year", "2026", "2026"},
		{"char(3)", "'a'", `"a"`}, {"varchar(5)", "'ü😀'", `"ü😀"`}, {"varchar(300)", `'\\"\u0001'`, `"\\\"u0001"`}, {"tinytext", "'a'", `"a"`}, {"mediumtext", "''", `""`}, {"longtext", "'a\nb'", `"a\nb"`},
		{"char(200) character set utf8mb4", "'ü'", `"ü"`},
		{"varchar(5) character set latin1", "'ü€'", `"ü€"`}, {"text character set latin2", "'ő'", `"ő"`}, {"char(5) character set utf16", "'ü😀'", `"ü😀"`}, {"varchar(5) character set ucs2", "'ü'", `"ü"`},
		{"varchar(5) character set cp1251", "'Ж'", `"Ж"`}, {"varchar(9) character set sjis", "'日本'", `"日本"`}, {"varchar(9) character set gbk", "'中'", `"中"`}, {"varchar(9) character set utf32", "'中'", `"中"`},
		{"varchar(9) character set koi8r", "'Ж'", `"Ж"`}, {"varchar(9) character set big5", "'中'", `"中"`}, {"varchar(9) character set euckr", "'한'", `"한"`}, {"varchar(9) character set utf8mb3", "'ü'", `"ü"`},
		{"binary(4)", "x'ff00'", `"/wAAAA=="`}, {"varbinary(300)", "x'ff00'", `"/wA="`}, {"tinyblob", "x'ff00'", `"/wA="`}, {"longblob", "''", `""`}, {"char(2) character set binary", "x'ff'", `"/wA="`},
		{"date", "'2026-11-27'", `"2026-11-27"`}, {"date", "'1000-01-01'", `"1000-01-01"`}, {"time", "'-838:59:59'", `"-838:59:59"`}, {"time(2)", "'18:00:00.5'", `"18:00:00.50"`}, {"time(6)", "'-00:00:00.000001'", `"-00:00:00.000001"`},
		{"datetime", "'2026-11-27 18:00'", `"2026-11-27T18:00:00"`}, {"datetime(6)", "'2026-11-27 18:00:00.123456'", `"2026-11-27T18:00:00.123456"`}, {"datetime(3)", "'9999-12-31 23:59:59.999'", `"9999-12-31T23:59:59.999"`},
		{"datetime", "'0000-00-00'", `"0000-00-00T00:00:00"`}, {"date", "'2026-00-00'", `"2026-00-00"`},
		{"timestamp(3) NULL", "'2026-11-27 18:00:00.5'", `"2026-11-27T17:00:00.500Z"`}, {"timestamp NULL", "'2026-07-27 18:00'", `"2026-07-27T17:00:00Z"`}, {"timestamp NULL", "0", `"0000-00-00T00:00:00"`},
		{"json", `'{"a" : 1, "b": [9007199254740993, 1.5, "x", null]}'`, `{"a":1,"b":[9007199254740993,1.5,"x",null]}`}, {"json", `'"x"'`, `"x"`}, {"json", "'null'", "null"},
		{"enum('sad','it''s, \"so\"','ü')", `'it''s, "so"'`, `"it's, \"so\""`}, {"enum('sad','ü') character set latin1", "'ü'", `"ü"`},
		{"set('a','b c','d')", "'a,d'", `["a","d"]`}, {"set('a')", "''", "[]"}, {"set('a','ü') character set latin1", "'ü'", `["ü"]`},
		{"point", "ST_GeomFromText('POINT(1 2)')", `"AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA=="`},
		{"int as (7) stored", "DEFAULT", "7"}, {"int as (7) virtual", "DEFAULT", "7"},
	}
	if f == databasetest.MariaDB {
		cases = append(cases, []struct{ kind, value, want string }{
			{"inet6", "'::1'", `"::1"`}, {"uuid", "'6a7e8feb-b491-4cf7-a9f1-bf3703467718'", `"6a7e8feb-b491-4cf7-a9f1-bf3703467718"`}, {"uuid", "'a1b2c3d4-e5f6-11ee-8c99-0242ac120002'", `"a1b2c3d4-e5f6-11ee-8c99-0242ac120002"`},
		}...)
	}
	db := s.Database(t)
	for i, c := range cases {
		t.Run(fmt.Sprint(i, " ", c.kind), func(t *testing.T) {
			t.Parallel()
			table := fmt.Sprint("t", i)
			exec := s.Session(t, db)
			exec("SET SESSION sql_mode = '', time_zone = '+01:00'")
			exec(fmt.Sprintf("CREATE TABLE %s (id int, v %s)", table, c.kind))
			exec(fmt.Sprintf("INSERT INTO %s VALUES (1, %s)", table, c.value))
			w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{table}, Columns: []string{"v"}, Operations: []string{"insert"}, Snapshot: true})
			w.Wait(1)
			exec(fmt.Sprintf("INSERT INTO %s VALUES (2, %s)", table, c.value))
			for _, d := range w.Wait(2) {
				var got, want any
				if json.Unmarshal(d.New["v"], &got) != nil || json.Unmarshal([]byte(c.want), &want) != nil || string(d.New["v"]) != c.want && (!strings.HasPrefix(c.kind, "json") || fmt.Sprint(got) != fmt.Sprint(want)) {
					t.Errorf("%s, snapshot %v; want %s", d.New["v"], d.Snapshot, c.want)
				}
			}
		})
	}
}

// Filters leave out operations and columns; the key is there.
func TestFilters(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.Shared(t)
		db := s.Database(t, orders)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{db + ".orders"}, Columns: []string{"note"}, Operations: []string{"update", "delete"}})
		s.Exec(t, db, `INSERT INTO orders VALUES (1, 'a', 1)`, `UPDATE orders SET note = 'b'`, `TRUNCATE orders`, `INSERT INTO orders VALUES (1, 'a', 1)`, `DELETE FROM orders`)
		w.Want(`update orders {"id":1} {"note":"a"} {"note":"b"}`, `delete orders {"id":1} {"note":"a"} -`)
	})
}

// A schema may change while changes are on their way.
func TestSchemaChange(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.Shared(t)
		db := s.Database(t, orders)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		w.Stop()
		s.Exec(t, db, `INSERT INTO orders VALUES (1, 'a', 1)`, `ALTER TABLE orders ADD COLUMN tag varchar(9) DEFAULT 'x'`, `INSERT INTO orders VALUES (2, 'b', 2, 'y')`, `ALTER TABLE orders DROP COLUMN note`,
			`INSERT INTO orders (id) VALUES (3)`, `ALTER TABLE orders RENAME COLUMN total TO sum`, `ALTER TABLE orders MODIFY sum bigint unsigned FIRST`, `INSERT INTO orders (id, sum) VALUES (4, 5)`)
		w.Start()
		w.Want(`insert orders {"id":1} - {"id":1,"note":"a","total":"1.00"}`, `insert orders {"id":2} - {"id":2,"note":"b","tag":"y","total":"2.00"}`,
			`insert orders {"id":3} - {"id":3,"tag":"x","total":null}`, `insert orders {"id":4} - {"id":4,"sum":5,"tag":"x"}`)
	})
}

// Where the log does not name columns, they are named as they were known, or as they
// are, and by their places where neither can be.
func TestSchemaAhead(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.New(t, "--binlog-row-metadata=MINIMAL")
		db := s.Database(t, orders, `CREATE TABLE other (a int)`)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		databasetest.Until(t, "it is told", func() bool {
			lag, known := w.Source.Lag(w.Trigger)
			return known && strings.Contains(lag.Warning, "SET GLOBAL binlog_row_metadata = FULL")
		})
		s.Exec(t, db, `INSERT INTO orders VALUES (1, 'a', 1)`, `ALTER TABLE orders ADD COLUMN tag varchar(9) DEFAULT 'x'`, `INSERT INTO orders VALUES (2, 'b', 2, 'y')`)
		w.Wait(2)
		w.Stop()
		s.Exec(t, db, `INSERT INTO orders VALUES (3, 'c', 3, 'z')`, `TRUNCATE other`, `ALTER TABLE orders DROP COLUMN note`, `INSERT INTO orders VALUES (4, 4, 'z')`, `ALTER TABLE orders ADD COLUMN n int`, `INSERT INTO orders VALUES (5, 5, 'z', 1)`)
		w.Start()
		w.Want(`insert orders {"id":1} - {"id":1,"note":"a","total":"1.00"}`, `insert orders {"id":2} - {"id":2,"note":"b","tag":"y","total":"2.00"}`, `insert orders {"id":3} - {"id":3,"note":"c","tag":"z","total":"3.00"}`,
			`insert orders - - {"@1":4,"@2":"4.00","@3":"z"}`, `insert orders {"id":5} - {"id":5,"n":1,"tag":"z","total":"5.00"}`)
	})
}

// What a session leaves out of the log is taken from the row before, or named.
func TestPartialRows(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.Shared(t)
		db := s.Database(t, orders)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		s.Exec(t, db, `INSERT INTO orders VALUES (1, 'a', 1)`, `SET SESSION binlog_row_image = 'MINIMAL'`, `UPDATE orders SET note = 'b'`, `DELETE FROM orders`)
		w.Want(`insert orders {"id":1} - {"id":1,"note":"a","total":"1.00"}`, `update orders {"id":1} {"id":1} {"id":1,"note":"b"} unchanged total`, `delete orders {"id":1} {"id":1} -`)
	})
}

// A log that is thrown away is an error that says so, and a trigger that is enabled again
// begins anew.
func TestPurged(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.New(t, "--loose-slave-connections-needed-for-purge=0")
		db := s.Database(t, orders)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		s.Exec(t, db, `INSERT INTO orders VALUES (1, '', 0)`)
		w.Wait(1)
		w.Stop()
		s.Exec(t, db, `INSERT INTO orders VALUES (2, '', 0)`, `FLUSH BINARY LOGS`, `INSERT INTO orders VALUES (3, '', 0)`, `FLUSH BINARY LOGS`)
		databasetest.Until(t, "it is thrown away", func() bool { // which it is not as long as somebody is about to read it
			s.Exec(t, db, `PURGE BINARY LOGS TO 'bin.000003'`)
			return !strings.Contains(s.Value(t, db, `SHOW BINARY LOGS`), "bin.000002")
		})
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
		s.Exec(t, db, `INSERT INTO orders VALUES (4, '', 0)`)
		w.Wait(2)
	})
}

// A server that has forgotten what it told is not gone on with.
func TestForgetful(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.New(t)
		db := s.Database(t, orders)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		s.Exec(t, db, `INSERT INTO orders VALUES (1, '', 0)`)
		w.Wait(1)
		w.Stop()
		reset := `RESET MASTER`
		if f == databasetest.Oracle {
			reset = `RESET BINARY LOGS AND GTIDS`
		}
		s.Exec(t, db, reset, `INSERT INTO orders VALUES (2, '', 0)`)
		w.Start()
		databasetest.Until(t, "it is told", func() bool {
			err := w.Failure()
			return err != nil && lambent.Is(err, lambent.Stale) && strings.Contains(lambent.UserMessage(err), "lambent trigger disable "+w.Trigger.ID)
		})
	})
}

// An idle trigger is not behind, whatever else is written there, and its position goes on.
func TestIdle(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.New(t)
		db := s.Database(t, orders, `CREATE TABLE other (v text)`)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		before, _ := w.Position(t.Context())
		for range 10 {
			s.Exec(t, db, `INSERT INTO other SELECT repeat('x', 1000)`)
		}
		databasetest.Until(t, "it has gone on", func() bool {
			after, _ := w.Position(t.Context())
			lag, known := w.Source.Lag(w.Trigger)
			return string(after) != string(before) && known && lag.Retained < 5000
		})
		if lag, known := w.Source.Lag(w.Trigger); !known || lag.Behind != 0 || lag.Warning != "" {
			t.Errorf("%+v, %v", lag, known)
		}
	})
}

// A trigger that its function holds up is behind, and the log that it needs is counted.
func TestBehind(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.New(t, "--binlog-expire-logs-seconds=2")
		db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"t"}})
		w.Set(func() { w.Most = 1 })
		s.Exec(t, db, `INSERT INTO t VALUES (1, '')`)
		w.Wait(1)
		for i := range 20 {
			s.Exec(t, db, fmt.Sprintf(`INSERT INTO t VALUES (%d, repeat('x', 10000))`, i+2))
		}
		databasetest.Until(t, "it is told", func() bool {
			lag, known := w.Source.Lag(w.Trigger)
			return known && lag.Retained > 200_000 && strings.Contains(lag.Warning, "SET GLOBAL binlog_expire_logs_seconds")
		})
		w.Set(func() { w.Most = 0 })
		w.Wait(21)
	})
}

// Another server that has the same transactions is gone on with.
func TestFailover(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		primary := f.New(t)
		replica := f.New(t, "--log-slave-updates=ON")
		db := primary.Database(t, orders)
		follow := fmt.Sprintf(`CHANGE MASTER TO master_host = '127.0.0.1', master_port = %d, master_user = 'admin', master_password = 'secret', master_use_gtid = slave_pos`, primary.Port)
		start, stop := `START SLAVE`, `STOP SLAVE`
		if f == databasetest.Oracle {
			follow = fmt.Sprintf(`CHANGE REPLICATION SOURCE TO source_host = '127.0.0.1', source_port = %d, source_user = 'admin', source_password = 'secret', source_auto_position = 1, get_source_public_key = 1`, primary.Port)
			start, stop = `START REPLICA`, `STOP REPLICA`
		}
		replica.Exec(t, "", follow, start)
		w := watch(t, lambent.Database{URL: primary.URL(db), Tables: []string{"orders"}})
		primary.Exec(t, db, `INSERT INTO orders VALUES (1, 'a', 1)`, `INSERT INTO orders VALUES (2, 'a', 1)`)
		w.Wait(2)
		w.Stop()
		primary.Exec(t, db, `INSERT INTO orders VALUES (3, 'a', 1)`)
		for _, has := range []string{`information_schema.TABLES WHERE TABLE_SCHEMA = '` + db + `'`, db + `.orders WHERE id = 3`} {
			databasetest.Until(t, "the replica has it", func() bool { return replica.Value(t, "", `SELECT COUNT(*) FROM `+has) == "1" })
		}
		primary.Kill()
		replica.Exec(t, db, stop, `INSERT INTO orders VALUES (4, 'a', 1)`)
		replica.Kill()
		replica.Port = primary.Port
		if err := replica.Start(); err != nil {
			t.Fatal(err)
		}
		w.Start()
		for i, d := range w.Wait(4) {
			if want := fmt.Sprint(i + 1); string(d.New["id"]) != want {
				t.Errorf("%s, want %s", &d, want)
			}
		}
		if w.Repeats > 0 {
			t.Error(w.Repeats)
		}
	})
}

// What cannot be watched is refused before it is kept, with what mends it.
func TestRefusals(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.Shared(t)
		db := s.Database(t, orders, `CREATE TABLE bare (v int)`, `CREATE VIEW seen AS SELECT * FROM orders`, `CREATE TABLE old (id int PRIMARY KEY) ENGINE = MyISAM`)
		url := s.URL(db)
		tables := []string{"orders"}
		check := func(d lambent.Database, want string) {
			t.Helper()
			err := (&mysql.Source{}).Check(databasetest.NewTrigger(d))
			if want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(lambent.UserMessage(err), want) || strings.Contains(err.Error(), "cret@") || strings.Contains(err.Error(), "cret:") {
				t.Errorf("%+v: %v, want %q", d, err, want)
			}
		}
		for _, c := range []struct {
			d    lambent.Database
			want string
		}{
			{lambent.Database{URL: "mysql://admin:secret@127.0.0.1:1/" + db, Tables: tables}, "does not answer"},
			{lambent.Database{URL: strings.Replace(url, "secret", "se%40cret", 1), Tables: tables}, "Access denied for user 'admin'"},
			{lambent.Database{URL: s.URL("nosuch"), Tables: tables}, "Unknown database 'nosuch'"},
			{lambent.Database{URL: url + "?ssl-ca=/dev/zero", Tables: tables}, "by --ca FILE"},
			{lambent.Database{URL: url, Tables: []string{"order"}}, "there is no table " + db + ".order. There are: " + db + ".bare, " + db + ".old, " + db + ".orders"},
			{lambent.Database{URL: url, Tables: []string{"nosuch.order"}}, "there is no table nosuch.order. There are: "},
			{lambent.Database{URL: url, Tables: []string{"seen"}}, "it is of the kind view"},
			{lambent.Database{URL: url, Tables: []string{"old"}}, ""},
			{lambent.Database{URL: url, Tables: []string{"old"}, Snapshot: true}, "ALTER TABLE `" + db + "`.`old` ENGINE = InnoDB"},
			{lambent.Database{URL: url, Tables: []string{"bare"}}, ""},
			{lambent.Database{URL: strings.Replace(url, "mysql:", "mariadb:", 1), Tables: tables}, ""},
			{lambent.Database{URL: url, Tables: tables, Columns: []string{"amount"}}, "table " + db + ".orders has id, note, total"},
			{lambent.Database{URL: url + "?allowAllFiles=true", Tables: tables}, `parameter "allowAllFiles"`},
			{lambent.Database{URL: url + "?ssl-mode=verify_identity", Tables: tables}, "does not answer"},
		} {
			check(c.d, c.want)
		}

		// What the error says is what mends it.
		user := fmt.Sprint("u", time.Now().UnixNano())
		s.Exec(t, db, `CREATE USER `+user+`@'%' IDENTIFIED BY 'secret'`, `GRANT SELECT ON bare TO `+user)
		d := lambent.Database{URL: s.URLOf(user, db), Tables: tables, Snapshot: true}
		wants := []string{"GRANT SELECT ON `" + db + "`.`orders` TO '" + user + "'@'%'"}
		if f == databasetest.Oracle {
			wants = append(wants, "GRANT LOCK TABLES ON `"+db+"`.* TO '"+user+"'@'%'")
		}
		for _, want := range append(wants, `GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '`+user+`'@'%'`) {
			check(d, want)
			if strings.Contains(want, "REPLICATION") { // one without the other is not enough
				s.Exec(t, db, `GRANT REPLICATION CLIENT ON *.* TO '`+user+`'@'%'`)
				check(d, want)
			}
			s.Exec(t, db, want)
		}
		s.Exec(t, db, `INSERT INTO orders VALUES (1, 'a', 1)`)
		w := watch(t, d)
		w.Wait(1)
		s.Exec(t, db, `INSERT INTO orders VALUES (2, 'a', 1)`)
		w.Want(`insert orders {"id":1} - {"id":1,"note":"a","total":"1.00"}`, `insert orders {"id":2} - {"id":2,"note":"a","total":"1.00"}`)
	})
}

// A server whose log does not do is refused, with the setting that mends it.
func TestSettings(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		f.Shared(t)
		cases := map[string]string{"--binlog-ignore-db=other": "", "--binlog-do-db=other": "binlog_do_db", "--skip-log-bin": "Add log_bin = ON", "--binlog-format=MIXED": "SET GLOBAL binlog_format = ROW", "--binlog-row-image=MINIMAL": "SET GLOBAL binlog_row_image = FULL"}
		if f == databasetest.Oracle {
			cases["--gtid-mode=OFF"] = "SET GLOBAL gtid_mode = ON_PERMISSIVE"
			cases["--binlog-row-value-options=PARTIAL_JSON"] = "SET GLOBAL binlog_row_value_options = ''"
		}
		for setting, want := range cases {
			t.Run(setting, func(t *testing.T) {
				t.Parallel()
				s := f.New(t, setting)
				tr := databasetest.NewTrigger(lambent.Database{URL: s.URL(s.Database(t, orders)), Tables: []string{"orders"}})
				err := (&mysql.Source{}).Check(tr)
				if want == "" && err == nil {
					return
				}
				if err == nil || !strings.Contains(lambent.UserMessage(err), want) {
					t.Fatalf("%v, want %q", err, want)
				}
				if _, sql, ok := strings.Cut(lambent.UserMessage(err), "As an administrator: "); ok {
					sql, _, _ = strings.Cut(sql, ", and")
					s.Exec(t, "", strings.Split(sql, "; ")...)
					if err := (&mysql.Source{}).Check(tr); err != nil {
						t.Error(err)
					}
				}
			})
		}
	})
}

// Logs that are compressed are read all the same.
func TestCompressed(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := compressing(t, f)
		db := s.Database(t, orders, `CREATE TABLE other (v text)`)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		s.Exec(t, db, `INSERT INTO orders VALUES (1, repeat('a', 1000), 1)`, `INSERT INTO other VALUES (repeat('b', 1000))`, `UPDATE orders SET note = 'a'`, `DELETE FROM orders`, `TRUNCATE TABLE orders`)
		a := strings.Repeat("a", 1000)
		w.Want(`insert orders {"id":1} - {"id":1,"note":"`+a+`","total":"1.00"}`, `update orders {"id":1} {"id":1,"note":"`+a+`","total":"1.00"} {"id":1,"note":"a","total":"1.00"}`,
			`delete orders {"id":1} {"id":1,"note":"a","total":"1.00"} -`, `truncate orders - - -`)
	})
}

// compressing is a server whose log is compressed.
func compressing(t *testing.T, f *databasetest.Flavour) *databasetest.MySQL {
	setting := "--log-bin-compress=ON"
	if f == databasetest.Oracle {
		setting = "--binlog-transaction-compression=ON"
	}
	return f.New(t, setting, "--max-allowed-packet=512M")
}

// What comes as a few bytes does not take as much memory as it is long, and has an end.
func TestCompressedMemory(t *testing.T) {
	for _, f := range []*databasetest.Flavour{databasetest.MariaDB, databasetest.Oracle} { // alone, since memory is measured
		t.Run(f.Name, func(t *testing.T) {
			s := compressing(t, f)
			db := s.Database(t, `CREATE TABLE notes (id int, note longtext)`, `CREATE TABLE others (id int, note longtext)`)
			const n, each = 64, 4 << 20
			w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"notes"}, Columns: []string{"id"}})
			most := databasetest.Heap(t)
			s.Exec(t, db, fmt.Sprintf(`INSERT INTO notes WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < %d) SELECT i, repeat('a', %d) FROM r`, n, each))
			w.Wait(n)
			if most := most(); most > n*each/2 {
				t.Errorf("%d MB of heap for %d MB of rows", most>>20, n*each>>20)
			} else {
				t.Logf("%d MB of heap for %d MB of rows", most>>20, n*each>>20)
			}

			s.Exec(t, db, `INSERT INTO others VALUES (1, repeat('a', 140 << 20))`, `INSERT INTO notes VALUES (1, repeat('a', 140 << 20))`)
			databasetest.Until(t, "that is told", func() bool { return w.Failure() != nil })
			gtid := `transaction [-:0-9a-f]+ has an event that is decompressed to 140 MB, over the limit of 129: .*lambent trigger disable ` + w.Trigger.ID
			if err := w.Failure(); !regexp.MustCompile(gtid).MatchString(err.Error()) {
				t.Error(err)
			}
		})
	}
}

// Each trigger is a replica of its own, and is not taken for another that is there.
func TestReplicas(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.New(t)
		db := s.Database(t, orders)
		first := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		second := databasetest.Watch(t, &mysql.Source{}, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		for i := range 3 {
			s.Exec(t, db, fmt.Sprintf(`INSERT INTO orders VALUES (%d, '', 0)`, i))
			first.Wait(i + 1)
			second.Wait(i + 1)
		}
		list := `SHOW SLAVE HOSTS`
		if f == databasetest.Oracle {
			list = `SHOW REPLICAS`
		}
		replicas := s.Value(t, "", list)
		for _, w := range []*databasetest.Watched{first, second} {
			if err := w.Failure(); err != nil || !strings.Contains(replicas, w.Trigger.ID) {
				t.Error(err, replicas)
			}
		}

		// Somebody else has the number of one of them.
		before, _, ok := strings.Cut(replicas, " lambent-"+first.Trigger.ID)
		id, err := strconv.ParseUint(before[strings.LastIndex(before, " ")+1:], 10, 32)
		if err != nil || !ok {
			t.Fatal(replicas, err)
		}
		first.Stop()
		kind := map[*databasetest.Flavour]string{databasetest.MariaDB: "mariadb", databasetest.Oracle: "mysql"}[f]
		other := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{ServerID: uint32(id), Flavor: kind, Host: "127.0.0.1", Port: uint16(s.Port), User: "admin", Password: "secret", Localhost: "other",
			Logger: slog.New(slog.DiscardHandler), DisableRetrySync: true, HeartbeatPeriod: time.Second})
		log, err := other.StartSync(gomysql.Position{Name: "bin.000001", Pos: 4})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		first.Start()
		for i := range 3 {
			s.Exec(t, db, fmt.Sprintf(`INSERT INTO orders VALUES (%d, '', 0)`, 3+i))
			first.Wait(4 + i)
		}
		if err := first.Failure(); err != nil {
			t.Error(err)
		}
		for begun := time.Now(); time.Since(begun) < 2*time.Second; { // it has not been put out
			if _, err := log.GetEvent(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Transactions in two phases are told as well.
func TestXA(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.Shared(t)
		db := s.Database(t, orders)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		s.Exec(t, db, `XA START 'a'`, `INSERT INTO orders VALUES (1, 'a', 1)`, `XA END 'a'`, `XA PREPARE 'a'`, `XA COMMIT 'a'`, `XA START 'b'`, `INSERT INTO orders VALUES (2, 'a', 1)`, `XA END 'b'`, `XA COMMIT 'b' ONE PHASE`, `INSERT INTO orders VALUES (3, 'a', 1)`)
		for i, d := range w.Wait(3) {
			if string(d.New["id"]) != fmt.Sprint(i+1) || d.Index != 0 {
				t.Errorf("%+v", d)
			}
		}
	})
}

// A statement that is logged in place of rows cannot be told, but is warned of.
func TestStatements(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		s := f.New(t)
		db := s.Database(t, orders, `CREATE TABLE other (id int PRIMARY KEY)`)
		w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"orders"}})
		s.Exec(t, db, `SET SESSION binlog_format = STATEMENT`, `INSERT INTO other VALUES (1)`, `SET SESSION binlog_format = ROW`, `INSERT INTO orders VALUES (1, 'a', 1)`)
		w.Wait(1)
		if lag, _ := w.Source.Lag(w.Trigger); lag.Warning != "" {
			t.Error(lag.Warning)
		}
		s.Exec(t, db, `SET SESSION binlog_format = STATEMENT`, `INSERT INTO orders VALUES (2, 'a', 1)`)
		databasetest.Until(t, "it is told", func() bool {
			lag, _ := w.Source.Lag(w.Trigger)
			return strings.Contains(lag.Warning, "a statement logged in place of the rows")
		})
	})
}

// What servers add to tables is not told, and partitions are their table's.
func TestHidden(t *testing.T) {
	each(t, func(t *testing.T, f *databasetest.Flavour) {
		f.Shared(t)
		index := `UNIQUE (v)` // of which MariaDB keeps a hash
		if f == databasetest.Oracle {
			index = `INDEX i ((id + 1))`
		}
		for _, metadata := range []string{"FULL", "MINIMAL"} {
			t.Run(metadata, func(t *testing.T) {
				t.Parallel()
				s := f.New(t, "--binlog-row-metadata="+metadata)
				db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY, v longtext, `+index+`)`, `INSERT INTO t VALUES (1, 'a')`, `CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY HASH (id) PARTITIONS 3`)
				w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"t", "p"}, Snapshot: true})
				w.Wait(1)
				s.Exec(t, db, `UPDATE t SET v = 'b'`, `INSERT INTO p VALUES (1, 2)`, `UPDATE p SET id = 2`, `ALTER TABLE p TRUNCATE PARTITION p0`, `DELETE FROM p`)
				w.Want(`insert t {"id":1} - {"id":1,"v":"a"}`, `update t {"id":1} {"id":1,"v":"a"} {"id":1,"v":"b"}`,
					`insert p {"id":1} - {"id":1,"v":2}`, `update p {"id":2} {"id":1,"v":2} {"id":2,"v":2}`, `delete p {"id":2} {"id":2,"v":2} -`)
			})
		}
	})
}

// What is no MySQL is refused, whatever it says.
func TestOtherServers(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{"short": "\x01\x00\x00\x00\x0a", "long": "\x05\x00\x00\x00\x0a5.7\x00", "http": "HTTP/1.1 400 Bad Request\r\n\r\n", "error": "\x09\x00\x00\x00\xff\x10\x04Too m", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write([]byte(says))
					_ = c.Close()
				}
			}()
			err = (&mysql.Source{}).Check(databasetest.NewTrigger(lambent.Database{URL: "mysql://app:secret@" + l.Addr().String() + "/shop", Tables: []string{"orders"}}))
			if !lambent.Is(err, lambent.Unavailable) || strings.Contains(err.Error(), "secret") {
				t.Error(err)
			}
		})
	}
}

// So is a part of a value, which no other column is left out for.
func TestPartialJSON(t *testing.T) {
	t.Parallel()
	s := databasetest.Oracle.Shared(t)
	db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY, j json, n int)`)
	w := watch(t, lambent.Database{URL: s.URL(db), Tables: []string{"t"}})
	s.Exec(t, db, `INSERT INTO t VALUES (1, '{"a": 1, "b": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}', 1)`, `SET SESSION binlog_row_value_options = 'PARTIAL_JSON'`, `UPDATE t SET j = JSON_SET(j, '$.a', 2), n = 2`)
	if d := w.Wait(2)[1]; databasetest.Row(d.New) != `{"id":1,"n":2}` || len(d.Old) != 3 {
		t.Errorf("%s", &d)
	}
	if lag, _ := w.Source.Lag(w.Trigger); !strings.Contains(lag.Warning, "parts of JSON") {
		t.Errorf("%+v", lag)
	}
}
