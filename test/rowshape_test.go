package test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	awsevents "github.com/aws/aws-lambda-go/events"

	"lambent/client"
	"lambent/source/databasetest"
	"lambent/test/daemon"
)

// A function of DynamoDB's streams gets the changes of a table of PostgreSQL's, and what it
// says has failed, by sequence numbers, comes again.
func TestRowShape(t *testing.T) {
	pg := databasetest.NewPostgres(t)
	db := pg.Database(t, "CREATE TABLE orders (id int PRIMARY KEY, note text)", "ALTER TABLE orders REPLICA IDENTITY FULL")
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"), "--driver", "process")
	const code = `import json, os
def handler(event, context):
    print("GOT", json.dumps(event))
    flag = os.path.join(os.environ["FLAGS"], event["Records"][-1]["dynamodb"]["SequenceNumber"])
    if event["Records"][-1]["eventName"] != "REMOVE" or os.path.exists(flag):
        return {}
    open(flag, "w").close()
    return {"batchItemFailures": [{"itemIdentifier": event["Records"][-1]["dynamodb"]["SequenceNumber"]}]}
`
	r := python(upload(t, d, "app.py", code), 0)
	r.Env["FLAGS"] = daemon.Dir(t)
	r.Async = &client.AsyncRequest{BackoffMS: new(int64(20))}
	if _, err := d.Deploy(t.Context(), "f", r, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AddTrigger(t.Context(), client.TriggerRequest{Function: "f", SourceRequest: client.SourceRequest{
		Database: &client.Database{URL: pg.URL(db), Tables: []string{"orders"}, Shape: "dynamodb"},
	}}); err != nil {
		t.Fatal(err)
	}
	pg.Exec(t, db, "INSERT INTO orders VALUES (7, 'tea')", "UPDATE orders SET note = 'milk'", "TRUNCATE orders", "INSERT INTO orders VALUES (7, 'tea')", "DELETE FROM orders")
	var seen []string
	databasetest.Until(t, "all has come, and what failed again", func() bool {
		seen = nil
		for line, err := range d.Logs(t.Context(), "f", client.LogQuery{Grep: "GOT "}) {
			if err != nil {
				t.Fatal(err)
			}
			var e awsevents.DynamoDBEvent
			if err := json.Unmarshal([]byte(strings.TrimPrefix(strings.TrimSpace(line.Text), "GOT ")), &e); err != nil {
				t.Fatal(err)
			}
			for _, r := range e.Records {
				seen = append(seen, r.EventName+" "+r.Change.Keys["id"].Number()+" "+imageOf(r.Change.OldImage)+" "+imageOf(r.Change.NewImage))
			}
		}
		return strings.Count(strings.Join(seen, "\n"), "REMOVE 7 tea -") >= 2
	})
	for _, want := range []string{"INSERT 7 - tea", "MODIFY 7 tea milk"} {
		if !strings.Contains(strings.Join(seen, "\n"), want) {
			t.Errorf("%q, want %q in it", seen, want)
		}
	}
}

// imageOf is the note of a row.
func imageOf(row map[string]awsevents.DynamoDBAttributeValue) string {
	if row == nil {
		return "-"
	}
	return row["note"].String()
}
