package mysql

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"lambent/internal/jsonquote"
)

// A form appends a value as JSON: one of the log, or of a query in UTF-8. Nothing of it
// is lost to readers whose numbers are floats of 64 bits, as JavaScript's are:
//
//	TINYINT to INT, YEAR      numbers
//	BIGINT, BIT               numbers up to 2^53-1 either way, and strings beyond
//	FLOAT, DOUBLE             numbers
//	DECIMAL                   a string, with its scale: "12.50"
//	JSON                      what it is
//	TIMESTAMP                 "2026-11-27T17:00:00.123456Z", in UTC
//	DATETIME                  "2026-11-27T17:00:00.123456"
//	CHAR, VARCHAR, TEXT       strings, whatever their character set
//	BINARY, VARBINARY, BLOB   base64; so is text in a character set that is not known
//	geometry, VECTOR          base64 of what is stored
//	ENUM                      its name
//	SET                       an array of names
//	DATE, TIME                MySQL's own text, as of times that are no dates
type form func(b []byte, v any) []byte

// A trait is what a column's values look like depends on.
type trait struct {
	kind     byte // of the log
	size     int  // what it has of that
	unsigned bool
	charset  string   // "binary": none
	names    []string // of an enum or a set
	json     bool     // text that is
	catalog  string   // the type as the catalog has it, if that is known
}

// learn takes over what the catalog says of a column.
func (t *trait) learn(c *column) {
	t.unsigned = strings.Contains(c.Full, "unsigned")
	t.json = c.JSON
	t.catalog = c.Type
	if t.charset = c.Charset; t.charset == "" {
		t.charset = "binary"
	}
	if c.Type == "enum" || c.Type == "set" {
		t.names = namesOf(c.Full)
	}
}

// namesOf reads enum('a','it”s').
func namesOf(full string) (names []string) {
	_, list, _ := strings.Cut(full, "(")
	for strings.HasPrefix(list, "'") {
		var name strings.Builder
		list = list[1:]
		for {
			before, after, ok := strings.Cut(list, "'")
			name.WriteString(before)
			if list = after; !ok || !strings.HasPrefix(list, "'") {
				break
			}
			name.WriteByte('\'')
			list = list[1:]
		}
		names = append(names, name.String())
		list = strings.TrimPrefix(list, ",")
	}
	return names
}

// form is that of values of the log.
func (t trait) form() form {
	switch t.kind {
	case mysql.MYSQL_TYPE_TINY, mysql.MYSQL_TYPE_SHORT, mysql.MYSQL_TYPE_INT24, mysql.MYSQL_TYPE_LONG, mysql.MYSQL_TYPE_LONGLONG:
		if t.unsigned {
			return unsigned(t.kind)
		}
		return number
	case mysql.MYSQL_TYPE_BIT:
		return unsigned(mysql.MYSQL_TYPE_LONGLONG)
	case mysql.MYSQL_TYPE_YEAR:
		return number
	case mysql.MYSQL_TYPE_FLOAT, mysql.MYSQL_TYPE_DOUBLE:
		return float
	case mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIMESTAMP2:
		return timestamp
	case mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2:
		return datetime
	case mysql.MYSQL_TYPE_JSON:
		return document
	case mysql.MYSQL_TYPE_ENUM:
		return enum(t.names)
	case mysql.MYSQL_TYPE_SET:
		return set(t.names)
	case mysql.MYSQL_TYPE_STRING, mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING, mysql.MYSQL_TYPE_BLOB:
		return t.text()
	case mysql.MYSQL_TYPE_GEOMETRY, mysql.MYSQL_TYPE_VECTOR:
		return blob
	}
	return text
}

// text is the form of what is written as that.
func (t trait) text() form {
	switch {
	case t.catalog == "inet4" || t.catalog == "inet6":
		return address
	case t.catalog == "uuid":
		return identifier
	case t.charset == "binary" && t.kind == mysql.MYSQL_TYPE_STRING: // the log leaves out the zeros at the end
		return padded(lengthOf(t.size))
	case t.charset == "binary":
		return blob
	}
	decode := decoders[t.charset]
	switch {
	case t.json:
		return document // in utf8mb4
	case decode == nil:
		return blob
	}
	return func(b []byte, v any) []byte {
		if s, ok := decode(stringOf(v)); ok {
			return jsonquote.Append(b, s)
		}
		return blob(b, v)
	}
}

func stringOf(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func text(b []byte, v any) []byte {
	if raw, ok := v.([]byte); ok {
		return jsonquote.Append(b, raw)
	}
	return jsonquote.Append(b, stringOf(v))
}

func blob(b []byte, v any) []byte {
	raw, ok := v.([]byte)
	if !ok {
		raw = []byte(stringOf(v))
	}
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), raw), '"')
}

func padded(size int) form {
	return func(b []byte, v any) []byte {
		raw := []byte(stringOf(v))
		if n := size - len(raw); n > 0 {
			raw = append(raw, make([]byte, n)...)
		}
		return blob(b, raw)
	}
}

// address is MariaDB's INET4 and INET6.
func address(b []byte, v any) []byte {
	s := stringOf(v)
	if a, ok := netip.AddrFromSlice([]byte(s)); ok {
		return jsonquote.Append(b, a.String())
	}
	return jsonquote.Append(b, s)
}

// identifier is MariaDB's UUID.
func identifier(b []byte, v any) []byte {
	s := stringOf(v)
	if len(s) == 16 {
		h := hex.EncodeToString([]byte(s))
		s = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	}
	return jsonquote.Append(b, s)
}

func document(b []byte, v any) []byte {
	s := []byte(stringOf(v))
	if json.Valid(s) {
		return append(b, bytes.TrimSpace(s)...)
	}
	if len(s) == 0 { // what MySQL makes of no value where there is to be one
		return append(b, "null"...)
	}
	return jsonquote.Append(b, s)
}

const maxExact = 1<<53 - 1

// number is the form of what is told with its sign.
func number(b []byte, v any) []byte {
	switch v := v.(type) {
	case int8:
		return strconv.AppendInt(b, int64(v), 10)
	case int16:
		return strconv.AppendInt(b, int64(v), 10)
	case int32:
		return strconv.AppendInt(b, int64(v), 10)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return exact(strconv.AppendInt(append(b, '"'), v, 10), len(b), -maxExact <= v && v <= maxExact)
	case uint8:
		return strconv.AppendUint(b, uint64(v), 10)
	case uint16:
		return strconv.AppendUint(b, uint64(v), 10)
	case uint32:
		return strconv.AppendUint(b, uint64(v), 10)
	case uint64:
		return exact(strconv.AppendUint(append(b, '"'), v, 10), len(b), v <= maxExact)
	}
	return text(b, v)
}

// exact ends a string that begins at from, or takes it for a number.
func exact(b []byte, from int, is bool) []byte {
	if is {
		return slices.Delete(b, from, from+1)
	}
	return append(b, '"')
}

// unsigned is the form of what may be told as if it had a sign.
func unsigned(kind byte) form {
	return func(b []byte, v any) []byte {
		switch n := v.(type) {
		case int8:
			v = uint8(n)
		case int16:
			v = uint16(n)
		case int32:
			if v = uint32(n); kind == mysql.MYSQL_TYPE_INT24 {
				v = uint32(n) & 0xffffff
			}
		case int64:
			v = uint64(n)
		}
		return number(b, v)
	}
}

func float(b []byte, v any) []byte {
	switch v := v.(type) {
	case float32:
		return appendFloat(b, float64(v), 32)
	case float64:
		return appendFloat(b, v, 64)
	}
	return text(b, v)
}

// single is the form of a FLOAT that was made a DOUBLE.
func single(b []byte, v any) []byte {
	if f, ok := v.(float64); ok {
		v = float32(f)
	}
	return float(b, v)
}

func appendFloat(b []byte, f float64, bits int) []byte {
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) { // as JavaScript writes them
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, bits)
}

func datetime(b []byte, v any) []byte {
	return jsonquote.Append(b, strings.Replace(stringOf(v), " ", "T", 1))
}

func timestamp(b []byte, v any) []byte {
	s := stringOf(v)
	if strings.HasPrefix(s, "0000") {
		return datetime(b, s)
	}
	return jsonquote.Append(b, strings.Replace(s, " ", "T", 1)+"Z")
}

// enum is the form of a number of a name, from 1; 0 is what was no name.
func enum(names []string) form {
	return func(b []byte, v any) []byte {
		n, ok := v.(int64)
		switch {
		case !ok:
			return text(b, v)
		case n == 0:
			return append(b, `""`...)
		case n < 0 || n > int64(len(names)):
			return number(b, v)
		}
		return jsonquote.Append(b, names[n-1])
	}
}

// set is the form of a bit for each name, or of names with commas between them.
func set(names []string) form {
	return func(b []byte, v any) []byte {
		var has []string
		if bits, ok := v.(int64); ok {
			if uint64(bits)>>len(names) != 0 { // names are not known
				return number(b, uint64(bits))
			}
			for i, name := range names {
				if bits>>i&1 != 0 {
					has = append(has, name)
				}
			}
		} else if s := stringOf(v); s != "" {
			has = strings.Split(s, ",")
		}
		b = append(b, '[')
		for i, name := range has {
			if i > 0 {
				b = append(b, ',')
			}
			b = jsonquote.Append(b, name)
		}
		return append(b, ']')
	}
}
