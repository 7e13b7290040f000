package lambda

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"

	"lambent"
)

// What is made of an event is what the golden file has, and what AWS's own types say it is,
// all of it.
func TestEvents(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 27, 18, 0, 0, 5e8, time.FixedZone("", 3600))
	for name, c := range map[string]struct {
		source string
		event  lambent.Event
	}{
		"schedule":     {"schedule", lambent.Event{ID: "e1", Source: "/triggers/t1", Type: lambent.EventScheduleDue, Subject: "f", Time: at, Data: []byte(`{"schedule":"rate(5 minutes)"}`)}},
		"pattern":      {"pattern", lambent.Event{ID: "e2", Source: "shop", Type: "Order <placed>", Time: at, DataContentType: "application/json", Data: []byte(`{"total": 1.50}`)}},
		"pattern-text": {"pattern", lambent.Event{ID: "e3", Source: "shop", Type: "note", Time: at, DataContentType: "text/plain", Data: []byte("a \"note\"")}},
		// Published by somebody who would like to be the scheduler.
		"pattern-bytes": {"pattern", lambent.Event{ID: "e4", Source: "shop", Type: lambent.EventScheduleDue, Time: at, Data: []byte{0xff, 0}}},
	} {
		got := golden(t, name+".json", &lambent.Invocation{
			Source: c.source, TriggerID: "t1", Target: lambent.Name{Project: lambent.DefaultProject, Function: "f"}, Events: []lambent.Event{c.event},
		})
		var aws awsevents.EventBridgeEvent
		if err := json.Unmarshal(got, &aws); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(aws)
		if err != nil || !equalJSON(t, again, got) {
			t.Errorf("AWS's type makes of it %s, %v", again, err)
		}
	}
	if _, err := eventsEvent(&lambent.Invocation{Source: "pattern", Events: make([]lambent.Event, 2)}); !lambent.Is(err, lambent.Unsupported) {
		t.Error(err)
	}
}

// Messages of a queue are what AWS's own types say they are, all of it.
func TestSQSEvent(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_123).UTC()
	data, err := json.Marshal(lambent.QueueMessage{
		Queue: "jobs.fifo", ID: "m1", Body: []byte("hello"), Receipt: "r1", Sent: at, FirstReceived: at.Add(time.Second), Receives: 2, Sender: "LAKEY", Group: "g", DedupeID: "d", Sequence: "7",
		Attributes: map[string]lambent.MessageAttribute{"n": {Type: "Number", String: "5"}, "b": {Type: "Binary", Binary: []byte{0, 255}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := golden(t, "sqs.json", &lambent.Invocation{Source: "queue", Target: lambent.Name{Project: lambent.DefaultProject, Function: "f"}, Events: []lambent.Event{{ID: "m1", Data: data}}})
	var aws awsevents.SQSEvent
	if err := json.Unmarshal(got, &aws); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(aws)
	again = []byte(strings.Replace(string(again), `"md5OfMessageAttributes":"",`, "", 1)) // SQS sums attributes up for its own clients
	if err != nil || !equalJSON(t, again, got) {
		t.Errorf("AWS's type makes of it %s, %v", again, err)
	}
	if _, err := eventsEvent(&lambent.Invocation{Source: "queue", Events: []lambent.Event{{ID: "e", Data: []byte("x")}}}); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
}

// The values of a row are attributes of DynamoDB's, which AWS's own type reads.
func TestDynamoDBAttributes(t *testing.T) {
	t.Parallel()
	data := `{"operation":"insert","schema":"public","table":"t","key":null,"old":null,"new":{"big":"9007199254740993","flag":true,"json":{"a":[1.50,null,"x",{"b":false}]},"n":-12.340,"none":null,"text":"<ü>"},"position":"0/1"}`
	e := lambent.Event{ID: "e1", Type: lambent.EventRowInserted, Time: time.Unix(1_700_000_000, 0), Extensions: map[string]string{lambent.RowShape: lambent.ShapeDynamoDB}, Data: []byte(data)}
	inv := &lambent.Invocation{Source: "database", Target: lambent.Name{Project: lambent.DefaultProject, Function: "f"}, Events: []lambent.Event{e}}
	got, err := eventsEvent(inv)
	if err != nil {
		t.Fatal(err)
	}
	want := `"dynamodb":{"ApproximateCreationDateTime":1700000000,"NewImage":{"big":{"S":"9007199254740993"},"flag":{"BOOL":true},` +
		`"json":{"M":{"a":{"L":[{"N":"1.50"},{"NULL":true},{"S":"x"},{"M":{"b":{"BOOL":false}}}]}}},"n":{"N":"-12.340"},"none":{"NULL":true},"text":{"S":"<ü>"}},"SequenceNumber":"e1",`
	if !strings.Contains(string(got), want) {
		t.Errorf("got %s\nwant in it %s", got, want)
	}
	var aws awsevents.DynamoDBEvent
	if err := json.Unmarshal(got, &aws); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(aws); err != nil || !equalJSON(t, again, got) {
		t.Errorf("AWS's type makes of it %s, %v", again, err)
	}
	for _, bad := range []lambent.Event{
		{ID: "e", Type: lambent.EventTableTruncated, Extensions: e.Extensions, Data: []byte(`{}`)}, {ID: "e", Type: lambent.EventRowInserted, Extensions: e.Extensions, Data: []byte(`x`)},
	} {
		inv.Events = []lambent.Event{bad}
		if _, err := eventsEvent(inv); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Of a source that has batches there is a list, of one event too.
func TestRecords(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 1, 2, 3, 45e6, time.UTC)
	events := []lambent.Event{
		{ID: "e1", Source: "/db", Type: "row", Subject: "public.orders", Time: at, Extensions: map[string]string{lambent.PartitionKey: "orders 1"}, Data: []byte(`{"total":1.50}`)},
		{ID: "e2", Source: "/db", Type: "row"},
	}
	got, err := eventsEvent(&lambent.Invocation{Source: "stream", Events: events})
	want := `{"Records":[{"eventID":"e1","eventVersion":"1.0","eventSource":"lambent:stream","eventName":"row","eventTime":"2026-11-28T01:02:03.045Z","awsRegion":"us-east-1",` +
		`"source":"/db","subject":"public.orders","partitionKey":"orders 1","data":{"total":1.50}},` +
		`{"eventID":"e2","eventVersion":"1.0","eventSource":"lambent:stream","eventName":"row","awsRegion":"us-east-1","source":"/db","data":{}}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
}

// What has happened in a bucket is what AWS's own types say it is, all of it, with the
// key as AWS's functions decode it.
func TestS3Event(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 1, 2, 3, 45e6, time.UTC)
	event := func(id, kind string, o lambent.ObjectEvent) lambent.Event {
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return lambent.Event{ID: id, Source: "/buckets/uploads", Type: kind, Subject: o.Key, Time: at, Data: data}
	}
	o := lambent.ObjectEvent{
		Event: "s3:ObjectCreated:Put", Bucket: "uploads", Key: "photos/me & you+ü.jpg", Size: 1024, ETag: "d41d8cd98f00b204e9800998ecf8427e", VersionID: "v1",
		Sequencer: "18EC11160FBE4D02", Configuration: "thumbs", Principal: "LAKEY", RemoteIP: "10.0.0.1", RequestID: "R1",
	}
	removed := o
	removed.Event = "s3:ObjectRemoved:Delete"
	for name, e := range map[string]lambent.Event{"s3-created": event("e1", lambent.EventObjectCreated, o), "s3-removed": event("e2", lambent.EventObjectDeleted, removed)} {
		got := golden(t, name+".json", &lambent.Invocation{Source: "bucket", Target: lambent.Name{Project: lambent.DefaultProject, Function: "f"}, Events: []lambent.Event{e}})
		var aws awsevents.S3Event
		if err := json.Unmarshal(got, &aws); err != nil {
			t.Fatal(err)
		}
		if r := aws.Records[0].S3; r.Object.URLDecodedKey != o.Key || r.ConfigurationID != "thumbs" {
			t.Errorf("AWS's type makes of it %+v", r)
		}
		if aws.Records[0].EventName == "ObjectRemoved:Delete" {
			continue // AWS's type writes a size and an ETag of it
		}
		aws.Records[0].S3.Object.URLDecodedKey = ""
		again, err := json.Marshal(aws)
		again = []byte(strings.Replace(string(again), `"urlDecodedKey":"",`, "", 1))
		if err != nil || !equalJSON(t, again, got) {
			t.Errorf("AWS's type makes of it %s, %v", again, err)
		}
	}
	if _, err := eventsEvent(&lambent.Invocation{Source: "bucket", Events: []lambent.Event{{ID: "e", Data: []byte("x")}}}); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
}

func TestFailedItems(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string][]string{
		`null`: nil, `"ok"`: nil, `{}`: nil, ``: nil, `{"batchItemFailures":null}`: nil, `{"batchItemFailures":[]}`: nil, `{"batchItemFailures":"e1"}`: nil,
		`{"batchItemFailures":[{"itemIdentifier":"e2"},{"itemIdentifier":"e1"}],"x":1}`: {"e2", "e1"},
		`{"batchItemFailures":[{"itemIdentifier":null}]}`:                               {""},
		`{"batchItemFailures":[{}]}`:                                                    {""},
		`{"batchItemFailures":[{"itemIdentifier":""}]}`:                                 {""},
		`{"batchItemFailures":[{"itemIdentifier":7}]}`:                                  {""},
		`{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":1}}]}`:     {""},
	} {
		if got := failedItems(&lambent.Invocation{}, []byte(answer)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, want %q", answer, got, want)
		}
	}
}

func equalJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return reflect.DeepEqual(x, y)
}
