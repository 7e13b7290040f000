package lambda

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	awsevents "github.com/aws/aws-lambda-go/events"

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
		inv := &lambent.Invocation{Source: kind, Events: []lambent.Event{*e}}
		golden(t, prefix+filepath.Base(file), inv)
		if kind != "database" || e.Type == lambent.EventTableTruncated {
			continue
		}
		inv.TriggerID, inv.Target = "t1", lambent.Name{Project: lambent.DefaultProject, Function: "f"}
		inv.Events[0].Extensions[lambent.RowShape] = lambent.ShapeDynamoDB
		b := golden(t, "dynamodb-"+filepath.Base(file), inv)
		var aws awsevents.DynamoDBEvent
		if err := json.Unmarshal(b, &aws); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(aws)
		if err != nil || !equalJSON(t, again, b) {
			t.Errorf("AWS's type makes of it %s, %v", again, err)
		}
	}
}

// golden holds what a function gets against a file, and returns it.
func golden(t *testing.T, name string, inv *lambent.Invocation) []byte {
	t.Helper()
	b, err := eventsEvent(inv)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Indent(&got, append(b, '\n'), "", "\t"); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got.String() != string(want) {
		t.Errorf("%s differs (go test -update rewrites it): %v\n%s", path, err, &got)
	}
	return b
}
