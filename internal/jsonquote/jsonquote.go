// Package jsonquote writes and reads JSON strings, for what is on the path of each
// call: encoding/json has no way to append one to a buffer, nor to read one in place.
package jsonquote

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// plain holds for the bytes that stand for themselves.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// Append appends s as a JSON string, byte for byte as encoding/json writes it
// without EscapeHTML: what is not UTF-8 becomes U+FFFD, and line separators are
// escaped, which JavaScript did not always allow in strings.
func Append[S string | []byte](b []byte, s S) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(append(b, s[start:i]...), '\\')
			switch c {
			case '"', '\\':
				b = append(b, c)
			case '\b':
				b = append(b, 'b')
			case '\f':
				b = append(b, 'f')
			case '\n':
				b = append(b, 'n')
			case '\r':
				b = append(b, 'r')
			case '\t':
				b = append(b, 't')
			default:
				b = append(b, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[start:i]...), `\ufffd`...)
			start = i + 1
		case r == '\u2028' || r == '\u2029':
			b = append(append(b, s[start:i]...), `\u202`...)
			b = append(b, hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	return append(append(b, s[start:]...), '"')
}

// Cut reads the JSON string that b begins with, as encoding/json reads it, and
// returns what it stands for, which is a part of b where nothing is escaped, and
// what follows. ok is false where b begins with no JSON string.
func Cut(b []byte) (text, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != '"' {
		return nil, nil, false
	}
	ascii := true
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case plain[c]:
		case c == '"':
			if !ascii && !utf8.Valid(b[1:i]) {
				return decode(b)
			}
			return b[1:i], b[i+1:], true
		case c == '\\':
			return decode(b)
		case c < ' ':
			return nil, nil, false
		default:
			ascii = false
		}
	}
	return nil, nil, false
}

// decode is Cut of a string with escapes in it, or with what is not UTF-8, which
// becomes U+FFFD.
func decode(b []byte) (text, rest []byte, ok bool) {
	text = make([]byte, 0, length(b))
	for i := 1; i < len(b); {
		switch c := b[i]; {
		case c == '"':
			return text, b[i+1:], true
		case c < ' ':
			return nil, nil, false
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(b[i:])
			text = utf8.AppendRune(text, r)
			i += size
		case c != '\\':
			text = append(text, c)
			i++
		case i+1 == len(b):
			return nil, nil, false
		case b[i+1] == 'u':
			r := hex4(b[i+2:])
			if r < 0 {
				return nil, nil, false
			}
			i += 6
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(b) > i+1 && b[i] == '\\' && b[i+1] == 'u' {
					low = hex4(b[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			text = utf8.AppendRune(text, r)
		default:
			at := strings.IndexByte(escapes, b[i+1])
			if at < 0 {
				return nil, nil, false
			}
			text = append(text, escaped[at])
			i += 2
		}
	}
	return nil, nil, false
}

// length is how long the string that b begins with is at most, as it may be one of
// very many in b.
func length(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return len(b)
}

const (
	escapes = `"\/bfnrt`
	escaped = "\"\\/\b\f\n\r\t"
)

// hex4 reads four hexadecimal digits; -1: there are none.
func hex4(b []byte) (r rune) {
	if len(b) < 4 {
		return -1
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}
