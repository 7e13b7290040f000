package gcf

import (
	"encoding/json"
	"testing"
	"time"

	"lambent"
)

// A message of a queue is one of Pub/Sub's to functions of Google's, as the golden file has it.
func TestMessageEvent(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_123).UTC()
	data, err := json.Marshal(lambent.QueueMessage{
		Queue: "jobs", ID: "m1", Body: []byte("hello"), Receipt: "r1", Sent: at, Group: "g",
		Attributes: map[string]lambent.MessageAttribute{"n": {Type: "Number", String: "5"}, "b": {Type: "Binary", Binary: []byte{0, 255}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := lambent.Event{ID: "m1", Source: "/queues/jobs", Type: lambent.EventQueueMessage, Time: at, Data: data}
	r, err := (&instance{port: 8080}).request(&lambent.Invocation{Source: "queue", Target: lambent.Name{Project: "shop", Function: "f"}, Events: []lambent.Event{e}})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "pubsub", ofEvent(r), string(r.body))
	if _, err := messageEvent(&lambent.Event{ID: "x", Data: []byte("x")}, "shop"); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
}
