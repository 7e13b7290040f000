// Package jsonquote writes JSON strings, for what is on the path of each call:
// encoding/json has no way to append one to a buffer.
package jsonquote

import "unicode/utf8"

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

// Plain returns what a JSON string stands for, where that is the bytes between its
// quotes: nothing in it is escaped or has to be. ok is false where it has to be
// decoded, or is none.
func Plain(quoted []byte) (text []byte, ok bool) {
	n := len(quoted)
	if n < 2 || quoted[0] != '"' || quoted[n-1] != '"' {
		return nil, false
	}
	text = quoted[1 : n-1]
	ascii := true
	for _, c := range text {
		if !plain[c] {
			if c < utf8.RuneSelf {
				return nil, false
			}
			ascii = false
		}
	}
	return text, ascii || utf8.Valid(text)
}
