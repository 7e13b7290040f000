package examples_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"lambent/server/servertest"
	"lambent/source/databasetest"
)

// until waits for something that a function does when it hears of an event.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// said waits for texts in the function's log, and returns that.
func (e *example) said(t *testing.T, texts ...string) string {
	t.Helper()
	return e.saidBy(t, e.name, texts...)
}

// saidBy waits for texts in the log of a function, and returns that.
func (e *example) saidBy(t *testing.T, function string, texts ...string) string {
	t.Helper()
	var log string
	defer func() {
		if t.Failed() {
			t.Logf("the log of %s:\n%s", function, log)
		}
	}()
	until(t, "the log of "+function+" has "+strings.Join(texts, " and "), func() bool {
		out, _ := e.lambent(t, 0, "logs", function)
		log = string(out)
		for _, text := range texts {
			if !strings.Contains(log, text) {
				return false
			}
		}
		return true
	})
	return log
}

// key is what AWS's clients sign with.
func (e *example) key(t *testing.T) aws.CredentialsProvider {
	t.Helper()
	out, _ := e.lambent(t, 0, "token", "create", "--role", "admin", "--access-key")
	lines := strings.Fields(string(out))
	return credentials.NewStaticCredentialsProvider(lines[0], lines[1], "")
}

// A heard is what a function writes of an event that it is handed, and of one that happens.
type heard struct {
	function     string
	event, of    string // what is handed over, in a file, and what the function writes of it
	happens      func(*testing.T, *example)
	thatHappened string // what the function writes of that
}

// uploaded has an object be stored in a bucket.
func uploaded(bucket string) func(*testing.T, *example) {
	return func(t *testing.T, e *example) {
		if _, err := e.bucket(t, bucket).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("dog.jpg"), Body: strings.NewReader("woof")}); err != nil {
			t.Fatal(err)
		}
	}
}

// sent has a message be sent to a queue, which the deploy has made.
func sent(queue string) func(*testing.T, *example) {
	return func(t *testing.T, e *example) {
		c := e.queues(t)
		q, err := c.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: &queue})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: q.QueueUrl, MessageBody: aws.String("three teas")}); err != nil {
			t.Fatal(err)
		}
	}
}

// shipped expects a function to hear of an event that is published. One that it fails is
// tried again, and is a dead letter then.
func shipped(t *testing.T, e *example, function string) {
	publish := func(data string) (id string) {
		out, _ := e.lambent(t, 0, "events", "put", "--source", "shop", "--type", "order.shipped", "-d", data)
		return strings.TrimSpace(string(out))
	}
	publish(`{"customer": "Ada"}`)
	if log := e.saidBy(t, function, "shipped", "Ada"); !strings.Contains(log, "Init Duration") {
		t.Errorf("the first event of %s was no cold start:\n%s", function, log)
	}
	bad := publish(`{"weight": 7}`)
	until(t, function+" has a dead letter of event "+bad, func() bool {
		ids, _ := e.lambent(t, 0, "deadletter", "list", function, "-o", "name")
		for _, id := range strings.Fields(string(ids)) {
			event, why := e.lambent(t, 0, "deadletter", "show", function, id)
			if strings.Contains(string(event), bad) {
				if !strings.Contains(why, "attempts 2: ") || !strings.Contains(why, "500") {
					t.Errorf("event %s is a dead letter: %s", bad, why)
				}
				return true
			}
		}
		return false
	})
	if log := e.saidBy(t, function, "shipped to nobody"); strings.Count(log, "shipped to nobody") < 2 {
		t.Errorf("it was not tried again:\n%s", log)
	}
}

func fires(t *testing.T, e *example) { e.said(t, "due at 20", ", as ") }

func matches(t *testing.T, e *example) {
	for _, order := range []string{`{"customer": "Bob", "total": 20}`, `{"customer": "Ada", "total": 250}`} {
		e.lambent(t, 0, "events", "put", "--source", "shop", "--type", "order.placed", "-d", order)
	}
	if log := e.said(t, "Ada has ordered for 250"); strings.Contains(log, "Bob") {
		t.Errorf("it heard of a small order:\n%s", log)
	}
}

// takes expects good orders to be taken once, and a bad one, among them, to be moved away.
func takes(t *testing.T, e *example) {
	c := e.queues(t)
	failed, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("orders-failed")})
	if err != nil {
		t.Fatal(err)
	}
	orders, err := c.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("orders")}) // the deploy has made it
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: orders.QueueUrl, Attributes: map[string]string{
		"VisibilityTimeout": "1", "RedrivePolicy": `{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:orders-failed", "maxReceiveCount": 2}`,
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: orders.QueueUrl, Entries: []types.SendMessageBatchRequestEntry{
		{Id: aws.String("a"), MessageBody: aws.String(`{"item": "tea", "count": 2}`)},
		{Id: aws.String("b"), MessageBody: aws.String("two teas")},
		{Id: aws.String("c"), MessageBody: aws.String(`{"item": "cake", "count": 1}`)},
	}}); err != nil {
		t.Fatal(err)
	}
	moved, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: failed.QueueUrl, WaitTimeSeconds: 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(moved.Messages) != 1 || *moved.Messages[0].Body != "two teas" {
		t.Errorf("moved away is %v", moved.Messages)
	}
	log := e.said(t, "order of 2 tea", "order of 1 cake")
	for text, times := range map[string]int{"order of 2 tea": 1, "order of 1 cake": 1, "no order: two teas": 2} {
		if n := strings.Count(log, text); n != times {
			t.Errorf("%q is %d times in the log:\n%s", text, n, log)
		}
	}
}

func (e *example) queues(t *testing.T) *sqs.Client {
	t.Helper()
	return sqs.New(sqs.Options{BaseEndpoint: aws.String(e.server.URL()), Region: "us-east-1", Credentials: e.key(t)})
}

// bucket makes one, and returns a client of it.
func (e *example) bucket(t *testing.T, name string) *s3.Client {
	t.Helper()
	c := s3.New(s3.Options{BaseEndpoint: aws.String(e.server.URL()), Region: "us-east-1", UsePathStyle: true, Credentials: e.key(t)})
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return c
}

func hears(t *testing.T, e *example) {
	c := e.bucket(t, "inbox")
	for _, key := range []string{"photo.jpg", "a note.txt"} {
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("inbox"), Key: &key, Body: strings.NewReader("hello")}); err != nil {
			t.Fatal(err)
		}
	}
	if log := e.said(t, "ObjectCreated:Put: a note.txt in inbox, 5 bytes"); strings.Contains(log, "photo.jpg") {
		t.Errorf("it heard of a photo:\n%s", log)
	}
}

func shrinks(t *testing.T, e *example) {
	c, photos := e.bucket(t, "photos"), aws.String("photos")
	var photo bytes.Buffer
	if err := png.Encode(&photo, image.NewRGBA(image.Rect(0, 0, 640, 480))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: photos, Key: aws.String("uploads/black cat.png"), Body: bytes.NewReader(photo.Bytes())}); err != nil {
		t.Fatal(err)
	}
	e.said(t, "uploads/black cat.png: 128 x 96")
	made, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: photos, Key: aws.String("thumbnails/uploads/black cat.png")})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Body.Close()
	if small, err := jpeg.Decode(made.Body); err != nil || small.Bounds().Dx() != 128 || small.Bounds().Dy() != 96 {
		t.Errorf("the thumbnail is %v, %v", small, err)
	}
}

// A shop is a database with tables as an example's README says.
type shop struct {
	databasetest.Postgres
	name string
}

// withDatabase is a server beside a database on loopback, where functions get only as
// plain processes.
func withDatabase(t *testing.T) *platform {
	t.Helper()
	p := databasetest.NewPostgres(t)
	name := p.Database(t, "CREATE TABLE orders (id int PRIMARY KEY, item text, count int)", "ALTER TABLE orders REPLICA IDENTITY FULL",
		"CREATE TABLE audit (id text PRIMARY KEY, at timestamptz, operation text, before jsonb, after jsonb)")
	out := start(t, servertest.Plain)
	out.env, out.shop = map[string]string{"DATABASE_URL": p.URL(name)}, &shop{p, name}
	return out
}

// audit expects each change to be written down, in order.
func audit(t *testing.T, e *example) {
	db := e.shop
	db.Exec(t, db.name, "INSERT INTO orders VALUES (7, 'tea', 1)", "UPDATE orders SET count = 2", "DELETE FROM orders")
	const query = `SELECT coalesce(string_agg(concat_ws(' ', operation, before->>'count', after->>'count'), ', ' ORDER BY at), '') FROM audit`
	const want = "insert 1, update 1 2, delete 2"
	var got string
	until(t, want+" is written down", func() bool { got = db.Value(t, db.name, query); return got == want })
	e.said(t, "insert of order 7", "delete of order 7")
}
