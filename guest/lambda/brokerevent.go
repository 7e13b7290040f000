package lambda

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"lambent"
)

// A kafkaEvent is messages as AWS's event source mappings of Kafka hand them to a function
// (https://docs.aws.amazon.com/lambda/latest/dg/with-kafka.html), by TOPIC-PARTITION.
type kafkaEvent struct {
	EventSource      string                   `json:"eventSource"`
	BootstrapServers string                   `json:"bootstrapServers"`
	Records          map[string][]kafkaRecord `json:"records"`
}

type kafkaRecord struct {
	Topic         string             `json:"topic"`
	Partition     int32              `json:"partition"`
	Offset        int64              `json:"offset"`
	Timestamp     int64              `json:"timestamp"`
	TimestampType string             `json:"timestampType"`
	Key           []byte             `json:"key,omitempty"`
	Value         []byte             `json:"value,omitempty"`
	Headers       []map[string]int8s `json:"headers"`
}

// int8s are bytes as Java counts them.
type int8s []int8

func signed[S string | []byte](s S) int8s {
	out := make(int8s, len(s))
	for i := range len(s) {
		out[i] = int8(s[i])
	}
	return out
}

// An rmqEvent is messages as AWS's event source mappings of RabbitMQ hand them to a
// function (https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html), by
// QUEUE::VIRTUALHOST.
type rmqEvent struct {
	EventSource    string                  `json:"eventSource"`
	EventSourceARN string                  `json:"eventSourceArn"`
	Messages       map[string][]rmqMessage `json:"rmqMessagesByQueue"`
}

type rmqMessage struct {
	BasicProperties rmqProperties `json:"basicProperties"`
	Redelivered     bool          `json:"redelivered"`
	Data            []byte        `json:"data"`
}

type rmqProperties struct {
	ContentType     *string        `json:"contentType"`
	ContentEncoding *string        `json:"contentEncoding"`
	Headers         map[string]any `json:"headers"`
	DeliveryMode    uint8          `json:"deliveryMode"`
	Priority        uint8          `json:"priority"`
	CorrelationID   *string        `json:"correlationId"`
	ReplyTo         *string        `json:"replyTo"`
	Expiration      *string        `json:"expiration"`
	MessageID       *string        `json:"messageId"`
	Timestamp       *string        `json:"timestamp"`
	Type            *string        `json:"type"`
	UserID          *string        `json:"userId"`
	AppID           *string        `json:"appId"`
	ClusterID       *string        `json:"clusterId"`
	BodySize        int            `json:"bodySize"`
}

// brokerEvent shapes messages of a broker as AWS does those of Kafka and RabbitMQ. Of
// others AWS has no source: they are records of ours.
func brokerEvent(inv *lambent.Invocation) (any, error) {
	messages, err := brokerMessages(inv)
	if err != nil {
		return nil, err
	}
	switch first := &messages[0]; first.Engine {
	case "kafka":
		event := kafkaEvent{EventSource: "aws:SelfManagedKafka", BootstrapServers: first.Broker, Records: map[string][]kafkaRecord{}}
		for i := range messages {
			m := &messages[i]
			if m.Partition == nil || m.Offset == nil {
				return nil, notOfBroker(&inv.Events[i], nil)
			}
			r := kafkaRecord{
				Topic: m.Topic, Partition: *m.Partition, Offset: *m.Offset, Timestamp: inv.Events[i].Time.UnixMilli(), TimestampType: m.TimestampType,
				Headers: make([]map[string]int8s, len(m.Headers)),
			}
			if m.Key != nil {
				r.Key = *m.Key
			}
			if m.Body != nil {
				r.Value = *m.Body
			}
			for j, h := range m.Headers {
				r.Headers[j] = map[string]int8s{h.Name: signed([]byte(h.Value))}
			}
			name := topicPartition(m)
			event.Records[name] = append(event.Records[name], r)
		}
		return event, nil
	case "rabbitmq":
		event := rmqEvent{
			EventSource: "aws:rmq", EventSourceARN: "arn:aws:mq:" + lambent.Region + ":" + lambent.AccountID(inv.Target.Project) + ":broker:" + first.Broker,
			Messages: map[string][]rmqMessage{},
		}
		for i := range messages {
			m := &messages[i]
			if m.AMQP == nil {
				return nil, notOfBroker(&inv.Events[i], nil)
			}
			name := m.Topic + "::" + m.AMQP.VirtualHost
			event.Messages[name] = append(event.Messages[name], rmqMessageOf(m))
		}
		return event, nil
	}
	return records(inv), nil
}

// brokerMessages reads the events of an invocation, of which there is one at least.
func brokerMessages(inv *lambent.Invocation) ([]lambent.BrokerMessage, error) {
	messages := make([]lambent.BrokerMessage, len(inv.Events))
	for i := range inv.Events {
		d := json.NewDecoder(bytes.NewReader(inv.Events[i].Data))
		d.UseNumber() // of headers
		if err := d.Decode(&messages[i]); err != nil {
			return nil, notOfBroker(&inv.Events[i], err)
		}
	}
	return messages, nil
}

func notOfBroker(e *lambent.Event, err error) error {
	return lambent.Errorf(lambent.Invalid, "lambda.Invoke", "event %s is no message of a broker: %w", e.ID, err)
}

func topicPartition(m *lambent.BrokerMessage) string {
	return m.Topic + "-" + strconv.Itoa(int(*m.Partition))
}

func rmqMessageOf(m *lambent.BrokerMessage) rmqMessage {
	p := m.AMQP
	said := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	out := rmqMessage{Redelivered: p.Redelivered, Data: []byte{}}
	if m.Body != nil {
		out.Data = *m.Body
	}
	out.BasicProperties = rmqProperties{
		ContentType: said(p.ContentType), ContentEncoding: said(p.ContentEncoding), Headers: map[string]any{}, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
		CorrelationID: said(p.CorrelationID), ReplyTo: said(p.ReplyTo), Expiration: said(p.Expiration), MessageID: said(p.MessageID), Type: said(p.Type),
		UserID: said(p.UserID), AppID: said(p.AppID), BodySize: len(out.Data),
	}
	if !p.Timestamp.IsZero() {
		out.BasicProperties.Timestamp = said(p.Timestamp.UTC().Format("Jan 2, 2006, 3:04:05 PM"))
	}
	for name, v := range p.Headers {
		out.BasicProperties.Headers[name] = rmqHeader(v)
	}
	return out
}

// rmqHeader is a header's value as AWS has it, where text is a list of its bytes.
func rmqHeader(v any) any {
	switch v := v.(type) {
	case string:
		return map[string]int8s{"bytes": signed(v)}
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = rmqHeader(v[i])
		}
		return out
	case map[string]any:
		if text, ok := v["base64"].(string); ok && len(v) == 1 {
			var b lambent.Bytes
			if doc, err := json.Marshal(map[string]string{"base64": text}); err == nil && json.Unmarshal(doc, &b) == nil {
				return map[string]int8s{"bytes": signed([]byte(b))}
			}
		}
		out := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			out[name] = rmqHeader(v[name])
		}
		return out
	}
	return v
}

// A kafkaItem is how AWS has functions name a message of Kafka that has failed
// (https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html).
type kafkaItem struct {
	Partition string `json:"partition"` // TOPIC-PARTITION
	Offset    *int64 `json:"offset"`
}

// eventOf is the id of the event that an item stands for; empty: of none.
func (k *kafkaItem) eventOf(inv *lambent.Invocation) string {
	messages, err := brokerMessages(inv)
	if err != nil || k.Offset == nil {
		return ""
	}
	for i := range messages {
		if m := &messages[i]; m.Partition != nil && m.Offset != nil && *m.Offset == *k.Offset && topicPartition(m) == k.Partition {
			return inv.Events[i].ID
		}
	}
	return ""
}
