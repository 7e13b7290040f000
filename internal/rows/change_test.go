package rows

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func row(pairs ...string) (row []Column) {
	for i := 0; i < len(pairs); i += 2 {
		row = append(row, Column{pairs[i], []byte(pairs[i+1])})
	}
	return row
}

func trigger() *lambent.Trigger {
	return &lambent.Trigger{ID: "0199ad6c-0000-7000-8000-000000000001", Since: time.Unix(1764000000, 0).UTC(), Database: &lambent.Database{}}
}

// changes are some of each kind, as databases tell them.
func changes() map[string]*Change {
	at := time.Date(2026, 11, 27, 18, 0, 0, 123456000, time.FixedZone("", 3600))
	change := func(operation string, c Change) *Change {
		c.Operation, c.Schema, c.Table, c.Committed, c.Position, c.Transaction = operation, "shop", "orders", at, "0-1-17", "0-1-17"
		return &c
	}
	snapshot := change("insert", Change{Key: row("id", "17"), New: row("id", "17", "note", `"a"`)})
	snapshot.Transaction = ""
	return map[string]*Change{
		"insert":   change("insert", Change{Key: row("id", "17"), New: row("id", "17", "note", `"a\"b"`, "total", `"12.50"`, "tags", `["a",null]`)}),
		"update":   change("update", Change{Key: row("id", "17"), Old: row("id", "17", "note", "null"), New: row("id", "17"), Unchanged: []string{"note"}, Index: 2}),
		"delete":   change("delete", Change{Key: row("a", "1", "b", `"x/y"`), Old: row("a", "1", "b", `"x/y"`)}),
		"truncate": change("truncate", Change{}),
		"snapshot": snapshot,
		"large":    change("insert", Change{Key: row("id", "17"), New: row("id", "17", "note", `"a"`), omitted: []string{"scan"}}),
	}
}

// Each kind of change is the event that its golden file has: those of functions begin
// with these.
func TestEvents(t *testing.T) {
	for name, c := range changes() {
		t.Run(name, func(t *testing.T) {
			e := c.event(trigger())
			if err := e.Validate(); err != nil {
				t.Error(err)
			}
			b, err := e.Structured()
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, append(b, '\n'), "", "\t"); err != nil {
				t.Fatalf("%s: %v", b, err)
			}
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || got.String() != string(want) {
				t.Errorf("%s differs (go test -update rewrites it): %v\n%s", path, err, &got)
			}
		})
	}
}

// A change has one id, by where it stands; a row of a snapshot by what it has, wherever
// it stands, unless nothing tells it from others.
func TestIDs(t *testing.T) {
	id := func(operation string, change func(*lambent.Trigger, *Change)) string {
		tr, c := trigger(), changes()[operation]
		change(tr, c)
		return c.event(tr).ID
	}
	for name, c := range map[string]struct {
		change           func(*lambent.Trigger, *Change)
		insert, snapshot bool // it is another then
	}{
		"nothing":     {func(*lambent.Trigger, *Change) {}, false, false},
		"the trigger": {func(tr *lambent.Trigger, _ *Change) { tr.ID = lambent.NewID() }, true, true},
		"its time":    {func(tr *lambent.Trigger, _ *Change) { tr.Since = time.Now() }, false, true},
		"the index":   {func(_ *lambent.Trigger, c *Change) { c.Index++ }, true, false},
		"the commit":  {func(_ *lambent.Trigger, c *Change) { c.Position += "0" }, true, false},
		"the row":     {func(_ *lambent.Trigger, c *Change) { c.New[1].Value = []byte("1") }, false, true},
		"the table":   {func(_ *lambent.Trigger, c *Change) { c.Table = "bills" }, false, true},
	} {
		for operation, other := range map[string]bool{"insert": c.insert, "snapshot": c.snapshot} {
			if got := id(operation, c.change) != id(operation, func(*lambent.Trigger, *Change) {}); got != other {
				t.Errorf("%s of another has another id: %v, want %v (%s)", name, got, other, operation)
			}
		}
	}
	bare := func(index int) string {
		return id("snapshot", func(_ *lambent.Trigger, c *Change) { c.Key, c.Index = nil, index })
	}
	if bare(1) == bare(2) {
		t.Error("two rows that are alike, without a key, are one")
	}
}

// The changes of a row have one partition key, and no other's.
func TestPartitionKey(t *testing.T) {
	seen := map[string][]Column{}
	for _, key := range [][]Column{nil, row("a", "1"), row("a", `"1/2"`), row("a", `"1"`, "b", `"2"`), row("a", `"1%2F2"`), row("a", `""`), row("a", `"`+strings.Repeat("x", 600)+`"`), row("a", `"`+strings.Repeat("x", 601)+`"`)} {
		k := partitionKey("shop.orders", key)
		if other, ok := seen[k]; ok || len(k) > maxPartitionKey || k != partitionKey("shop.orders", key) || !strings.HasPrefix(k, "shop.orders") {
			t.Errorf("%s of %s and of %s", k, key, other)
		}
		seen[k] = key
	}
}

// What is too large goes first: large values, then all but the key.
func TestShrink(t *testing.T) {
	large := `"` + strings.Repeat("x", 10<<10) + `"`
	c := &Change{Key: row("id", large), Old: row("id", large, "a", "1", "b", large), New: row("id", large, "a", "2", "b", large)}
	if !c.shrink() || fmt.Sprint(c.omitted) != "[id b]" || string(object(nil, c.New)) != `{"a":2}` || string(object(nil, c.Old)) != `{"a":1}` {
		t.Errorf("%v, %s, %s", c.omitted, c.Old, c.New)
	}
	if !c.shrink() || fmt.Sprint(c.omitted) != "[id b a]" || string(object(nil, c.New)) != `{}` || c.shrink() {
		t.Errorf("%v, %s", c.omitted, c.New)
	}
}

// The key is of the row as it is, or was; columns that nobody wants go, but not its.
func TestKeyAndColumns(t *testing.T) {
	c := &Change{Old: row("id", "1", "b", "2", "c", "3"), New: row("id", "4", "c", "5"), Unchanged: []string{"b", "d"}}
	c.Identify([]string{"id", "b", "none"})
	if got := string(object(nil, c.Key)); got != `{"id":4,"b":2}` {
		t.Error(got)
	}
	c.Narrow(nil)
	c.Narrow([]string{"c", "d"})
	if got := string(object(object(nil, c.Old), c.New)) + fmt.Sprint(c.Unchanged); got != `{"c":3}{"c":5}[d]` {
		t.Error(got)
	}
	none := &Change{}
	if none.Narrow([]string{"c"}); none.New != nil || string(none.data()) != string((&Change{}).data()) {
		t.Errorf("%s", none.data())
	}
	for s, want := range map[string]Table{"orders": {"public", "orders"}, "shop.orders": {"shop", "orders"}, "a.b.c": {"a", "b.c"}} {
		if got := ParseTable(s, "public"); got != want {
			t.Errorf("%s is %v", s, got)
		}
	}
}
