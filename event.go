package lambent

import (
	"bytes"
	"encoding/json"
	"maps"
	"mime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Event is a CloudEvents 1.0 envelope
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md).
type Event struct {
	ID              string            `json:"id"`
	Source          string            `json:"source"` // a URI reference
	Type            string            `json:"type"`
	Subject         string            `json:"subject,omitempty"`
	Time            time.Time         `json:"time,omitzero"`
	DataContentType string            `json:"datacontenttype,omitempty"`
	DataSchema      string            `json:"dataschema,omitempty"`
	Extensions      map[string]string `json:"extensions,omitempty"` // such as traceparent
	Data            []byte            `json:"data,omitempty"`

	// Hops are the functions that led to it, for loop detection. It is no attribute of the
	// envelope: neither the code nor whoever publishes sees it.
	Hops int `json:"hops,omitempty"`
}

// Types of the events that sources of ours make.
const EventScheduleDue = "dev.lambent.schedule.due" // data: {"schedule": its expression, "due": when, in RFC 3339}

// PartitionKey is the name of the extension that says which events are to stay in order
// (https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/partitioning.md).
const PartitionKey = "partitionkey"

// ExtensionResources is the extension of events that concern resources, in EventBridge's
// sense: a list of their names, in JSON, or one name.
const ExtensionResources = "resources"

// Resources returns the names of the resources that the event concerns; it is never nil.
func (e *Event) Resources() []string {
	names := []string{}
	value, ok := e.Extensions[ExtensionResources]
	if ok && (json.Unmarshal([]byte(value), &names) != nil || names == nil) {
		return []string{value}
	}
	return names
}

// Validate checks what the specification requires of the attributes.
func (e *Event) Validate() error {
	for _, a := range []struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a.value == "" {
			return Errorf(Invalid, "event", "attribute %s is empty: CloudEvents 1.0 requires it", a.name)
		}
		if len(a.value) > 2048 {
			return Errorf(Invalid, "event", "attribute %s is %d bytes, over the limit of 2048", a.name, len(a.value))
		}
		if strings.ContainsAny(a.value, "\x00\r\n") {
			return Errorf(Invalid, "event", "attribute %s has control characters", a.name)
		}
	}
	if _, err := e.Time.MarshalText(); err != nil || !HasForm(e.Time) {
		return Errorf(Invalid, "event", "attribute time is not within the years 0 to 9999, or its zone is none")
	}
	for k := range e.Extensions {
		if k == "" || len(k) > 20 || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return Errorf(Invalid, "event", "extension name %q: 1 to 20 lower-case letters and digits", k)
		}
	}
	return nil
}

// HasForm reports whether a time has a form in JSON, in UTC.
func HasForm(t time.Time) bool { y := t.UTC().Year(); return y >= 0 && y <= 9999 }

// ParseEvent reads a CloudEvent in the JSON format
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
// It is nil for whatever is none; one with an attribute that may not be so is refused,
// Kind: Invalid.
func ParseEvent(document []byte) (*Event, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(document, &fields) != nil {
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
	bad := func(format string, args ...any) (*Event, error) {
		return nil, Errorf(Invalid, "event", "the event cannot be taken: "+format, args...)
	}
	if v := text("specversion"); v != "1.0" {
		return bad("specversion %q: there is 1.0", v)
	}
	e := &Event{
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

// A structured event is its JSON format, without extensions.
type structured struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            string          `json:"time,omitempty"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	DataSchema      string          `json:"dataschema,omitempty"`
	Data            json.RawMessage `json:"data,omitempty"`
	DataBase64      []byte          `json:"data_base64,omitempty"`
}

// Structured returns the event in the JSON format, on one line. Data that is JSON stands
// there as it is, and any other in base64.
func (e *Event) Structured() ([]byte, error) {
	s := structured{SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, DataContentType: e.DataContentType, DataSchema: e.DataSchema}
	if !e.Time.IsZero() {
		s.Time = e.Time.Format(time.RFC3339Nano)
	}
	if (e.DataContentType == "" || isJSON(e.DataContentType)) && json.Valid(e.Data) {
		s.Data = e.Data
	} else {
		s.DataBase64 = e.Data
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // or data might become six times as large
	join := 0
	if len(e.Extensions) > 0 {
		_ = enc.Encode(e.Extensions) // strings always have a form
		join = b.Len() - len("}\n")
		b.Truncate(join)
	}
	if err := enc.Encode(&s); err != nil {
		return nil, Errorf(Invalid, "event", "event %.64q has no JSON form: %w", e.ID, err)
	}
	if join > 0 {
		b.Bytes()[join] = ',' // for {: they are of one object, of which the attributes are last, and so stand
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func isJSON(contentType string) bool {
	if contentType == "application/json" { // as almost all are
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "application/json" || t == "text/json" || strings.HasSuffix(t, "+json"))
}
