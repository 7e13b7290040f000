package lambda

import (
	"encoding/json"
	"time"

	"lambent"
)

// A recordList is what a function is invoked with where events come several at a time: as
// from AWS's streams and queues one list, of one event, too. Of what AWS has no source of
// the records are ours.
type recordList struct {
	Records []any `json:"Records"`
}

// A record is an event of a source that AWS has not, in the manner of those that it has.
type record struct {
	EventID      string          `json:"eventID"` // what batchItemFailures names
	EventVersion string          `json:"eventVersion"`
	EventSource  string          `json:"eventSource"` // "lambent:" and the kind of trigger
	EventName    string          `json:"eventName"`   // the event's type
	EventTime    string          `json:"eventTime,omitempty"`
	Region       string          `json:"awsRegion"`
	Source       string          `json:"source"` // CloudEvents' attributes
	Subject      string          `json:"subject,omitempty"`
	PartitionKey string          `json:"partitionKey,omitempty"`
	Data         json.RawMessage `json:"data"`
}

// records are the events of an invocation, one after another.
func records(inv *lambent.Invocation) recordList {
	list := recordList{make([]any, len(inv.Events))}
	for i := range inv.Events {
		e := &inv.Events[i]
		r := record{
			EventID: e.ID, EventVersion: "1.0", EventSource: "lambent:" + inv.Source, EventName: e.Type, Region: lambent.Region,
			Source: e.Source, Subject: e.Subject, PartitionKey: e.Extensions[lambent.PartitionKey], Data: detail(e.Data),
		}
		if !e.Time.IsZero() {
			r.EventTime = e.Time.UTC().Format(time.RFC3339Nano)
		}
		list.Records[i] = r
	}
	return list
}

// A batchResponse is what a function answers to a batch of which not all went well
// (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html).
type batchResponse struct {
	Failures []struct {
		Item json.RawMessage `json:"itemIdentifier"`
	} `json:"batchItemFailures"`
}

// failedItems are the ids of the events of a batch that the function says have failed;
// one that it does not name, as AWS has it, stands for the whole batch.
func failedItems(inv *lambent.Invocation, answer []byte) (ids []string) {
	var r batchResponse
	if json.Unmarshal(answer, &r) != nil {
		return nil
	}
	for _, f := range r.Failures {
		var id string
		if json.Unmarshal(f.Item, &id) != nil {
			var item kafkaItem
			if json.Unmarshal(f.Item, &item) == nil {
				id = item.eventOf(inv)
			}
		}
		ids = append(ids, id)
	}
	return ids
}
