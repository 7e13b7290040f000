package jsonquote_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"lambent/internal/jsonquote"
)

func FuzzAppend(f *testing.F) {
	for _, s := range []string{"", "plain", "é 世界 \U0001f600", "\x00\x1f\x7f\b\f\n\r\t\"\\/<>&", "\u2028\u2029\ufffd", "\xff\xc3", "a\xe2\x80", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		got := jsonquote.Append([]byte("x"), s)
		if string(got) != "x"+string(bytes.TrimSuffix(want.Bytes(), []byte("\n"))) {
			t.Errorf("%q is %s, want %s", s, got, want.Bytes())
		}
		if again := jsonquote.Append(nil, []byte(s)); string(again) != string(got[1:]) {
			t.Errorf("of bytes it is %s", again)
		}
		if text, ok := jsonquote.Plain(got[1:]); ok && string(text) != s {
			t.Errorf("plain is %q", text)
		}
		// Whatever Plain takes for a string, encoding/json does, and for the same.
		raw := append(append([]byte(`"`), s...), '"')
		if text, ok := jsonquote.Plain(raw); ok {
			var decoded string
			if err := json.Unmarshal(raw, &decoded); err != nil || decoded != string(text) {
				t.Errorf("%s is taken for %q, and is %q, %v", raw, text, decoded, err)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, 256)
	for b.Loop() {
		buf = jsonquote.Append(buf[:0], "application/json; charset=utf-8")
	}
}
