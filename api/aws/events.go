package aws

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"time"

	"lambent"
	"lambent/auth"
)

// maxEntries is how many events EventBridge takes at a time.
const maxEntries = 10

// Events is EventBridge as far as whoever has events needs it: PutEvents, by publish (see
// trigger.Broker.Publish), which has what it takes on disk when it returns nil, and counts an
// event once that is published again.
func Events(publish func(ctx context.Context, project string, e ...lambent.Event) (int, error)) Service {
	return func(w http.ResponseWriter, r *http.Request, who Caller) error {
		if operation := operationOf(r); operation != "PutEvents" {
			return noOperation("EventBridge", operation, "PutEvents")
		}
		if err := allow(who, auth.RoleInvoke); err != nil {
			return err
		}
		var in putEvents
		if err := readJSON(r, &in); err != nil {
			return err
		}
		if n := len(in.Entries); n == 0 || n > maxEntries {
			return lambent.Errorf(lambent.Invalid, "aws.PutEvents", "there are %d entries: 1 to %d at a time", n, maxEntries)
		}
		return answerJSON(w, r, in.publish(r.Context(), who, publish))
	}
}

// putEvents is a request of PutEvents.
type putEvents struct {
	Entries []eventEntry
}

// An eventEntry is an event as EventBridge takes it.
type eventEntry struct {
	Time         *float64 // seconds since 1970
	Source       string
	Resources    []string
	DetailType   string
	Detail       *string
	EventBusName string
	TraceHeader  string
}

// An eventResult is what became of one.
type eventResult struct {
	EventID      string `json:"EventId,omitempty"`
	ErrorCode    string `json:",omitempty"`
	ErrorMessage string `json:",omitempty"`
}

type eventResults struct {
	FailedEntryCount int
	Entries          []eventResult
}

// publish publishes the entries that are events, all at once; if that fails one by one, so
// that each gets the answer that is its own.
func (in *putEvents) publish(ctx context.Context, who Caller, publish func(context.Context, string, ...lambent.Event) (int, error)) (out eventResults) {
	out.Entries = make([]eventResult, len(in.Entries))
	events, at := []lambent.Event{}, []int{}
	fail := func(i int, err error) {
		out.FailedEntryCount++
		e := refusalOf(jsonProtocol, err)
		out.Entries[i] = eventResult{ErrorCode: e.code, ErrorMessage: e.message}
	}
	for i := range in.Entries {
		e, err := in.Entries[i].event()
		if err != nil {
			fail(i, err)
			continue
		}
		e.SetTrace(cmp.Or(in.Entries[i].TraceHeader, who.Trace))
		e.Hops, out.Entries[i].EventID = who.Hops, e.ID
		events, at = append(events, e), append(at, i)
	}
	if len(events) == 0 {
		return out
	}
	if _, err := publish(ctx, who.Project, events...); err == nil {
		return out
	}
	for i, e := range events {
		if _, err := publish(ctx, who.Project, e); err != nil {
			fail(at[i], err)
		}
	}
	return out
}

// event is an entry as an event.
func (in *eventEntry) event() (e lambent.Event, err error) {
	missing := func(what string) error {
		return because("InvalidArgument", lambent.Errorf(lambent.Invalid, "aws.PutEvents", "Parameter %s is not valid. Reason: %[1]s is a required argument.", what))
	}
	switch {
	case in.Source == "":
		return e, missing("Source")
	case in.DetailType == "":
		return e, missing("DetailType")
	case in.Detail == nil:
		return e, missing("Detail")
	case !isObject(*in.Detail):
		return e, because("MalformedDetail", lambent.Errorf(lambent.Invalid, "aws.PutEvents", "Detail is malformed: it is an object in JSON."))
	case in.EventBusName != "" && in.EventBusName != "default" && !strings.HasSuffix(in.EventBusName, ":event-bus/default"):
		return e, because("InvalidArgument", lambent.Errorf(lambent.Invalid, "aws.PutEvents", "there is no event bus %.100q: a project has one, default", in.EventBusName))
	}
	e = lambent.Event{
		ID: lambent.NewID(), Source: in.Source, Type: in.DetailType, DataContentType: "application/json", Data: []byte(*in.Detail),
	}
	if in.Time != nil {
		seconds, part := math.Modf(*in.Time)
		if e.Time = time.Unix(int64(seconds), int64(part*1e9)).UTC(); math.Abs(seconds) > 1e11 || e.Time.Year() > 9999 || e.Time.Year() < 1 {
			return e, because("InvalidArgument", lambent.Errorf(lambent.Invalid, "aws.PutEvents", "Parameter Time is not valid: it is in seconds since 1970"))
		}
	}
	if len(in.Resources) > 0 {
		b, err := json.Marshal(in.Resources)
		if err != nil {
			return e, err
		}
		e.Extensions = map[string]string{lambent.ExtensionResources: string(b)}
	}
	return e, nil
}

func isObject(text string) bool {
	return strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") && json.Valid([]byte(text))
}
