package bucket_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"lambent"
	"lambent/bucket"
	"lambent/internal/sigv4"
)

// A disk has room for so much, and knows how much was asked for at most.
type disk struct {
	mu          sync.Mutex // guards what follows
	room, asked int64
}

func (d *disk) spare(bytes int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked = max(d.asked, bytes); bytes > d.room {
		return lambent.Errorf(lambent.NoSpace, "test", "%d bytes are over the %d that there is room for", bytes, d.room)
	}
	return nil
}

func (d *disk) has(room int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room, d.asked = room, 0
}

// What would take the disk's last room is refused before it has taken any, whether it is sent or copied, and
// what gives some back is not.
func TestRoom(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	d := &disk{room: 1 << 40}
	p := start(t, func(o *bucket.Options) { o.Spare = d.spare })
	c, ctx := p.client("shop"), t.Context()
	put := func(in, key string, size int) error {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &in, Key: &key, Body: bytes.NewReader(make([]byte, size))})
		return err
	}
	for _, name := range []string{"plain", "versioned"} {
		_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
		p.must(nil, err)
	}
	p.must(c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: new("versioned"), VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}))
	p.must(nil, put("plain", "old", 3*mb))
	p.must(nil, put("versioned", "old", 3*mb))
	upload, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: new("plain"), Key: new("parts")})
	p.must(nil, err)
	part := func(number int32, size int) (*string, error) {
		out, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: new("plain"), Key: new("parts"), UploadId: upload.UploadId, PartNumber: &number, Body: bytes.NewReader(make([]byte, size))})
		if err != nil {
			return nil, err
		}
		return out.ETag, nil
	}
	tag, err := part(1, 2*mb)
	p.must(nil, err)
	complete := func() error {
		_, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: new("plain"), Key: new("parts"), UploadId: upload.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: new(int32(1)), ETag: tag}}}})
		return err
	}
	copied := func(by string) error {
		_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: new("plain"), Key: new("copy"), CopySource: &by})
		return err
	}
	copiedPart := func(of *string) error {
		_, err := c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: new("plain"), Key: new("parts"), UploadId: upload.UploadId, PartNumber: new(int32(2)), CopySource: new("plain/old"), CopySourceRange: of})
		return err
	}
	remove := func(key string) error {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: new("versioned"), Key: &key})
		return err
	}
	removeSome := func(in, key string) error {
		_, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &in, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: &key}}}})
		return err
	}
	refused := func(what string, err error) {
		t.Helper()
		var answer interface{ HTTPStatusCode() int }
		if !errors.As(err, &answer) || answer.HTTPStatusCode() != http.StatusInsufficientStorage {
			t.Errorf("%s: %v", what, err)
		}
	}

	d.has(mb)
	refused("an object", put("plain", "new", 2*mb))
	_, err = part(2, 2*mb)
	refused("a part", err)
	refused("a copy", copied("plain/old"))
	refused("a copy of what has versions", copied("versioned/old"))
	refused("a part that is copied", copiedPart(nil))
	refused("the parts together", complete())
	refused("an object whose old version is copied", put("versioned", "old", 1))
	refused("a removal that copies", remove("old"))
	refused("removals that copy", removeSome("versioned", "old"))
	p.must(nil, put("plain", "small", 1000))
	p.must(nil, copied("plain/small"))
	p.must(nil, copiedPart(new("bytes=0-999")))
	p.must(nil, put("versioned", "small", 1000))
	p.must(nil, put("versioned", "small", 1000))

	d.has(-1)
	refused("an empty object", put("plain", "empty", 0))
	_, err = c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: new("another")})
	refused("a bucket", err)
	p.must(c.GetObject(ctx, &s3.GetObjectInput{Bucket: new("plain"), Key: new("old")}))
	p.must(c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: new("plain"), Key: new("copy")}))
	p.must(nil, removeSome("plain", "small"))

	d.has(3*mb + 1)
	p.must(nil, complete())
	p.must(nil, put("versioned", "old", 1))
	p.must(nil, copied("plain/old"))

	send := func(key string, size int64, body io.Reader) (status int) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, p.url+"/plain/"+key, body)
		p.must(nil, err)
		r.ContentLength = size
		p.must(nil, sigv4.Sign(r, "shop", secret("shop"), "us-east-1", "s3", sigv4.UnsignedPayload, time.Now()))
		resp, err := http.DefaultClient.Do(r)
		p.must(nil, err)
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	// What is not there any more when it is half through.
	d.has(16 * mb)
	half := io.MultiReader(bytes.NewReader(make([]byte, 8*mb)), reading(func() { d.has(-1) }), bytes.NewReader(make([]byte, 8*mb)))
	if status := send("half", 16*mb, half); status != http.StatusInsufficientStorage {
		t.Errorf("an upload for which there is no room any more: status %d", status)
	}
	if _, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: new("plain"), Key: new("half")}); err == nil {
		t.Error("half of it is there")
	}
	// What has begun counts before it is there.
	d.has(mb)
	slow, more := io.Pipe()
	first := make(chan int)
	go func() { first <- send("slow", 600<<10, slow) }()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		asked := d.asked
		d.mu.Unlock()
		if asked == 600<<10 {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it does not begin")
		}
	}
	refused("a second one", put("plain", "second", 600<<10))
	_, err = io.CopyN(more, strings.NewReader(strings.Repeat("x", 600<<10)), 600<<10)
	p.must(nil, errors.Join(err, more.Close()))
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first one: status %d", status)
	}
	p.must(nil, put("plain", "second", 600<<10))

	d.has(0) // nothing is promised any more
	p.must(nil, put("plain", "empty", 0))
}

// reading is a reader of nothing that is a function.
type reading func()

func (r reading) Read([]byte) (int, error) {
	r()
	return 0, io.EOF
}
