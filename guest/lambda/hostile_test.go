package lambda

import (
	"runtime"
	"strings"
	"testing"

	"lambent"
)

// Reading what a stranger or a function made up takes memory by its length, and not
// by its square.
func TestHostileIsLinear(t *testing.T) {
	query := &lambent.Invocation{HTTP: &lambent.Request{RawQuery: strings.Repeat("a&", 30_000)}}
	headers := []byte(`{"statusCode":200,"headers":{` + strings.Repeat(`"a":"\n",`, 10_000) + `"b":"c"}}`)
	for name, do := range map[string]func() error{
		"a parameter, repeated": func() error {
			_, err := httpEvent(nil, query, "", 6<<20)
			return err
		},
		"headers with escapes": func() error {
			_, _, _, err := parseHTTPResponse(headers)
			return err
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 20<<20 {
			t.Errorf("%s: %d MB", name, n>>20)
		}
	}
}
