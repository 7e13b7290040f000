package gcf

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"lambent"
)

// A storageObject is what has happened to an object of Cloud Storage's: StorageObjectData of
// google.events.cloud.storage.v1
// (https://github.com/googleapis/google-cloudevents/blob/main/proto/google/events/cloud/storage/v1/data.proto).
type storageObject struct {
	Kind                    string            `json:"kind"`
	ID                      string            `json:"id"`
	SelfLink                string            `json:"selfLink"`
	Name                    string            `json:"name"`
	Bucket                  string            `json:"bucket"`
	Generation              string            `json:"generation"`
	Metageneration          string            `json:"metageneration"`
	ContentType             string            `json:"contentType,omitempty"`
	TimeCreated             string            `json:"timeCreated"`
	Updated                 string            `json:"updated"`
	TimeDeleted             string            `json:"timeDeleted,omitempty"`
	StorageClass            string            `json:"storageClass"`
	TimeStorageClassUpdated string            `json:"timeStorageClassUpdated"`
	Size                    string            `json:"size"`
	MD5Hash                 string            `json:"md5Hash,omitempty"`
	MediaLink               string            `json:"mediaLink"`
	Metadata                map[string]string `json:"metadata,omitempty"`
	ETag                    string            `json:"etag,omitempty"`
}

// storageEvent shapes what has happened in a bucket as Eventarc hands it to functions: an
// object is finalized when it was written, and archived when a delete marker hides it.
func storageEvent(e *lambent.Event) (*lambent.Event, error) {
	var o lambent.ObjectEvent
	if err := json.Unmarshal(e.Data, &o); err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "gcf.Invoke", "event %s is not of a bucket: %w", e.ID, err)
	}
	at := e.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	generation := "0"
	if n, err := strconv.ParseInt(o.Sequencer, 16, 64); err == nil {
		generation = strconv.FormatInt(time.Duration(n).Microseconds(), 10)
	}
	link := "https://www.googleapis.com/storage/v1/b/" + o.Bucket + "/o/" + url.PathEscape(o.Key)
	s := storageObject{
		Kind: "storage#object", ID: o.Bucket + "/" + o.Key + "/" + generation, SelfLink: link, Name: o.Key, Bucket: o.Bucket,
		Generation: generation, Metageneration: "1", ContentType: o.ContentType, TimeCreated: at, Updated: at,
		StorageClass: "STANDARD", TimeStorageClassUpdated: at, Size: strconv.FormatInt(o.Size, 10), Metadata: o.Metadata, ETag: o.ETag,
		MediaLink: "https://storage.googleapis.com/download/storage/v1/b/" + o.Bucket + "/o/" + url.PathEscape(o.Key) + "?generation=" + generation + "&alt=media",
	}
	if sum, err := hex.DecodeString(o.ETag); err == nil && len(sum) == 16 { // of several parts it is no hash
		s.MD5Hash = base64.StdEncoding.EncodeToString(sum)
	}
	kind := "finalized"
	if e.Type == lambent.EventObjectDeleted {
		kind, s.TimeDeleted = "deleted", at
		if o.Event == "s3:ObjectRemoved:DeleteMarkerCreated" {
			kind = "archived"
		}
	}
	data, err := json.Marshal(&s)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "gcf.Invoke", "event %s has no JSON form: %w", e.ID, err)
	}
	out := *e
	out.Type, out.Source, out.Subject = "google.cloud.storage.object.v1."+kind, "//storage.googleapis.com/projects/_/buckets/"+o.Bucket, "objects/"+o.Key
	out.Extensions = map[string]string{"bucket": o.Bucket}
	out.SetTrace(e.Extensions[lambent.ExtensionTrace])
	out.DataContentType, out.Data = "application/json", data
	return &out, nil
}
