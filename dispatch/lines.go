package dispatch

import (
	"strconv"
	"strings"
	"time"

	"lambent"
)

// The platform's own lines in a function's log, to the letter as AWS writes them:
// tools read them.

func awsVersion(v string) string {
	if v == lambent.Latest {
		return "$LATEST"
	}
	return v
}

func startLine(id, version string) []byte {
	return append(append(append(append(make([]byte, 0, 80), "START RequestId: "...), id...), " Version: "...), awsVersion(version)...)
}

// lateLine tells why a start took the runtime's boot, too: whoever wonders about
// the Init Duration finds it above.
func lateLine(runtime string, fixed []string) []byte {
	return append(append(append(append(make([]byte, 0, 96), "INIT Runtime: "...), runtime...), " booted at this start, for what it reads only then: "...), strings.Join(fixed, ", ")...)
}

func endLine(id string) []byte {
	return append(append(make([]byte, 0, 64), "END RequestId: "...), id...)
}

// faultLine is what AWS logs for a failure that the code could not log itself,
// such as "2026-01-02T03:04:05.678Z <id> Task timed out after 1.00 seconds". What
// was killed for its memory is called so: "signal: killed" alone tells nobody why.
func faultLine(u *lambent.Usage, f *lambent.Fault) []byte {
	b := u.End.UTC().AppendFormat(make([]byte, 0, 160), "2006-01-02T15:04:05.000Z")
	b = append(append(append(b, ' '), u.ID...), ' ')
	if prefix := "RequestId: " + u.ID + " Error: "; len(f.Message) > len(prefix) && f.Message[:len(prefix)] == prefix {
		if f.Kind == lambent.FaultMemory {
			b = append(append(b, f.Type...), ": "...)
		}
		return append(b, f.Message[len(prefix):]...)
	}
	return append(append(append(b, f.Type...), ": "...), f.Message...)
}

// ReportLine is the line that closes an invocation: what was used and what AWS
// would bill. Init Duration is there on a cold start only.
func ReportLine(u *lambent.Usage) []byte {
	b := append(append(make([]byte, 0, 224), "REPORT RequestId: "...), u.ID...)
	b = appendMS(append(b, "\tDuration: "...), u.RunUS)
	b = strconv.AppendInt(append(b, "\tBilled Duration: "...), u.BilledMS, 10)
	b = strconv.AppendInt(append(b, " ms\tMemory Size: "...), int64(u.MemoryMB), 10)
	b = strconv.AppendInt(append(b, " MB\tMax Memory Used: "...), u.PeakMB, 10)
	b = append(b, " MB\t"...)
	if u.Cold {
		b = append(appendMS(append(b, "Init Duration: "...), u.InitUS), '\t')
	}
	return b
}

// appendMS writes microseconds as "1.23 ms".
func appendMS(b []byte, us int64) []byte {
	return append(strconv.AppendFloat(b, float64(us)/float64(time.Millisecond/time.Microsecond), 'f', 2, 64), " ms"...)
}
