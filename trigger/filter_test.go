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
	for filter, want := range map[string]string{
		`{"body": {"item": ["tea"]}}`:                                "tea",
		`{"body": [{"prefix": "two"}]}`:                              "none",
		`{"body": {"item": [{"exists": true}]}}`:                     "tea cake",
		`{"messageAttributes": {"kind": {"stringValue": ["cake"]}}}`: "cake",
		`{"data": {"new": {"total": [{"numeric": [">", 100]}]}}}`:    "row",
		`{"body": {"total": [7]}}`:                                   "broker",
		`{"type": [{"prefix": "dev.lambent."}]}`:                     "tea cake none row broker",
		`{"source": ["nobody"]}`:                                     "",
	} {
		trigger := database("f")
		trigger.Filter = json.RawMessage(filter)
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
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s lets %q through, not %q", filter, s, want)
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
