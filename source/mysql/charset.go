package mysql

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// A decoder makes UTF-8 of a string; false: it is no text in the character set.
type decoder func(string) (string, bool)

// decoders are of MySQL's character sets. Its latin1 is what Windows has.
var decoders = map[string]decoder{
	"utf8mb4": valid, "utf8mb3": valid, "utf8": valid, "ascii": valid,
	"latin1": by(charmap.Windows1252), "latin2": by(charmap.ISO8859_2), "latin5": by(charmap.ISO8859_9), "latin7": by(charmap.ISO8859_13),
	"cp1250": by(charmap.Windows1250), "cp1251": by(charmap.Windows1251), "cp1256": by(charmap.Windows1256), "cp1257": by(charmap.Windows1257),
	"cp850": by(charmap.CodePage850), "cp852": by(charmap.CodePage852), "cp866": by(charmap.CodePage866),
	"koi8r": by(charmap.KOI8R), "koi8u": by(charmap.KOI8U), "greek": by(charmap.ISO8859_7), "hebrew": by(charmap.ISO8859_8), "tis620": by(charmap.Windows874), "macroman": by(charmap.Macintosh),
	"gbk": by(simplifiedchinese.GBK), "gb2312": by(simplifiedchinese.GBK), "gb18030": by(simplifiedchinese.GB18030), "big5": by(traditionalchinese.Big5),
	"sjis": by(japanese.ShiftJIS), "cp932": by(japanese.ShiftJIS), "ujis": by(japanese.EUCJP), "eucjpms": by(japanese.EUCJP), "euckr": by(korean.EUCKR),
	"ucs2": by(unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)), "utf16": by(unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)), "utf16le": by(unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)),
	"utf32": by(utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)),
}

func valid(s string) (string, bool) { return s, utf8.ValidString(s) }

func by(e encoding.Encoding) decoder {
	return func(s string) (string, bool) {
		out, err := e.NewDecoder().String(s)
		return out, err == nil && !strings.ContainsRune(out, utf8.RuneError)
	}
}

// decodeAll makes UTF-8 of names; those that are none stay.
func decodeAll(names []string, charset string) []string {
	decode := decoders[charset]
	if decode == nil {
		return names
	}
	all := make([]string, len(names))
	for i, name := range names {
		var ok bool
		if all[i], ok = decode(name); !ok {
			all[i] = name
		}
	}
	return all
}
