package meter_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/meter"
)

func TestRecordIsJSON(t *testing.T) {
	for _, u := range []*lambent.Usage{{}, usage(1), {
		ID: "a\"b\\c\n\x00\x7f<>&", Function: "grüß\u2028世", Error: "Bad\xffUTF8\xc3", Outcome: "error",
		Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), InitType: "on-demand", PlaceUS: 77, AheadUS: 55, RespondUS: 88, ShareUS: 66, StreamUS: 44, BusyUS: 99, Guest: "gcf", Concurrency: 80, QueueUS: -1, BytesOut: 1<<63 - 1,
	}} {
		line := meter.AppendRecord(nil, u)
		got, err := meter.Decode(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		b, err := json.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		var want lambent.Usage
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s\nis   %+v\nwant %+v", line, *got, want)
		}
		var ours, theirs map[string]any // also the names, and what is left out
		if json.Unmarshal(line, &ours) != nil || json.Unmarshal(b, &theirs) != nil {
			t.Fatal("not JSON")
		}
		delete(ours, "crc")
		spaced := recrc(append([]byte("{ "), line[1:]...)) // which is left to encoding/json
		if again, err := meter.Decode(spaced); err != nil || !reflect.DeepEqual(*again, want) {
			t.Errorf("%s is %+v (%v)", spaced, again, err)
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Errorf("fields are\n%v, want\n%v", ours, theirs)
		}
	}
	// A field that is added to Usage must be added to the encoding.
	if n := reflect.TypeFor[lambent.Usage]().NumField(); n != 33 {
		t.Errorf("Usage has %d fields; the encoding writes 33", n)
	}
	long := meter.AppendRecord(nil, &lambent.Usage{Error: strings.Repeat("é", 10<<10)})
	if u, err := meter.Decode(bytes.TrimSuffix(long, []byte("\n"))); err != nil || len(u.Error) > 2048 {
		t.Errorf("a long error's type: %d bytes (%v)", len(u.Error), err)
	}
}

// recrc gives a changed line its checksum.
func recrc(line []byte) []byte {
	i := bytes.LastIndex(line, []byte(`,"crc":"`))
	return fmt.Appendf(line[:i:i], `,"crc":"%08x"}`, crc32.Checksum(line[:i], crc32.MakeTable(crc32.Castagnoli)))
}

// FuzzRecord holds the codec against encoding/json.
func FuzzRecord(f *testing.F) {
	f.Add("id", "fn", "Error", int64(12), true)
	f.Add("a\"b", "\\", "\xff,\":{", int64(-1), false)
	f.Fuzz(func(t *testing.T, id, function, fault string, n int64, cold bool) {
		if len(id)+len(function)+len(fault) > 1000 {
			return
		}
		u := lambent.Usage{ID: id, Function: function, Error: fault, RunUS: n, MemoryMB: int(n), Cold: cold}
		b, err := json.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		var want lambent.Usage
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		got, err := meter.Decode(bytes.TrimSuffix(meter.AppendRecord(nil, &u), []byte("\n")))
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%+v, want %+v (%v)", got, want, err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	u, buf := usage(1), make([]byte, 0, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		buf = meter.AppendRecord(buf[:0], u)
	}
	b.ReportMetric(float64(len(buf)), "bytes")
}
