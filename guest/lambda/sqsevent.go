package lambda

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"lambent"
)

// An sqsRecord is a message as SQS's event source mappings hand it to a function
// (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html).
type sqsRecord struct {
	MessageID         string                  `json:"messageId"`
	ReceiptHandle     string                  `json:"receiptHandle"`
	Body              string                  `json:"body"`
	Attributes        map[string]string       `json:"attributes"`
	MessageAttributes map[string]sqsAttribute `json:"messageAttributes"`
	MD5OfBody         string                  `json:"md5OfBody"`
	EventSource       string                  `json:"eventSource"`
	EventSourceARN    string                  `json:"eventSourceARN"`
	AWSRegion         string                  `json:"awsRegion"`
}

type sqsAttribute struct {
	StringValue      *string  `json:"stringValue,omitempty"`
	BinaryValue      []byte   `json:"binaryValue,omitempty"`
	StringListValues []string `json:"stringListValues"`
	BinaryListValues [][]byte `json:"binaryListValues"`
	DataType         string   `json:"dataType"`
}

// sqsEvent shapes messages of a queue.
func sqsEvent(inv *lambent.Invocation) (recordList, error) {
	list := recordList{make([]any, len(inv.Events))}
	account := lambent.AccountID(inv.Target.Project)
	for i := range inv.Events {
		var m lambent.QueueMessage
		if err := json.Unmarshal(inv.Events[i].Data, &m); err != nil {
			return list, lambent.Errorf(lambent.Invalid, "lambda.Invoke", "event %s is no message of a queue: %w", inv.Events[i].ID, err)
		}
		sum := md5.Sum(m.Body)
		r := sqsRecord{
			MessageID: m.ID, ReceiptHandle: m.Receipt, Body: string(m.Body), MD5OfBody: hex.EncodeToString(sum[:]),
			Attributes: map[string]string{
				"ApproximateReceiveCount": strconv.Itoa(m.Receives), "SentTimestamp": milliseconds(m.Sent), "SenderId": m.Sender, "ApproximateFirstReceiveTimestamp": milliseconds(m.FirstReceived),
			},
			MessageAttributes: map[string]sqsAttribute{},
			EventSource:       "aws:sqs", EventSourceARN: "arn:aws:sqs:" + lambent.Region + ":" + account + ":" + m.Queue, AWSRegion: lambent.Region,
		}
		for name, value := range map[string]string{"MessageGroupId": m.Group, "MessageDeduplicationId": m.DedupeID, "SequenceNumber": m.Sequence, "AWSTraceHeader": m.Trace} {
			if value != "" {
				r.Attributes[name] = value
			}
		}
		if m.DeadLetterOf != "" {
			r.Attributes["DeadLetterQueueSourceArn"] = "arn:aws:sqs:" + lambent.Region + ":" + account + ":" + m.DeadLetterOf
		}
		for name, a := range m.Attributes {
			out := sqsAttribute{DataType: a.Type, StringListValues: []string{}, BinaryListValues: [][]byte{}}
			if a.Binary != nil {
				out.BinaryValue = a.Binary
			} else {
				out.StringValue = &a.String
			}
			r.MessageAttributes[name] = out
		}
		list.Records[i] = r
	}
	return list, nil
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
