package gcf

import (
	"maps"
	"slices"
	"strings"
	"time"

	"lambent"
)

// event says in HTTP what was handed over as it is: an event, if it is the envelope of
// one, and otherwise JSON for whoever answers at /; {} for nothing.
func (in *instance) event(raw []byte) (*request, error) {
	if len(raw) == 0 {
		raw = []byte("{}")
	}
	e, err := lambent.ParseEvent(raw)
	if err != nil {
		return nil, err
	}
	if e != nil {
		return binaryMode(e, in.host()), nil
	}
	r := &request{method: "POST", target: "/", body: raw, bodied: true}
	r.add("Host", in.host())
	r.add("Content-Type", "application/json")
	return r, nil
}

// binaryMode is an event with its attributes as headers, and its data as the body.
func binaryMode(e *lambent.Event, host string) *request {
	r := &request{method: "POST", target: "/", body: e.Data, bodied: true}
	r.add("Host", host)
	if e.DataContentType != "" {
		r.add("Content-Type", e.DataContentType)
	}
	attribute := func(name, value string) {
		if value != "" {
			r.add("Ce-"+name, percentEncoded(value))
		}
	}
	attribute("Specversion", "1.0")
	attribute("Id", e.ID)
	attribute("Source", e.Source)
	attribute("Type", e.Type)
	attribute("Subject", e.Subject)
	attribute("Dataschema", e.DataSchema)
	if !e.Time.IsZero() {
		attribute("Time", e.Time.Format(time.RFC3339Nano))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Extensions)) {
		attribute(name, e.Extensions[name])
		if name == lambent.ExtensionTrace { // the event's own trace is that of its delivery
			r.add("Traceparent", e.Extensions[name])
		}
	}
	return r
}

// percentEncoded is a value as headers have it (section 3.1.3.2 of the binding): what
// is not visible ASCII, and what quotes, as its bytes in UTF-8.
func percentEncoded(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '%' {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
