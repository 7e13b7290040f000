package logs

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"
)

// An Entry is a line of a log.
type Entry struct {
	Time    time.Time // to the microsecond
	Version string
	Request string // "" for what was written outside of any
	Text    string // without its newline; any bytes
	Dropped int    // not 0: so many lines are missing here, and Text says why
}

const (
	timeLayout = "2006-01-02T15:04:05.000000Z"
	noField    = "-" // an empty version or request
	dropMark   = "!" // in place of the version: lines were dropped
)

// appendEntry encodes a line as the package comment says. size is the length of
// text encoded, as textLen has it.
func appendEntry(b []byte, at time.Time, version, request string, text []byte, size int) []byte {
	b = append(at.UTC().AppendFormat(b, timeLayout), ' ')
	b = append(appendField(b, version), ' ')
	b = append(appendField(b, request), ' ')
	if size == len(text) {
		b = append(b, text...)
	} else {
		b = appendText(b, text)
	}
	return append(b, '\n')
}

// appendDrop encodes a mark for n lines that are missing.
func appendDrop(b []byte, at time.Time, n int, reason string) []byte {
	b = append(at.UTC().AppendFormat(b, timeLayout), ' ')
	b = append(append(b, dropMark...), ' ')
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, " lines dropped: "...)
	return append(appendText(b, []byte(reason)), '\n')
}

// entryLen is the length of an encoded line, whose text has a length of size.
func entryLen(version, request string, size int) int {
	return len(timeLayout) + 1 + max(1, len(version)) + 1 + max(1, len(request)) + 1 + size + 1
}

// appendField encodes what has no spaces by its nature; if it has some after
// all, they must not shift the fields that follow.
func appendField(b []byte, s string) []byte {
	if s == "" {
		return append(b, noField...)
	}
	n := len(b)
	b = append(b, s...)
	for i, c := range b[n:] {
		if c <= ' ' || c == 0x7f {
			b[n+i] = '_'
		}
	}
	return b
}

const hexDigits = "0123456789abcdef"

// plain holds for the ASCII bytes that stand for themselves.
var plain = func() (t [256]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		t[c] = c != '\\'
	}
	t['\t'] = true
	return t
}()

// textLen is the length of an encoded text.
func textLen(text []byte) int {
	n := 0
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case plain[c]:
			n++
			i++
		case c == '\\' || c == '\n' || c == '\r':
			n += 2
			i++
		case c < utf8.RuneSelf:
			n += 4
			i++
		default:
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				n += 4
			} else {
				n += size
			}
			i += size
		}
	}
	return n
}

func appendText(b, text []byte) []byte {
	start := 0 // of what stands for itself and is not yet copied
	for i := 0; i < len(text); {
		c := text[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRune(text[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		b = append(b, text[start:i]...)
		switch c {
		case '\\':
			b = append(b, `\\`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		default:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(b, text[start:]...)
}

// unescape is the inverse of appendText. An escape that is none, as at the end
// of a torn line, stands for itself.
func unescape(b []byte) string {
	i := bytes.IndexByte(b, '\\')
	if i < 0 {
		return string(b)
	}
	out := append(make([]byte, 0, len(b)), b[:i]...)
	for b = b[i:]; len(b) > 0; {
		if b[0] == '\\' && len(b) > 1 {
			switch b[1] {
			case '\\':
				out, b = append(out, '\\'), b[2:]
				continue
			case 'n':
				out, b = append(out, '\n'), b[2:]
				continue
			case 'r':
				out, b = append(out, '\r'), b[2:]
				continue
			case 'x':
				if len(b) >= 4 {
					if c, err := strconv.ParseUint(string(b[2:4]), 16, 8); err == nil {
						out, b = append(out, byte(c)), b[4:]
						continue
					}
				}
			}
		}
		out, b = append(out, b[0]), b[1:]
	}
	return string(out)
}

// parse decodes a line without its newline, and reports whether it is one.
func parse(line []byte) (Entry, bool) {
	stamp, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(stamp) != len(timeLayout) {
		return Entry{}, false
	}
	at, err := time.Parse(timeLayout, string(stamp))
	if err != nil {
		return Entry{}, false
	}
	version, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return Entry{}, false
	}
	request, text, ok := bytes.Cut(rest, []byte(" "))
	if !ok {
		return Entry{}, false
	}
	if string(version) == dropMark {
		n, err := strconv.Atoi(string(request))
		return Entry{Time: at, Dropped: n, Text: unescape(rest)}, err == nil && n > 0
	}
	return Entry{Time: at, Version: field(version), Request: field(request), Text: unescape(text)}, true
}

func field(b []byte) string {
	if string(b) == noField {
		return ""
	}
	return string(b)
}
