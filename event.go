package lambent

import (
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
}

// Types of the events that sources of ours make.
const EventScheduleDue = "dev.lambent.schedule.due" // data: {"schedule": its expression, "due": when, in RFC 3339}

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
	for k := range e.Extensions {
		if k == "" || len(k) > 20 || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return Errorf(Invalid, "event", "extension name %q: 1 to 20 lower-case letters and digits", k)
		}
	}
	return nil
}
