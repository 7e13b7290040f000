package lambda

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"

	"lambent"
)

func brokerInvocation(t *testing.T, at time.Time, messages ...lambent.BrokerMessage) *lambent.Invocation {
	t.Helper()
	inv := &lambent.Invocation{Source: "broker", Target: lambent.Name{Project: lambent.DefaultProject, Function: "f"}}
	for i := range messages {
		data, err := json.Marshal(&messages[i])
		if err != nil {
			t.Fatal(err)
		}
		inv.Events = append(inv.Events, lambent.Event{ID: "e" + string(rune('0'+i)), Source: "/triggers/t", Type: lambent.EventBrokerMessage, Subject: messages[i].Topic, Time: at, Data: data})
	}
	return inv
}

func text(s string) *lambent.Bytes { return new(lambent.Bytes(s)) }

// Messages of Kafka are what AWS's own types say they are, all of it, and are named as AWS
// names them.
func TestKafkaEvent(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_700_000_000_123)
	message := func(partition int32, offset int64, key, body *lambent.Bytes, headers ...lambent.Header) lambent.BrokerMessage {
		return lambent.BrokerMessage{Engine: "kafka", Broker: "kafka:9092", Topic: "orders", Partition: &partition, Offset: &offset, TimestampType: "CREATE_TIME", Key: key, Body: body, Headers: headers}
	}
	inv := brokerInvocation(t, at,
		message(0, 7, text("k"), text("hello"), lambent.Header{Name: "h", Value: lambent.Bytes("v\xdc\x00")}, lambent.Header{Name: "h", Value: nil}),
		message(1, 3, nil, text("\xff\x00")), message(0, 8, text("k"), nil))
	got, err := eventsEvent(inv)
	want := `{"eventSource":"aws:SelfManagedKafka","bootstrapServers":"kafka:9092","records":{` +
		`"orders-0":[{"topic":"orders","partition":0,"offset":7,"timestamp":1700000000123,"timestampType":"CREATE_TIME","key":"aw==","value":"aGVsbG8=","headers":[{"h":[118,-36,0]},{"h":[]}]},` +
		`{"topic":"orders","partition":0,"offset":8,"timestamp":1700000000123,"timestampType":"CREATE_TIME","key":"aw==","headers":[]}],` +
		`"orders-1":[{"topic":"orders","partition":1,"offset":3,"timestamp":1700000000123,"timestampType":"CREATE_TIME","value":"/wA=","headers":[]}]}}`
	if err != nil || string(got) != want {
		t.Fatalf("got %s, %v\nwant %s", got, err, want)
	}
	var aws struct {
		awsevents.KafkaEvent
		EventSourceARN *string `json:"eventSourceArn,omitempty"` // which a cluster of one's own has not
	}
	if err := json.Unmarshal(got, &aws); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(aws)
	if err != nil || !equalJSON(t, again, got) {
		t.Errorf("AWS's type makes of it %s, %v", again, err)
	}
	answer := `{"batchItemFailures":[{"itemIdentifier":{"partition":"orders-1","offset":3}},{"itemIdentifier":{"partition":"orders-1","offset":7}},{"itemIdentifier":"e2"}]}`
	if failed := failedItems(inv, []byte(answer)); !reflect.DeepEqual(failed, []string{"e1", "", "e2"}) {
		t.Errorf("%q", failed)
	}
}

// Messages of RabbitMQ are what AWS's own types say they are, all of it.
func TestRabbitMQEvent(t *testing.T) {
	t.Parallel()
	headers := map[string]any{"text": "value", "number": int64(9007199254740993), "list": []any{"a", true, nil}, "bytes": lambent.Bytes("\xff")}
	got, err := eventsEvent(brokerInvocation(t, time.Now(), lambent.BrokerMessage{
		Engine: "rabbitmq", Broker: "rabbit:5672", Topic: "jobs", Body: text(`{"a":1}`),
		AMQP: &lambent.AMQPProperties{
			VirtualHost: "/", RoutingKey: "jobs", ContentType: "text/plain", Headers: headers, DeliveryMode: 2, Priority: 3, Expiration: "60000", MessageID: "m1", UserID: "app",
			Timestamp: time.Date(1970, 1, 1, 0, 33, 41, 0, time.UTC), Redelivered: true,
		},
	}))
	want := `{"eventSource":"aws:rmq","eventSourceArn":"arn:aws:mq:us-east-1:000000000000:broker:rabbit:5672","rmqMessagesByQueue":{"jobs::/":[{"basicProperties":` +
		`{"contentType":"text/plain","contentEncoding":null,"headers":{"bytes":{"bytes":[-1]},"list":[{"bytes":[97]},true,null],"number":9007199254740993,"text":{"bytes":[118,97,108,117,101]}},` +
		`"deliveryMode":2,"priority":3,"correlationId":null,"replyTo":null,"expiration":"60000","messageId":"m1","timestamp":"Jan 1, 1970, 12:33:41 AM","type":null,"userId":"app",` +
		`"appId":null,"clusterId":null,"bodySize":7},"redelivered":true,"data":"eyJhIjoxfQ=="}]}}`
	if err != nil || string(got) != want {
		t.Fatalf("got %s, %v\nwant %s", got, err, want)
	}
	var aws awsevents.RabbitMQEvent
	if err := json.Unmarshal(got, &aws); err != nil {
		t.Fatal(err)
	}
	aws.MessagesByQueue["jobs::/"][0].BasicProperties.Headers["number"] = json.Number("9007199254740993") // which it reads as a float
	again, err := json.Marshal(aws)
	if err != nil || !equalJSON(t, again, got) {
		t.Errorf("AWS's type makes of it %s, %v", again, err)
	}
}

// Messages of brokers that AWS has no source of are records of ours.
func TestBrokerRecords(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC)
	inv := brokerInvocation(t, at, lambent.BrokerMessage{
		Engine: "nats", Broker: "nats:4222", Topic: "orders.eu", Stream: "ORDERS", Sequence: 17, Body: text(`{"total": 1.50}`), Headers: []lambent.Header{{Name: "Trace", Value: lambent.Bytes("x")}},
	})
	inv.Events[0].Extensions = map[string]string{lambent.PartitionKey: "orders.eu"}
	got, err := eventsEvent(inv)
	want := `{"Records":[{"eventID":"e0","eventVersion":"1.0","eventSource":"lambent:broker","eventName":"dev.lambent.broker.message","eventTime":"2026-11-28T01:02:03Z","awsRegion":"us-east-1",` +
		`"source":"/triggers/t","subject":"orders.eu","partitionKey":"orders.eu",` +
		`"data":{"engine":"nats","broker":"nats:4222","topic":"orders.eu","body":"{\"total\": 1.50}","headers":[{"name":"Trace","value":"x"}],"stream":"ORDERS","sequence":17}}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	inv.Events[0].Data = []byte("x")
	if _, err := eventsEvent(inv); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
}
