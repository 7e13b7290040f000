package mysql

import (
	"strings"

	"lambent/internal/rows"
)

// words are the first of a statement, without comments but those that MySQL itself
// reads, /*! so */, and names without their quotes.
func words(sql string) (words []string) {
	const most = 5 // TRUNCATE TABLE a . b
	for len(words) < most {
		sql = strings.TrimLeft(sql, " \t\r\n")
		switch {
		case sql == "" || sql[0] == ';':
			return words
		case strings.HasPrefix(sql, "--") || sql[0] == '#':
			_, sql, _ = strings.Cut(sql, "\n")
		case strings.HasPrefix(sql, "/*!") || strings.HasPrefix(sql, "/*M!"):
			_, sql, _ = strings.Cut(sql, "!")
			sql = strings.TrimLeft(sql, "0123456789")
		case strings.HasPrefix(sql, "*/"):
			sql = sql[2:]
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql[2:], "*/")
		case sql[0] == '`' || sql[0] == '"':
			quote := sql[:1]
			var word strings.Builder
			for {
				var part string
				part, sql, _ = strings.Cut(sql[1:], quote)
				word.WriteString(part)
				if !strings.HasPrefix(sql, quote) { // two are one in a name
					break
				}
				word.WriteString(quote)
			}
			words = append(words, word.String())
		case sql[0] == '.':
			words, sql = append(words, "."), sql[1:]
		default:
			n := 1 + strings.IndexAny(sql[1:]+" ", " \t\r\n.;`\"/#")
			words, sql = append(words, sql[:n]), sql[n:]
		}
	}
	return words
}

// keywords are the first of words, as one.
func keywords(words []string) string {
	return strings.ToUpper(strings.Join(words[:min(2, len(words))], " "))
}

// truncated is the table that a statement empties.
func truncated(words []string, schema string) (t rows.Table, ok bool) {
	if len(words) < 2 || !strings.EqualFold(words[0], "TRUNCATE") {
		return t, false
	}
	if words = words[1:]; strings.EqualFold(words[0], "TABLE") && len(words) > 1 {
		words = words[1:]
	}
	if len(words) > 2 && words[1] == "." {
		return rows.Table{Schema: words[0], Name: words[2]}, true
	}
	return rows.Table{Schema: schema, Name: words[0]}, true
}
