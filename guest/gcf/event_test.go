package gcf

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"lambent"
)

// sent is what an event is sent as: its head, in order, and its body.
func sent(t *testing.T, raw string) (head, body string) {
	t.Helper()
	in := &instance{port: 8080}
	r, err := in.event([]byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return headOf(r), string(r.body)
}

func headOf(r *request) string {
	var b strings.Builder
	b.WriteString(r.method + " " + r.target + "\n")
	for _, h := range r.header {
		b.WriteString(h[0] + ": " + h[1] + "\n")
	}
	return b.String()
}

// ofEvent is the head of what an event is sent as, without what is the call's.
func ofEvent(r *request) string {
	head, _, _ := strings.Cut(headOf(r), "Function-Execution-Id: ")
	return head
}

func TestEvent(t *testing.T) {
	const plain = "POST /\nHost: localhost:8080\nContent-Type: application/json\n"
	const least = `"specversion":"1.0","id":"1","source":"/s","type":"t"`
	const required = "Ce-Specversion: 1.0\nCe-Id: 1\nCe-Source: /s\nCe-Type: t\n"
	for _, c := range []struct{ raw, head, body string }{
		{``, plain, `{}`},
		{`{"a": 1}`, plain, `{"a": 1}`},
		{`no JSON`, plain, `no JSON`},
		{`[{` + least + `}]`, plain, `[{` + least + `}]`},
		{`{"specversion":"1.0","id":"1","source":"/s"}`, plain, `{"specversion":"1.0","id":"1","source":"/s"}`},
		{`{"specversion":1,"id":"1","source":"/s","type":"t"}`, plain, `{"specversion":1,"id":"1","source":"/s","type":"t"}`},
		{`{` + least + `}`, "POST /\nHost: localhost:8080\n" + required, ``},
		{`{` + least + `,"data":{"x": [1, 2]}}`, plain + required, `{"x": [1, 2]}`},
		{`{` + least + `,"data":"text"}`, plain + required, `"text"`},
		{`{` + least + `,"datacontenttype":"text/plain; charset=utf-8","data":"text"}`, strings.Replace(plain, "application/json", "text/plain; charset=utf-8", 1) + required, `text`},
		{`{` + least + `,"datacontenttype":"application/x+json","data":"text"}`, strings.Replace(plain, "application/json", "application/x+json", 1) + required, `"text"`},
		{`{` + least + `,"datacontenttype":"image/png","data_base64":"AP8="}`, strings.Replace(plain, "application/json", "image/png", 1) + required, "\x00\xff"},
		{`{` + least + `,"subject":"a b/é\"%","time":"2026-01-02T03:04:05.5+01:00","dataschema":"x","count":7,"flag":true,"none":null}`,
			"POST /\nHost: localhost:8080\n" + required + "Ce-Subject: a%20b/%C3%A9%22%25\nCe-Dataschema: x\nCe-Time: 2026-01-02T03:04:05.5+01:00\nCe-count: 7\nCe-flag: true\n", ``},
		{`{` + least + `,"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`,
			"POST /\nHost: localhost:8080\n" + required + "Ce-traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n", ``},
	} {
		if head, body := sent(t, c.raw); head != c.head || body != c.body {
			t.Errorf("%s is sent as\n%s%q\nwant\n%s%q", c.raw, head, body, c.head, c.body)
		}
	}
	for _, raw := range []string{
		`{"specversion":"0.3","id":"1","source":"/s","type":"t"}`, `{` + least + `,"time":"now"}`, `{` + least + `,"data_base64":"*"}`,
		`{` + least + `,"Upper":"x"}`, `{` + least + `,"list":[1]}`, `{"specversion":"1.0","id":"a\nb","source":"/s","type":"t"}`,
	} {
		if _, err := new(instance).event([]byte(raw)); !lambent.Is(err, lambent.Invalid) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// FuzzEvent: whatever is handed over, what is sent is one request.
func FuzzEvent(f *testing.F) {
	f.Add(`{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"é\u0000","data":{"a":1},"x":"\r\nX: y"}`)
	f.Add(`{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain\r\nX: y","data":"text"}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := new(instance).event([]byte(raw))
		if err != nil {
			return
		}
		for _, h := range r.header {
			if strings.HasPrefix(h[0], "Ce-") && strings.IndexFunc(h[1], func(c rune) bool { return c <= ' ' || c > '~' }) >= 0 || strings.ContainsAny(h[0], " :\r\n") {
				t.Errorf("header %q: %q", h[0], h[1])
			}
		}
		if len(r.header) > 2 && !json.Valid([]byte(raw)) {
			t.Errorf("%q is taken for an event", raw)
		}
	})
}

// What has happened in a bucket is an event of Cloud Storage's, as the golden files have it.
func TestStorageEvent(t *testing.T) {
	t.Parallel()
	o := lambent.ObjectEvent{
		Event: "s3:ObjectCreated:Put", Bucket: "uploads", Key: "photos/me & you.jpg", Size: 1024, ETag: "d41d8cd98f00b204e9800998ecf8427e",
		ContentType: "image/jpeg", Metadata: map[string]string{"by": "me"}, Sequencer: "18EC11160FBE4D02",
	}
	for name, c := range map[string]struct{ event, kind, etag string }{
		"storage-finalized": {o.Event, lambent.EventObjectCreated, o.ETag},
		"storage-multipart": {"s3:ObjectCreated:CompleteMultipartUpload", lambent.EventObjectCreated, o.ETag + "-2"},
		"storage-deleted":   {"s3:ObjectRemoved:Delete", lambent.EventObjectDeleted, o.ETag},
		"storage-archived":  {"s3:ObjectRemoved:DeleteMarkerCreated", lambent.EventObjectDeleted, ""},
	} {
		o.Event, o.ETag = c.event, c.etag
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		e := lambent.Event{
			ID: "e1", Source: "/buckets/uploads", Type: c.kind, Subject: o.Key, Time: time.Date(2026, 11, 28, 1, 2, 3, 45e6, time.UTC), DataContentType: "application/json", Data: data,
			Extensions: map[string]string{lambent.PartitionKey: "uploads/photos/me & you.jpg"},
		}
		r, err := (&instance{port: 8080}).request(&lambent.Invocation{Source: "bucket", Events: []lambent.Event{e}})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, ofEvent(r), string(r.body))
	}
}
