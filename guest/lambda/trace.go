package lambda

import (
	"math/rand/v2"
	"strings"
	"time"

	"lambent"
)

// traceID returns the invocation's X-Ray header: of the trace that came in, or of a new one,
// which is not sampled.
func traceID(inv *lambent.Invocation) string {
	if trace := lambent.XRay(inv.Trace); trace != "" {
		return trace
	}
	b := append(make([]byte, 0, 80), "Root=1-"...)
	b = appendHex(b, uint64(time.Now().Unix()), 8)
	b = append(b, '-')
	b = appendHex(appendHex(b, rand.Uint64(), 16), rand.Uint64(), 8)
	b = appendHex(append(b, ";Parent="...), rand.Uint64(), 16)
	return string(append(b, ";Sampled=0"...))
}

// traceRoot is what the parts of a trace have in common; it is empty for what is none.
func traceRoot(trace string) string {
	_, root, _ := strings.Cut(trace, "Root=")
	root, _, _ = strings.Cut(root, ";")
	return root
}

// appendHex appends the lowest so many hexadecimal digits of v.
func appendHex(b []byte, v uint64, digits int) []byte {
	for digits > 0 {
		digits--
		b = append(b, "0123456789abcdef"[v>>(4*digits)&15])
	}
	return b
}
