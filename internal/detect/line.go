package detect

import (
	"regexp"
	"slices"
	"strings"
)

var (
	tableLine = regexp.MustCompile(`^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$`)
	keyLine   = regexp.MustCompile(`^\s*([A-Za-z0-9_."' -]+?)\s*=`)
)

// lineOf returns the number of the line that sets a key, from 1: inside the i-th
// of the tables where the key stands in an array of tables. If the key is not at
// the start of a line (in an inline table, say), it is the line of what holds it,
// and 0 if that is not found either.
func lineOf(text string, key []string, i int) int {
	var table []string
	line, best, bestLen, nth := 0, 0, 0, map[string]int{}
	hit := func(path []string) {
		if n := min(len(path), len(key)); n > bestLen && slices.Equal(path[:n], key[:n]) {
			best, bestLen = line, n
		}
	}
	skip := false // in an earlier or later table of the array
	for l := range strings.Lines(text) {
		line++
		if m := tableLine.FindStringSubmatch(l); m != nil {
			table = splitKey(m[1])
			skip = false
			if strings.HasPrefix(strings.TrimSpace(l), "[[") {
				skip = nth[m[1]] != i
				nth[m[1]]++
			}
			if !skip {
				hit(table)
			}
		} else if m := keyLine.FindStringSubmatch(l); m != nil && !skip {
			hit(append(slices.Clone(table), splitKey(m[1])...))
		}
	}
	return best
}

// splitKey splits a dotted key; quotes around a part are taken off.
func splitKey(s string) []string {
	parts := strings.Split(s, ".")
	for i, p := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(p), `"'`)
	}
	return parts
}

// didYouMean names the known word that is nearest to a wrong one, or all if none is near.
func didYouMean(word string, known []string) string {
	best, bestDistance := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	if best == "" {
		return ", which has " + strings.Join(known, ", ")
	}
	return `: did you mean "` + best + `"?`
}

// distance is the number of letters to insert, delete or replace between two
// words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
