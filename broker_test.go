package lambent_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"lambent"
)

func TestBroker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		b    lambent.Broker
		want string // empty: it is valid
	}{
		{lambent.Broker{URL: "kafka://app:s%40cret@kafka:9092", Topic: "orders", Group: "billing", From: "earliest"}, ""},
		{lambent.Broker{URL: "mqtts://broker", Topic: "sensors/+/#"}, ""},
		{lambent.Broker{URL: "nats://[::1]:4222", Topic: "orders.>", From: "new"}, ""},
		{lambent.Broker{URL: "amqp://rabbit/vhost", Topic: "jobs"}, ""},
		{lambent.Broker{URL: "kafka://app:se cret%@kafka", Topic: "orders"}, "cannot be read"},
		{lambent.Broker{URL: "kafka", Topic: "orders"}, "cannot be read"},
		{lambent.Broker{URL: "localhost:9092", Topic: "orders"}, "there are nats://"},
		{lambent.Broker{URL: "stomp://host", Topic: "orders"}, "there are nats://"},
		{lambent.Broker{URL: "redis:///0", Topic: "orders"}, "lacks its host: it is like redis://USER:PASSWORD@HOST:6379"},
		{lambent.Broker{URL: "redis://host"}, "needs a topic"},
		{lambent.Broker{URL: "redis://host", Topic: "a\nb"}, "is no topic"},
		{lambent.Broker{URL: "redis://host", Topic: "a", Group: "a b"}, "not the name of a group"},
		{lambent.Broker{URL: "redis://host", Topic: "a", From: "yesterday"}, "there are new and earliest"},
		{lambent.Broker{URL: "amqp://host", Topic: "a", Group: "g"}, "RabbitMQ has no groups"},
		{lambent.Broker{URL: "amqp://host", Topic: "a", From: "new"}, "no other beginning"},
		{lambent.Broker{URL: "tls://nats", Topic: "a"}, ""},
		{lambent.Broker{URL: "kafka://host", Topic: "a", Certificates: lambent.Certificates{CA: "x"}}, "certificates go with TLS, which kafka:// has not"},
		{lambent.Broker{URL: "kafkas://host", Topic: "a", Certificates: lambent.Certificates{CA: "x"}}, "the broker's CA has no certificate"},
		{lambent.Broker{URL: "kafkas://host", Topic: "a", Certificates: lambent.Certificates{CA: strings.Repeat("x", 300<<10)}}, "the broker's CA has 307200 bytes, over the limit of"},
		{lambent.Broker{URL: "kafkas://host", Topic: "a", Certificates: lambent.Certificates{Certificate: "secret"}}, "certificate and key are none"},
		{lambent.Broker{URL: "kafkas://host", Topic: "a", Certificates: lambent.Certificates{Key: "secret"}}, "certificate and key are none"},
		{lambent.Broker{URL: "kafkas://host", Topic: "a", Certificates: lambent.Certificates{CA: "-----BEGIN PRIVATE KEY-----"}}, "have a private key beside them"},
		{lambent.Broker{URL: "kafkas://host", Topic: "a", Certificates: lambent.Certificates{Certificate: "-----BEGIN EC PRIVATE KEY-----", Key: "secret"}}, "have a private key beside them"},
	} {
		err := c.b.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || err != nil && strings.Contains(err.Error(), "cret") {
			t.Errorf("%+v: %v, want %q", c.b, err, c.want)
		}
	}
	for in, want := range map[string]string{
		"kafka://app:secret@kafka:9092?sasl=plain": "kafka://app:xxxxx@kafka:9092", "nats://token@nats": "nats://xxxxx@nats", "redis://:secret@host/2": "redis://:xxxxx@host/2",
		"mqtt://host": "mqtt://host", "kafka://app:sec ret%@kafka": "kafka://",
	} {
		if got := (&lambent.Broker{URL: in}).Masked(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	kept, err := json.Marshal(lambent.Broker{URL: "u", Topic: "t", Certificates: lambent.Certificates{CA: "a", Certificate: "c", Key: "k"}})
	if want := `{"url":"u","topic":"t","ca":"a","certificate":"c","key":"k"}`; err != nil || string(kept) != want { // as earlier releases have kept it
		t.Errorf("%s, %v, want %s", kept, err, want)
	}
	for in, want := range map[string]string{"kafkas://h": "h:9093", "mqtt://h:1": "h:1", "rediss://[::1]/2": "[::1]:6379"} {
		if got := (&lambent.Broker{URL: in}).Address(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": `""`, "a \"<ü>\"": `"a \"<ü>\""`, "\xff\x00": `{"base64":"/wA="}`, `{"base64":"x"}`: `"{\"base64\":\"x\"}"`} {
		got, err := lambent.Bytes(in).MarshalJSON()
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%q: %s, %v", in, got, err)
		}
		var again lambent.Bytes
		if err := json.Unmarshal(got, &again); err != nil || !reflect.DeepEqual([]byte(again), []byte(in)) {
			t.Errorf("%q becomes %q, %v", in, again, err)
		}
	}
	if err := json.Unmarshal([]byte("7"), new(lambent.Bytes)); err == nil {
		t.Error("a number is none")
	}
}
