package gcf

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"lambent"
)

// A published is a message as Pub/Sub hands it to functions: MessagePublishedData of
// google.events.cloud.pubsub.v1
// (https://github.com/googleapis/google-cloudevents/blob/main/proto/google/events/cloud/pubsub/v1/data.proto).
type published struct {
	Message      pubsubMessage `json:"message"`
	Subscription string        `json:"subscription"`
}

type pubsubMessage struct {
	Data        []byte            `json:"data,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	MessageID   string            `json:"messageId"`
	PublishTime string            `json:"publishTime"`
	OrderingKey string            `json:"orderingKey,omitempty"`
}

// messageEvent shapes the event of a queue's message as one of a message that was published.
func messageEvent(e *lambent.Event, project string) (*lambent.Event, error) {
	var m lambent.QueueMessage
	if err := json.Unmarshal(e.Data, &m); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "gcf.Invoke", "event %s is no message of a queue: %w", e.ID, err)
	}
	return pubsubEvent(&m, project)
}

// pubsubEvent is the event of a message that was published, with attributes as text, which
// all are there.
func pubsubEvent(m *lambent.QueueMessage, project string) (*lambent.Event, error) {
	p := published{
		Message:      pubsubMessage{Data: m.Body, MessageID: m.ID, PublishTime: m.Sent.UTC().Format(time.RFC3339Nano), OrderingKey: m.Group},
		Subscription: "projects/" + project + "/subscriptions/" + m.Queue,
	}
	for name, a := range m.Attributes {
		if p.Message.Attributes == nil {
			p.Message.Attributes = map[string]string{}
		}
		if p.Message.Attributes[name] = a.String; a.Binary != nil {
			p.Message.Attributes[name] = base64.StdEncoding.EncodeToString(a.Binary)
		}
	}
	data, err := json.Marshal(p)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "gcf.Invoke", "message %s has no JSON form: %w", m.ID, err)
	}
	return &lambent.Event{
		ID: m.ID, Source: "//pubsub.googleapis.com/projects/" + project + "/topics/" + m.Queue, Type: "google.cloud.pubsub.topic.v1.messagePublished",
		Time: m.Sent, DataContentType: "application/json", Data: data,
	}, nil
}
