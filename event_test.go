package lambent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"
)

// A time that JSON has no form for is none of an event's, whoever says it.
func TestEventTime(t *testing.T) {
	for _, at := range []time.Time{time.Unix(math.MaxInt64/1000, 0), time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if err := (&Event{ID: "1", Source: "/a", Type: "t", Time: at}).Validate(); !Is(err, Invalid) {
			t.Errorf("%v: %v", at, err)
		}
	}
	for _, at := range []string{"2026-01-01T00:00:00+24:00", "9999-12-31T23:59:59-23:00", "0000-01-01T00:00:00+01:00"} {
		document := fmt.Sprintf(`{"specversion":"1.0","id":"1","source":"/a","type":"t","time":%q}`, at)
		if e, err := ParseEvent([]byte(document)); !Is(err, Invalid) {
			t.Errorf("%s: %v, %v", at, e, err)
		}
	}
	if _, err := ParseEvent([]byte(`{"specversion":"1.0","id":"1","source":"/a","type":"t","time":"2026-01-01T00:00:00+14:00"}`)); err != nil {
		t.Error(err)
	}
}

// What an event says is the same once it was written down and read, on one line; no
// extension stands for an attribute.
func TestStructured(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, e := range []*Event{
		{ID: "1", Source: "/a", Type: "t", DataContentType: "application/json"},
		{ID: "<\"1\">\u2028", Source: "/a", Type: "t", Subject: "s", Time: at, DataContentType: "application/json", DataSchema: "/x", Data: []byte(`{"a":"<b>"}`)},
		{ID: "1", Source: "/a", Type: "t", DataContentType: "application/x+json; v=1", Extensions: map[string]string{"partitionkey": "a/\"b\"", "traceparent": "00"}, Data: []byte("null")},
		{ID: "1", Source: "/a", Type: "t", DataContentType: "application/json", Extensions: map[string]string{"x": "y"}, Data: []byte(`{"a":`)},
		{ID: "1", Source: "/a", Type: "t", DataContentType: "image/png", Data: []byte{0, 255}},
	} {
		b, err := e.Structured()
		if err != nil || !json.Valid(b) || bytes.Contains(b, []byte("\n")) {
			t.Fatalf("%s, %v", b, err)
		}
		if got, err := ParseEvent(b); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s\nis %+v, %v, and not\n%+v", b, got, err, e)
		}
	}
	e := &Event{ID: "1", Source: "/a", Type: "t", DataContentType: "application/json", Extensions: map[string]string{"id": "2", "data": "3"}, Data: []byte("{\n \"a\": 4}")}
	b, err := e.Structured()
	if got, _ := ParseEvent(b); err != nil || got == nil || got.ID != "1" || string(got.Data) != `{"a":4}` || got.Extensions != nil {
		t.Errorf("%s, %v: %+v", b, err, got)
	}
}
