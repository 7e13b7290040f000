package lambent

import (
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Bucket is watched for what happens to objects in it.
type Bucket struct {
	Name string `json:"name"`

	// Prefix and Suffix are those of the keys that matter; empty: all do.
	Prefix string `json:"prefix,omitempty"`
	Suffix string `json:"suffix,omitempty"`

	// Events are of [BucketEvents], or the first part of some, as in s3:ObjectRemoved:*;
	// nil: s3:ObjectCreated:*.
	Events []string `json:"events,omitempty"`

	// Label is what a notification configuration of S3's calls it; empty: it has none.
	Label string `json:"label,omitempty"`
}

// BucketEvents are what may happen to objects, as S3 names it
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html).
var BucketEvents = []string{
	"s3:ObjectCreated:Put", "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload",
	"s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated",
}

const anyObjectCreated = "s3:ObjectCreated:*"

// Events of buckets. Their source is /buckets/BUCKET, their subject the key, and the
// extension partitionkey BUCKET/KEY (of a key over 256 bytes its SHA-256), so that what
// happens to one object can be told apart and ordered. Their data is that of an
// [ObjectEvent] in JSON.
const (
	EventObjectCreated = "dev.lambent.object.created"
	EventObjectDeleted = "dev.lambent.object.deleted"
)

// An ObjectEvent is what has happened to an object.
type ObjectEvent struct {
	Event       string            `json:"event"` // of [BucketEvents]
	Bucket      string            `json:"bucket"`
	Key         string            `json:"key"`
	Size        int64             `json:"size"` // bytes; of one that was deleted, what it had
	ETag        string            `json:"etag,omitempty"`
	VersionID   string            `json:"version_id,omitempty"` // in buckets with versions
	ContentType string            `json:"content_type,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"` // the user's own

	// Sequencer orders what happened to one object: the later, the greater the text.
	Sequencer string `json:"sequencer"`

	Configuration string `json:"configuration,omitempty"` // of notifications: the trigger's label, or else its id

	Principal string `json:"principal,omitempty"`  // the access key that did it
	RemoteIP  string `json:"remote_ip,omitempty"`  // where from
	RequestID string `json:"request_id,omitempty"` // in S3's answer to it
}

// Validate checks what is said of a bucket, which need not be there. Kind: Invalid.
func (b *Bucket) Validate() error {
	refuse := func(format string, args ...any) error { return Errorf(Invalid, "bucket", format, args...) }
	if !IsBucketName(b.Name) {
		return refuse("%.80q is not the name of a bucket: 3 to 63 lower-case letters, digits, '-' and '.', with a letter or a digit at both ends", b.Name)
	}
	for _, text := range []string{b.Prefix, b.Suffix, b.Label} {
		if len(text) > 1024 || !utf8.ValidString(text) {
			return refuse("prefix, suffix and label of a bucket are UTF-8 of at most 1024 bytes each")
		}
	}
	for i, e := range b.Events {
		if !slices.ContainsFunc(BucketEvents, func(known string) bool { return matchesEvent(e, known) }) {
			return refuse("%.80q is no event of buckets: there are %s, s3:ObjectCreated:* and s3:ObjectRemoved:*", e, strings.Join(BucketEvents, ", "))
		}
		if slices.Contains(b.Events[:i], e) {
			return refuse("the event %s is said twice", e)
		}
	}
	return nil
}

// Equal reports whether two say the same, whatever the order of their events.
func (b *Bucket) Equal(other *Bucket) bool {
	said := func(b *Bucket) []string {
		if len(b.Events) == 0 {
			return []string{anyObjectCreated}
		}
		return slices.Sorted(slices.Values(b.Events))
	}
	return b.Name == other.Name && b.Prefix == other.Prefix && b.Suffix == other.Suffix && b.Label == other.Label && slices.Equal(said(b), said(other))
}

// IsBucketName reports whether S3 takes a text as the name of a bucket
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html).
func IsBucketName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	if len(s) < 3 || len(s) > 63 || strings.Trim(s, letters+"-.") != "" || strings.Contains(s, "..") {
		return false
	}
	_, err := netip.ParseAddr(s)
	return err != nil && strings.Contains(letters, s[:1]) && strings.Contains(letters, s[len(s)-1:])
}

// Wants reports whether what happened to an object is watched for; event is of
// [BucketEvents].
func (b *Bucket) Wants(event, key string) bool {
	events := b.Events
	if len(events) == 0 {
		events = []string{anyObjectCreated}
	}
	return strings.HasPrefix(key, b.Prefix) && strings.HasSuffix(key, b.Suffix) &&
		slices.ContainsFunc(events, func(e string) bool { return matchesEvent(e, event) })
}

// matchesEvent reports whether an event is a known one, or all of its class.
func matchesEvent(said, known string) bool {
	class, _, _ := strings.Cut(strings.TrimPrefix(known, "s3:"), ":")
	return said == known || said == "s3:"+class+":*"
}
