package lambda

import (
	"bytes"
	"encoding/json"

	"lambent"
)

// A dynamoDBRecord is a change of a row as DynamoDB's streams tell of an item
// (https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html).
type dynamoDBRecord struct {
	EventID        string         `json:"eventID"`
	EventName      string         `json:"eventName"`
	EventVersion   string         `json:"eventVersion"`
	EventSource    string         `json:"eventSource"`
	Region         string         `json:"awsRegion"`
	Change         dynamoDBChange `json:"dynamodb"`
	EventSourceARN string         `json:"eventSourceARN"`
}

type dynamoDBChange struct {
	Created        int64          `json:"ApproximateCreationDateTime"` // in seconds since 1970
	Keys           map[string]any `json:"Keys,omitempty"`
	New            map[string]any `json:"NewImage,omitempty"`
	Old            map[string]any `json:"OldImage,omitempty"`
	SequenceNumber string         `json:"SequenceNumber"` // what batchItemFailures names: the event's id, as eventID is
	SizeBytes      int            `json:"SizeBytes"`
	StreamViewType string         `json:"StreamViewType"`
}

// rowEvents are what streams of DynamoDB call changes. A table that lost all of its rows is
// none of theirs, and no event of a trigger of that shape.
var rowEvents = map[string]string{lambent.EventRowInserted: "INSERT", lambent.EventRowUpdated: "MODIFY", lambent.EventRowDeleted: "REMOVE"}

// dynamoDBEvent shapes changes of rows as DynamoDB's.
func dynamoDBEvent(inv *lambent.Invocation) (any, error) {
	account := lambent.AccountID(inv.Target.Project)
	list := recordList{make([]any, len(inv.Events))}
	for i := range inv.Events {
		e := &inv.Events[i]
		var row struct {
			Schema, Table string
			Key, Old, New map[string]any
		}
		d := json.NewDecoder(bytes.NewReader(e.Data))
		d.UseNumber() // which are as the database has them
		if err := d.Decode(&row); err != nil || rowEvents[e.Type] == "" {
			return nil, lambent.Errorf(lambent.Invalid, "lambda.Invoke", "event %s is no change of a row", e.ID)
		}
		list.Records[i] = dynamoDBRecord{
			EventID: e.ID, EventName: rowEvents[e.Type], EventVersion: "1.1", EventSource: "aws:dynamodb", Region: lambent.Region,
			Change: dynamoDBChange{
				Created: e.Time.Unix(), Keys: attributes(row.Key), New: attributes(row.New), Old: attributes(row.Old),
				SequenceNumber: e.ID, SizeBytes: len(e.Data), StreamViewType: "NEW_AND_OLD_IMAGES",
			},
			EventSourceARN: "arn:aws:dynamodb:" + lambent.Region + ":" + account + ":table/" + row.Schema + "." + row.Table + "/stream/" + inv.TriggerID,
		}
	}
	return list, nil
}

// attributes are a row's values, each with the name of its type, as DynamoDB has them.
func attributes(row map[string]any) map[string]any {
	if row == nil {
		return nil
	}
	out := make(map[string]any, len(row))
	for name, v := range row {
		out[name] = attribute(v)
	}
	return out
}

func attribute(v any) map[string]any {
	switch v := v.(type) {
	case nil:
		return map[string]any{"NULL": true}
	case bool:
		return map[string]any{"BOOL": v}
	case json.Number:
		return map[string]any{"N": v.String()}
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = attribute(v[i])
		}
		return map[string]any{"L": list}
	case map[string]any:
		return map[string]any{"M": attributes(v)}
	default:
		return map[string]any{"S": v}
	}
}
