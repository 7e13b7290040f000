package trigger_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"lambent"
	"lambent/source"
)

// A filter lets through what it matches, whoever publishes or delivers; what it does not is
// done with.
func TestFilter(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, func(context.Context, *lambent.Invocation) (*lambent.Fault, error) { return nil, nil })
	message := func(id, body string) lambent.Event {
		data, err := json.Marshal(lambent.QueueMessage{ID: id, Body: []byte(body), Attributes: map[string]lambent.MessageAttribute{"kind": {Type: "String", String: id}}})
		if err != nil {
			t.Fatal(err)
		}
		return lambent.Event{ID: id, Source: "/queues/q", Type: lambent.EventQueueMessage, Data: data}
	}
	body := lambent.Bytes(`{"total":7}`)
	fromBroker, err := json.Marshal(lambent.BrokerMessage{Body: &body})
	if err != nil {
		t.Fatal(err)
	}
	all := []lambent.Event{
		message("tea", `{"item":"tea","count":2}`), message("cake", `{"item":"cake"}`), message("none", "two teas"),
		{ID: "row", Source: "/triggers/t", Type: lambent.EventRowInserted, Data: []byte(`{"new":{"total":250}}`)},
		{ID: "broker", Source: "b", Type: lambent.EventBrokerMessage, Data: fromBroker},
	}
	rows := database("f")
	queue := lambent.Trigger{Target: name("f"), Queue: &lambent.Queue{Name: "q"}}
	broker := lambent.Trigger{Target: name("f"), Broker: &lambent.Broker{URL: "redis://b", Topic: "t"}}
	for _, c := range []struct {
		trigger      lambent.Trigger
		filter, want string
	}{
		{queue, `{"body": {"item": ["tea"]}}`, "tea"},
		{queue, `{"body": [{"prefix": "two"}]}`, "none"},
		{queue, `{"body": {"item": [{"exists": true}]}}`, "tea cake"},
		{queue, `{"messageAttributes": {"kind": {"stringValue": ["cake"]}}}`, "cake"},
		{rows, `{"data": {"new": {"total": [{"numeric": [">", 100]}]}}}`, "row"},
		{broker, `{"body": {"total": [7]}}`, "broker"},
		{rows, `{"type": [{"prefix": "dev.lambent."}]}`, "tea cake none row broker"},
		{rows, `{"source": ["nobody"]}`, ""},
	} {
		trigger := c.trigger
		trigger.Filter = json.RawMessage(c.filter)
		st, err := p.broker.Add(t.Context(), trigger)
		if err != nil {
			t.Fatal(err)
		}
		var sink source.Sink
		p.until("the source runs", func() bool { sink = p.keeper.sink(st.ID); return sink != nil })
		p.set(func() { p.ran = nil })
		if _, err := sink.Deliver(context.Background(), all...); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, inv := range p.ran {
			for _, e := range inv.Events {
				got = append(got, e.ID)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s lets %q through, not %q", c.filter, s, c.want)
		}
		if err := p.broker.Delete(t.Context(), lambent.DefaultProject, st.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilterIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, func(context.Context, *lambent.Invocation) (*lambent.Fault, error) { return nil, nil })
	for _, trigger := range []lambent.Trigger{
		{Target: name("f"), Database: database("f").Database, Filter: json.RawMessage(`{"a": 1}`)},
		{Target: name("f"), Database: database("f").Database, Filter: json.RawMessage(`{"body": {"a": [1]}}`)}, // a row has none
		{Target: name("f"), Queue: &lambent.Queue{Name: "q"}, Filter: json.RawMessage(`{"source": ["/queues/q"], "bdy": {"a": [1]}}`)},
		{Target: name("f"), Queue: &lambent.Queue{Name: "q"}, Filter: json.RawMessage(`{"$or": [{"body": [1]}, {"key": ["k"]}]}`)},
		{Target: name("f"), Pattern: json.RawMessage(`{"a": [1]}`), Filter: json.RawMessage(`{"a": [1]}`)},
		{Target: name("f"), Schedule: &lambent.Schedule{Expression: "rate(1 minute)"}, Filter: json.RawMessage(`{"a": [1]}`)},
	} {
		if _, err := p.broker.Add(t.Context(), trigger); !lambent.Is(err, lambent.Invalid) || !strings.Contains(lambent.UserMessage(err), "filter") {
			t.Errorf("%+v: %v", trigger, err)
		}
	}
}

// A function may be invoked with what a template makes of an event.
func TestInput(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, func(context.Context, *lambent.Invocation) (*lambent.Fault, error) { return nil, nil })
	trigger := lambent.Trigger{
		Target: name("f"), Pattern: json.RawMessage(`{"source": ["shop"]}`),
		Input: &lambent.Input{Paths: map[string]string{"who": "$.detail.customer", "what": "$.detail-type"}, Template: `{"text": "<who>: <what>"}`},
	}
	if _, err := p.broker.Add(t.Context(), trigger); err != nil {
		t.Fatal(err)
	}
	if _, err := p.broker.Publish(t.Context(), lambent.DefaultProject, lambent.Event{ID: "1", Source: "shop", Type: "order", Data: []byte(`{"customer":"Ada"}`)}); err != nil {
		t.Fatal(err)
	}
	if inv := p.last("f"); string(inv.Raw) != `{"text": "Ada: order"}` || inv.Events != nil {
		t.Errorf("%s, %v", inv.Raw, inv.Events)
	}
	trigger.Input.Template = `{"text": <nobody>}`
	if _, err := p.broker.Add(t.Context(), trigger); !lambent.Is(err, lambent.Invalid) || !strings.Contains(lambent.UserMessage(err), "<nobody>") {
		t.Error(err)
	}
	bucket := database("f")
	bucket.Input = &lambent.Input{Template: "1"}
	if _, err := p.broker.Add(t.Context(), bucket); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
}
