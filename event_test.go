package lambent

import (
	"fmt"
	"math"
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
