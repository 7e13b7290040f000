package gcf_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lambent/guest/guesttest"
	"lambent/guest/platformtest"
)

// A mapping is an event as background functions and as CloudEvents have it
// (https://github.com/GoogleCloudPlatform/functions-framework-conformance/blob/main/docs/mapping.md).
// Its id and time are those of all.
type mapping struct {
	name                     string
	eventType, resource      string // of the background event; the resource is JSON
	data                     string // JSON, of both
	ceType, ceSource, ceSubj string

	// What differs between the two.
	domain  string // beside a background event
	ceData  string // of the CloudEvent
	oneWay  bool   // it is made of a background event, and made into another
	context bool   // a background event has its attributes in its context
}

const pubsubResource = `{"service":"pubsub.googleapis.com","name":"projects/p/topics/t","type":"type.googleapis.com/google.pubsub.v1.PubsubMessage"}`

// mappings are the kinds of cases of the suite, by their names there, with events of our
// own: its program is not to be had from every registry.
var mappings = []mapping{
	{
		name: "storage", eventType: "google.storage.object.finalize", context: true,
		resource: `{"service":"storage.googleapis.com","name":"projects/_/buckets/b/objects/folder/File.txt","type":"storage#object"}`,
		data:     `{"kind":"storage#object","bucket":"b","name":"folder/File.txt","size":"352","contentType":"text/plain","metadata":{"k":"v"}}`,
		ceType:   "google.cloud.storage.object.v1.finalized", ceSource: "//storage.googleapis.com/projects/_/buckets/b", ceSubj: "objects/folder/File.txt",
	},
	{
		name: "storage_delete", eventType: "google.storage.object.delete", context: true,
		resource: `{"service":"storage.googleapis.com","name":"projects/_/buckets/b/objects/a","type":"storage#object"}`,
		data:     `{"kind":"storage#object","bucket":"b","name":"a"}`,
		ceType:   "google.cloud.storage.object.v1.deleted", ceSource: "//storage.googleapis.com/projects/_/buckets/b", ceSubj: "objects/a",
	},
	{
		name: "storage_archive", eventType: "google.storage.object.archive", context: true,
		resource: `{"service":"storage.googleapis.com","name":"projects/_/buckets/b/objects/a","type":"storage#object"}`,
		data:     `{"kind":"storage#object","bucket":"b","name":"a"}`,
		ceType:   "google.cloud.storage.object.v1.archived", ceSource: "//storage.googleapis.com/projects/_/buckets/b", ceSubj: "objects/a",
	},
	{
		name: "storage_metadata", eventType: "google.storage.object.metadataUpdate", context: true,
		resource: `{"service":"storage.googleapis.com","name":"projects/_/buckets/b/objects/a","type":"storage#object"}`,
		data:     `{"kind":"storage#object","bucket":"b","name":"a","metageneration":"2"}`,
		ceType:   "google.cloud.storage.object.v1.metadataUpdated", ceSource: "//storage.googleapis.com/projects/_/buckets/b", ceSubj: "objects/a",
	},
	{
		name: "legacy_storage", eventType: "providers/cloud.storage/eventTypes/object.change", resource: `"projects/_/buckets/b/objects/a"`, oneWay: true,
		data:   `{"kind":"storage#object","bucket":"b","name":"a"}`,
		ceType: "google.cloud.storage.object.v1.finalized", ceSource: "//storage.googleapis.com/projects/_/buckets/b", ceSubj: "objects/a",
	},
	{
		name: "pubsub_text", eventType: "google.pubsub.topic.publish", context: true, resource: pubsubResource,
		data:   `{"@type":"type.googleapis.com/google.pubsub.v1.PubsubMessage","attributes":{"a":"1"},"data":"dGV4dA=="}`,
		ceData: `{"message":{"@type":"type.googleapis.com/google.pubsub.v1.PubsubMessage","attributes":{"a":"1"},"data":"dGV4dA==","messageId":"aaaaaa-1111","publishTime":"2020-09-29T11:32:00.123Z"}}`,
		ceType: "google.cloud.pubsub.topic.v1.messagePublished", ceSource: "//pubsub.googleapis.com/projects/p/topics/t",
	},
	{
		name: "pubsub_binary", eventType: "google.pubsub.topic.publish", context: true, resource: pubsubResource,
		data:   `{"@type":"type.googleapis.com/google.pubsub.v1.PubsubMessage","data":"AQIDBP8="}`,
		ceData: `{"message":{"@type":"type.googleapis.com/google.pubsub.v1.PubsubMessage","data":"AQIDBP8=","messageId":"aaaaaa-1111","publishTime":"2020-09-29T11:32:00.123Z"}}`,
		ceType: "google.cloud.pubsub.topic.v1.messagePublished", ceSource: "//pubsub.googleapis.com/projects/p/topics/t",
	},
	{
		name: "legacy_pubsub", eventType: "providers/cloud.pubsub/eventTypes/topic.publish", resource: `"projects/p/topics/t"`, oneWay: true,
		data:   `{"@type":"type.googleapis.com/google.pubsub.v1.PubsubMessage","data":"dGV4dA=="}`,
		ceData: `{"message":{"@type":"type.googleapis.com/google.pubsub.v1.PubsubMessage","data":"dGV4dA==","messageId":"aaaaaa-1111","publishTime":"2020-09-29T11:32:00.123Z"}}`,
		ceType: "google.cloud.pubsub.topic.v1.messagePublished", ceSource: "//pubsub.googleapis.com/projects/p/topics/t",
	},
	{
		name: "firestore_simple", eventType: "providers/cloud.firestore/eventTypes/document.write", resource: `"projects/p/databases/(default)/documents/c/d"`,
		data:   `{"oldValue":{"fields":{"x":{"stringValue":"a"}}},"updateMask":{"fieldPaths":["x"]},"value":{"fields":{"x":{"stringValue":"b"}}}}`,
		ceType: "google.cloud.firestore.document.v1.written", ceSource: "//firestore.googleapis.com/projects/p/databases/(default)", ceSubj: "documents/c/d",
	},
	{
		name: "firestore_complex", eventType: "providers/cloud.firestore/eventTypes/document.create", resource: `"projects/p/databases/(default)/documents/c/d/e/f"`,
		data:   `{"oldValue":{},"updateMask":{},"value":{"fields":{"list":{"arrayValue":{"values":[{"integerValue":"1"},{"doubleValue":5.5}]}},"yes":{"booleanValue":true},"none":{"nullValue":null}}}}`,
		ceType: "google.cloud.firestore.document.v1.created", ceSource: "//firestore.googleapis.com/projects/p/databases/(default)", ceSubj: "documents/c/d/e/f",
	},
	{
		name: "firestore_update", eventType: "providers/cloud.firestore/eventTypes/document.update", resource: `"projects/p/databases/(default)/documents/c/d"`,
		data:   `{"oldValue":{"fields":{"x":{"integerValue":"1"}}},"updateMask":{"fieldPaths":["x"]},"value":{"fields":{"x":{"integerValue":"2"}}}}`,
		ceType: "google.cloud.firestore.document.v1.updated", ceSource: "//firestore.googleapis.com/projects/p/databases/(default)", ceSubj: "documents/c/d",
	},
	{
		name: "firestore_delete", eventType: "providers/cloud.firestore/eventTypes/document.delete", resource: `"projects/p/databases/(default)/documents/c/d"`,
		data:   `{"oldValue":{"fields":{"x":{"integerValue":"1"}}},"updateMask":{},"value":{}}`,
		ceType: "google.cloud.firestore.document.v1.deleted", ceSource: "//firestore.googleapis.com/projects/p/databases/(default)", ceSubj: "documents/c/d",
	},
	{
		name: "firebase-analytics", eventType: "providers/google.firebase.analytics/eventTypes/event.log", resource: `"projects/p/events/session_start"`,
		data:   `{"eventDim":[{"date":"20201103","name":"session_start"}],"userDim":{"appInfo":{"appId":"a"}}}`,
		ceType: "google.firebase.analytics.log.v1.written", ceSource: "//firebase.googleapis.com/projects/p", ceSubj: "events/session_start",
	},
	{
		name: "firebase-auth", eventType: "providers/firebase.auth/eventTypes/user.create", resource: `"projects/p"`,
		data:   `{"email":"a@example.com","metadata":{"createdAt":"2020-05-26T10:42:27Z","lastSignedInAt":"2020-10-24T11:00:00Z"},"uid":"u1"}`,
		ceData: `{"email":"a@example.com","metadata":{"createTime":"2020-05-26T10:42:27Z","lastSignInTime":"2020-10-24T11:00:00Z"},"uid":"u1"}`,
		ceType: "google.firebase.auth.user.v1.created", ceSource: "//firebaseauth.googleapis.com/projects/p", ceSubj: "users/u1",
	},
	{
		name: "firebase-authdelete", eventType: "providers/firebase.auth/eventTypes/user.delete", resource: `"projects/p"`,
		data:   `{"metadata":{"createdAt":"2020-05-26T10:42:27Z"},"uid":"u1"}`,
		ceData: `{"metadata":{"createTime":"2020-05-26T10:42:27Z"},"uid":"u1"}`,
		ceType: "google.firebase.auth.user.v1.deleted", ceSource: "//firebaseauth.googleapis.com/projects/p", ceSubj: "users/u1",
	},
	{
		name: "firebase-dbcreate", eventType: "providers/google.firebase.database/eventTypes/ref.create", resource: `"projects/_/instances/i/refs/a"`, domain: "firebaseio.com",
		data:   `{"data":null,"delta":{"child":1}}`,
		ceType: "google.firebase.database.ref.v1.created", ceSource: "//firebasedatabase.googleapis.com/projects/_/locations/us-central1/instances/i", ceSubj: "refs/a",
	},
	{
		name: "firebase-dbupdate", eventType: "providers/google.firebase.database/eventTypes/ref.update", resource: `"projects/_/instances/i/refs/a/b"`, domain: "asia-southeast1.firebasedatabase.app",
		data:   `{"data":{"child":1},"delta":{"child":2}}`,
		ceType: "google.firebase.database.ref.v1.updated", ceSource: "//firebasedatabase.googleapis.com/projects/_/locations/asia-southeast1/instances/i", ceSubj: "refs/a/b",
	},
	{
		name: "firebase-db", eventType: "providers/google.firebase.database/eventTypes/ref.write", resource: `"projects/_/instances/i/refs/a/b"`, domain: "firebaseio.com",
		data:   `{"data":null,"delta":{"child":"other"}}`,
		ceType: "google.firebase.database.ref.v1.written", ceSource: "//firebasedatabase.googleapis.com/projects/_/locations/us-central1/instances/i", ceSubj: "refs/a/b",
	},
	{
		name: "firebase-dbdelete", eventType: "providers/google.firebase.database/eventTypes/ref.delete", resource: `"projects/_/instances/i/refs/a"`, domain: "europe-west1.firebasedatabase.app",
		data:   `{"data":{"child":1},"delta":null}`,
		ceType: "google.firebase.database.ref.v1.deleted", ceSource: "//firebasedatabase.googleapis.com/projects/_/locations/europe-west1/instances/i", ceSubj: "refs/a",
	},
}

const eventID, eventTime = "aaaaaa-1111", "2020-09-29T11:32:00.123Z"

// background is the event as background functions are sent it.
func (m *mapping) background(t *testing.T) map[string]any {
	attributes := m.attributes(t)
	if m.context {
		return map[string]any{"data": decode[any](t, m.data), "context": attributes}
	}
	if attributes["data"] = decode[any](t, m.data); m.domain != "" {
		attributes["domain"] = m.domain
	}
	return attributes
}

func (m *mapping) attributes(t *testing.T) map[string]any {
	return map[string]any{"eventId": eventID, "timestamp": eventTime, "eventType": m.eventType, "resource": decode[any](t, m.resource)}
}

// cloudEvent is the event as the envelope of a CloudEvent.
func (m *mapping) cloudEvent(t *testing.T) map[string]any {
	data := m.data
	if m.ceData != "" {
		data = m.ceData
	}
	e := map[string]any{"specversion": "1.0", "id": eventID, "time": eventTime, "type": m.ceType, "source": m.ceSource, "datacontenttype": "application/json", "data": decode[any](t, data)}
	if m.ceSubj != "" {
		e["subject"] = m.ceSubj
	}
	return e
}

// TestConformance holds frameworks, run here, to what the conformance suite asks of
// them bare: functions of each signature, events of either form to functions of either
// form, and requests side by side.
func TestConformance(t *testing.T) {
	each(t, func(t *testing.T, p *platformtest.Platform) {
		for _, language := range []struct{ name, family string }{{"node", "google-nodejs"}, {"python", "google-python"}} {
			t.Run(language.name, func(t *testing.T) {
				code := tree(t, filepath.Join("conformance", language.name))
				platformtest.Framework(t, language.name, code)
				deploy := func(t *testing.T, target, signature string, concurrency int) guesttest.Platform {
					c := on(t, p, language.family, code)
					c.Handler, c.Env, c.Concurrency = target, map[string]string{"FUNCTION_SIGNATURE_TYPE": signature, "THREADS": "100"}, concurrency
					return p.Deploy(t, c.WithDefaults())
				}
				t.Run("http", func(t *testing.T) {
					f := deploy(t, "http", "http", 1)
					body(t, post(t, f, "application/json", []byte(`{"data":"PASS"}`)))
					if got := decode[map[string]string](t, body(t, get(t, f, "/output"))); got["data"] != "PASS" {
						t.Errorf("the function was given %v", got)
					}
				})
				t.Run("cloudevent", func(t *testing.T) {
					f := deploy(t, "cloudevent", "cloudevent", 1)
					for _, m := range mappings {
						want := m.cloudEvent(t)
						structured := encode(t, want)
						body(t, post(t, f, "application/json", encode(t, m.background(t))))
						m.expect(t, f, "of a background event", want)
						body(t, f.Call(t, string(structured)))
						m.expect(t, f, "in binary mode", want)
						body(t, post(t, f, "application/cloudevents+json", structured))
						m.expect(t, f, "in structured mode", want)
					}
				})
				t.Run("legacyevent", func(t *testing.T) {
					f := deploy(t, "legacyevent", "event", 1)
					for _, m := range mappings {
						want := map[string]any{"data": decode[any](t, m.data), "context": m.attributes(t)}
						body(t, post(t, f, "application/json", encode(t, m.background(t))))
						m.expect(t, f, "as it is", want)
						if !m.oneWay {
							body(t, f.Call(t, string(encode(t, m.cloudEvent(t)))))
							m.expect(t, f, "of a CloudEvent", want)
						}
					}
					pushed(t, f)
				})
				if language.name != "node" { // whose framework has none
					t.Run("typed", func(t *testing.T) {
						a := post(t, deploy(t, "typed", "typed", 1), "application/json", []byte(`{"message":"Hello!"}`))
						got := decode[struct{ Payload struct{ Message string } }](t, body(t, a))
						if got.Payload.Message != "Hello!" {
							t.Errorf("the answer is %s", a.Body.String())
						}
					})
				}
				storage := string(encode(t, mappings[0].cloudEvent(t)))
				for _, c := range []struct {
					signature, target string
					call              func(guesttest.Platform) *guesttest.Answer
				}{
					{"http", "concurrent", func(f guesttest.Platform) *guesttest.Answer { return get(t, f, "/") }},
					{"cloudevent", "concurrentevent", func(f guesttest.Platform) *guesttest.Answer { return f.Call(t, storage) }},
					{"event", "concurrentlegacyevent", func(f guesttest.Platform) *guesttest.Answer { return f.Call(t, storage) }},
				} {
					t.Run("concurrency/"+c.signature, func(t *testing.T) {
						f := deploy(t, c.target, c.signature, 100)
						body(t, c.call(f))
						begun := time.Now()
						if n := together(t, 100, func() *guesttest.Answer { return c.call(f) }); n != 1 {
							t.Errorf("100 at a time on %d instances", n)
						}
						if took := time.Since(begun); took > 10*time.Second { // one after the other they take 100
							t.Errorf("100 sleeps of a second at a time take %v", took)
						} else {
							t.Logf("100 sleeps of a second at a time take %v", took)
						}
					})
				}
			})
		}
	})
}

// pushed expects a background function to hear of a message as Pub/Sub itself pushes it,
// to a path that names the topic.
func pushed(t *testing.T, f guesttest.Platform) {
	t.Helper()
	const message = `{"subscription":"projects/p/subscriptions/s","message":{"data":"dGV4dA==","attributes":{"a":"1"},"messageId":"aaaaaa-1111","publishTime":"2020-09-29T11:32:00.123Z"}}`
	body(t, ask(t, f, "POST", "/projects/p/topics/t", http.Header{"Content-Type": {"application/json"}}, []byte(message)))
	m := mapping{name: "pubsub_push", eventType: "google.pubsub.topic.publish", resource: pubsubResource}
	m.expect(t, f, "as it is pushed", map[string]any{
		"data":    decode[any](t, `{"@type":"type.googleapis.com/google.pubsub.v1.PubsubMessage","attributes":{"a":"1"},"data":"dGV4dA=="}`),
		"context": m.attributes(t),
	})
}

func post(t *testing.T, f guesttest.Platform, contentType string, in []byte) *guesttest.Answer {
	t.Helper()
	a := ask(t, f, "POST", "/", http.Header{"Content-Type": {contentType}}, in)
	if a.Err == nil && a.Result.Fault == nil && a.Status/100 != 2 {
		t.Errorf("status %d: %s\n%s", a.Status, a.Body.String(), in)
	}
	return a
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// expect compares what the function was given last.
func (m *mapping) expect(t *testing.T, f guesttest.Platform, how string, want map[string]any) {
	t.Helper()
	log := f.Log()
	i := strings.LastIndex(log, "function_output.json ")
	if i < 0 {
		t.Fatalf("%s, %s: the function has written nothing:\n%s", m.name, how, log)
	}
	text, _, _ := strings.Cut(log[i+len("function_output.json "):], "\n")
	got := decode[map[string]any](t, text)
	delete(got, "traceparent") // which the frameworks add
	if want = maps.Clone(want); got["datacontenttype"] == nil {
		delete(want, "datacontenttype") // Node.js's leaves it in its header
	}
	if context, ok := got["context"].(map[string]any); ok {
		maps.DeleteFunc(context, func(name string, _ any) bool { return name == "domain" })
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s, %s: the function was given\n%s\nwant\n%s", m.name, how, encode(t, got), encode(t, want))
	}
}
