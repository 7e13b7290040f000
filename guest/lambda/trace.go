package lambda

import (
	"fmt"
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
	return fmt.Sprintf("Root=1-%08x-%016x%08x;Parent=%016x;Sampled=0", time.Now().Unix(), rand.Uint64(), rand.Uint32(), rand.Uint64())
}
