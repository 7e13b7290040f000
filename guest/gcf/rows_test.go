package gcf

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What functions get of changes of rows is what the golden files have, one for each kind
// of change, of the events that internal/rows makes of them.
func TestRows(t *testing.T) {
	events, err := filepath.Glob("../../internal/rows/testdata/*.json")
	if err != nil || len(events) == 0 {
		t.Fatal(events, err)
	}
	for _, file := range events {
		document, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, body := sent(t, string(document))
		var got bytes.Buffer
		got.WriteString(head + "\n")
		if err := json.Indent(&got, []byte(body), "", "\t"); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		got.WriteByte('\n')
		path := filepath.Join("testdata", "row-"+strings.TrimSuffix(filepath.Base(file), ".json")+".http")
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
