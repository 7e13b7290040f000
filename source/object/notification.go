package object

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"lambent"
)

// A notification is what S3, MinIO and Ceph tell of what has happened in their buckets
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html).
type notification struct {
	Records []json.RawMessage

	// By Amazon SNS, which is how S3 itself reaches a URL, it comes as a text.
	Type, Message, SubscribeURL string
}

// A record is one of a notification.
type record struct {
	EventTime         time.Time
	EventName         string // with s3: in front or without
	UserIdentity      struct{ PrincipalID string }
	RequestParameters struct{ SourceIPAddress string }
	ResponseElements  struct {
		RequestID string `json:"x-amz-request-id"`
	}
	S3 struct {
		Bucket struct{ Name string }
		Object struct {
			Key          string // as a form has it
			Size         int64
			ETag         string
			VersionID    string
			Sequencer    string
			ContentType  string // MinIO's
			UserMetadata map[string]string
		}
	}
}

// Notify takes a notification of buckets elsewhere, for the triggers of a project's buckets
// of these names, and returns how many events it has; of what buckets here do not tell there
// are none. All are durable when it returns. The same record once more, as senders repeat
// what was not answered, counts once. Kinds: Invalid, and those of the queue.
func (s *Source) Notify(ctx context.Context, project string, document []byte) (events int, err error) {
	const op = "object.Notify"
	var n notification
	if err := json.Unmarshal(document, &n); err != nil {
		return 0, lambent.Errorf(lambent.Invalid, op, "it is no notification of S3's: %w", err)
	}
	switch {
	case n.Type == "SubscriptionConfirmation":
		return 0, lambent.Errorf(lambent.Invalid, op, "a subscription is confirmed by who has asked for it: open %s", n.SubscribeURL)
	case n.Type == "Notification":
		return s.Notify(ctx, project, []byte(n.Message))
	case n.Records == nil && bytes.Contains(document, []byte(`"s3:TestEvent"`)):
		return 0, nil // S3's own, when a configuration is put
	case n.Records == nil:
		return 0, lambent.Errorf(lambent.Invalid, op, "it is no notification of S3's: it has no Records")
	}
	changes := make([]Change, len(n.Records))
	for i, raw := range n.Records { // all of them, before anything is published
		if changes[i], err = changeOf(raw); err != nil {
			return 0, lambent.Errorf(lambent.Invalid, op, "record %d: %w", i, err)
		}
	}
	for i, c := range changes {
		if !slices.Contains(lambent.BucketEvents, c.Event) {
			continue
		}
		if err := s.publish(ctx, project, lambent.IDOf("notification "+project+" "+string(n.Records[i])), []Change{c}, false); err != nil {
			return events, err
		}
		events++
	}
	return events, nil
}

func changeOf(raw []byte) (Change, error) {
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return Change{}, err
	}
	o := &r.S3.Object
	key, err := url.QueryUnescape(o.Key)
	if err != nil {
		return Change{}, err
	}
	c := Change{Time: r.EventTime, ObjectEvent: lambent.ObjectEvent{
		Event: "s3:" + strings.TrimPrefix(r.EventName, "s3:"), Bucket: r.S3.Bucket.Name, Key: key, Size: o.Size, ETag: strings.Trim(o.ETag, `"`),
		VersionID: o.VersionID, ContentType: o.ContentType, Metadata: o.UserMetadata, Sequencer: o.Sequencer,
		Principal: r.UserIdentity.PrincipalID, RemoteIP: r.RequestParameters.SourceIPAddress, RequestID: r.ResponseElements.RequestID,
	}}
	if c.Bucket == "" || c.Key == "" || r.EventName == "" {
		return Change{}, lambent.Errorf(lambent.Invalid, "object", "it names no event, bucket or key")
	}
	return c, nil
}
