package server_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent/client"
	"lambent/server/servertest"
)

// traced says of which trace each of its invocations is. The first has the other kinds follow, by AWS's clients as
// they are.
const traced = runs + `
def handler(event, context):
    kind = event["Records"][0]["eventSource"] if "Records" in event else event["source"]
    print("TRACE", kind, os.environ["_X_AMZN_TRACE_ID"])
    if kind == "first":
        events.put_events(Entries=[{"Source": "next", "DetailType": "d", "Detail": "{}"}])
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="traced")["QueueUrl"], MessageBody="x")
        s3.put_object(Bucket="traced", Key="k", Body=b"x")
`

// The trace that an event comes with is that of its function's invocation, and of all that follows from it:
// of events, messages and uploads.
func TestTraces(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	files := clientsOf(t, "aws-clients")
	files["app.py"] = traced
	if _, err := s.Deploy(t.Context(), t, "f", files, client.DeployRequest{
		Runtime: new(s.Newest(t, "python")), Handler: new("app.handler"), MemoryMB: new(512), TimeoutMS: new(int64(30_000)),
		Triggers: []client.SourceRequest{{Pattern: []byte(`{"source": ["first", "next", "webhook"]}`)}, {Queue: &client.Queue{Name: "traced"}}, {Bucket: &client.Bucket{Name: "traced"}}},
	}); err != nil {
		t.Fatal(err)
	}
	deployRuns(t, s, "default", "starts")
	run[any](t, s, "starts", `out = s3.create_bucket(Bucket="traced") and None`)

	send := func(path, body, trace string, header ...string) {
		t.Helper()
		r := s.Request(t, http.MethodPost, path, io.NopCloser(strings.NewReader(body)), append(header, "Authorization", "Bearer "+s.Client.Token, "Traceparent", trace)...)
		r.ContentLength = int64(len(body))
		if a := servertest.Do(t, r); a.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %d %s", path, a.StatusCode, a.Body)
		}
	}
	send("/v1/events", `{"specversion":"1.0","id":"1","source":"first","type":"t","data":{}}`, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Content-Type", "application/cloudevents+json")
	send("/v1/webhooks", `{"type":"t","data":{}}`, "00-11111111222222223333333344444444-00f067aa0ba902b7-00", "Content-Type", "application/json")

	want := []string{
		"aws:s3 Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
		"aws:sqs Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
		"first Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
		"next Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1",
		"webhook Root=1-11111111-222222223333333344444444;Parent=00f067aa0ba902b7;Sampled=0",
	}
	var got []string
	for deadline := time.Now().Add(30 * time.Second); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got = nil
		for line, err := range s.Client.Logs(t.Context(), "f", client.LogQuery{Grep: "TRACE "}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.TrimSpace(strings.SplitN(line.Text, "TRACE ", 2)[1]))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
