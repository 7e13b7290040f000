package gcf

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What functions get of changes of rows and of brokers' messages is what the golden files
// have, one for each kind, of the events that sources make of them.
func TestGolden(t *testing.T) {
	rows, _ := filepath.Glob("../../internal/rows/testdata/*.json")
	messages, _ := filepath.Glob("../../source/broker/testdata/*.json")
	if len(rows) == 0 || len(messages) == 0 {
		t.Fatal(rows, messages)
	}
	for _, file := range append(rows, messages...) {
		prefix := "row-"
		if slices.Contains(messages, file) {
			prefix = "message-"
		}
		document, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, body := sent(t, string(document))
		golden(t, prefix+strings.TrimSuffix(filepath.Base(file), ".json"), head, body)
	}
}

// golden holds what is sent against a file.
func golden(t *testing.T, name, head, body string) {
	t.Helper()
	var got bytes.Buffer
	got.WriteString(head + "\n")
	if err := json.Indent(&got, []byte(body), "", "\t"); err != nil && body != "" {
		t.Fatalf("%s: %v", body, err)
	}
	got.WriteByte('\n')
	path := filepath.Join("testdata", name+".http")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got.String() != string(want) {
		t.Errorf("%s differs (go test -update rewrites it): %v\n%s", path, err, &got)
	}
}

// What is due is a request of Cloud Scheduler's, or a message of Pub/Sub's for who says that
// it is for events, with the trigger's input where there is one.
func TestGoldenSchedule(t *testing.T) {
	due := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	event := lambent.Event{
		ID: "e1", Source: "/triggers/t1", Type: lambent.EventScheduleDue, Subject: "f", Time: due, DataContentType: "application/json",
		Data: []byte(`{"schedule":"rate(5 minutes)","due":"2026-11-28T10:00:00Z"}`),
	}
	for name, c := range map[string]struct{ signature, input string }{
		"schedule":               {"", ""},
		"schedule-input":         {"http", `{"job":"nightly"}`},
		"schedule-message":       {"cloudevent", ""},
		"schedule-message-input": {"event", `{"job":"nightly"}`},
		"schedule-message-event": {"cloudevent", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"job":"nightly"}}`},
	} {
		in := &instance{port: 8080}
		in.unit.Revision = &lambent.Revision{Config: &lambent.Config{Env: map[string]string{signatureVariable: c.signature}}}
		inv := &lambent.Invocation{ID: "i1", TriggerID: "t1", Source: "schedule", Target: lambent.Name{Project: "shop", Function: "f"}, Due: due}
		if c.input != "" {
			inv.Raw = []byte(c.input)
		} else {
			inv.Events = []lambent.Event{event}
		}
		r, err := in.scheduled(inv)
		if err != nil {
			t.Fatal(name, err)
		}
		golden(t, name, headOf(r), string(r.body))
	}
}
