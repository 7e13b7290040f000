package mysql_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

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
