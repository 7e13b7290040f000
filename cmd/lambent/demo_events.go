package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"lambent"
	"lambent/client"
	"lambent/examples"
	"lambent/internal/sigv4"
)

// events shows what else than a call invokes functions.
func (d *demo) events(ctx context.Context) error {
	if d.has("python3") {
		for _, chapter := range []func(context.Context) error{d.pattern, d.schedule, d.upload} {
			if err := chapter(ctx); err != nil {
				return err
			}
		}
	}
	if d.has("nodejs") {
		return d.queue(ctx)
	}
	return nil
}

// example deploys one.
func (d *demo) example(ctx context.Context, name string) error {
	if err := examples.Write(".", name); err != nil {
		return err
	}
	return d.run(ctx, command{args: []string{"deploy", name}, want: "deployed"})
}

// hears follows a function's log until it says something.
func (d *demo) hears(ctx context.Context, name string, texts ...string) error {
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	shown, ended := d.start(ctx, "logs", name, "-f", "--since", "1m")
	defer func() { stop(); <-ended }()
	if err := shown.wait(ctx, texts...); err != nil {
		return d.failed("%s was to hear of it, and its log does not say %q", name, texts)
	}
	return nil
}

func (d *demo) pattern(ctx context.Context) error {
	d.say("\n== An event of your own, and a function that hears of large orders alone")
	if err := d.example(ctx, "aws-python-rule"); err != nil {
		return err
	}
	put := func(data string) command {
		return command{args: []string{"events", "put", "--source", "shop", "--type", "order.placed", "-d", data}}
	}
	if err := d.run(ctx, put(`{"customer": "Bob", "total": 20}`), put(`{"customer": "Ada", "total": 250}`)); err != nil {
		return err
	}
	return d.hears(ctx, "python-rule", "Ada has ordered for 250", "REPORT")
}

func (d *demo) schedule(ctx context.Context) error {
	d.say("\n== The clock")
	if err := d.example(ctx, "aws-python-schedule"); err != nil {
		return err
	}
	if err := d.run(ctx, command{args: []string{"trigger", "list", "python-schedule"}, want: "rate(5 seconds)"}); err != nil {
		return err
	}
	return d.hears(ctx, "python-schedule", "due at", "REPORT")
}

func (d *demo) upload(ctx context.Context) error {
	d.say("\n== An upload, by S3's API (any of its clients: eval \"$(lambent env aws)\")")
	if err := d.example(ctx, "aws-python-upload"); err != nil {
		return err
	}
	aws, err := d.newAWS(ctx)
	if err != nil {
		return err
	}
	if _, err := aws.ask(ctx, "aws s3 mb s3://inbox", "s3", http.MethodPut, "/inbox", "", ""); err != nil {
		return err
	}
	if _, err := aws.ask(ctx, "aws s3 cp note.txt s3://inbox/note.txt", "s3", http.MethodPut, "/inbox/note.txt", "", "two teas\n"); err != nil {
		return err
	}
	return d.hears(ctx, "python-upload", "note.txt in inbox, 9 bytes", "REPORT")
}

func (d *demo) queue(ctx context.Context) error {
	d.say("\n== A queue, by SQS's API: of three messages in a batch one fails, and comes again alone")
	if err := d.example(ctx, "aws-node-queue"); err != nil {
		return err
	}
	aws, err := d.newAWS(ctx)
	if err != nil {
		return err
	}
	answer, err := aws.ask(ctx, "aws sqs get-queue-url --queue-name orders", "sqs", http.MethodPost, "/", "AmazonSQS.GetQueueUrl", `{"QueueName": "orders"}`)
	if err != nil {
		return err
	}
	var orders struct {
		URL string `json:"QueueUrl"`
	}
	if err := json.Unmarshal(answer, &orders); err != nil {
		return d.failed("%s: %v", answer, err)
	}
	soon, err := json.Marshal(map[string]any{"QueueUrl": orders.URL, "Attributes": map[string]string{"VisibilityTimeout": "1"}}) // that it comes again in a second, not in thirty
	if err != nil {
		return err
	}
	if _, err := aws.ask(ctx, "aws sqs set-queue-attributes --queue-url "+orders.URL+" --attributes VisibilityTimeout=1", "sqs", http.MethodPost, "/", "AmazonSQS.SetQueueAttributes", string(soon)); err != nil {
		return err
	}
	batch, err := json.Marshal(map[string]any{"QueueUrl": orders.URL, "Entries": []map[string]string{
		{"Id": "a", "MessageBody": `{"item": "tea", "count": 2}`}, {"Id": "b", "MessageBody": "two teas"}, {"Id": "c", "MessageBody": `{"item": "cake", "count": 1}`},
	}})
	if err != nil {
		return err
	}
	if _, err := aws.ask(ctx, "aws sqs send-message-batch --queue-url "+orders.URL+" --entries file://orders.json", "sqs", http.MethodPost, "/", "AmazonSQS.SendMessageBatch", string(batch)); err != nil {
		return err
	}
	return d.hears(ctx, "node-queue", "no order: two teas", "REPORT", "no order: two teas", "REPORT")
}

// aws is a client of AWS's in the demo's own words: what the commands it shows would send.
type aws struct {
	*demo
	key *client.NewToken
}

func (d *demo) newAWS(ctx context.Context) (*aws, error) {
	p := &program{getenv: d.env, err: io.Discard}
	c, err := p.connect()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	key, err := c.CreateToken(ctx, client.TokenRequest{Kind: "access_key", Role: "admin"})
	if err != nil {
		return nil, err
	}
	return &aws{d, key}, nil
}

// ask sends what a command would.
func (a *aws) ask(ctx context.Context, shown, service, method, path, target, body string) (answer []byte, err error) {
	a.say("$ %s", shown)
	req, err := http.NewRequestWithContext(ctx, method, a.server.URL()+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	if target != "" {
		req.Header.Set("X-Amz-Target", target)
		req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	}
	if err := sigv4.Sign(req, a.key.ID, a.key.Secret, lambent.Region, service, sigv4.Hash([]byte(body)), time.Now()); err != nil {
		return nil, err
	}
	begun := time.Now()
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.failed("%s: %v", path, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, a.failed("%s answered %s %q, %v", path, resp.Status, answer, err)
	}
	a.say("  (%s, %s)", resp.Status, elapsed(begun))
	return answer, nil
}
