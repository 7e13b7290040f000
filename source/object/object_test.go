package object_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/source"
	"lambent/source/object"
)

// A sink keeps what it is given, unless it is told to fail.
type sink struct {
	source.Sink // what it has not is not called

	mu     sync.Mutex // guards what follows
	events []lambent.Event
	err    error
}

func (s *sink) Publish(_ context.Context, e ...lambent.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.events = append(s.events, e...)
	}
	return s.err
}

func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *sink) take() []lambent.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.events
	s.events = nil
	return taken
}

func watching(name, suffix string, events ...string) lambent.Trigger {
	return lambent.Trigger{ID: "t-" + name + suffix, Target: lambent.Name{Project: "p", Function: "f"}, Bucket: &lambent.Bucket{Name: name, Suffix: suffix, Events: events}}
}

func created(bucket, key string) []object.Change {
	return []object.Change{{ObjectEvent: lambent.ObjectEvent{Event: "s3:ObjectCreated:Put", Bucket: bucket, Key: key}}}
}

// What is watched is written down before it happens and published when it has; what is not
// is neither, unless somebody begins to watch meanwhile.
func TestChanges(t *testing.T) {
	t.Parallel()
	s := object.Open(t.TempDir())
	defer s.Close()
	var all, jpgs sink
	unbind := s.Bind(watching("b", ".jpg"), &jpgs)

	begin := func(changes []object.Change) (i object.Intent, watched bool) {
		t.Helper()
		i, watched, err := s.Begin("p", changes)
		if err != nil {
			t.Fatal(err)
		}
		if pending, err := s.Pending("p"); err != nil || len(pending) == 1 != watched {
			t.Errorf("%+v, %v", pending, err)
		}
		return i, watched
	}
	done := func(i object.Intent, changes []object.Change) {
		t.Helper()
		if err := s.Done(t.Context(), "p", i.ID, changes); err != nil {
			t.Error(err)
		}
		if pending, err := s.Pending("p"); err != nil || len(pending) != 0 {
			t.Errorf("%+v, %v", pending, err)
		}
	}
	want := func(s *sink, keys ...string) {
		t.Helper()
		var got []string
		for _, e := range s.take() {
			got = append(got, e.Subject)
		}
		if strings.Join(got, " ") != strings.Join(keys, " ") {
			t.Errorf("got %q, want %q", got, keys)
		}
	}

	c := created("b", "a.jpg")
	i, watched := begin(c)
	if !watched || i.Began.IsZero() {
		t.Errorf("%+v, %v", i, watched)
	}
	want(&jpgs)
	c[0].Size, c[0].ETag = 7, "e"
	done(i, c)
	events := jpgs.take()
	var o lambent.ObjectEvent
	if len(events) != 1 || json.Unmarshal(events[0].Data, &o) != nil {
		t.Fatalf("%+v", events)
	}
	if e := events[0]; e.ID != i.ID || e.Source != "/buckets/b" || e.Type != lambent.EventObjectCreated || e.Extensions[lambent.PartitionKey] != "b/a.jpg" || e.Validate() != nil ||
		o.Size != 7 || o.ETag != "e" || o.Configuration != "t-b.jpg" || len(o.Sequencer) != 16 {
		t.Errorf("%+v\n%+v", e, o)
	}

	c = created("b", "a.txt")
	if i, watched = begin(c); watched {
		t.Error("it is watched")
	}
	defer s.Bind(watching("b", "", "s3:ObjectCreated:*", "s3:ObjectRemoved:DeleteMarkerCreated"), &all)()
	done(i, c)
	want(&all, "a.txt")
	want(&jpgs)

	// How something is removed turns out when it is.
	c = []object.Change{{ObjectEvent: lambent.ObjectEvent{Event: object.EventDelete, Bucket: "b", Key: "1"}}, {ObjectEvent: lambent.ObjectEvent{Event: object.EventDelete, Bucket: "b", Key: "2"}}}
	if i, watched = begin(c); !watched {
		t.Error("it is not watched")
	}
	c[1].Event = object.EventDeleteMarker
	done(i, c)
	if e := all.take(); len(e) != 1 || e[0].Subject != "2" || e[0].Type != lambent.EventObjectDeleted || e[0].ID == i.ID {
		t.Errorf("%+v", e)
	}

	// Others' are not for them, nor what they do not watch any more.
	for _, other := range []struct{ project, bucket string }{{"q", "b"}, {"p", "c"}} {
		c := created(other.bucket, "a.jpg")
		i, watched, err := s.Begin(other.project, c)
		if err != nil || watched || s.Done(t.Context(), other.project, i.ID, c) != nil {
			t.Errorf("%v, %v", watched, err)
		}
	}
	unbind()
	c = created("b", "b.jpg")
	i, _ = begin(c)
	done(i, c)
	want(&all, "b.jpg")
	want(&jpgs)

	// What did not happen has no event.
	i, _ = begin(created("b", "c.jpg"))
	if err := s.Cancel("p", i.ID); err != nil {
		t.Error(err)
	}
	want(&all)
}

// Others than triggers are told, too, of what they want.
func TestOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := object.Open(t.TempDir())
		defer s.Close()
		var bound, other sink
		defer s.Bind(watching("b", ""), &bound)()
		s.Others = func(project, bucket string) []object.Watcher {
			if project != "p" || bucket != "b" {
				return nil
			}
			return []object.Watcher{{ID: "o", Bucket: lambent.Bucket{Name: "b", Suffix: ".jpg", Label: "jpgs"}, Publish: other.Publish}}
		}
		for _, key := range []string{"a.txt", "a.jpg"} {
			c := created("b", key)
			i, watched, err := s.Begin("p", c)
			if err != nil || !watched || s.Done(t.Context(), "p", i.ID, c) != nil {
				t.Fatal(watched, err)
			}
		}
		if got := other.take(); len(got) != 1 || got[0].Subject != "a.jpg" || !strings.Contains(string(got[0].Data), `"configuration":"jpgs"`) {
			t.Errorf("%+v", got)
		}
		if got := bound.take(); len(got) != 2 {
			t.Errorf("%+v", got)
		}
	})
}

// A key is as long as it may be, and of what costs most in JSON.
func TestLongKeys(t *testing.T) {
	t.Parallel()
	s := object.Open(t.TempDir())
	defer s.Close()
	var all sink
	defer s.Bind(watching("b", ""), &all)()
	for _, key := range []string{strings.Repeat("\x01", 1024), strings.Repeat("<", 1024)} {
		c := created("b", key)
		i, _, err := s.Begin("p", c)
		if err != nil || s.Done(t.Context(), "p", i.ID, c) != nil {
			t.Fatal(err)
		}
		e := all.take()[0]
		e.Data = nil
		if b, err := json.Marshal(e); err != nil || len(b) > 8<<10 { // what the queue takes of attributes
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
}

// What cannot be published is refused as long as that is so, and what has happened already
// is published when it can be, or after the next start.
func TestFailure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := object.Open(dir)
		var all sink
		defer s.Bind(watching("b", ""), &all)()
		c := created("b", "k")
		i, _, err := s.Begin("p", c)
		if err != nil {
			t.Fatal(err)
		}
		full := lambent.Errorf(lambent.NoSpace, "test", "the disk is full")
		all.fail(full)
		if err := s.Done(t.Context(), "p", i.ID, c); !errors.Is(err, full) {
			t.Error(err)
		}
		if _, _, err := s.Begin("p", c); !lambent.Is(err, lambent.NoSpace) {
			t.Error(err)
		}
		elsewhere := watching("b", "")
		elsewhere.Target.Project = "other"
		defer s.Bind(elsewhere, &all)()
		if _, watched, err := s.Begin("other", c); !watched || err != nil {
			t.Errorf("what fails in one project is another's: %v, %v", watched, err)
		}
		time.Sleep(10 * time.Second)
		all.fail(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if e := all.take(); len(e) != 1 || e[0].ID != i.ID {
			t.Errorf("%+v", e)
		}
		if _, _, err := s.Begin("p", c); err != nil {
			t.Error(err)
		}
		if _, _, err = s.Begin("p", created("b", "l")); err != nil {
			t.Error(err)
		}
		s.Close()
		// One that was not written to its end did not begin.
		if err := os.WriteFile(filepath.Join(dir, "p", "intents", "torn"), []byte(`[{"event`), 0o600); err != nil {
			t.Fatal(err)
		}
		s = object.Open(dir)
		defer s.Close()
		pending, err := s.Pending("p")
		if err != nil || len(pending) != 2 {
			t.Errorf("%+v, %v", pending, err)
		}
		if left, err := os.ReadDir(filepath.Join(dir, "p", "intents")); err != nil || len(left) != 2 {
			t.Errorf("%v, %v", left, err)
		}
	})
}

// Buckets elsewhere tell of their changes in S3's words, each in a way of its own.
func TestNotify(t *testing.T) {
	t.Parallel()
	s := object.Open(t.TempDir())
	defer s.Close()
	var got, others sink
	later := watching("photos", ".jpg")
	later.Since = time.Now().Add(time.Hour) // clocks differ
	s.Bind(later, &got)
	elsewhere := watching("photos", "")
	elsewhere.Target.Project = "other"
	s.Bind(elsewhere, &others)

	notify := func(document string) int {
		t.Helper()
		n, err := s.Notify(t.Context(), "p", []byte(document))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	minio := `{"EventName":"s3:ObjectCreated:Put","Key":"photos/summer+day/a%26b.jpg","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"",` +
		`"eventTime":"2026-11-01T10:00:00.123Z","eventName":"s3:ObjectCreated:Put","userIdentity":{"principalId":"minioadmin"},"requestParameters":{"principalId":"minioadmin","region":"","sourceIPAddress":"10.0.0.1"},` +
		`"responseElements":{"x-amz-id-2":"i","x-amz-request-id":"17A","x-minio-deployment-id":"d"},"s3":{"s3SchemaVersion":"1.0","configurationId":"Config","bucket":{"name":"photos","ownerIdentity":{"principalId":"minioadmin"},"arn":"arn:aws:s3:::photos"},` +
		`"object":{"key":"summer+day%2Fa%26b.jpg","size":5,"eTag":"5d41402a","contentType":"image/jpeg","userMetadata":{"content-type":"image/jpeg"},"sequencer":"17AF"}},"source":{"host":"10.0.0.1","port":"","userAgent":"x"}}]}`
	if n := notify(minio); n != 1 {
		t.Errorf("%d events", n)
	}
	events := got.take()
	if len(events) != 1 {
		t.Fatalf("%v", events)
	}
	first := events[0]
	var o lambent.ObjectEvent
	if err := json.Unmarshal(first.Data, &o); err != nil {
		t.Fatal(err)
	}
	if first.Type != lambent.EventObjectCreated || first.Subject != "summer day/a&b.jpg" || first.Source != "/buckets/photos" || first.Time.Format(time.RFC3339Nano) != "2026-11-01T10:00:00.123Z" ||
		o.Event != "s3:ObjectCreated:Put" || o.Size != 5 || o.ETag != "5d41402a" || o.ContentType != "image/jpeg" || o.Sequencer != "17AF" || o.Principal != "minioadmin" || o.RemoteIP != "10.0.0.1" || o.RequestID != "17A" || o.Configuration == "" {
		t.Errorf("%+v %+v", first, o)
	}
	if notify(minio); got.take()[0].ID != first.ID {
		t.Error("the same record has another id")
	}

	// Ceph has it without s3:, and what nobody's trigger is about.
	ceph := `{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","eventTime":"2026-11-01T10:00:00.123456Z","eventName":"ObjectRemoved:Delete","userIdentity":{"principalId":"tester"},` +
		`"s3":{"bucket":{"name":"photos","id":"b"},"object":{"key":"x.jpg","size":0,"eTag":"","versionId":"","sequencer":"F"}},"eventId":"1","opaqueData":""},` +
		`{"eventName":"ObjectCreated:CompleteMultipartUpload","eventTime":"2026-11-01T10:00:01Z","s3":{"bucket":{"name":"photos"},"object":{"key":"y.jpg","size":9}}},` +
		`{"eventName":"ObjectLifecycle:Expiration:Current","s3":{"bucket":{"name":"photos"},"object":{"key":"z.jpg"}}}]}`
	if n := notify(ceph); n != 2 {
		t.Errorf("%d events", n)
	}
	if events := got.take(); len(events) != 1 || events[0].Subject != "y.jpg" { // what was removed is for who asks for that
		t.Errorf("%v", events)
	}

	// S3 itself has SNS tell.
	message, err := json.Marshal(`{"Records":[{"eventName":"ObjectCreated:Put","eventTime":"2026-11-01T10:00:00Z","s3":{"bucket":{"name":"photos"},"object":{"key":"s.jpg"}}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	if n := notify(`{"Type":"Notification","TopicArn":"arn:aws:sns:eu-west-1:1:t","Message":` + string(message) + `}`); n != 1 {
		t.Errorf("%d events", n)
	}
	if events := got.take(); len(events) != 1 || events[0].Subject != "s.jpg" {
		t.Errorf("%v", events)
	}
	if n := notify(`{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-01T10:00:00Z","Bucket":"photos"}`); n != 0 {
		t.Errorf("%d events", n)
	}
	if events := others.take(); events != nil {
		t.Errorf("another project got %v", events)
	}

	// Nothing of what is not understood is done.
	for document, want := range map[string]string{
		`no`:                        "it is no notification",
		`{"a":1}`:                   "it has no Records",
		`{"Records":[1]}`:           "record 0",
		`{"Records":[{"s3":null}]}`: "it names no event, bucket or key",
		`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"photos"},"object":{"key":"a.jpg"}}},{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"photos"},"object":{"key":"%zz"}}}]}`: "record 1",
		`{"Type":"SubscriptionConfirmation","SubscribeURL":"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=x"}`:                                                                          "open https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=x",
	} {
		n, err := s.Notify(t.Context(), "p", []byte(document))
		if n != 0 || !lambent.Is(err, lambent.Invalid) || !strings.Contains(lambent.UserMessage(err), want) {
			t.Errorf("%s: %d, %v", document, n, err)
		}
	}
	if events := got.take(); events != nil {
		t.Errorf("there are events: %v", events)
	}
}
