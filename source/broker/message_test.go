package broker

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// messages are one of each broker, with what only it has.
func messages() map[string]*Message {
	at := time.Date(2026, 11, 27, 18, 0, 0, 123e6, time.FixedZone("", 3600))
	header := []lambent.Header{{Name: "trace", Value: lambent.Bytes("x")}, {Name: "trace", Value: lambent.Bytes("\xff\x00")}}
	return map[string]*Message{
		"kafka": {Origin: "cluster orders 3 17", Order: "key k", Time: at, BrokerMessage: lambent.BrokerMessage{
			Engine: "kafka", Broker: "kafka:9092", Topic: "orders", Key: Text("k"), Body: Text(`{"total": "<12>"}`), Headers: header, Partition: new(int32(3)), Offset: new(int64(17)), TimestampType: "CREATE_TIME",
		}},
		"tombstone": {Origin: "cluster orders 3 18", Order: "orders-3", Time: at, BrokerMessage: lambent.BrokerMessage{
			Engine: "kafka", Broker: "kafka:9092", Topic: "orders", Partition: new(int32(3)), Offset: new(int64(18)), TimestampType: "LOG_APPEND_TIME",
		}},
		"nats": {Origin: "ORDERS 17", Order: "orders.eu", Time: at, BrokerMessage: lambent.BrokerMessage{
			Engine: "nats", Broker: "nats:4222", Topic: "orders.eu", Body: Text("text"), Headers: header[:1], Stream: "ORDERS", Sequence: 17,
		}},
		"rabbitmq": {Origin: "/ jobs m1", Time: at, BrokerMessage: lambent.BrokerMessage{
			Engine: "rabbitmq", Broker: "rabbit:5672", Topic: "jobs", Body: Text("\xff\x00"), AMQP: &lambent.AMQPProperties{
				VirtualHost: "/", Exchange: "work", RoutingKey: "jobs.eu", ContentType: "application/octet-stream", MessageID: "m1", DeliveryMode: 2, Timestamp: at.UTC(),
				Headers: map[string]any{"tries": 3, "from": lambent.Bytes("shop")},
			},
		}},
		"mqtt": {Order: "sensors/7", Time: at, BrokerMessage: lambent.BrokerMessage{
			Engine: "mqtt", Broker: "broker:1883", Topic: "sensors/7", Body: Text("21.5"), QoS: 1, Retained: true, ContentType: "text/plain", ResponseTopic: "answers", Correlation: Text("c"), Headers: header[:1],
		}},
		"redis": {Origin: "1764000000000-0", Time: at, BrokerMessage: lambent.BrokerMessage{
			Engine: "redis", Broker: "redis:6379", Topic: "orders", Entry: "1764000000000-0", Fields: map[string]lambent.Bytes{"total": lambent.Bytes("12"), "scan": lambent.Bytes("\xff")},
		}},
	}
}

var trigger = &lambent.Trigger{ID: "0199ad6c-0000-7000-8000-000000000001", Since: time.Unix(1764000000, 0).UTC()}

// A message that says of which trace it is makes an event that does.
func TestTrace(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	header := []lambent.Header{{Name: "a", Value: lambent.Bytes("b")}, {Name: "Traceparent", Value: lambent.Bytes(trace)}}
	for name, m := range map[string]lambent.BrokerMessage{
		"a header": {Engine: "kafka", Topic: "orders", Headers: header},
		"AMQP":     {Engine: "rabbitmq", Topic: "jobs", AMQP: &lambent.AMQPProperties{Headers: map[string]any{"traceparent": lambent.Bytes(trace)}}},
	} {
		e := (&Message{BrokerMessage: m}).event(trigger, time.Now())
		if e.Extensions[lambent.ExtensionTrace] != trace {
			t.Errorf("%s: %v", name, e.Extensions)
		}
	}
}

// Each broker's message is the event that its golden file has: those of functions begin
// with these.
func TestEvents(t *testing.T) {
	for name, m := range messages() {
		t.Run(name, func(t *testing.T) {
			e := m.event(trigger, time.Now())
			if err := e.Validate(); err != nil {
				t.Error(err)
			}
			if m.Origin == "" {
				e.ID = "6a7e8feb-b491-4cf7-a9f1-bf3703467718" // another each time
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

// A message has one ID, whenever it comes, as long as the broker has a name for it, and
// means the same by that.
func TestIDs(t *testing.T) {
	id := func(change func(m *Message)) string {
		m := messages()["rabbitmq"]
		change(m)
		return m.event(trigger, time.Now()).ID
	}
	first := id(func(*Message) {})
	if again := id(func(m *Message) { m.AMQP.Redelivered = true }); again != first {
		t.Error("it has another when it comes again")
	}
	for what, change := range map[string]func(*Message){
		"name": func(m *Message) { m.Origin = "/ jobs m2" }, "body": func(m *Message) { m.Body = Text("other") }, "time": func(m *Message) { m.Time = m.Time.Add(1) },
		"nothing": func(m *Message) { m.Origin = "" },
	} {
		if other := id(change); other == first {
			t.Errorf("with another %s it has the same", what)
		}
	}
	unnamed := id(func(m *Message) { m.Origin = "" })
	if id(func(m *Message) { m.Origin = "" }) == unnamed {
		t.Error("two without a name are one")
	}
}

// What names a message fits into an event's attributes, whatever it is, and so does what
// is left of one that is too large.
func TestBounds(t *testing.T) {
	m := messages()["kafka"]
	m.Topic, m.Order = strings.Repeat("t", 1000), "\xff"
	e := m.event(trigger, time.Now())
	if len(e.Subject) != 64 || len(e.Extensions[lambent.PartitionKey]) != 64 {
		t.Errorf("%+v", e)
	}
	m.Topic, m.Headers = "orders", []lambent.Header{{Name: strings.Repeat("h", 1<<20)}}
	where := m.where("it is large")
	if b := string(document(&where)); b != `{"engine":"kafka","broker":"kafka:9092","topic":"orders","partition":3,"offset":17,"omitted":"it is large"}` {
		t.Errorf("%.1000s", b)
	}
	m.Headers[0].Name = strings.Repeat("h", maxMessage)
	if e := m.event(trigger, time.Now()); m.Refused == "" || len(e.Data) > 1000 || !strings.Contains(string(e.Data), `"offset":17`) {
		t.Errorf("%q: %.1000s", m.Refused, e.Data)
	}
}

// No password is in an error, whoever has written it.
func TestFail(t *testing.T) {
	for url, said := range map[string]string{"kafka://app:s%40cret@kafka": "dial kafka://app:s%40cret@kafka: s@cret is wrong", "nats://some-token@nats": "some-token"} {
		err := Fail(&lambent.Broker{URL: url}, lambent.Unavailable, "does not answer", errorString(said))
		if strings.Contains(err.Error(), "cret") || strings.Contains(err.Error(), "some-token") {
			t.Error(err)
		}
	}
}

type errorString string

func (e errorString) Error() string { return string(e) }

// Whoever sends says when that was, and may say what no event can: then nothing is known of it.
func TestTime(t *testing.T) {
	far := time.UnixMilli(math.MaxInt64)
	now := time.Now()
	m := Message{Origin: "1", Time: far, BrokerMessage: lambent.BrokerMessage{AMQP: &lambent.AMQPProperties{Timestamp: far}}}
	e := m.event(&lambent.Trigger{ID: lambent.NewID(), Broker: &lambent.Broker{}}, now)
	if err := e.Validate(); err != nil || !e.Time.Equal(now) {
		t.Errorf("%v, %v", e.Time, err)
	}
}
