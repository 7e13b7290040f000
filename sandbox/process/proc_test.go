package process_test

import (
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

// fields parses a line of numbers.
func fields(b []byte) (n []int) {
	for _, f := range strings.Fields(string(b)) {
		if v, err := strconv.Atoi(f); err == nil {
			n = append(n, v)
		}
	}
	return n
}
