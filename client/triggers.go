package client

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"time"

	"lambent"
)

// A Trigger has a function invoked by events of one source.
type Trigger struct {
	ID        string          `json:"id"`
	Function  string          `json:"function"`
	Qualifier string          `json:"qualifier,omitempty"` // A version or an alias; not there: latest
	Kind      string          `json:"kind"`                // Of what kind the source is
	Schedule  *Schedule       `json:"schedule,omitempty"`  // Of kind schedule
	Pattern   json.RawMessage `json:"pattern,omitempty"`   // Of kind pattern: what EventBridge calls an event pattern
	Input     *Input          `json:"input,omitempty"`     // What the function is invoked with in place of an event
	Filter    json.RawMessage `json:"filter,omitempty"`    // A pattern that events of the source are to match
	Bucket    *Bucket         `json:"bucket,omitempty"`    // Of kind bucket
	Queue     *Queue          `json:"queue,omitempty"`     // Of kind queue
	Broker    *Broker         `json:"broker,omitempty"`    // Of kind broker; the URL is without its password
	Batch     *Batch          `json:"batch,omitempty"`     // How events reach the function that are in order; not there: each by itself, in no order
	Waiting   int             `json:"waiting,omitempty"`   // Events of a trigger with a batch that have not run
	Database  *Database       `json:"database,omitempty"`  // Of kind database; the URL is without its password
	Enabled   bool            `json:"enabled"`
	Deployed  bool            `json:"deployed"` // It came with the function's code: the next deploy that says what triggers there are may remove it
	Created   time.Time       `json:"created"`
	Next      *time.Time      `json:"next,omitempty"`  // When it will fire, where that is known
	Lag       *Lag            `json:"lag,omitempty"`   // By how much its source is behind, where that is known
	Error     string          `json:"error,omitempty"` // Why its source does not run now
}

// An Input makes of an event what a function is invoked with, as EventBridge's input
// transformers do.
type Input struct {
	Paths    map[string]string `json:"paths,omitempty"` // Of parts of the event, such as $.detail.total, by their names
	Template string            `json:"template"`        // JSON, with <name> where a part goes
}

// A Lag is by how much a source is behind, and what that costs.
type Lag struct {
	BehindMS      int64  `json:"behind_ms"`         // How old the last event was when it was accepted, while there are more; 0: there are none
	Waiting       int64  `json:"waiting,omitempty"` // Messages that the broker has for the trigger
	RetainedBytes int64  `json:"retained_bytes"`    // What the database keeps of its log for the trigger
	Warning       string `json:"warning,omitempty"` // What is to be looked after
}

// A Database is watched for changes of the rows of its tables.
type Database struct {
	URL        string   `json:"url"`                  // postgres://USER:PASSWORD@HOST:PORT/DATABASE, or mysql:// with the same
	Tables     []string `json:"tables"`               // SCHEMA.TABLE, or TABLE in the schema public (PostgreSQL) or the URL's database (MySQL)
	Columns    []string `json:"columns,omitempty"`    // Those that events have, beside the key's; not there: all
	Operations []string `json:"operations,omitempty"` // Of insert, update, delete and truncate; not there: all
	Snapshot   bool     `json:"snapshot,omitempty"`   // Begin with the rows that there are, each as one that is inserted
	Shape      string   `json:"shape,omitempty"`      // What functions of Lambda's get: dynamodb; not there: lambent's own

	lambent.Certificates
}

// A Schedule fires by the clock.
type Schedule struct {
	Expression string `json:"expression"`            // rate(5 minutes), cron(0 10 ? * MON-FRI *) and at(2026-12-24T18:00:00) as AWS has them, or the five fields of crontab(5)
	Zone       string `json:"zone,omitempty"`        // The IANA time zone of cron and at; not there: UTC
	JitterMS   int64  `json:"jitter_ms,omitempty"`   // Each event is late by a part of it
	SkipMissed bool   `json:"skip_missed,omitempty"` // Leave out what was due while the server was down, in place of firing the last of it once
}

// A Bucket is watched for what happens to its objects.
type Bucket struct {
	Name   string   `json:"name"`             // Of a bucket of the project, which need not be there yet
	Prefix string   `json:"prefix,omitempty"` // Of the keys that matter
	Suffix string   `json:"suffix,omitempty"` // Of the keys that matter
	Events []string `json:"events,omitempty"` // As S3 names them; not there: s3:ObjectCreated:*
	Label  string   `json:"label,omitempty"`  // What a notification configuration of S3's calls it
}

// A Batch says how many events reach a function at a time. Those of one key are in order.
type Batch struct {
	Size     int   `json:"size,omitempty"`      // Events of one invocation, at most; not there: as the source has it
	WindowMS int64 `json:"window_ms,omitempty"` // How long an event may wait for others
	Parallel int   `json:"parallel,omitempty"`  // Invocations at a time; with 1, all events are in order. Not there: as the source has it
}

// A Queue is one whose messages the function takes.
type Queue struct {
	Name string `json:"name"`
}

// A Broker is one outside whose messages the function takes.
type Broker struct {
	URL   string `json:"url"`             // nats://, kafka://, amqp://, mqtt:// or redis://, USER:PASSWORD@HOST:PORT; tls (NATS), kafkas, amqps, mqtts and rediss are with TLS
	Topic string `json:"topic"`           // Kafka's topic, a subject of NATS that a stream keeps, a queue of RabbitMQ, a topic filter of MQTT, a stream of Redis
	Group string `json:"group,omitempty"` // Whom messages are shared with; not there: a group of the trigger's own, which gets everything
	From  string `json:"from,omitempty"`  // With what a group begins that is new, of new and earliest; not there: new

	lambent.Certificates
}

// A SourceRequest says what is watched: one of the fields is there.
type SourceRequest struct {
	Schedule *Schedule       `json:"schedule,omitempty"` // Fires by the clock
	Pattern  json.RawMessage `json:"pattern,omitempty"`  // Of events that are published in the project: what EventBridge calls an event pattern
	Input    *Input          `json:"input,omitempty"`    // What the function is invoked with in place of an event, of a schedule or a pattern
	Filter   json.RawMessage `json:"filter,omitempty"`   // Of another source: a pattern of the same form that its events are to match, of a message with its body, too, as body
	Bucket   *Bucket         `json:"bucket,omitempty"`   // Of what happens to the objects of a bucket, whose events are CloudEvents of the types dev.lambent.object.created and dev.lambent.object.deleted, or a cloud's own for its functions
	Queue    *Queue          `json:"queue,omitempty"`    // Messages of one of the project's queues, which is made if it is not there
	Broker   *Broker         `json:"broker,omitempty"`   // Messages of a broker outside
	Batch    *Batch          `json:"batch,omitempty"`    // Of a source whose events are in order
	Database *Database       `json:"database,omitempty"` // Changes of rows of a database's tables
}

// A TriggerRequest says what a trigger is to be.
type TriggerRequest struct {
	Function  string `json:"function"`
	Qualifier string `json:"qualifier,omitempty"` // A version or an alias; not there: latest
	Enabled   *bool  `json:"enabled,omitempty"`   // not there: true
	SourceRequest
}

// A TriggerChange changes a trigger.
type TriggerChange struct {
	Enabled bool `json:"enabled"`
}

// A TriggerList is those of a project, or of a function.
type TriggerList struct {
	Triggers []Trigger `json:"triggers"` // The oldest first
}

// Triggers returns those of the project, or of one function, the oldest first.
func (c *Client) Triggers(ctx context.Context, function string) ([]Trigger, error) {
	var l TriggerList
	err := c.do(ctx, http.MethodGet, "/v1/triggers", query("function", function), nil, &l)
	return l.Triggers, err
}

// Trigger returns one.
func (c *Client) Trigger(ctx context.Context, id string) (*Trigger, error) {
	var t Trigger
	return &t, c.do(ctx, http.MethodGet, "/v1/triggers/"+url.PathEscape(id), nil, nil, &t)
}

// AddTrigger has a function invoked by events of a source.
func (c *Client) AddTrigger(ctx context.Context, r TriggerRequest) (*Trigger, error) {
	var t Trigger
	return &t, c.do(ctx, http.MethodPost, "/v1/triggers", nil, r, &t)
}

// EnableTrigger enables a trigger, or disables it.
func (c *Client) EnableTrigger(ctx context.Context, id string, enabled bool) (*Trigger, error) {
	var t Trigger
	return &t, c.do(ctx, http.MethodPatch, "/v1/triggers/"+url.PathEscape(id), nil, TriggerChange{enabled}, &t)
}

// DeleteTrigger deletes a trigger. What it has made already runs.
func (c *Client) DeleteTrigger(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/v1/triggers/"+url.PathEscape(id), nil, nil, nil)
}

// An Accepted is what became of events that were published.
type Accepted struct {
	Events      int `json:"events"`      // That were published
	Invocations int `json:"invocations"` // That there are to be of them: one for each trigger whose pattern an event matches
}

// PublishEvent publishes a CloudEvent in the JSON format.
func (c *Client) PublishEvent(ctx context.Context, event []byte) (*Accepted, error) {
	resp, err := c.send(ctx, call{
		method: http.MethodPost, path: "/v1/events", header: http.Header{"Content-Type": {"application/cloudevents+json"}},
		body: bytes.NewReader(event), length: int64(len(event)),
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var a Accepted
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, c.broken(ctx, err)
	}
	return &a, nil
}

// A KeptEvent is an event of the history.
type KeptEvent struct {
	Accepted time.Time       `json:"accepted"`
	Trigger  string          `json:"trigger,omitempty"` // Whose source made it; not there: it was published
	Event    json.RawMessage `json:"event"`             // As CloudEvents has it in JSON
}

// An EventList is events of the history.
type EventList struct {
	Events []KeptEvent `json:"events"` // The newest first
}

// A Selection selects events of the history, or dead letters. What is zero does not
// matter.
type Selection struct {
	ID      string `json:"id,omitempty"` // The event's, or the invocation's
	Source  string `json:"source,omitempty"`
	Type    string `json:"type,omitempty"`
	Trigger string `json:"trigger,omitempty"` // The id of the trigger that invokes with it
	Kind    string `json:"kind,omitempty"`    // Of which kind that is
	Since   string `json:"since,omitempty"`   // Accepted, or dead, since a time (RFC 3339), or a duration before now such as 5m
	Until   string `json:"until,omitempty"`
}

func (s *Selection) query() url.Values {
	return query("id", s.ID, "source", s.Source, "type", s.Type, "trigger", s.Trigger, "kind", s.Kind, "since", s.Since, "until", s.Until)
}

// A ReplayRequest selects events of the history.
type ReplayRequest struct {
	Selection
	Function string `json:"function,omitempty"` // Invoke this function alone, with events that do
	DryRun   bool   `json:"dry_run,omitempty"`  // Only count the events, and the invocations
}

// Events returns events that were accepted lately, the newest first; a limit of 0 is the
// server's.
func (c *Client) Events(ctx context.Context, r ReplayRequest, limit int) ([]KeptEvent, error) {
	var l EventList
	q := r.query()
	maps.Copy(q, query("function", r.Function, "limit", number(limit)))
	err := c.do(ctx, http.MethodGet, "/v1/events", q, nil, &l)
	return l.Events, err
}

// Replay has events make invocations again.
func (c *Client) Replay(ctx context.Context, r ReplayRequest) (*Accepted, error) {
	var a Accepted
	return &a, c.do(ctx, http.MethodPost, "/v1/events/replay", nil, r, &a)
}
