package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"

	"lambent"
)

// An eventBridgeEvent is an event as EventBridge hands it to a function
// (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html).
type eventBridgeEvent struct {
	Version    string          `json:"version"`
	ID         string          `json:"id"`
	DetailType string          `json:"detail-type"`
	Source     string          `json:"source"`
	Account    string          `json:"account"`
	Time       string          `json:"time"`
	Region     string          `json:"region"`
	Resources  []string        `json:"resources"`
	Detail     json.RawMessage `json:"detail"`
}

// eventsEvent shapes events as AWS does those of the same kind.
func eventsEvent(inv *lambent.Invocation) ([]byte, error) {
	var shape any
	var err error
	switch {
	case inv.Source == "bucket":
		if shape, err = s3Event(inv); err != nil {
			return nil, err
		}
	case inv.Source == "queue":
		if shape, err = sqsEvent(inv); err != nil {
			return nil, err
		}
	case inv.Source == "broker":
		if shape, err = brokerEvent(inv); err != nil {
			return nil, err
		}
	case inv.Source == "database" && len(inv.Events) > 0 && inv.Events[0].Extensions[lambent.RowShape] == lambent.ShapeDynamoDB:
		if shape, err = dynamoDBEvent(inv); err != nil {
			return nil, err
		}
	case !single(inv.Source):
		shape = records(inv)
	case len(inv.Events) == 1:
		shape = eventBridge(inv)
	default:
		return nil, lambent.Errorf(lambent.Unsupported, "lambda.Invoke", "%d events at once: those of a %s come one at a time", len(inv.Events), inv.Source)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(shape); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "lambda.Invoke", "event %s has no JSON form: %w", inv.Events[0].ID, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// single reports whether events of a kind of trigger come one at a time, as EventBridge
// and S3 have them, and an answer says nothing of some of several.
func single(source string) bool {
	return source == "schedule" || source == "pattern" || source == "bucket"
}

func eventBridge(inv *lambent.Invocation) *eventBridgeEvent {
	e := &inv.Events[0]
	account := lambent.AccountID(inv.Target.Project)
	out := &eventBridgeEvent{
		Version: "0", ID: e.ID, DetailType: e.Type, Source: e.Source, Account: account,
		Time: e.Time.UTC().Format(time.RFC3339), Region: lambent.Region, Resources: e.Resources(), Detail: detail(e.Data),
	}
	if inv.Source == "schedule" { // whoever publishes an event chooses its type, and not this
		out.DetailType, out.Source, out.Detail = "Scheduled Event", "aws.events", json.RawMessage("{}")
		out.Resources = append(out.Resources, "arn:aws:events:"+lambent.Region+":"+account+":rule/"+inv.TriggerID)
	}
	return out
}

// detail is an event's data where JSON is to stand: what is none is a string, in base64
// unless it is text.
func detail(data []byte) json.RawMessage {
	switch {
	case len(data) == 0:
		return json.RawMessage("{}")
	case json.Valid(data):
		return data
	case !utf8.Valid(data):
		data = []byte(base64.StdEncoding.EncodeToString(data))
	}
	quoted, err := json.Marshal(string(data))
	if err != nil {
		panic("lambda: a string always has a JSON form: " + err.Error())
	}
	return quoted
}
