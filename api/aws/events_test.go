package aws_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"lambent/client"
	"lambent/server/servertest"
)

// What AWS's clients put are events of the key's project, which functions get as
// EventBridge hands them out.
func TestPutEvents(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	k := key(t, s, "default", "invoke")
	_, err := s.Deploy(t.Context(), t, "f", servertest.Files{"app.py": "import json\ndef handler(event, context):\n    event.pop('id')\n    print('got', json.dumps(event, sort_keys=True))\n"},
		client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler"), Triggers: []client.SourceRequest{{Pattern: []byte(`{"source":["shop"],"resources":["arn:a"]}`)}}})
	if err != nil {
		t.Fatal(err)
	}
	out := boto3(t, s, k, `
import datetime
events = boto3.client("events")
good = {"Source": "shop", "DetailType": "order", "Detail": '{"n": 1}', "Resources": ["arn:a", "arn:b"], "Time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)}
r = events.put_events(Entries=[good, {**good, "Detail": "x"}, {**good, "Detail": "[1]"}, {k: v for k, v in good.items() if k != "DetailType"}, {**good, "EventBusName": "other"},
    {**good, "Resources": ["x" * 2000] * 8}, {**good, "Source": "else", "EventBusName": "default"}])
print(r["FailedEntryCount"], [e.get("ErrorCode") or len(e["EventId"]) for e in r["Entries"]])
try:
    events.put_events(Entries=[good] * 11)
except ClientError as e:
    print(e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"])
try:
    events.list_rules()
except ClientError as e:
    print(e.response["Error"]["Code"] + ": " + e.response["Error"]["Message"])
`)
	want := `5 [36, 'MalformedDetail', 'MalformedDetail', 'InvalidArgument', 'InvalidArgument', 'RequestEntityTooLargeException', 36]
ValidationException 400
UnknownOperationException: EventBridge has no operation "ListRules" here: there are PutEvents
`
	if out != want {
		t.Errorf("boto3 has\n%s\nwant\n%s", out, want)
	}
	if out, err := awscli(t, s, k, "events", "put-events", "--entries", `Source=shop,DetailType=order,Detail='{"n":2}',Resources=arn:a`); err != nil || !strings.Contains(out, `"FailedEntryCount": 0`) {
		t.Errorf("the command line: %v\n%s", err, out)
	}
	r, err := eventbridge.NewFromConfig(gosdk(s, k)).PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{
		{Source: new("shop"), DetailType: new("order"), Detail: new(`{"n":3}`), Resources: []string{"arn:a"}, Time: new(time.Unix(1767323045, 0)),
			TraceHeader: new("Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1")},
	}})
	if err != nil || r.FailedEntryCount != 0 || r.Entries[0].EventId == nil {
		t.Errorf("the SDK for Go: %+v, %v", r, err)
	}
	kept, err := s.Client.Events(t.Context(), client.ReplayRequest{Selection: client.Selection{Source: "shop"}}, 10)
	if err != nil || len(kept) != 3 {
		t.Errorf("%d events are kept, %v", len(kept), err)
	} else if !strings.Contains(string(kept[0].Event), `"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"`) {
		t.Errorf("the newest is of no trace: %s", kept[0].Event)
	}
	// All of them reach the function, as EventBridge has them.
	deadline := time.Now().Add(10 * time.Second)
	got := ""
	for strings.Count(got, "got ") < 3 && time.Now().Before(deadline) {
		got = ""
		for line, err := range s.Client.Logs(t.Context(), "f", client.LogQuery{}) {
			if err != nil {
				t.Fatal(err)
			}
			got += line.Text + "\n"
		}
	}
	for n, resources := range map[int]string{1: `["arn:a", "arn:b"]`, 3: `["arn:a"]`} {
		want := fmt.Sprintf(`got {"account": "000000000000", "detail": {"n": %d}, "detail-type": "order", "region": "us-east-1", "resources": %s, "source": "shop", "time": "2026-01-02T03:04:05Z", "version": "0"}`, n, resources)
		if !strings.Contains(got, want) {
			t.Errorf("the function has\n%s\nwant\n%s", got, want)
		}
	}
}
