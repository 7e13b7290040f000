package gcf

import (
	"encoding/json"
	"testing"
	"time"

	"lambent"
)

// A message of a queue is one of Pub/Sub's to functions of Google's.
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
	e, err := messageEvent(&lambent.Event{ID: "m1", Source: "/queues/jobs", Type: lambent.EventQueueMessage, Time: at, Data: data}, "shop")
	want := `{"message":{"data":"aGVsbG8=","attributes":{"b":"AP8=","n":"5"},"messageId":"m1","publishTime":"2023-11-14T22:13:20.123Z","orderingKey":"g"},"subscription":"projects/shop/subscriptions/jobs"}`
	if err != nil || string(e.Data) != want || e.ID != "m1" || e.Type != "google.cloud.pubsub.topic.v1.messagePublished" || e.Source != "//pubsub.googleapis.com/projects/shop/topics/jobs" {
		t.Errorf("%+v, %v of %s\nwant %s", e, err, e.Data, want)
	}
	if _, err := messageEvent(&lambent.Event{ID: "x", Data: []byte("x")}, "shop"); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
}
