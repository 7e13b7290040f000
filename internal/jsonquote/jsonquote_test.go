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
	})
}

func FuzzCut(f *testing.F) {
	for _, s := range []string{"", `plain"`, `é 世界"rest`, `a\"\\\/\b\f\n\r\t",`, `\u00e9\ud83d\ude00"`, `\ud83d"`, `\ud83d\u0041"`, `\udc00\ud83d"`, "\xff\xc3\"", "a\x00\"", `\x"`, `\u12"`, `\`, "\xed\xa0\x80\"\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		raw := []byte(`"` + s)
		text, rest, ok := jsonquote.Cut(raw)
		// encoding/json says where the string ends, if it does.
		var want string
		d := json.NewDecoder(bytes.NewReader(raw))
		if err := d.Decode(&want); (err == nil) != ok {
			t.Fatalf("%s is taken for a string: %v; encoding/json: %v", raw, ok, err)
		} else if !ok {
			return
		}
		if string(text) != want || string(rest) != string(raw[d.InputOffset():]) {
			t.Errorf("%s is taken for %q, and is %q; the rest is %q", raw, text, want, rest)
		}
	})
}

// A string takes what it needs, and not what follows it: one in many would be many
// times the whole.
func TestCutTakesItsOwn(t *testing.T) {
	text, rest, ok := jsonquote.Cut(append([]byte(`"\n",`), make([]byte, 1<<20)...))
	if string(text) != "\n" || len(rest) != 1<<20+1 || !ok {
		t.Fatalf("%q, %d, %v", text, len(rest), ok)
	}
	if cap(text) > 64 {
		t.Errorf("%d bytes for one", cap(text))
	}
}

func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, 256)
	for b.Loop() {
		buf = jsonquote.Append(buf[:0], "application/json; charset=utf-8")
	}
}
