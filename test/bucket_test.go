package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"lambent"
	"lambent/client"
	"lambent/test/daemon"
)

// notes writes down which object each event is about, under the event's id.
const notes = `import os

def handler(event, context):
    r = event["Records"][0]
    name = os.path.join(os.environ["NOTES"], r["s3"]["object"]["key"].replace("/", "-") + " " + r["responseElements"]["x-amz-id-2"])
    open(name, "w").close()
`

// gatewayOf returns the process that keeps a server's buckets; 0: there is none.
func gatewayOf(d *daemon.Daemon) (pid int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		b, _ := os.ReadFile(stat)
		f := strings.Fields(string(b))
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		if len(f) > 3 && f[3] == strconv.Itoa(d.PID()) && strings.HasPrefix(string(line), "lambent\x00gateway\x00") {
			pid, _ = strconv.Atoi(f[0])
		}
	}
	return pid
}

// Over any number of kill -9, of the server or of the process that keeps the buckets, each
// object that is there has led to its event, and each event is of one that is there: be its
// upload acknowledged, as all of these are there, or not. Events come again under one id.
func TestBucketKillNine(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	dir := daemon.Dir(t)
	data, seen := filepath.Join(dir, "data"), filepath.Join(dir, "notes")
	if err := os.Mkdir(seen, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(seen, 0o777); err != nil {
		t.Fatal(err)
	}
	begin := func() *daemon.Daemon { return daemon.Start(t, data, "--driver", "process") }
	d := begin()
	r := python(upload(t, d, "app.py", notes), 0)
	r.Env["NOTES"] = seen
	if _, err := d.Deploy(t.Context(), "notes", r, nil); err != nil {
		t.Fatal(err)
	}
	key, err := d.CreateToken(t.Context(), client.TokenRequest{Kind: "access_key", Role: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	bucket := new("uploads")
	connect := func() *s3.Client {
		return s3.New(s3.Options{
			BaseEndpoint: new(d.URL), Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}, nil
			}),
		})
	}
	c := connect()
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	queues := func() *sqs.Client {
		o := c.Options()
		return sqs.New(sqs.Options{BaseEndpoint: o.BaseEndpoint, Region: o.Region, Credentials: o.Credentials})
	}
	queue, err := queues().CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: new("told")})
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:sqs:us-east-1:" + lambent.AccountID(lambent.DefaultProject) + ":told"
	if _, err := c.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{Bucket: bucket, SkipDestinationValidation: new(true), NotificationConfiguration: &types.NotificationConfiguration{
		LambdaFunctionConfigurations: []types.LambdaFunctionConfiguration{{LambdaFunctionArn: new("notes"), Events: []types.Event{"s3:ObjectCreated:*"}}},
		QueueConfigurations:          []types.QueueConfiguration{{QueueArn: &arn, Events: []types.Event{"s3:ObjectCreated:*"}}},
	}}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	for round := range rounds {
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for i := range 4 {
			wg.Go(func() {
				body := bytes.Repeat([]byte("0123456789abcdef"), 1<<(10*(i%2))) // 16 bytes or 16 KB
				for n := 0; ctx.Err() == nil; n++ {
					key := fmt.Sprintf("r%d-%d-%d", round, i, n)
					if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader(body)}); err != nil {
						if round%2 == 0 {
							return
						}
						time.Sleep(10 * time.Millisecond) // the server is there, and starts another gateway
						continue
					}
					mu.Lock()
					acknowledged[key] = true
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond) // the moment is any moment
		if round%2 == 1 {
			if pid := gatewayOf(d); pid > 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		}
		d.Kill()
		stop()
		wg.Wait()
		noneLeft(t)
		d = begin()
		c = connect()
	}
	there := map[string]bool{}
	for p := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: bucket}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			there[*o.Key] = true
		}
	}
	if len(acknowledged) == 0 {
		t.Fatal("nothing was acknowledged: the test saw nothing")
	}
	for key := range acknowledged {
		if !there[key] {
			t.Errorf("%s was acknowledged, and is not there", key)
		}
	}
	events := map[string]int{}
	for deadline := time.Now().Add(30 * time.Second); ; {
		clear(events)
		files, err := os.ReadDir(seen)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			key, _, _ := strings.Cut(f.Name(), " ")
			events[key]++
		}
		missing := 0
		for key := range there {
			if events[key] == 0 {
				missing++
			}
		}
		if missing == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d objects have led to no event", missing, len(there))
		}
		time.Sleep(50 * time.Millisecond)
	}
	for key, n := range events {
		if n != 1 {
			t.Errorf("%s has %d events", key, n)
		}
		if !there[key] {
			t.Errorf("%s is not there, and has an event", key)
		}
	}
	// The queue has been told of each, too, at least once and always in the same words.
	told := map[string]string{}
	address := strings.Replace(*queue.QueueUrl, strings.Split(*queue.QueueUrl, "/")[2], strings.TrimPrefix(d.URL, "http://"), 1)
	receiver := queues() // one: the library closes the connections of a client that nobody has any more, under an answer, too
	for in := (&sqs.ReceiveMessageInput{QueueUrl: &address, MaxNumberOfMessages: 10, VisibilityTimeout: 3600}); ; {
		out, err := receiver.ReceiveMessage(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			var e awsevents.S3Event
			if err := json.Unmarshal([]byte(*m.Body), &e); err != nil || len(e.Records) != 1 {
				t.Fatalf("%s: %v", *m.Body, err)
			}
			key, id := e.Records[0].S3.Object.URLDecodedKey, e.Records[0].ResponseElements["x-amz-id-2"]
			if before := told[key]; before != "" && before != id {
				t.Errorf("%s was told as %s and as %s", key, before, id)
			}
			if told[key] = id; !there[key] {
				t.Errorf("%s is not there, and the queue is told of it", key)
			}
		}
		if len(out.Messages) == 0 {
			break
		}
	}
	for key := range there {
		if told[key] == "" {
			t.Errorf("the queue is not told of %s", key)
		}
	}
	t.Logf("%d kills, %d acknowledged uploads, %d objects, %d of them told to a queue", rounds, len(acknowledged), len(there), len(told))
}

// A bucket elsewhere tells of an upload, by the password that it was given.
func TestNotificationFromElsewhere(t *testing.T) {
	t.Parallel()
	dir := daemon.Dir(t)
	seen := filepath.Join(dir, "notes")
	if err := os.Mkdir(seen, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(seen, 0o777); err != nil {
		t.Fatal(err)
	}
	d := daemon.Start(t, filepath.Join(dir, "data"), "--driver", "process")
	r := python(upload(t, d, "app.py", notes), 0)
	r.Env["NOTES"] = seen
	if _, err := d.Deploy(t.Context(), "notes", r, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AddTrigger(t.Context(), client.TriggerRequest{Function: "notes", SourceRequest: client.SourceRequest{Bucket: &client.Bucket{Name: "elsewhere"}}}); err != nil {
		t.Fatal(err)
	}
	token, err := d.CreateToken(t.Context(), client.TokenRequest{Role: "invoke"})
	if err != nil {
		t.Fatal(err)
	}
	const document = `{"Records":[{"eventName":"s3:ObjectCreated:Put","eventTime":"2026-11-01T10:00:00Z","s3":{"bucket":{"name":"elsewhere"},"object":{"key":"a.txt","size":1}}}]}`
	for password, want := range map[string]int{"guessed": http.StatusUnauthorized, token.Secret: http.StatusAccepted} {
		req, err := http.NewRequest(http.MethodPost, d.URL+"/v1/notifications/s3", strings.NewReader(document))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ceph", password)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Fatalf("status %s, not %d: %s, %v", resp.Status, want, answer, err)
		}
		if s := strings.TrimSpace(string(answer)); want == http.StatusAccepted && s != `{"events":1}` {
			t.Errorf("it is answered %s", s)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		files, err := os.ReadDir(seen)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 1 && strings.HasPrefix(files[0].Name(), "a.txt ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the function was not invoked: %v", files)
		}
	}
}
