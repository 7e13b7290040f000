package lambent

import (
	"encoding/hex"
	"strings"
)

// ExtensionTrace is the extension of events that says of which trace they are, as W3C has it
// (https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md).
const ExtensionTrace = "traceparent"

// Traceparent returns a trace in W3C's form, 00-TRACE-SPAN-FLAGS
// (https://www.w3.org/TR/trace-context/#traceparent-header), of one that has that, or that of
// X-Ray's header. It is empty for what is neither.
func Traceparent(trace string) string {
	if trace == "" {
		return ""
	}
	if root := strings.Split(xray(trace, "Root"), "-"); len(root) == 3 && len(root[1])+len(root[2]) == 32 {
		span, flags := xray(trace, "Parent"), "00"
		if span == "" { // W3C's has one
			span = root[2][len(root[2])-min(16, len(root[2])):]
		}
		if xray(trace, "Sampled") == "1" {
			flags = "01"
		}
		trace = "00-" + root[1] + root[2] + "-" + span + "-" + flags
	}
	if len(trace) < 55 || trace[2] != '-' || trace[35] != '-' || trace[52] != '-' || len(trace) > 55 && trace[55] != '-' {
		return ""
	}
	trace = trace[:55]
	if b, err := hex.DecodeString(strings.ReplaceAll(trace, "-", "")); err != nil || len(b) != 26 {
		return ""
	}
	return trace
}

// XRay returns a trace as X-Ray's header has it
// (https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html), of one that is
// that, or W3C's: both carry the same 128 bits. It is empty for what is neither.
func XRay(trace string) string {
	if strings.Contains(trace, "Root=") {
		return trace
	}
	w3c := Traceparent(trace)
	if w3c == "" {
		return ""
	}
	sampled := "0"
	if strings.HasSuffix(w3c, "1") {
		sampled = "1"
	}
	return "Root=1-" + w3c[3:11] + "-" + w3c[11:35] + ";Parent=" + w3c[36:52] + ";Sampled=" + sampled
}

// xray is a part of X-Ray's header, such as Root=1-...;Parent=...;Sampled=1.
func xray(trace, name string) string {
	for part := range strings.SplitSeq(trace, ";") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(part), name+"="); ok {
			return value
		}
	}
	return ""
}

// SetTrace has an event be of a trace, unless it is of one, in either form; what has neither
// is left out.
func (e *Event) SetTrace(trace string) {
	parent := Traceparent(trace)
	if parent == "" || e.Extensions[ExtensionTrace] != "" {
		return
	}
	if e.Extensions == nil {
		e.Extensions = map[string]string{}
	}
	e.Extensions[ExtensionTrace] = parent
}
