package lambda

import (
	"math/rand/v2"
	"strings"
	"time"

	"lambent"
)

// traceID returns the invocation's X-Ray header. One that came in is passed on; a
// W3C traceparent is rewritten, since both carry the same 128-bit trace id
// (https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html);
// otherwise there is a new, unsampled one.
func traceID(inv *lambent.Invocation) string {
	if strings.Contains(inv.Trace, "Root=") {
		return inv.Trace
	}
	if p := strings.Split(inv.Trace, "-"); len(p) == 4 && len(p[1]) == 32 && len(p[2]) == 16 {
		sampled := "0"
		if strings.HasSuffix(p[3], "1") {
			sampled = "1"
		}
		return "Root=1-" + p[1][:8] + "-" + p[1][8:] + ";Parent=" + p[2] + ";Sampled=" + sampled
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
