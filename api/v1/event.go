package v1

import (
	"cmp"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/auth"
	"lambent/internal/webhook"
	"lambent/trigger"
)

// An Accepted is what became of events that were published.
type Accepted struct {
	Events      int `json:"events" doc:"That were published" example:"1"`
	Invocations int `json:"invocations" doc:"That there are to be of them: one for each trigger whose pattern an event matches" example:"2"`
}

// Notified is what became of a notification.
type Notified struct {
	Events int `json:"events" doc:"That it has, of kinds of which buckets here tell, too" example:"1"`
}

// A KeptEvent is an event of the history.
type KeptEvent struct {
	Accepted time.Time       `json:"accepted"`
	Trigger  string          `json:"trigger,omitempty" doc:"Whose source made it; not there: it was published"`
	Event    json.RawMessage `json:"event" doc:"As CloudEvents has it in JSON"`
}

// An EventList is events of the history.
type EventList struct {
	Events []KeptEvent `json:"events" doc:"The newest first"`
}

// A Selection selects events of the history, or dead letters. What is left out does not
// matter.
type Selection struct {
	ID      string `json:"id,omitempty" query:"id" doc:"The event's, or the invocation's" example:"6a7e8feb-b491-4cf7-a9f1-bf3703467718"`
	Source  string `json:"source,omitempty" query:"source" doc:"The event's" example:"shop"`
	Type    string `json:"type,omitempty" query:"type" doc:"The event's" example:"order.placed"`
	Trigger string `json:"trigger,omitempty" query:"trigger" doc:"The id of the trigger that invokes with it"`
	Kind    string `json:"kind,omitempty" query:"kind" enum:"schedule,pattern,database,bucket,queue,broker" doc:"Of which kind that is" example:"schedule"`
	Since   string `json:"since,omitempty" query:"since" doc:"Accepted, or dead, since a time (RFC 3339), or a duration before now such as 5m" example:"1h"`
	Until   string `json:"until,omitempty" query:"until" doc:"Likewise: before then" example:"5m"`
}

func (s *Selection) query() (q trigger.Query, err error) {
	q = trigger.Query{ID: s.ID, Source: s.Source, Type: s.Type, Trigger: s.Trigger, Kind: s.Kind}
	q.Since, q.Until, err = between(s.Since, s.Until)
	return q, err
}

// A ReplayRequest selects events of the history.
type ReplayRequest struct {
	Selection
	Function string `json:"function,omitempty" doc:"Invoke this function alone, with events that do" example:"thumbs"`
	DryRun   bool   `json:"dry_run,omitempty" doc:"Only count the events, and the invocations"`
}

type (
	listEventsInput struct {
		Scope
		Selection
		Function string `query:"function" doc:"That invoke this function now" example:"thumbs"`
		Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100" example:"100"`
	}
	replayInput struct {
		Scope
		Body ReplayRequest
	}
	eventListOutput struct{ Body EventList }
	acceptedOutput  struct{ Body Accepted }
)

const (
	cloudEvent      = "application/cloudevents+json"
	cloudEventBatch = "application/cloudevents-batch+json"
)

func (s *service) eventOperations(api huma.API) {
	s.plain(api, &huma.Operation{
		OperationID: "publish-events", Method: http.MethodPost, Path: "/v1/events", Tags: []string{"events"},
		Summary: "Publish events",
		Description: "CloudEvents 1.0 over HTTP: one in the JSON format (structured mode), a list of up to 100 (batch), or one whose attributes are ce- headers and whose data is the body (binary mode). " +
			"Each function that has a trigger whose pattern an event matches is invoked with it. The answer comes once that is on disk; an event of the same source and id, published again, counts once. " +
			"Events that have no traceparent of their own have the request's.",
		RequestBody: &huma.RequestBody{
			Required: true, Description: "At most 2 MB, of which 1 MB are an event's data",
			Content: map[string]*huma.MediaType{
				cloudEvent:      {Schema: &huma.Schema{Type: huma.TypeObject}},
				cloudEventBatch: {Schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject}}},
				"*/*":           {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
			},
		},
		Responses: map[string]*huma.Response{"202": {
			Description: "They are kept, and functions will be invoked",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema[Accepted](api)}},
		}},
	}, auth.RoleInvoke, s.publishEvents)
	operation(s, api, huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/v1/events", Tags: []string{"events"},
		Summary: "List events that were accepted lately", Description: "Those of a week (serve --keep-events), 1 GB of them at most. An event that has invoked its functions may be missing: a crash loses what was to be listed of the last 50 ms, and a disk that does not keep up some more.",
	}, s.listEvents)
	operation(s, api, huma.Operation{
		OperationID: "replay-events", Method: http.MethodPost, Path: "/v1/events/replay", Tags: []string{"events"},
		Summary: "Replay events",
		Description: "Events of the history make invocations again, at most a million at a time and the oldest first: those of a trigger's source by that trigger, if it is still there, " +
			"and others by whatever pattern they match now. Where a function has as many waiting as may wait, the answer takes until there is room, and is an error if for a minute there is none.",
	}, s.replayEvents)
}

// webhookOperation is the address for whoever sends by Standard Webhooks: the signature is
// the credential, which no server that sends needs a token beside.
func (s *service) webhookOperation(api huma.API) {
	op := &huma.Operation{
		OperationID: "receive-webhook", Method: http.MethodPost, Path: "/v1/webhooks", Tags: []string{"events"},
		Summary: "Publish what a webhook tells",
		Description: "A message of Standard Webhooks, signed with the project's secret (get-webhook-secret), or sent with a token: it becomes an event of the source \"webhook\", with the message's id and type, " +
			"and with its data, or the whole of it if it has none.",
		RequestBody: &huma.RequestBody{
			Required: true, Description: "JSON, at most 1 MB",
			Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
		},
		Responses: map[string]*huma.Response{"202": {
			Description: "It is kept, and functions will be invoked",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema[Accepted](api)}},
		}},
	}
	s.document(api, op)
	byToken := s.answer(auth.RoleInvoke, func(w http.ResponseWriter, r *http.Request, project string) error {
		body, err := readPayload(nil, w, r, s.Limits.MaxAsyncPayload)
		if err != nil {
			return err
		}
		return s.publishWebhook(w, r, project, cmp.Or(r.Header.Get("Webhook-Id"), lambent.NewID()), time.Now().UTC(), body)
	})
	s.mux.HandleFunc(op.Method+" "+op.Path, func(w http.ResponseWriter, r *http.Request) {
		if !webhook.IsSigned(r.Header) {
			if _, ok := auth.FromRequest(r); !ok {
				s.refuse(w, r, lambent.Errorf(lambent.Unauthenticated, "v1.webhook", "this needs a signature as Standard Webhooks has it, or a token").WithHint("lambent token webhook"))
				return
			}
			byToken(w, r)
			return
		}
		if err := s.receiveWebhook(w, r); err != nil {
			s.refuse(w, r, err)
		}
	})
}

func (s *service) receiveWebhook(w http.ResponseWriter, r *http.Request) error {
	project, err := project(auth.Identity{Role: auth.RoleInvoke}, auth.RoleInvoke, r.Header.Get(projectHeader), r.URL.Query().Get("project"))
	if err != nil {
		return err
	}
	body, err := readPayload(nil, w, r, s.Limits.MaxAsyncPayload)
	if err != nil {
		return err
	}
	id, at, err := webhook.Verify(r.Header, body, s.Keys.WebhookSecret(project), time.Now())
	if err != nil {
		return err
	}
	return s.publishWebhook(w, r, project, id, at, body)
}

// publishWebhook makes an event of a message.
func (s *service) publishWebhook(w http.ResponseWriter, r *http.Request, project, id string, at time.Time, body []byte) error {
	var message struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return lambent.Errorf(lambent.Invalid, "v1.webhook", "the message is not a JSON object as Standard Webhooks has it: %w", err)
	}
	if message.Timestamp.IsZero() {
		message.Timestamp = at
	}
	if message.Data == nil {
		message.Data = body
	}
	e := lambent.Event{
		ID: id, Source: "webhook", Type: cmp.Or(message.Type, "webhook"), Time: message.Timestamp, DataContentType: "application/json", Data: message.Data,
	}
	e.SetTrace(r.Header.Get("Traceparent"))
	n, err := s.Triggers.Publish(r.Context(), project, e)
	if err != nil {
		return err
	}
	return accepted(w, Accepted{1, n})
}

// notificationOperation is the address that buckets elsewhere are given. What some of them
// can send is a user and a password: the token is the password.
func (s *service) notificationOperation(api huma.API) {
	op := &huma.Operation{
		OperationID: "notify-buckets", Method: http.MethodPost, Path: "/v1/notifications/s3", Tags: []string{"events"},
		Summary: "Tell of what has happened in buckets elsewhere",
		Description: "What S3 (by Amazon SNS), MinIO and Ceph send to a webhook. The project's triggers of buckets of these names invoke their functions as if the buckets were here; " +
			"what no trigger is about is left out. Where only a user and a password can be given, the password is the token.",
		RequestBody: &huma.RequestBody{
			Required: true, Description: "A notification, at most 1 MB",
			Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
		},
		Responses: map[string]*huma.Response{"202": {
			Description: "They are kept, and functions will be invoked",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: schema[Notified](api)}},
		}},
	}
	s.document(api, op)
	answer := s.answer(auth.RoleInvoke, s.notify)
	s.mux.HandleFunc(op.Method+" "+op.Path, func(w http.ResponseWriter, r *http.Request) {
		if _, token, ok := r.BasicAuth(); ok {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer(w, r)
	})
}

func (s *service) notify(w http.ResponseWriter, r *http.Request, project string) error {
	buf := payloads.Get().(*[]byte)
	defer putPayload(buf)
	var err error
	if *buf, err = readPayload((*buf)[:0], w, r, s.Limits.MaxAsyncPayload); err != nil {
		return err
	}
	n, err := s.Notify(r.Context(), project, *buf)
	if err != nil {
		return err
	}
	return accepted(w, Notified{n})
}

func (s *service) listEvents(ctx context.Context, in *listEventsInput) (*eventListOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	q, err := in.query()
	if err != nil {
		return nil, err
	}
	q.Function, q.Limit = in.Function, in.Limit
	events, err := s.Triggers.Events(ctx, project, q)
	if err != nil {
		return nil, err
	}
	out := &eventListOutput{EventList{make([]KeptEvent, len(events))}}
	for i, k := range events {
		b, err := k.Event.Structured()
		if err != nil {
			return nil, err
		}
		out.Body.Events[i] = KeptEvent{k.Accepted.UTC(), k.Trigger, b}
	}
	return out, nil
}

func (s *service) replayEvents(ctx context.Context, in *replayInput) (*acceptedOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	r := &in.Body
	q, err := r.query()
	if err != nil {
		return nil, err
	}
	q.Function = r.Function
	if r.ID == "" && r.Since == "" {
		return nil, lambent.Errorf(lambent.Invalid, "v1.replay", "which events? An id is needed, or a time since which they were accepted")
	}
	n, invocations, err := s.Triggers.Replay(ctx, project, q, r.DryRun)
	if err != nil {
		return nil, err
	}
	return &acceptedOutput{Accepted{n, invocations}}, nil
}

func (s *service) publishEvents(w http.ResponseWriter, r *http.Request, project string) error {
	buf := payloads.Get().(*[]byte)
	defer putPayload(buf)
	var err error
	if *buf, err = readPayload((*buf)[:0], w, r, 2*s.Limits.MaxAsyncPayload); err != nil {
		return err
	}
	events, err := eventsOf(r.Header, *buf)
	if err != nil {
		return err
	}
	for i := range events {
		events[i].SetTrace(r.Header.Get("Traceparent"))
	}
	n, err := s.Triggers.Publish(r.Context(), project, events...)
	if err != nil {
		return err
	}
	return accepted(w, Accepted{len(events), n})
}

// accepted answers that something is kept.
func accepted(w http.ResponseWriter, what any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	return writeJSON(w, what)
}

// eventsOf reads events in any of the modes of the binding
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md).
func eventsOf(h http.Header, body []byte) ([]lambent.Event, error) {
	contentType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	switch {
	case h.Get("Ce-Specversion") != "":
		e, err := binaryEvent(h, body)
		return []lambent.Event{e}, err
	case contentType == cloudEventBatch:
		var list []json.RawMessage
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, lambent.Errorf(lambent.Invalid, "v1.publish", "a batch is a list of events in JSON: %w", err)
		}
		events := make([]lambent.Event, 0, len(list))
		for i, one := range list {
			e, err := structuredEvent(one)
			if err != nil {
				return nil, lambent.Errorf(lambent.KindOf(err), "v1.publish", "event %d of the batch: %s", i, lambent.UserMessage(err))
			}
			events = append(events, e)
		}
		return events, nil
	case contentType == cloudEvent, contentType == "application/json":
		e, err := structuredEvent(body)
		return []lambent.Event{e}, err
	}
	return nil, lambent.Errorf(lambent.Invalid, "v1.publish", "Content-Type is %.64q: %s, %s, or ce- headers", h.Get("Content-Type"), cloudEvent, cloudEventBatch)
}

func structuredEvent(document []byte) (lambent.Event, error) {
	e, err := lambent.ParseEvent(document)
	if err == nil && e == nil {
		err = lambent.Errorf(lambent.Invalid, "v1.publish", "it is no event: a CloudEvent is a JSON object with specversion, id, source and type")
		if !json.Valid(document) {
			err = lambent.Errorf(lambent.Invalid, "v1.publish", "it is no event: it is not JSON")
		}
	}
	if err != nil {
		return lambent.Event{}, err
	}
	return *e, nil
}

// binaryEvent reads an event whose attributes are headers, percent-encoded.
func binaryEvent(h http.Header, body []byte) (e lambent.Event, err error) {
	if v := h.Get("Ce-Specversion"); v != "1.0" {
		return e, lambent.Errorf(lambent.Invalid, "v1.publish", "ce-specversion is %.20q: there is 1.0", v)
	}
	e = lambent.Event{DataContentType: h.Get("Content-Type"), Data: body}
	for name, values := range h {
		name, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok || name == "specversion" {
			continue
		}
		value, err := url.PathUnescape(values[0])
		if err != nil || len(values) > 1 {
			return e, lambent.Errorf(lambent.Invalid, "v1.publish", "ce-%s is there twice, or is not percent-encoded", name)
		}
		switch name {
		case "id":
			e.ID = value
		case "source":
			e.Source = value
		case "type":
			e.Type = value
		case "subject":
			e.Subject = value
		case "dataschema":
			e.DataSchema = value
		case "time":
			if e.Time, err = time.Parse(time.RFC3339Nano, value); err != nil {
				return e, lambent.Errorf(lambent.Invalid, "v1.publish", "ce-time %.40q is not of the form 2006-01-02T15:04:05Z", value)
			}
		default:
			if e.Extensions == nil {
				e.Extensions = map[string]string{}
			}
			e.Extensions[name] = value
		}
	}
	return e, e.Validate()
}
