package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"lambent/internal/jsonquote"
)

// A form appends a value, which PostgreSQL has written as text, as JSON. Nothing of it is
// lost to readers whose numbers are floats of 64 bits, as JavaScript's are:
//
//	smallint, integer, oid    numbers
//	bigint                    a number up to 2^53-1 either way, and a string beyond
//	real, double precision    a number; "NaN", "Infinity", "-Infinity"
//	numeric                   a string, with its scale: "12.50", "NaN"
//	boolean                   true, false
//	json, jsonb               what it is
//	timestamptz               "2026-11-27T17:00:00.123456Z", in UTC
//	timestamp                 "2026-11-27T17:00:00.123456"
//	interval                  ISO 8601: "P1DT2H"
//	bytea                     base64
//	arrays                    arrays, of as many dimensions
//	domains                   as what they are of
//	all others                PostgreSQL's own text: uuid, date, time, enums, ranges,
//	                          composites, infinity as a time, years before Christ
type form func(b, text []byte) []byte

// forms are those of the types that have one of their own.
var forms = map[uint32]form{ // by their oids, of pg_type.dat in PostgreSQL's sources
	16: boolean, 21: number, 23: number, 26: number, 20: bigint, 700: float, 701: float, 114: document, 3802: document,
	1184: timestamptz, 1114: timestamp, 17: bytea, 25: text, 1043: text, 1042: text, 1700: text, 2950: text, 1082: text,
}

func text(b, v []byte) []byte { return jsonquote.Append(b, v) }

func number(b, v []byte) []byte { return append(b, v...) }

func boolean(b, v []byte) []byte { return strconv.AppendBool(b, string(v) == "t") }

const maxExact = 1<<53 - 1

func bigint(b, v []byte) []byte {
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil && -maxExact <= n && n <= maxExact {
		return append(b, v...)
	}
	return text(b, v)
}

func float(b, v []byte) []byte {
	if c := bytes.TrimPrefix(v, []byte("-")); len(c) > 0 && c[0] >= '0' && c[0] <= '9' {
		return append(b, v...)
	}
	return text(b, v)
}

func document(b, v []byte) []byte {
	if json.Valid(v) {
		return append(b, v...)
	}
	return text(b, v)
}

// timestamp is ISO 8601 in two words, which we have asked for.
func timestamp(b, v []byte) []byte {
	return text(b, bytes.Replace(v, []byte(" "), []byte("T"), 1))
}

func timestamptz(b, v []byte) []byte {
	if utc, ok := bytes.CutSuffix(v, []byte("+00")); ok { // the zone that we have asked for
		v = append(utc[:len(utc):len(utc)], 'Z')
		return timestamp(b, v)
	}
	return text(b, v)
}

func bytea(b, v []byte) []byte {
	digits, ok := bytes.CutPrefix(v, []byte(`\x`))
	raw := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(raw, digits); !ok || err != nil {
		return text(b, v)
	}
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), raw), '"')
}

// array is the form of arrays of elements that have one
// (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO). What cannot be read
// stays text.
func array(element form, delimiter byte) form {
	return func(b, v []byte) []byte {
		in := v
		if len(in) > 0 && in[0] == '[' { // bounds: where its indexes begin is not told
			_, in, _ = bytes.Cut(in, []byte("="))
		}
		out, rest, ok := elements(b, in, element, delimiter, 0)
		if !ok || len(rest) != 0 {
			return text(b, v)
		}
		return out
	}
}

// maxDimensions is PostgreSQL's.
const maxDimensions = 6

// elements appends what stands in braces, and returns what stands behind them.
func elements(b, in []byte, element form, delimiter byte, depth int) (out, rest []byte, ok bool) {
	if len(in) < 2 || in[0] != '{' || depth == maxDimensions {
		return b, in, false
	}
	b, in = append(b, '['), in[1:]
	if in[0] == '}' {
		return append(b, ']'), in[1:], true
	}
	for {
		switch {
		case len(in) == 0:
			return b, in, false
		case in[0] == '{':
			if b, in, ok = elements(b, in, element, delimiter, depth+1); !ok {
				return b, in, false
			}
		case in[0] == '"':
			var v []byte
			for in = in[1:]; ; in = in[1:] {
				if len(in) > 1 && in[0] == '\\' {
					in = in[1:]
				} else if len(in) > 0 && in[0] == '"' {
					break
				}
				if len(in) == 0 {
					return b, in, false
				}
				v = append(v, in[0])
			}
			b, in = element(b, v), in[1:]
		default:
			n := bytes.IndexAny(in, string([]byte{delimiter, '}'}))
			if n <= 0 {
				return b, in, false
			}
			if string(in[:n]) == "NULL" {
				b = append(b, "null"...)
			} else {
				b = element(b, in[:n])
			}
			in = in[n:]
		}
		switch {
		case len(in) == 0:
			return b, in, false
		case in[0] == '}':
			return append(b, ']'), in[1:], true
		case in[0] != delimiter:
			return b, in, false
		}
		b, in = append(b, ','), in[1:]
	}
}
