package gcf

import (
	"encoding/json"
	"maps"
	"mime"
	"slices"
	"strconv"
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
	e, err := envelope(raw)
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

// envelope reads a CloudEvent in the JSON format. It is nil for whatever is none; an
// envelope with an attribute that may not be so is refused.
func envelope(raw []byte) (*lambent.Event, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return nil, nil
	}
	text := func(name string) (s string) {
		_ = json.Unmarshal(fields[name], &s) // of another type it is none
		return s
	}
	for _, required := range []string{"specversion", "id", "source", "type"} {
		if text(required) == "" {
			return nil, nil
		}
	}
	bad := func(format string, args ...any) (*lambent.Event, error) {
		return nil, lambent.Errorf(lambent.Invalid, "gcf.Invoke", "the event cannot be sent: "+format, args...)
	}
	if v := text("specversion"); v != "1.0" {
		return bad("specversion %q: there is 1.0", v)
	}
	e := &lambent.Event{
		ID: text("id"), Source: text("source"), Type: text("type"), Subject: text("subject"),
		DataContentType: text("datacontenttype"), DataSchema: text("dataschema"),
	}
	if s := text("time"); s != "" {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return bad("time %q is not of the form 2006-01-02T15:04:05Z", s)
		}
		e.Time = t
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		switch name {
		case "specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema", "time":
		case "data":
			if e.Data = value; e.DataContentType == "" {
				e.DataContentType = "application/json"
			}
			var s string // of another type than JSON it is the text itself
			if !isJSON(e.DataContentType) && json.Unmarshal(value, &s) == nil {
				e.Data = []byte(s)
			}
		case "data_base64":
			if err := json.Unmarshal(value, &e.Data); err != nil {
				return bad("data_base64 is not base64")
			}
		default:
			var v any
			if json.Unmarshal(value, &v) != nil || v == nil {
				continue
			}
			if e.Extensions == nil {
				e.Extensions = map[string]string{}
			}
			switch v := v.(type) {
			case string:
				e.Extensions[name] = v
			case bool, float64:
				e.Extensions[name] = string(value)
			default:
				return bad("attribute %s is neither a string, a number, true nor false", strconv.Quote(name))
			}
		}
	}
	if err := e.Validate(); err != nil {
		return nil, err
	}
	return e, nil
}

func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json"))
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
	if e.Type == lambent.EventScheduleDue { // as Cloud Scheduler calls
		r.add("User-Agent", "Google-Cloud-Scheduler")
		r.add("X-Cloudscheduler", "true")
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
		if name == "traceparent" { // the event's own trace is that of its delivery
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
