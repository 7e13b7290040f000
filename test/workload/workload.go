// Package workload keeps every kind of work coming to a server, for tests of what is left
// of it after a crash: asynchronous calls, events, messages, uploads and deploys, each
// with an id that is found again in whatever form it reaches the function or comes back.
package workload

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"lambent/client"
)

// A Kind is a kind of work.
type Kind string

const (
	call    Kind = "call"
	event   Kind = "event"
	message Kind = "message"
	ordered Kind = "ordered" // a message of a FIFO queue
	object  Kind = "object"
	deploy  Kind = "deploy"

	// For whoever has them: a change of a database's, and a message of each broker's.
	Row      Kind = "row"
	Kafka    Kind = "kafka"
	MQTT     Kind = "mqtt"
	NATS     Kind = "nats"
	RabbitMQ Kind = "rabbitmq"
	Redis    Kind = "redis"
)

// inOrder reports whether those of a worker reach the function as they were sent.
func (k Kind) inOrder() bool {
	switch k {
	case call, event, message, object, deploy:
		return false
	}
	return true
}

// runs reports whether the function is to get it.
func (k Kind) runs() bool { return k != deploy }

// named reports whether it comes again under the id that it has come under: a message of
// MQTT's has no name that it could be known by.
func (k Kind) named() bool { return k != MQTT }

// An ID names one piece of work. Those of a worker, which numbers its groups and functions
// too, are in order.
type ID struct {
	Kind             Kind
	Round, Worker, N int
}

func (i ID) String() string { return fmt.Sprintf("%s-r%d-%d-%d", i.Kind, i.Round, i.Worker, i.N) }

func (i ID) before(o ID) bool { return i.Round < o.Round || i.Round == o.Round && i.N < o.N }

var idForm = regexp.MustCompile(`\b([a-z]+)-r(\d+)-(\d+)-(\d+)\b`)

// IDs finds all in a text.
func IDs(text string) (ids []ID) {
	for _, m := range idForm.FindAllStringSubmatch(text, -1) {
		id := ID{Kind: Kind(m[1])}
		for i, p := range []*int{&id.Round, &id.Worker, &id.N} {
			*p, _ = strconv.Atoi(m[i+2])
		}
		ids = append(ids, id)
	}
	return ids
}

// ParseID reads one.
func ParseID(text string) (ID, bool) {
	ids := IDs(text)
	if len(ids) != 1 {
		return ID{}, false
	}
	return ids[0], true
}

// A Fact is what is known of work.
type Fact struct {
	What What
	ID   ID
	As   string // Ran: the id under which it came
}

// What may be known.
type What string

const (
	Acknowledged What = "ACK" // the server has it, it says
	Ran          What = "RAN" // the function got it
	Has          What = "HAS" // the server has it, as was seen
)

// String is a line, which ParseFact reads.
func (f Fact) String() string { return fmt.Sprintf("%s %v %s", f.What, f.ID, f.As) }

// ParseFact reads one.
func ParseFact(line string) (f Fact, ok bool) {
	words := append(strings.Split(line, " "), "")
	f.What, f.As = What(words[0]), strings.Join(words[2:], "")
	f.ID, ok = ParseID(words[1])
	return f, ok && (f.What == Acknowledged || f.What == Ran || f.What == Has)
}

const (
	Function = "recorder" // what a workload's function is called
	Workers  = 2          // for each kind

	bucket = "uploads"
	queue  = "jobs"
	fifo   = "jobs.fifo"
)

// Recorder is an HTTP server's handler that the function tells what it got.
func Recorder(know func(Fact)) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		all, err := parts(body, r.Header.Get("Request-Id"))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		for _, p := range all {
			seen := map[ID]bool{}
			for _, id := range IDs(p.text) {
				if !seen[id] {
					seen[id] = true
					know(Fact{Ran, id, p.as})
				}
			}
		}
	})
}

// A part of an invocation has come under an id.
type part struct{ text, as string }

// parts takes an invocation apart: records, messages of Kafka's by their partitions, or of
// RabbitMQ's by their queues. Anything else is one, the invocation itself.
func parts(body []byte, request string) (all []part, err error) {
	var list struct{ Records []json.RawMessage }
	var kafka struct {
		Records map[string][]struct {
			Offset int64
			Value  []byte
		}
	}
	var rabbit struct {
		Queues map[string][]struct {
			BasicProperties struct{ MessageID string }
			Data            []byte
		} `json:"rmqMessagesByQueue"`
	}
	switch {
	case json.Unmarshal(body, &list) == nil && list.Records != nil:
		for _, record := range list.Records {
			var e struct {
				MessageID, EventID string
				ResponseElements   struct {
					ID2 string `json:"x-amz-id-2"`
				}
			}
			if err := json.Unmarshal(record, &e); err != nil {
				return nil, err
			}
			all = append(all, part{string(record), cmp.Or(e.MessageID, e.EventID, e.ResponseElements.ID2)})
		}
	case json.Unmarshal(body, &kafka) == nil && kafka.Records != nil:
		for partition, records := range kafka.Records {
			for _, r := range records {
				all = append(all, part{string(r.Value), fmt.Sprint(partition, " ", r.Offset)})
			}
		}
	case json.Unmarshal(body, &rabbit) == nil && rabbit.Queues != nil:
		for _, messages := range rabbit.Queues {
			for _, m := range messages {
				all = append(all, part{string(m.Data), m.BasicProperties.MessageID})
			}
		}
	default:
		all = []part{{string(body), request}}
	}
	return all, nil
}

// A Load is work for one server.
type Load struct {
	client  *client.Client
	know    func(Fact)
	objects *s3.Client
	queues  *sqs.Client
	urls    map[string]*string // of queues
	code    string             // the function's, by its digest
	env     map[string]string
}

// New prepares for work at a server, which know is told of, concurrently. The function is
// program, and finds a Recorder at an address. The first New of a data directory makes the
// function and its triggers.
func New(ctx context.Context, c *client.Client, program, recorder string, know func(Fact)) (*Load, error) {
	l := &Load{client: c, know: know, urls: map[string]*string{}, env: map[string]string{"RECORDER": recorder, "LAMBENT_CRASH_TEST": "1"}}
	if err := l.connect(ctx); err != nil {
		return nil, err
	}
	return l, l.prepare(ctx, program)
}

// connect gets a key for AWS's clients.
func (l *Load) connect(ctx context.Context) error {
	key, err := l.client.CreateToken(ctx, client.TokenRequest{Kind: "access_key", Role: "admin"})
	if err != nil {
		return err
	}
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}, nil
	})
	l.objects = s3.New(s3.Options{BaseEndpoint: &l.client.URL, Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1, Credentials: credentials})
	l.queues = sqs.New(sqs.Options{BaseEndpoint: &l.client.URL, Region: "us-east-1", RetryMaxAttempts: 1, Credentials: credentials})
	return nil
}

// prepare makes what is not there.
func (l *Load) prepare(ctx context.Context, program string) error {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateHeader(&zip.FileHeader{Name: "bootstrap", Method: zip.Store, ExternalAttrs: 0o100755 << 16, CreatorVersion: 3 << 8})
	if err != nil {
		return err
	}
	code, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if _, err := w.Write(code); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	put, err := l.client.PutCode(ctx, &b, int64(b.Len()))
	if err != nil {
		return err
	}
	l.code = put.Digest
	for name, attributes := range map[string]map[string]string{queue: nil, fifo: {"FifoQueue": "true"}} {
		q, err := l.queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			return err
		}
		l.urls[name] = q.QueueUrl
	}
	if _, err := l.client.Function(ctx, Function); err == nil {
		_, err := l.objects.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: new(bucket)}) // the process that keeps it is there then
		return err
	}
	if _, err := l.objects.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: new(bucket)}); err != nil {
		return err
	}
	if err := l.deploy(ctx, Function, ""); err != nil {
		return err
	}
	for _, source := range []client.SourceRequest{
		{Pattern: json.RawMessage(`{"source": ["workload"]}`)},
		{Bucket: &client.Bucket{Name: bucket}},
		{Queue: &client.Queue{Name: queue}},
		{Queue: &client.Queue{Name: fifo}},
	} {
		if _, err := l.client.AddTrigger(ctx, client.TriggerRequest{Function: Function, SourceRequest: source}); err != nil {
			return err
		}
	}
	return nil
}

func (l *Load) deploy(ctx context.Context, name, n string) error {
	env := maps.Clone(l.env)
	env["N"] = n
	_, err := l.client.Deploy(ctx, name, &client.DeployRequest{
		Runtime: new("provided"), Handler: new("bootstrap"), Code: l.code, Check: new(false), Publish: true, Env: env,
	}, nil)
	return err
}

// Run works until ctx ends or the server is gone. There may be more work, in order: rows
// that are changed in a database, say.
func (l *Load) Run(ctx context.Context, round int, more map[Kind]func(context.Context, ID) error) {
	all := maps.Clone(more)
	if all == nil {
		all = map[Kind]func(context.Context, ID) error{}
	}
	maps.Copy(all, map[Kind]func(context.Context, ID) error{call: l.call, event: l.publish, message: l.send, ordered: l.sendOrdered, object: l.upload, deploy: l.deployed})
	var wg sync.WaitGroup
	for kind, do := range all {
		for worker := range Workers {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					id := ID{kind, round, worker, n}
					if err := do(ctx, id); err != nil {
						return
					}
					l.know(Fact{What: Acknowledged, ID: id})
				}
			})
		}
	}
	wg.Wait()
}

func (l *Load) call(ctx context.Context, id ID) error {
	_, err := l.client.InvokeAsync(ctx, client.InvokeRequest{Name: Function, Payload: strings.NewReader(`"` + id.String() + `"`)}, "")
	return err
}

func (l *Load) publish(ctx context.Context, id ID) error {
	_, err := l.client.PublishEvent(ctx, []byte(`{"specversion": "1.0", "source": "workload", "type": "t", "id": "`+id.String()+`"}`))
	return err
}

func (l *Load) send(ctx context.Context, id ID) error {
	_, err := l.queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: l.urls[queue], MessageBody: new(id.String())})
	return err
}

func (l *Load) sendOrdered(ctx context.Context, id ID) error {
	_, err := l.queues.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: l.urls[fifo], MessageBody: new(id.String()), MessageGroupId: new(strconv.Itoa(id.Worker)), MessageDeduplicationId: new(id.String()),
	})
	return err
}

func (l *Load) upload(ctx context.Context, id ID) error {
	_, err := l.objects.PutObject(ctx, &s3.PutObjectInput{Bucket: new(bucket), Key: new(id.String()), Body: strings.NewReader(content(id))})
	return err
}

func (l *Load) deployed(ctx context.Context, id ID) error {
	return l.deploy(ctx, fmt.Sprintf("deployed-%d", id.Worker), id.String())
}

// content is what is in an object: some are large.
func content(id ID) string {
	return strings.Repeat(id.String()+"\n", 1<<(5*(id.N%3)))
}

// Look tells what the server has, having read all of it.
func (l *Load) Look(ctx context.Context) error {
	for p := s3.NewListObjectsV2Paginator(l.objects, &s3.ListObjectsV2Input{Bucket: new(bucket)}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, o := range page.Contents {
			id, ok := ParseID(*o.Key)
			if !ok {
				return fmt.Errorf("nobody has uploaded %q", *o.Key)
			}
			got, err := l.objects.GetObject(ctx, &s3.GetObjectInput{Bucket: new(bucket), Key: o.Key})
			if err != nil {
				return fmt.Errorf("%v: %w", id, err)
			}
			body, err := io.ReadAll(got.Body)
			if err != nil {
				return fmt.Errorf("%v: %w", id, err)
			}
			if string(body) != content(id) {
				return fmt.Errorf("%v has other content than was uploaded, %d bytes", id, len(body))
			}
			l.know(Fact{What: Has, ID: id})
		}
	}
	functions, err := l.client.Functions(ctx, "", 0)
	if err != nil {
		return err
	}
	for _, f := range functions.Functions {
		if f.Name == Function {
			continue
		}
		var answer bytes.Buffer
		o, err := l.client.Invoke(ctx, client.InvokeRequest{Name: f.Name, Payload: strings.NewReader(`{}`)}, &answer)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		id, ok := ParseID(answer.String())
		if !ok || o.Fault != "" {
			return fmt.Errorf("%s answers %s %s", f.Name, &answer, o.FaultMessage)
		}
		l.know(Fact{What: Has, ID: id})
	}
	return nil
}
