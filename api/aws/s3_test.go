package aws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"lambent/client"
	"lambent/internal/sigv4"
	"lambent/server/servertest"
)

// s3Client is AWS's SDK for Go.
func s3Client(s *servertest.Server, k *client.NewToken) *s3.Client {
	return s3.NewFromConfig(gosdk(s, k), func(o *s3.Options) { o.UsePathStyle = true })
}

// wantCode checks S3's word for an error.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != code {
		t.Errorf("%v, want %s", err, code)
	}
}

func makeBucket(t *testing.T, c *s3.Client, name string) {
	t.Helper()
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, c *s3.Client, bucket, key, content string) *s3.PutObjectOutput {
	t.Helper()
	out, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func get(t *testing.T, c *s3.Client, in *s3.GetObjectInput) string {
	t.Helper()
	out, err := c.GetObject(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestObjectsSDK(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	c := s3Client(s, key(t, s, "default", "admin"))
	ctx := t.Context()
	b := new("uploads")
	makeBucket(t, c, *b)

	// Ranges, metadata, conditions.
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: new("a/b c+ü.txt"), Body: strings.NewReader("0123456789"), ContentType: new("text/x"), CacheControl: new("no-store"), Metadata: map[string]string{"by": "me"}, IfNoneMatch: new("*")}); err != nil {
		t.Fatal(err)
	}
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: new("a/b c+ü.txt"), Body: strings.NewReader("x"), IfNoneMatch: new("*")})
	wantCode(t, err, "PreconditionFailed")
	h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: new("a/b c+ü.txt")})
	if err != nil || *h.ContentType != "text/x" || *h.CacheControl != "no-store" || h.Metadata["by"] != "me" || *h.ContentLength != 10 {
		t.Errorf("%+v, %v", h, err)
	}
	if got := get(t, c, &s3.GetObjectInput{Bucket: b, Key: new("a/b c+ü.txt"), Range: new("bytes=2-4")}); got != "234" {
		t.Error(got)
	}
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: new("a/b c+ü.txt"), IfNoneMatch: h.ETag})
	wantCode(t, err, "NotModified")
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: new("nosuch")})
	wantCode(t, err, "NoSuchKey")
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: new("nosuch"), Key: new("x")})
	wantCode(t, err, "NoSuchBucket")

	// Copies and lists.
	if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: new("c/copy"), CopySource: new("uploads/a/b%20c%2B%C3%BC.txt")}); err != nil {
		t.Error(err)
	}
	l, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: b, Delimiter: new("/")})
	if err != nil || len(l.CommonPrefixes) != 2 || *l.CommonPrefixes[1].Prefix != "c/" {
		t.Errorf("%+v, %v", l, err)
	}

	// Several parts, the last one short.
	part := bytes.Repeat([]byte("0123456789abcdef"), 5<<20/16)
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: new("big")})
	if err != nil {
		t.Fatal(err)
	}
	var done []types.CompletedPart
	for i, body := range [][]byte{part, []byte("end")} {
		p, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: new("big"), UploadId: up.UploadId, PartNumber: new(int32(i + 1)), Body: bytes.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, types.CompletedPart{ETag: p.ETag, PartNumber: new(int32(i + 1)), ChecksumCRC32: p.ChecksumCRC32})
	}
	if _, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: new("big"), UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done}}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, c, &s3.GetObjectInput{Bucket: b, Key: new("big")}); got != string(part)+"end" {
		t.Errorf("%d bytes", len(got))
	}

	// Versions.
	if _, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: b, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
		t.Fatal(err)
	}
	one := put(t, c, *b, "v", "one")
	put(t, c, *b, "v", "two")
	if got := get(t, c, &s3.GetObjectInput{Bucket: b, Key: new("v"), VersionId: one.VersionId}); got != "one" {
		t.Error(got)
	}
	d, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: new("v")})
	if err != nil || d.DeleteMarker == nil || !*d.DeleteMarker {
		t.Errorf("%+v, %v", d, err)
	}
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: new("v")})
	wantCode(t, err, "NoSuchKey")

	// Presigned, without the SDK.
	presign := s3.NewPresignClient(c)
	pp, err := presign.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: new("presigned")}, s3.WithPresignExpires(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, "PUT", pp.URL, strings.NewReader("by anyone"))
	if err != nil {
		t.Fatal(err)
	}
	if a := servertest.Do(t, r); a.StatusCode != 200 {
		t.Errorf("status %d: %s", a.StatusCode, a.Body)
	}
	pg, err := presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: new("presigned")})
	if err != nil {
		t.Fatal(err)
	}
	for url, status := range map[string]int{pg.URL: 200, strings.Replace(pg.URL, "/presigned?", "/big?", 1): 403} {
		r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := servertest.Do(t, r); a.StatusCode != status || status == 200 && a.Body != "by anyone" {
			t.Errorf("status %d: %s", a.StatusCode, a.Body)
		}
	}
	del, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: new("big")}, {Key: new("nosuch")}, {Key: new("c/copy")}}}})
	if err != nil || len(del.Deleted) != 3 || len(del.Errors) != 0 {
		t.Errorf("%+v, %v", del, err)
	}
}

// What is not what was signed is not there, not even in part.
func TestObjectsRefused(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	k := key(t, s, "default", "admin")
	c := s3Client(s, k)
	b := new("uploads")
	makeBucket(t, c, *b)
	send := func(key, payload, body string, header ...string) servertest.Answer {
		r := s.Request(t, "PUT", "/uploads/"+key, strings.NewReader(body), header...)
		r.ContentLength = int64(len(body))
		if err := sigv4.Sign(r, k.ID, k.Secret, "us-east-1", "s3", payload, time.Now()); err != nil {
			t.Fatal(err)
		}
		return servertest.Do(t, r)
	}
	for _, size := range []int{1, 2, 100, 1 << 20} {
		body := strings.Repeat("x", size)
		a := send("bad", sigv4.Hash([]byte(body+"y")), body)
		if a.StatusCode != 400 || !strings.Contains(a.Body, "<Code>XAmzContentSHA256Mismatch</Code>") {
			t.Errorf("%d bytes: status %d: %s", size, a.StatusCode, a.Body)
		}
	}
	a := send("bad", sigv4.UnsignedPayload, "x", "Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg==")
	if a.StatusCode != 400 || !strings.Contains(a.Body, "BadDigest") {
		t.Errorf("status %d: %s", a.StatusCode, a.Body)
	}
	_, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: b, Key: new("bad")})
	wantCode(t, err, "NotFound")

	// Keys that would be other files.
	if err := os.Symlink("/etc", filepath.Join(s.Data, "buckets", "default", "objects", *b, "etc")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"../../../token", "a/../../b", "/etc/passwd", "a//b", "a/./b", ".sgwtmp/x", "..", strings.Repeat("k", 1025), strings.Repeat("p/", 100) + strings.Repeat("k", 256), "etc/lambent-test", "a\x00b", "a\xffb"} {
		if a := send(pathOf(key), sigv4.Hash([]byte("x")), "x"); a.StatusCode < 400 || a.StatusCode >= 500 && !strings.HasPrefix(key, "etc/") {
			t.Errorf("%.40q is taken: status %d: %s", key, a.StatusCode, a.Body)
		}
	}
	if _, err := os.Stat("/etc/lambent-test"); err == nil {
		_ = os.Remove("/etc/lambent-test")
		t.Error("a link led out of the bucket")
	}
	if out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: b, Key: new("etc/hostname")}); err == nil {
		content, _ := io.ReadAll(out.Body)
		t.Errorf("a link led out of the bucket: %q", content)
	}
	for _, name := range []string{"UP", "a", "a..b", "-ab", "192.168.0.1", strings.Repeat("a", 64)} {
		r := s.Request(t, "PUT", "/"+name, http.NoBody)
		if a := ask(t, s, k, "s3", r, time.Now()); a.StatusCode != 400 || !strings.Contains(a.Body, "InvalidBucketName") {
			t.Errorf("bucket %s: status %d: %s", name, a.StatusCode, a.Body)
		}
	}
	l, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: b})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range l.Contents {
		if *o.Key != "etc" { // the link itself
			t.Errorf("%s is there", *o.Key)
		}
	}

	// What is refused before its body has come is told so, and not that a connection broke.
	large := strings.Repeat("x", 8<<20)
	r := s.Request(t, "PUT", "/no-such-bucket/k", strings.NewReader(large))
	r.ContentLength = int64(len(large))
	if err := sigv4.Sign(r, k.ID, k.Secret, "us-east-1", "s3", sigv4.UnsignedPayload, time.Now()); err != nil {
		t.Fatal(err)
	}
	if a := servertest.Do(t, r); a.StatusCode != 404 || !strings.Contains(a.Body, "<Code>NoSuchBucket</Code>") {
		t.Errorf("status %d: %.300s", a.StatusCode, a.Body)
	}

	// Whose it is not.
	wrong := *k
	wrong.Secret += "x"
	_, err = s3Client(s, &wrong).ListBuckets(t.Context(), nil)
	wantCode(t, err, "SignatureDoesNotMatch")
	_, err = s3Client(s, key(t, s, "default", "invoke")).ListBuckets(t.Context(), nil)
	wantCode(t, err, "AccessDenied")
}

// pathOf is a key in a URL, as it is.
func pathOf(key string) string {
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Two projects have buckets of one name, and neither sees the other's.
func TestProjectsBuckets(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	shop, bank := s3Client(s, key(t, s, "shop", "admin")), s3Client(s, key(t, s, "bank", "admin"))
	makeBucket(t, shop, "uploads")
	makeBucket(t, shop, "shops-own")
	makeBucket(t, bank, "uploads")
	put(t, shop, "uploads", "k", "the shop's")
	put(t, bank, "uploads", "k", "the bank's")
	if got := get(t, shop, &s3.GetObjectInput{Bucket: new("uploads"), Key: new("k")}); got != "the shop's" {
		t.Error(got)
	}
	l, err := bank.ListBuckets(t.Context(), nil)
	if err != nil || len(l.Buckets) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	_, err = bank.GetObject(t.Context(), &s3.GetObjectInput{Bucket: new("shops-own"), Key: new("k")})
	wantCode(t, err, "NoSuchBucket")
	_, err = bank.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: new("uploads"), Key: new("x"), CopySource: new("shops-own/k")})
	wantCode(t, err, "NoSuchBucket")
	_, err = bank.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{Bucket: new("shops-own"), NotificationConfiguration: &types.NotificationConfiguration{}})
	wantCode(t, err, "NoSuchBucket")
}

// A recorder is a function that writes down the events that it gets.
func recorder(t *testing.T, s *servertest.Server, name string) (events func() []string) {
	t.Helper()
	dir := servertest.PublicDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s.Python(t, name, "import json, os, uuid\ndef handler(event, context):\n    name = os.path.join('"+dir+"', str(uuid.uuid4()))\n    open(name + '.tmp', 'w').write(json.dumps(event))\n    os.rename(name + '.tmp', name + '.json')\n")
	return func() (all []string) {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
		return all
	}
}

// names are what has happened to what, of S3's events.
func names(t *testing.T, events []string) (all []string) {
	t.Helper()
	for _, e := range events {
		var s3 awsevents.S3Event
		if err := json.Unmarshal([]byte(e), &s3); err != nil || len(s3.Records) != 1 {
			t.Fatalf("%s: %v", e, err)
		}
		r := s3.Records[0]
		all = append(all, r.EventName+" "+r.S3.Object.URLDecodedKey)
	}
	slices.Sort(all)
	return all
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !f() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in 10 s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Uploads, whoever makes them and however, are events of functions that watch.
func TestUploadsAreEvents(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Plain)
	k := key(t, s, "default", "admin")
	c := s3Client(s, k)
	events := recorder(t, s, "thumbs")
	makeBucket(t, c, "uploads")

	// By S3's own API, seen in ours.
	conf := &types.NotificationConfiguration{LambdaFunctionConfigurations: []types.LambdaFunctionConfiguration{
		{Id: new("jpgs"), LambdaFunctionArn: new("arn:aws:lambda:us-east-1:000000000000:function:thumbs"), Events: []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"},
			Filter: &types.NotificationConfigurationFilter{Key: &types.S3KeyFilter{FilterRules: []types.FilterRule{{Name: "suffix", Value: new(".jpg")}}}}},
	}}
	replace := func() error {
		_, err := c.PutBucketNotificationConfiguration(t.Context(), &s3.PutBucketNotificationConfigurationInput{Bucket: new("uploads"), NotificationConfiguration: conf})
		return err
	}
	for range 2 { // again it is the same
		if err := replace(); err != nil {
			t.Fatal(err)
		}
	}
	triggers, err := s.Client.Triggers(t.Context(), "thumbs")
	if err != nil || len(triggers) != 1 || triggers[0].Bucket.Label != "jpgs" || triggers[0].Bucket.Suffix != ".jpg" {
		t.Fatalf("%+v, %v", triggers, err)
	}
	has, err := c.GetBucketNotificationConfiguration(t.Context(), &s3.GetBucketNotificationConfigurationInput{Bucket: new("uploads")})
	if err != nil || len(has.LambdaFunctionConfigurations) != 1 || *has.LambdaFunctionConfigurations[0].Id != "jpgs" || *has.LambdaFunctionConfigurations[0].Filter.Key.FilterRules[0].Value != ".jpg" {
		t.Errorf("%+v, %v", has, err)
	}
	good := conf.LambdaFunctionConfigurations[0].LambdaFunctionArn
	conf.LambdaFunctionConfigurations[0].LambdaFunctionArn = new("nosuch")
	wantCode(t, replace(), "InvalidArgument")
	conf.LambdaFunctionConfigurations[0].LambdaFunctionArn = good
	conf.TopicConfigurations = []types.TopicConfiguration{{TopicArn: new("arn:aws:sns:us-east-1:000000000000:t"), Events: []types.Event{"s3:ObjectCreated:*"}}}
	wantCode(t, replace(), "NotImplemented")

	put(t, c, "uploads", "a b.jpg", "x")
	put(t, c, "uploads", "a.txt", "x")
	if _, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: new("uploads"), Key: new("c.jpg"), CopySource: new("uploads/a.txt")}); err != nil {
		t.Fatal(err)
	}
	up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: new("uploads"), Key: new("m.jpg")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: new("uploads"), Key: new("m.jpg"), UploadId: up.UploadId, PartNumber: new(int32(1)), Body: strings.NewReader("part")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: new("uploads"), Key: new("m.jpg"), UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: p.ETag, PartNumber: new(int32(1)), ChecksumCRC32: p.ChecksumCRC32}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: new("uploads"), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: new("c.jpg")}, {Key: new("nosuch.jpg")}, {Key: new("a.txt")}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: new("uploads"), Key: new("m.jpg")}); err != nil {
		t.Fatal(err)
	}
	out := boto3(t, s, k, `
import urllib.request, uuid
s3 = boto3.client("s3")
s3.put_object(Bucket="uploads", Key="boto.jpg", Body=b"boto")
p = boto3.client("s3", config=boto3.session.Config(signature_version="s3v4")).generate_presigned_post("uploads", "form/me.jpg", Fields={"Content-Type": "image/jpeg"}, Conditions=[{"Content-Type": "image/jpeg"}, ["content-length-range", 1, 100]])
def post(fields, content):
    boundary = uuid.uuid4().hex
    body = "".join("--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n" % (boundary, k, v) for k, v in fields.items()).encode()
    body += ("--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"me.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n" % boundary).encode() + content + ("\r\n--%s--\r\n" % boundary).encode()
    try:
        return urllib.request.urlopen(urllib.request.Request(p["url"], body, {"Content-Type": "multipart/form-data; boundary=" + boundary, "Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"})).status
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()
print(post(p["fields"], b"a photo"))
print(post(p["fields"], b"x" * 101))
print(post(dict(p["fields"], key="elsewhere/x.jpg"), b"a photo"))
print(post(dict(p["fields"], **{"x-amz-signature": "0" * 64}), b"a photo"))
print(s3.get_object(Bucket="uploads", Key="form/me.jpg")["Body"].read())
for c in s3, boto3.client("s3", config=boto3.session.Config(signature_version="s3v4")):
    url = c.generate_presigned_url("get_object", Params={"Bucket": "uploads", "Key": "boto.jpg", "ResponseContentType": "x/y"})
    with urllib.request.urlopen(url) as r:
        print(r.read(), r.headers["Content-Type"])
    try:
        urllib.request.urlopen(url.replace("boto.jpg", "a%20b.jpg"))
        print("it is taken for another object")
    except urllib.error.HTTPError as e:
        print(e.code)
`)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for i, want := range []string{"204", "(400, ", "(403, ", "(403, ", "b'a photo'", "b'boto' x/y", "403", "b'boto' x/y", "403"} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("boto3 says\n%s", out)
			break
		}
	}
	want := []string{
		"ObjectCreated:CompleteMultipartUpload m.jpg", "ObjectCreated:Copy c.jpg", "ObjectCreated:Post form/me.jpg", "ObjectCreated:Put a b.jpg", "ObjectCreated:Put boto.jpg",
		"ObjectRemoved:Delete c.jpg", "ObjectRemoved:Delete m.jpg",
	}
	until(t, "all events are there", func() bool { return len(events()) >= len(want) })
	got := names(t, events())
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	left, err := os.ReadDir(filepath.Join(s.Data, "buckets", "default", "intents"))
	if err != nil || len(left) > 0 {
		t.Errorf("intents are left: %v, %v", left, err)
	}

	// None are wanted any more.
	conf = &types.NotificationConfiguration{}
	if err := replace(); err != nil {
		t.Fatal(err)
	}
	if triggers, err := s.Client.Triggers(t.Context(), "thumbs"); err != nil || len(triggers) != 0 {
		t.Errorf("%+v, %v", triggers, err)
	}
}

// Uploads are messages of queues that are notified, by S3's API.
func TestUploadsAreMessages(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Plain)
	k := key(t, s, "default", "admin")
	s.Python(t, "thumbs", "def handler(event, context): pass\n")
	out := boto3(t, s, k, `
import json, botocore.exceptions
s3, sqs = boto3.client("s3"), boto3.client("sqs")
s3.create_bucket(Bucket="uploads")
url = sqs.create_queue(QueueName="told")["QueueUrl"]
arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
fifo = sqs.create_queue(QueueName="told.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
def put(*queues, functions=()):
    s3.put_bucket_notification_configuration(Bucket="uploads", NotificationConfiguration={"QueueConfigurations": list(queues), "LambdaFunctionConfigurations": list(functions)})
def receive(wait=10):
    got = []
    for m in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=wait, MaxNumberOfMessages=10).get("Messages", []):
        sqs.delete_message(QueueUrl=url, ReceiptHandle=m["ReceiptHandle"])
        body = json.loads(m["Body"])
        got.append(body["Event"] + " " + body["Bucket"] + " " + body["Service"] if "Event" in body else " ".join(
            r["eventSource"] + " " + r["eventName"] + " " + r["s3"]["configurationId"] + " " + r["s3"]["object"]["key"] + " " + str(r["s3"]["object"].get("size")) for r in body["Records"]))
    return got
def refused(*queues, **kw):
    try:
        put(*queues, **kw)
        print("it is taken")
    except botocore.exceptions.ClientError as e:
        print(e.response["Error"]["Code"], e.response["Error"]["Message"])
jpgs = {"Id": "jpgs", "QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:Delete"], "Filter": {"Key": {"FilterRules": [{"Name": "Suffix", "Value": ".jpg"}]}}}
put(jpgs)
print(receive())
s3.put_object(Bucket="uploads", Key="a b.jpg", Body=b"x")
s3.put_object(Bucket="uploads", Key="a.txt", Body=b"x")
s3.delete_object(Bucket="uploads", Key="a b.jpg")
got = receive()
while len(got) < 2:
    got += receive()
print(sorted(got))
has = s3.get_bucket_notification_configuration(Bucket="uploads")
print(has["QueueConfigurations"] == [jpgs], "LambdaFunctionConfigurations" in has)
refused(dict(jpgs, QueueArn=arn + "x"))
refused(dict(jpgs, QueueArn="arn:aws:sqs:us-east-1:123456789012:told"))
refused(dict(jpgs, QueueArn=arn + ".fifo"))
refused(dict(jpgs, Events=["s3:ObjectCreated:Nothing"]))
refused(functions=[{"LambdaFunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:nosuch", "Events": ["s3:ObjectCreated:*"]}])
print(s3.get_bucket_notification_configuration(Bucket="uploads")["QueueConfigurations"] == [jpgs], receive(0))
put(jpgs, {"Id": "all", "QueueArn": arn, "Events": ["s3:ObjectCreated:Put"]}, functions=[{"Id": "f", "LambdaFunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:thumbs", "Events": ["s3:ObjectCreated:*"]}])
print(receive())
s3.put_object(Bucket="uploads", Key="both.jpg", Body=b"x")
got = receive()
while len(got) < 2:
    got += receive()
print(sorted(got))
put()
s3.put_object(Bucket="uploads", Key="later.jpg", Body=b"x")
print(receive(0), "QueueConfigurations" in s3.get_bucket_notification_configuration(Bucket="uploads"))
put(jpgs)
sqs.delete_queue(QueueUrl=url)
print("QueueConfigurations" in s3.get_bucket_notification_configuration(Bucket="uploads"), s3.put_object(Bucket="uploads", Key="gone.jpg", Body=b"x")["ResponseMetadata"]["HTTPStatusCode"])
`)
	want := `['s3:TestEvent uploads Amazon S3']
['aws:s3 ObjectCreated:Put jpgs a+b.jpg 1', 'aws:s3 ObjectRemoved:Delete jpgs a+b.jpg None']
True False
InvalidArgument Unable to validate the following destination configurations: there is no queue "toldx" in project "default"
InvalidArgument Unable to validate the following destination configurations: "arn:aws:sqs:us-east-1:123456789012:told" is not the ARN of a queue of this project, such as arn:aws:sqs:us-east-1:000000000000:uploads
InvalidArgument Unable to validate the following destination configurations: queue "told.fifo" is a FIFO queue, and a bucket's changes are in no order
InvalidArgument "s3:ObjectCreated:Nothing" is no event of buckets: there are s3:ObjectCreated:Put, s3:ObjectCreated:Post, s3:ObjectCreated:Copy, s3:ObjectCreated:CompleteMultipartUpload, s3:ObjectRemoved:Delete, s3:ObjectRemoved:DeleteMarkerCreated, s3:ObjectCreated:* and s3:ObjectRemoved:*
InvalidArgument Unable to validate the following destination configurations: function "nosuch" does not exist in project "default"
True []
['s3:TestEvent uploads Amazon S3']
['aws:s3 ObjectCreated:Put all both.jpg 1', 'aws:s3 ObjectCreated:Put jpgs both.jpg 1']
[] False
False 200
`
	if out != want {
		t.Errorf("boto3 says\n%s\nwant\n%s", out, want)
	}
}

func TestObjectsCLI(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	k := key(t, s, "default", "admin")
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcde\n"), 9<<20/16)
	if err := os.WriteFile(filepath.Join(dir, "big"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := awscli(t, s, k, args...)
		if err != nil {
			t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	run("s3", "mb", "s3://uploads")
	run("s3", "cp", "--no-progress", filepath.Join(dir, "big"), "s3://uploads/dir/big") // in parts
	run("s3", "cp", "--no-progress", "s3://uploads/dir/big", filepath.Join(dir, "again"))
	if again, err := os.ReadFile(filepath.Join(dir, "again")); err != nil || !bytes.Equal(again, big) {
		t.Errorf("%d bytes come back, %v", len(again), err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", run("s3", "presign", "s3://uploads/dir/big"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := servertest.Do(t, r); a.StatusCode != 200 || a.Body != string(big) {
		t.Errorf("presigned: status %d: %.200s", a.StatusCode, a.Body)
	}
	if out := run("s3", "ls", "--recursive", "s3://uploads"); !strings.HasSuffix(out, " 9437184 dir/big") {
		t.Error(out)
	}
	run("s3", "rm", "--recursive", "s3://uploads")
	run("s3", "rb", "s3://uploads")
	if out, err := awscli(t, s, k, "s3", "ls", "s3://uploads"); err == nil || !strings.Contains(out, "NoSuchBucket") {
		t.Error(out)
	}
}
