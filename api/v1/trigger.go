package v1

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/trigger"
)

// A Trigger has a function invoked by events of one source.
type Trigger struct {
	ID        string          `json:"id" example:"6a7e8feb-b491-4cf7-a9f1-bf3703467718"`
	Function  string          `json:"function" example:"thumbs"`
	Qualifier string          `json:"qualifier,omitempty" doc:"A version or an alias; not there: latest" example:"live"`
	Kind      string          `json:"kind" doc:"Of what kind the source is" example:"schedule"`
	Schedule  *Schedule       `json:"schedule,omitempty" doc:"Of kind schedule"`
	Pattern   json.RawMessage `json:"pattern,omitempty" doc:"Of kind pattern: what EventBridge calls an event pattern"`
	Input     *Input          `json:"input,omitempty" doc:"What the function is invoked with in place of an event"`
	Filter    json.RawMessage `json:"filter,omitempty" doc:"A pattern that events of the source are to match"`
	Bucket    *Bucket         `json:"bucket,omitempty" doc:"Of kind bucket"`
	Queue     *Queue          `json:"queue,omitempty" doc:"Of kind queue"`
	Broker    *Broker         `json:"broker,omitempty" doc:"Of kind broker; the URL is without its password"`
	Batch     *Batch          `json:"batch,omitempty" doc:"How events reach the function that are in order; not there: each by itself, in no order"`
	Waiting   int             `json:"waiting,omitempty" doc:"Events of a trigger with a batch that have not run"`
	Database  *Database       `json:"database,omitempty" doc:"Of kind database; the URL is without its password"`
	Enabled   bool            `json:"enabled"`
	Deployed  bool            `json:"deployed" doc:"It came with the function's code: the next deploy that says what triggers there are may remove it"`
	Created   time.Time       `json:"created"`
	Next      *time.Time      `json:"next,omitempty" doc:"When it will fire, where that is known"`
	Lag       *Lag            `json:"lag,omitempty" doc:"By how much its source is behind, where that is known"`
	Error     string          `json:"error,omitempty" doc:"Why its source does not run now"`
}

// An Input makes of an event what a function is invoked with, as EventBridge's input transformers do.
type Input struct {
	Paths    map[string]string `json:"paths,omitempty" doc:"Of parts of the event, such as $.detail.total, by their names"`
	Template string            `json:"template" doc:"JSON, with <name> where a part goes" example:"{\"total\": <total>}"`
}

// A Lag is by how much a source is behind, and what that costs.
type Lag struct {
	BehindMS      int64  `json:"behind_ms" doc:"How old the last event was when it was accepted, while there are more; 0: there are none"`
	Waiting       int64  `json:"waiting,omitempty" doc:"Messages that the broker has for the trigger"`
	RetainedBytes int64  `json:"retained_bytes" doc:"What the database keeps of its log for the trigger"`
	Warning       string `json:"warning,omitempty" doc:"What is to be looked after"`
}

// A Database is watched for changes of the rows of its tables.
type Database struct {
	URL        string   `json:"url" doc:"postgres://USER:PASSWORD@HOST:PORT/DATABASE, or mysql:// with the same" example:"postgres://app:secret@db.internal/shop"`
	Tables     []string `json:"tables" doc:"SCHEMA.TABLE, or TABLE in the schema public (PostgreSQL) or the URL's database (MySQL)" example:"[\"orders\"]"`
	Columns    []string `json:"columns,omitempty" doc:"Those that events have, beside the key's; not there: all"`
	Operations []string `json:"operations,omitempty" enum:"insert,update,delete,truncate" doc:"Of which kinds changes are; not there: all"`
	Snapshot   bool     `json:"snapshot,omitempty" doc:"Begin with the rows that there are, each as one that is inserted"`
	Shape      string   `json:"shape,omitempty" enum:"dynamodb" doc:"What functions of Lambda's get: dynamodb is what DynamoDB's streams have; not there: lambent's own, which has all"`

	Certificates
}

// A Schedule fires by the clock.
type Schedule struct {
	Expression string `json:"expression" doc:"rate(5 minutes), cron(0 10 ? * MON-FRI *) and at(2026-12-24T18:00:00) as AWS has them, or the five fields of crontab(5)" example:"rate(5 minutes)"`
	Zone       string `json:"zone,omitempty" doc:"The IANA time zone of cron and at; not there: UTC" example:"Europe/Berlin"`
	JitterMS   int64  `json:"jitter_ms,omitempty" doc:"Each event is late by a part of it" example:"60000"`
	SkipMissed bool   `json:"skip_missed,omitempty" doc:"Leave out what was due while the server was down, in place of firing the last of it once"`
}

// A Bucket is watched for what happens to its objects.
type Bucket struct {
	Name   string   `json:"name" doc:"Of a bucket of the project, which need not be there yet" example:"uploads"`
	Prefix string   `json:"prefix,omitempty" doc:"Of the keys that matter" example:"photos/"`
	Suffix string   `json:"suffix,omitempty" doc:"Of the keys that matter" example:".jpg"`
	Events []string `json:"events,omitempty" doc:"As S3 names them; not there: s3:ObjectCreated:*" example:"[\"s3:ObjectCreated:*\",\"s3:ObjectRemoved:*\"]"`
	Label  string   `json:"label,omitempty" doc:"What a notification configuration of S3's calls it"`
}

// A Batch says how many events reach a function at a time. Those of one key are in order.
type Batch struct {
	Size     int   `json:"size,omitempty" minimum:"0" maximum:"10000" doc:"Events of one invocation, at most; not there: as the source has it" example:"100"`
	WindowMS int64 `json:"window_ms,omitempty" minimum:"0" maximum:"300000" doc:"How long an event may wait for others" example:"500"`
	Parallel int   `json:"parallel,omitempty" minimum:"0" maximum:"256" doc:"Invocations at a time; with 1, all events are in order. Not there: as the source has it" example:"8"`
}

// A Queue is one whose messages the function takes.
type Queue struct {
	Name string `json:"name" example:"jobs"`
}

// A Broker is one outside whose messages the function takes.
type Broker struct {
	URL   string `json:"url" doc:"nats://, kafka://, amqp://, mqtt:// or redis://, USER:PASSWORD@HOST:PORT; tls (NATS), kafkas, amqps, mqtts and rediss are with TLS" example:"kafka://app:secret@kafka.internal:9092"`
	Topic string `json:"topic" doc:"Kafka's topic, a subject of NATS that a stream keeps, a queue of RabbitMQ, a topic filter of MQTT, a stream of Redis" example:"orders"`
	Group string `json:"group,omitempty" doc:"Whom messages are shared with; not there: a group of the trigger's own, which gets everything" example:"billing"`
	From  string `json:"from,omitempty" enum:"new,earliest" doc:"With what a group begins that is new; not there: new"`

	Certificates
}

// Certificates are whom a trigger trusts that connects to a server outside, and who it is to that.
type Certificates struct {
	CA          string `json:"ca,omitempty" doc:"Certificates that the one of whoever answers is to be of, as PEM; not there: those that the server's machine trusts"`
	Certificate string `json:"certificate,omitempty" doc:"Who the trigger is to whoever answers, as PEM"`
	Key         string `json:"key,omitempty" doc:"Of the certificate, as PEM; it is not given back"`
}

// A SourceRequest says what is watched: one of the fields is there.
type SourceRequest struct {
	Schedule *Schedule       `json:"schedule,omitempty" doc:"Fires by the clock"`
	Pattern  json.RawMessage `json:"pattern,omitempty" doc:"Of events that are published in the project: what EventBridge calls an event pattern"`
	Input    *Input          `json:"input,omitempty" doc:"What the function is invoked with in place of an event, of a schedule or a pattern"`
	Filter   json.RawMessage `json:"filter,omitempty" doc:"Of another source: a pattern of the same form that its events are to match, of a message with its body, too, as body"`
	Bucket   *Bucket         `json:"bucket,omitempty" doc:"Of what happens to the objects of a bucket, whose events are CloudEvents of the types dev.lambent.object.created and dev.lambent.object.deleted, or a cloud's own for its functions"`
	Queue    *Queue          `json:"queue,omitempty" doc:"Messages of one of the project's queues, which is made if it is not there"`
	Broker   *Broker         `json:"broker,omitempty" doc:"Messages of a broker outside"`
	Batch    *Batch          `json:"batch,omitempty" doc:"Of a source whose events are in order"`
	Database *Database       `json:"database,omitempty" doc:"Changes of rows of a database's tables"`
}

// A TriggerRequest says what a trigger is to be.
type TriggerRequest struct {
	Function  string `json:"function" example:"thumbs"`
	Qualifier string `json:"qualifier,omitempty" doc:"A version or an alias; not there: latest" example:"live"`
	Enabled   *bool  `json:"enabled,omitempty" default:"true"`
	SourceRequest
}

// A TriggerChange changes a trigger.
type TriggerChange struct {
	Enabled bool `json:"enabled"`
}

// A TriggerList is those of a project, or of a function.
type TriggerList struct {
	Triggers []Trigger `json:"triggers" doc:"The oldest first"`
}

type (
	TriggerInput struct {
		Scope
		ID string `path:"id" example:"6a7e8feb-b491-4cf7-a9f1-bf3703467718"`
	}
	listTriggersInput struct {
		Scope
		Function string `query:"function" doc:"Of one function alone" example:"thumbs"`
	}
	addTriggerInput struct {
		Scope
		Body TriggerRequest
	}
	changeTriggerInput struct {
		TriggerInput
		Body TriggerChange
	}
	triggerOutput     struct{ Body Trigger }
	triggerListOutput struct{ Body TriggerList }
)

func (s *service) triggerOperations(api huma.API) {
	const path = "/v1/triggers"
	tags := []string{"triggers"}
	operation(s, api, huma.Operation{
		OperationID: "list-triggers", Method: http.MethodGet, Path: path, Tags: tags, Summary: "List triggers",
	}, s.listTriggers)
	operation(s, api, huma.Operation{
		OperationID: "add-trigger", Method: http.MethodPost, Path: path, Tags: tags, Summary: "Have a function invoked by events of a source",
	}, s.addTrigger)
	operation(s, api, huma.Operation{
		OperationID: "get-trigger", Method: http.MethodGet, Path: path + "/{id}", Tags: tags, Summary: "Get a trigger",
	}, s.getTrigger)
	operation(s, api, huma.Operation{
		OperationID: "change-trigger", Method: http.MethodPatch, Path: path + "/{id}", Tags: tags, Summary: "Enable or disable a trigger",
	}, s.changeTrigger)
	operation(s, api, huma.Operation{
		OperationID: "delete-trigger", Method: http.MethodDelete, Path: path + "/{id}", Tags: tags, Summary: "Delete a trigger",
		Description: "What it has made already runs.",
	}, s.deleteTrigger)
}

func triggerOf(st *trigger.Status) Trigger {
	t := Trigger{
		ID: st.ID, Function: st.Target.Function, Qualifier: st.Target.Qualifier, Kind: st.Kind(), Enabled: !st.Disabled, Deployed: st.Deployed,
		Pattern: st.Pattern, Filter: st.Filter, Created: st.Created, Error: st.Error,
	}
	if sc := st.Schedule; sc != nil {
		t.Schedule = &Schedule{Expression: sc.Expression, Zone: sc.Zone, JitterMS: sc.Jitter.Milliseconds(), SkipMissed: sc.SkipMissed}
	}
	if in := st.Input; in != nil {
		t.Input = new(Input(*in))
	}
	if q := st.Queue; q != nil {
		t.Queue = new(Queue(*q))
	}
	if b := st.Broker; b != nil {
		t.Broker = &Broker{URL: b.Masked(), Topic: b.Topic, Group: b.Group, From: b.From, Certificates: certificatesOf(b.Certificates)}
	}
	if b := st.Bucket; b != nil {
		t.Bucket = new(Bucket(*b))
	}
	if b := st.Batch; b != nil {
		t.Batch, t.Waiting = &Batch{Size: b.Size, WindowMS: b.Window.Milliseconds(), Parallel: b.Parallel}, st.Waiting
	}
	if d := st.Database; d != nil {
		t.Database = &Database{URL: d.Masked(), Tables: d.Tables, Columns: d.Columns, Operations: d.Operations, Snapshot: d.Snapshot, Shape: d.Shape, Certificates: certificatesOf(d.Certificates)}
	}
	if l := st.Lag; l != nil {
		t.Lag = &Lag{BehindMS: l.Behind.Milliseconds(), Waiting: l.Waiting, RetainedBytes: l.Retained, Warning: l.Warning}
	}
	if !st.Next.IsZero() {
		t.Next = new(st.Next.UTC())
	}
	return t
}

// certificatesOf are those that may be seen.
func certificatesOf(c lambent.Certificates) Certificates {
	return Certificates{CA: c.CA, Certificate: c.Certificate}
}

// root is a trigger of that source.
func (r *SourceRequest) root() (t lambent.Trigger) {
	if sc := r.Schedule; sc != nil {
		t.Schedule = &lambent.Schedule{Expression: sc.Expression, Zone: sc.Zone, Jitter: milliseconds(sc.JitterMS), SkipMissed: sc.SkipMissed}
	}
	if q := r.Queue; q != nil {
		t.Queue = new(lambent.Queue(*q))
	}
	if b := r.Broker; b != nil {
		t.Broker = &lambent.Broker{URL: b.URL, Topic: b.Topic, Group: b.Group, From: b.From, Certificates: lambent.Certificates(b.Certificates)}
	}
	if b := r.Bucket; b != nil {
		t.Bucket = new(lambent.Bucket(*b))
	}
	if b := r.Batch; b != nil {
		t.Batch = &lambent.Batch{Size: b.Size, Window: milliseconds(b.WindowMS), Parallel: b.Parallel}
	}
	t.Pattern, t.Filter = r.Pattern, r.Filter
	if in := r.Input; in != nil {
		t.Input = new(lambent.Input(*in))
	}
	if d := r.Database; d != nil {
		t.Database = &lambent.Database{URL: d.URL, Tables: d.Tables, Columns: d.Columns, Operations: d.Operations, Snapshot: d.Snapshot, Shape: d.Shape, Certificates: lambent.Certificates(d.Certificates)}
	}
	return t
}

func (s *service) listTriggers(ctx context.Context, in *listTriggersInput) (*triggerListOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	all := s.Triggers.Triggers(project, in.Function)
	if len(all) == 0 && in.Function != "" { // or a name that was mistyped would look well
		name, err := checkedName(project, in.Function, "")
		if err != nil {
			return nil, err
		}
		if _, err := s.Control.Get(name); err != nil {
			return nil, err
		}
	}
	out := &triggerListOutput{TriggerList{make([]Trigger, len(all))}}
	for i := range all {
		out.Body.Triggers[i] = triggerOf(&all[i])
	}
	return out, nil
}

func (s *service) addTrigger(ctx context.Context, in *addTriggerInput) (*triggerOutput, error) {
	name, err := in.name(ctx, in.Body.Function, in.Body.Qualifier)
	if err != nil {
		return nil, err
	}
	t := in.Body.root()
	t.Target, t.Disabled = name, in.Body.Enabled != nil && !*in.Body.Enabled
	return triggerResult(s.Triggers.Add(ctx, t))
}

func triggerResult(st trigger.Status, err error) (*triggerOutput, error) {
	if err != nil {
		return nil, err
	}
	return &triggerOutput{triggerOf(&st)}, nil
}

func (s *service) getTrigger(ctx context.Context, in *TriggerInput) (*triggerOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	return triggerResult(s.Triggers.Trigger(project, in.ID))
}

func (s *service) changeTrigger(ctx context.Context, in *changeTriggerInput) (*triggerOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	return triggerResult(s.Triggers.Enable(ctx, project, in.ID, in.Body.Enabled))
}

func (s *service) deleteTrigger(ctx context.Context, in *TriggerInput) (*struct{}, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	return nil, s.Triggers.Delete(ctx, project, in.ID)
}
