package lambda

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lambent"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What functions get of changes of rows and of brokers' messages is what the golden files
// have, one for each kind, of the events that sources make of them.
func TestGolden(t *testing.T) {
	t.Parallel()
	rows, _ := filepath.Glob("../../internal/rows/testdata/*.json")
	messages, _ := filepath.Glob("../../source/broker/testdata/*.json")
	if len(rows) == 0 || len(messages) == 0 {
		t.Fatal(rows, messages)
	}
	for _, file := range append(rows, messages...) {
		kind, prefix := "database", "row-"
		if slices.Contains(messages, file) {
			kind, prefix = "broker", "message-"
		}
		document, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e, err := lambent.ParseEvent(document)
		if err != nil {
			t.Fatal(err)
		}
		b, err := eventsEvent(&lambent.Invocation{Source: kind, Events: []lambent.Event{*e}})
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := json.Indent(&got, append(b, '\n'), "", "\t"); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		path := filepath.Join("testdata", prefix+strings.TrimSuffix(filepath.Base(file), ".json")+".json")
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
}
