package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
	"lambent/internal/pattern"
)

const triggerHelp = `Have a function invoked by what happens. Each event runs asynchronously: it is tried
again if it fails, and kept as a dead letter if it does so for good; but see below for
queues.

  lambent trigger add report --schedule 'rate(5 minutes)'
  lambent trigger add report --schedule 'cron(0 10 ? * MON-FRI *)' --zone Europe/Berlin
  lambent trigger add report --schedule '*/15 * * * *' --jitter 30s
  lambent trigger add report --schedule @daily --input '{"job": "nightly"}'
  lambent trigger add bill --pattern '{"source": ["shop"]}'        see lambent events put
  lambent trigger add note --pattern '{"source": ["shop"]}' --input-path who=$.detail.customer --input '"an order of <who>"'
  lambent trigger add thumbs --bucket uploads --prefix photos/ --suffix .jpg
  lambent trigger add audit --bucket uploads --events 's3:ObjectCreated:*,s3:ObjectRemoved:*'
  lambent trigger add ship --database postgres://app:secret@db/shop --table orders --operation insert,update
  lambent trigger add ship --database mariadb://app:secret@db/shop --table orders --snapshot
  lambent trigger add ship --database postgres://app@db/shop --table orders --ca ca.pem --cert app.pem --key app.key
  lambent trigger add work --queue jobs --batch-size 10 --filter '{"body": {"kind": ["resize"]}}'
  lambent trigger add bill --broker kafka://app:secret@kafka:9092 --topic orders
  lambent trigger add warn --broker mqtt://broker --topic 'sensors/+/alarm' --parallel 1
  lambent trigger add work --broker amqp://app:secret@rabbit --topic jobs       a queue that is there
  lambent trigger add tail --broker redis://:secret@redis --topic orders --from earliest
  lambent trigger add bill --broker nats://nats --topic 'orders.>' --group billing
  lambent trigger add bill --broker kafkas://kafka --topic orders --ca ca.pem --cert app.pem --key app.key
  lambent trigger list report
  lambent trigger disable ID
  lambent trigger delete ID

What lambent.toml says in [[on]] tables is added by deploy.

A function of Lambda's gets changes of rows in batches, as ` + "`Records`" + `:
` + rowExample + `
old is the row before, as far as the database tells it (PostgreSQL: REPLICA IDENTITY), and new
the row after; where there is none, or no key, it is null. unchanged are columns that are not
in new since they stayed as they were and the database did not tell them, omitted those that
would make the event too large; a row of --snapshot has "snapshot": true, and no index,
transaction and committed. Types that JSON has not are texts: numeric, integers over 2^53, times,
and bytes in base64. What a function answers as batchItemFailures are eventIDs. With
--shape dynamodb it gets what DynamoDB's streams tell instead (INSERT, MODIFY, REMOVE; Keys,
NewImage and OldImage of S, N, BOOL, NULL, L and M, as the JSON is), without truncate.
Google's functions get a CloudEvent whose data is that of a record.

A queue keeps its messages itself, and says what becomes of those that fail: as on AWS
that is nothing of the function's (--attempts, --on-failure), and no dead letter here.
They are received again after the visibility timeout, until they are too old for the
queue, which has them go; or, if it has a redrive policy, go to another queue:
  aws sqs set-queue-attributes --queue-url URL --attributes \
    '{"RedrivePolicy": "{\"deadLetterTargetArn\": \"ARN\", \"maxReceiveCount\": 5}"}'`

// rowExample is a change of a row as a function gets it.
const rowExample = `  {"Records": [{
    "eventID": "8e5fef0c-60df-8764-ae6a-9b60aa5bcfbd", "eventVersion": "1.0", "eventSource": "lambent:database",
    "eventName": "dev.lambent.row.updated", "eventTime": "2026-11-27T17:00:00.123456Z", "awsRegion": "us-east-1",
    "source": "/triggers/0199ad6c-0000-7000-8000-000000000001", "subject": "shop.orders", "partitionKey": "shop.orders/17",
    "data": {
      "operation": "update", "schema": "shop", "table": "orders", "key": {"id": 17},
      "old": {"id": 17, "note": null}, "new": {"id": 17}, "unchanged": ["note"],
      "position": "0-1-17", "index": 2, "transaction": "0-1-17", "committed": "2026-11-27T17:00:00.123456Z"}}]}`

func triggerCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "trigger", Short: "What invokes functions", Long: triggerHelp},
		triggerAddCommand(p), triggerListCommand(p), triggerShowCommand(p),
		triggerEnableCommand(p, "enable", "Enable a trigger", true), triggerEnableCommand(p, "disable", "Disable a trigger, which keeps it", false),
		triggerDeleteCommand(p))
}

func triggerAddCommand(p *program) *cobra.Command {
	var s client.Schedule
	var b client.Bucket
	var batch client.Batch
	var jitter, window time.Duration
	var qualifier, events, queue, filter, input string
	var paths map[string]string
	var d client.Database
	var broker client.Broker
	var files certificateFiles
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a trigger; standard output is its id", Long: triggerHelp, Args: args(1, "NAME"), ValidArgsFunction: p.completeFunctions,
	}
	f := c.Flags()
	f.StringVar(&s.Expression, "schedule", "", "rate(5 minutes), cron(0 10 ? * MON-FRI *), at(2026-12-24T18:00:00), or five fields as in crontab(5)")
	f.StringVar(&s.Zone, "zone", "", "the time zone of cron and at, such as Europe/Berlin (default: UTC)")
	f.DurationVar(&jitter, "jitter", 0, "how late an event may be on purpose, such as 30s")
	f.BoolVar(&s.SkipMissed, "skip-missed", false, "leave out what was due while the server was down (default: the last of it is fired, once)")
	f.StringVar(&input, "input", "", "what the function is invoked with in place of a schedule's or a pattern's event: JSON, or @FILE, with <name> for parts of that")
	f.StringToStringVar(&paths, "input-path", nil, "such a name: total=$.detail.total; may be repeated")
	f.StringVar(&filter, "filter", "", "which of the source's events, as --pattern has it: of a message '{\"body\": {\"item\": [\"tea\"]}}', of others '{\"data\": ...}'; the rest is done with")
	f.StringVar(&events, "pattern", "", "which events of the project, as EventBridge writes it: JSON, or @FILE")
	f.StringVar(&b.Name, "bucket", "", "the bucket whose uploads are events")
	f.StringVar(&b.Prefix, "prefix", "", "of the keys that matter, such as photos/")
	f.StringVar(&b.Suffix, "suffix", "", "of the keys that matter, such as .jpg")
	f.StringSliceVar(&b.Events, "events", nil, "what happens to objects, as S3 names it (default: s3:ObjectCreated:*)")
	f.IntVar(&batch.Size, "batch-size", 0, "how many events reach the function at a time, where the source has an order")
	f.DurationVar(&window, "batch-window", 0, "how long an event may wait for others, such as 500ms")
	f.IntVar(&batch.Parallel, "parallel", 0, "how many batches may be under way; with 1, all events are in order")
	f.StringVar(&d.URL, "database", "", "changes of rows in a database: postgres://USER:PASSWORD@HOST/DATABASE, mysql:// or mariadb://")
	f.StringSliceVar(&d.Tables, "table", nil, "which of the database's tables: TABLE or SCHEMA.TABLE; may be repeated")
	f.StringSliceVar(&d.Columns, "column", nil, "which columns events have, beside the key's; may be repeated (default: all)")
	f.StringSliceVar(&d.Operations, "operation", nil, "which of insert, update, delete and truncate (default: all)")
	f.BoolVar(&d.Snapshot, "snapshot", false, "begin with the rows that there are, each as one that is inserted")
	f.StringVar(&d.Shape, "shape", "", "dynamodb: functions of Lambda's get changes as DynamoDB's streams tell them (default: lambent's own shape, see above)")
	f.StringVar(&queue, "queue", "", "a queue of the project whose messages the function takes; it is made if it is not there")
	f.StringVar(&broker.URL, "broker", "", "messages of a broker: nats://, kafka://, amqp://, mqtt:// or redis://USER:PASSWORD@HOST; with TLS tls:// (NATS), kafkas://, amqps://, mqtts:// or rediss://")
	f.StringVar(&broker.Topic, "topic", "", "the broker's topic, subject, queue, topic filter or stream")
	f.StringVar(&broker.Group, "group", "", "whom messages are shared with (default: nobody, the trigger gets everything)")
	f.StringVar(&broker.From, "from", "", "with what it begins: new or earliest (default: new)")
	f.StringVar(&files.ca, "ca", "", "a FILE with the certificates that the database's or the broker's is to be of (default: those that the server's machine trusts)")
	f.StringVar(&files.certificate, "cert", "", "a FILE with the certificate that the database or the broker is to know the trigger by")
	f.StringVar(&files.key, "key", "", "a FILE with the key of that")
	f.StringVar(&qualifier, "qualifier", "", "a version or an alias (default: latest)")
	o := outputFlag(c, "name", "json", "yaml")
	c.RunE = p.withClient(func(c *cobra.Command, cl *client.Client, args []string) (err error) {
		name, qualifier, err := p.qualified(c, cl, args[0], qualifier)
		if err != nil {
			return err
		}
		if err := oneSource(c); err != nil {
			return err
		}
		if jitter != 0 && jitter < time.Millisecond {
			return usagef(c, "--jitter %v is under 1ms", jitter)
		}
		certificates, err := p.certificates(files)
		if err != nil {
			return err
		}
		r := client.TriggerRequest{Function: name, Qualifier: qualifier}
		switch s.JitterMS = jitter.Milliseconds(); {
		case s.Expression != "":
			r.Schedule = &s
		case b.Name != "":
			r.Bucket = &b
		case d.URL != "": // which may be refused in better words than those of the API's form
			d.Certificates = certificates
			r.Database, err = &d, (*lambent.Database)(&d).Validate()
		case broker.URL != "":
			broker.Certificates = certificates
			r.Broker, err = &broker, (*lambent.Broker)(&broker).Validate()
		case queue != "":
			r.Queue = &client.Queue{Name: queue}
		default:
			r.Pattern, err = p.pattern("--pattern", events)
		}
		if err != nil {
			return err
		}
		if len(paths) > 0 && input == "" {
			return usagef(c, "--input-path goes with --input")
		}
		if input != "" {
			text, err := p.text("--input", input)
			if err != nil {
				return err
			}
			r.Input = &client.Input{Paths: paths, Template: string(text)}
		}
		if filter != "" {
			if r.Filter, err = p.pattern("--filter", filter); err != nil {
				return err
			}
		}
		if batch.WindowMS = window.Milliseconds(); batch != (client.Batch{}) {
			r.Batch, err = &batch, (&lambent.Batch{Size: batch.Size, Window: window, Parallel: batch.Parallel}).Validate()
		}
		if err != nil {
			return err
		}
		t, err := cl.AddTrigger(c.Context(), r)
		if err != nil {
			return err
		}
		if t.Next != nil {
			p.note("%s is invoked at %s for the first time", name, when(*t.Next))
		}
		return o.print(p.out, t, []string{t.ID}, nil)
	})
	return c
}

// sourceFlags are what names a source, and what goes with each.
var sourceFlags = []struct {
	name string
	with []string
}{
	{"schedule", []string{"zone", "jitter", "skip-missed"}},
	{"bucket", []string{"prefix", "suffix", "events"}},
	{"database", []string{"table", "column", "operation", "snapshot", "shape", "ca", "cert", "key"}},
	{"queue", nil},
	{"broker", []string{"topic", "group", "from", "ca", "cert", "key"}},
	{"pattern", nil},
}

// oneSource refuses flags that name no source, or several, or what is for another one.
func oneSource(c *cobra.Command) error {
	var names []string
	said := ""
	for _, f := range sourceFlags {
		names = append(names, "--"+f.name)
		if c.Flag(f.name).Value.String() == "" {
			continue
		}
		if said != "" {
			return usagef(c, "--%s and --%s are two triggers: add one at a time", said, f.name)
		}
		said = f.name
	}
	if said == "" {
		return usagef(c, "trigger add needs one of %s", strings.Join(names, ", "))
	}
	goes := map[string][]string{} // with which sources a flag does
	for _, f := range sourceFlags {
		for _, flag := range f.with {
			goes[flag] = append(goes[flag], "--"+f.name)
		}
	}
	for _, flag := range slices.Sorted(maps.Keys(goes)) {
		if c.Flags().Changed(flag) && !slices.Contains(goes[flag], "--"+said) {
			return usagef(c, "--%s is for %s", flag, strings.Join(goes[flag], " and "))
		}
	}
	return nil
}

// certificateFiles are where certificates are, on the machine of whoever adds a trigger.
type certificateFiles struct{ ca, certificate, key string }

// certificates reads them.
func (p *program) certificates(files certificateFiles) (c lambent.Certificates, err error) {
	for _, f := range []struct {
		flag, file string
		text       *string
	}{{"--ca", files.ca, &c.CA}, {"--cert", files.certificate, &c.Certificate}, {"--key", files.key, &c.Key}} {
		if f.file == "" {
			continue
		}
		text, err := p.text(f.flag, "@"+f.file)
		if err != nil {
			return c, err
		}
		*f.text = string(text)
	}
	return c, nil
}

// pattern reads a pattern that a user has written, so that a mistake has its place in that.
func (p *program) pattern(flag, text string) ([]byte, error) {
	b, err := p.text(flag, text)
	if err == nil {
		_, err = pattern.Parse(b)
	}
	return b, err
}

// maxText is how long a pattern, an input or a certificate may be: a file may be a device that has no end.
const maxText = 1 << 20

// text is what a flag says: a text, or @FILE.
func (p *program) text(flag, text string) ([]byte, error) {
	in, err := p.payload(flag, text)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxText+1))
	if err == nil && len(b) > maxText {
		err = fmt.Errorf("it has over %d bytes", maxText)
	}
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "", "%s %s: %w", flag, text, err)
	}
	return b, nil
}

func triggerListCommand(p *program) *cobra.Command {
	c := &cobra.Command{
		Use: "list [NAME]", Short: "List triggers, of all functions or of one", Args: args(0, "NAME"), Aliases: []string{"ls"}, ValidArgsFunction: p.completeFunctions,
	}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = p.withClient(func(c *cobra.Command, cl *client.Client, args []string) (err error) {
		name := ""
		if len(args) > 0 {
			if name, _, err = p.function(c, cl, args[0], false); err != nil {
				return err
			}
		}
		triggers, err := cl.Triggers(c.Context(), name)
		if err != nil {
			return err
		}
		ids := []string{}
		rows := table{{"ID", "FUNCTION", "KIND", "WHAT", "NEXT"}}
		for i := range triggers {
			t := &triggers[i]
			ids = append(ids, t.ID)
			rows = append(rows, []string{t.ID, strings.TrimSuffix(t.Function+":"+t.Qualifier, ":"), t.Kind, watched(t), next(t)})
		}
		return o.print(p.out, triggers, ids, rows)
	})
	return c
}

// watched is what a trigger's source watches.
func watched(t *client.Trigger) string {
	switch {
	case t.Bucket != nil:
		what := t.Bucket.Name + "/" + t.Bucket.Prefix + "*" + t.Bucket.Suffix
		if len(t.Bucket.Events) > 0 {
			what += " " + strings.Join(t.Bucket.Events, ",")
		}
		return what
	case t.Queue != nil:
		return t.Queue.Name
	case t.Broker != nil:
		return strings.TrimSpace(t.Broker.URL + " " + t.Broker.Topic + " " + t.Broker.Group)
	case t.Database != nil:
		return t.Database.URL + " " + strings.Join(t.Database.Tables, ", ")
	case t.Schedule == nil:
		return legible.Replace(string(t.Pattern))
	case t.Schedule.Zone != "":
		return t.Schedule.Expression + " in " + t.Schedule.Zone
	}
	return t.Schedule.Expression
}

// said is what lambent.toml has behind a trigger's kind.
func said(t *client.Trigger) string {
	switch {
	case t.Bucket != nil:
		return t.Bucket.Name
	case t.Broker != nil:
		return t.Broker.URL
	case t.Database != nil:
		return t.Database.URL
	case t.Schedule != nil:
		return t.Schedule.Expression
	}
	return watched(t)
}

// legible has what Go's JSON writes for HTML's sake as people write it.
var legible = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&")

// next is when a trigger will fire, or why it will not.
func next(t *client.Trigger) string {
	switch {
	case t.Error != "":
		return t.Error
	case !t.Enabled:
		return "disabled"
	case t.Lag != nil:
		return lag(t)
	case t.Schedule == nil:
		return ""
	case t.Next == nil:
		return "never"
	}
	return when(*t.Next)
}

// lag is by how much a source is behind.
func lag(t *client.Trigger) string {
	l := t.Lag
	if t.Bucket != nil { // whose events do not wait
		return l.Warning
	}
	s := fmt.Sprintf("%v behind", time.Duration(l.BehindMS)*time.Millisecond)
	if t.Database != nil {
		s += fmt.Sprintf(", %d MB of log kept", l.RetainedBytes>>20)
	} else {
		s += fmt.Sprintf(", %d waiting", l.Waiting)
	}
	if l.Warning != "" {
		s += ": " + l.Warning
	}
	return s
}

func triggerShowCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "show ID", Short: "Show a trigger", Args: args(1, "ID")}
	o := outputFlag(c, "yaml", "json")
	c.RunE = p.withClient(func(c *cobra.Command, cl *client.Client, args []string) error {
		t, err := cl.Trigger(c.Context(), args[0])
		if err != nil {
			return err
		}
		return o.print(p.out, t, nil, nil)
	})
	return c
}

func triggerEnableCommand(p *program, verb, short string, enabled bool) *cobra.Command {
	return &cobra.Command{
		Use: verb + " ID", Short: short, Args: args(1, "ID"),
		RunE: p.withClient(func(c *cobra.Command, cl *client.Client, args []string) error {
			t, err := cl.EnableTrigger(c.Context(), args[0], enabled)
			if err == nil {
				p.note("%sd the trigger of %s: %s", verb, t.Function, watched(t))
			}
			return err
		}),
	}
}

func triggerDeleteCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Delete a trigger; what it has made already runs", Args: args(1, "ID"), Aliases: []string{"rm"},
		RunE: p.withClient(func(c *cobra.Command, cl *client.Client, args []string) error {
			t, err := cl.Trigger(c.Context(), args[0])
			if err != nil {
				return err
			}
			if err := cl.DeleteTrigger(c.Context(), args[0]); err != nil {
				return err
			}
			p.note("deleted trigger %s", args[0])
			if t.Deployed {
				p.note("note: it came from lambent.toml, and the next deploy of %s adds it again unless the table [[on]] with %s = %q is removed there", t.Function, t.Kind, said(t))
			}
			return nil
		}),
	}
}
