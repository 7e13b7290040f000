package mysql

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
)

func TestTruncated(t *testing.T) {
	for sql, want := range map[string]string{
		"TRUNCATE TABLE t":                                 "s.t",
		"truncate t":                                       "s.t",
		"TRUNCATE TABLE `a``b` . `c.d` /* x */":            "a`b.c.d",
		"-- x\n# y\n/* TRUNCATE */ /*!50000 TRUNCATE */ t": "s.t",
		"TRUNCATE/**/TABLE/**/a.b WAIT 3;":                 "a.b",
		"TRUNCATE table":                                   "s.table",
		"TRUNCATE TABLE \"a\".\"b\"":                       "a.b",
		"TRUNCATE":                                         "",
		"ALTER TABLE t TRUNCATE PARTITION p":               "",
		"DROP TABLE t":                                     "",
		"/* TRUNCATE t":                                    "",
		"":                                                 "",
	} {
		got, ok := truncated(words(sql), "s")
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, %v, want %s", sql, got, ok, want)
		}
	}
}

func TestNamesOf(t *testing.T) {
	for full, want := range map[string][]string{"enum('a','it''s','b,c','')": {"a", "it's", "b,c", ""}, "set('x')": {"x"}, "int(11)": nil, "enum('a": {"a"}} {
		if got := namesOf(full); !slices.Equal(got, want) {
			t.Errorf("%s: %q", full, got)
		}
	}
}

// FuzzWords: whatever a statement is, it is read to an end.
func FuzzWords(f *testing.F) {
	f.Add("TRUNCATE TABLE `a`.b")
	f.Add("/*!/*")
	f.Add("`")
	f.Fuzz(func(t *testing.T, sql string) {
		_, _ = truncated(words(sql), "s")
		_ = keywords(words(sql))
	})
}

// FuzzForms: whatever the log has, what comes of it is JSON.
func FuzzForms(f *testing.F) {
	f.Add("", int64(0), 0.0)
	f.Add(`{"a": 1}`, int64(-1), 1e300)
	f.Add("0000-00-00 00:00:00", int64(1)<<53, 0.0)
	f.Add("\xff\x00", int64(5), 1e-320)
	f.Fuzz(func(t *testing.T, s string, n int64, x float64) {
		if x != x || x-x != 0 { // which MySQL has not
			x = 0
		}
		for kind := range 256 {
			for _, charset := range []string{"binary", "utf8mb4", "latin1", "gbk", "utf16", "nosuch"} {
				form := trait{kind: byte(kind), size: 40, unsigned: n < 0, charset: charset, names: []string{"a", s}, json: len(s)%2 == 0}.form()
				for _, v := range []any{s, []byte(s), n, int32(n), int8(n), uint64(n), x, float32(1)} {
					if b := form([]byte{}, v); !json.Valid(b) {
						t.Fatalf("kind %d in %s makes of %#v: %s", kind, charset, v, b)
					}
				}
			}
		}
	})
}

var sink []byte

func BenchmarkForms(b *testing.B) {
	for name, c := range map[string]struct {
		trait trait
		value any
	}{
		"bigint":  {trait{kind: mysql.MYSQL_TYPE_LONGLONG}, int64(1234567890123)},
		"latin1":  {trait{kind: mysql.MYSQL_TYPE_VARCHAR, charset: "latin1"}, "caf\xe9"},
		"utf8mb4": {trait{kind: mysql.MYSQL_TYPE_VARCHAR, charset: "utf8mb4"}, "café"},
	} {
		b.Run(name, func(b *testing.B) {
			form := c.trait.form()
			for b.Loop() {
				sink = form(sink[:0], c.value)
			}
		})
	}
}
