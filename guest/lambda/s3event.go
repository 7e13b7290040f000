package lambda

import (
	"encoding/json"
	"net/url"
	"strings"

	"lambent"
)

// An s3Record is what has happened to an object, as S3 tells a function
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html).
type s3Record struct {
	EventVersion      string     `json:"eventVersion"`
	EventSource       string     `json:"eventSource"`
	AWSRegion         string     `json:"awsRegion"`
	EventTime         string     `json:"eventTime"`
	EventName         string     `json:"eventName"`
	UserIdentity      s3Identity `json:"userIdentity"`
	RequestParameters s3Request  `json:"requestParameters"`
	ResponseElements  s3Response `json:"responseElements"`
	S3                s3Entity   `json:"s3"`
}

type s3Identity struct {
	PrincipalID string `json:"principalId"`
}

type s3Request struct {
	SourceIPAddress string `json:"sourceIPAddress"`
}

type s3Response struct {
	RequestID string `json:"x-amz-request-id"`
	ID2       string `json:"x-amz-id-2"`
}

type s3Entity struct {
	SchemaVersion   string   `json:"s3SchemaVersion"`
	ConfigurationID string   `json:"configurationId"`
	Bucket          s3Bucket `json:"bucket"`
	Object          s3Object `json:"object"`
}

type s3Bucket struct {
	Name          string     `json:"name"`
	OwnerIdentity s3Identity `json:"ownerIdentity"`
	ARN           string     `json:"arn"`
}

type s3Object struct {
	Key       string `json:"key"`            // as a form has it
	Size      int64  `json:"size,omitempty"` // not of what was deleted
	ETag      string `json:"eTag,omitempty"`
	VersionID string `json:"versionId,omitempty"`
	Sequencer string `json:"sequencer"`
}

// S3Notification is what S3 sends to a queue of what has happened in a project's bucket.
func S3Notification(project string, events ...lambent.Event) ([]byte, error) {
	return eventsEvent(&lambent.Invocation{Source: "bucket", Target: lambent.Name{Project: project}, Events: events})
}

// s3Event shapes what has happened in a bucket as S3's notifications.
func s3Event(inv *lambent.Invocation) (any, error) {
	account := lambent.AccountID(inv.Target.Project)
	var out struct{ Records []s3Record }
	for i := range inv.Events {
		e := &inv.Events[i]
		var o lambent.ObjectEvent
		if err := json.Unmarshal(e.Data, &o); err != nil {
			return nil, lambent.Errorf(lambent.Invalid, "lambda.Invoke", "event %s is not of a bucket: %w", e.ID, err)
		}
		r := s3Record{
			EventVersion: "2.1", EventSource: "aws:s3", AWSRegion: lambent.Region, EventTime: e.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
			EventName: strings.TrimPrefix(o.Event, "s3:"), UserIdentity: s3Identity{"AWS:" + o.Principal},
			RequestParameters: s3Request{o.RemoteIP}, ResponseElements: s3Response{o.RequestID, e.ID},
			S3: s3Entity{
				SchemaVersion: "1.0", ConfigurationID: o.Configuration,
				Bucket: s3Bucket{o.Bucket, s3Identity{account}, "arn:aws:s3:::" + o.Bucket},
				Object: s3Object{strings.ReplaceAll(url.QueryEscape(o.Key), "%2F", "/"), o.Size, o.ETag, o.VersionID, o.Sequencer},
			},
		}
		if e.Type == lambent.EventObjectDeleted {
			r.S3.Object.Size, r.S3.Object.ETag = 0, ""
		}
		out.Records = append(out.Records, r)
	}
	return out, nil
}
