package postgres

import (
	"encoding/json"
	"testing"
)

// FuzzForms: whatever PostgreSQL might write, what comes of it is JSON.
func FuzzForms(f *testing.F) {
	for _, s := range []string{"", "{1,NULL}", `{"a\"b","\\"}`, "[0:1]={1,2}", "{{1},{2}}", "{", `{"`, `\xff`, `\x0`, "2026-11-27 17:00:00+00", "-Infinity", "9007199254740993", `{"a":1}`, "{1,}", "{}x"} {
		f.Add(s)
	}
	of := map[string]form{"timestamptz": timestamptz, "timestamp": timestamp, "bytea": bytea, "json": document, "text": text, "bool": boolean}
	for name, element := range of {
		of[name+"[]"] = array(element, ',')
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, form := range of {
			if b := form([]byte{}, []byte(s)); !json.Valid(b) {
				t.Errorf("%s makes of %q: %s", name, s, b)
			}
		}
	})
}

var sink []byte

func BenchmarkForms(b *testing.B) {
	for name, c := range map[string]struct {
		oid   uint32
		value string
	}{"bigint": {20, "1234567890123"}, "timestamptz": {1184, "2026-11-27 17:00:00.123456+00"}, "jsonb": {3802, `{"a": [1, 2, {"b": null}]}`}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				sink = forms[c.oid](sink[:0], []byte(c.value))
			}
		})
	}
}
