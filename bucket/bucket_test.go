package bucket_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"lambent"
	"lambent/bucket"
	"lambent/bucket/gateway"
	"lambent/internal/sigv4"
	"lambent/source/object"
)

// The program of the tests is that of gateways, too.
const gatewayVerb = "gateway-of-tests"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == gatewayVerb {
		if err := gateway.Run(os.Args[2:], []string{os.Args[0], gatewayVerb}, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A platform is buckets behind a port, for the projects that its keys name.
type platform struct {
	t       testing.TB
	dir     string
	source  *object.Source
	buckets *bucket.Buckets
	url     string
	sink    sink
	change  []func(*bucket.Options)
}

// A sink keeps what it is given, unless it is told to fail.
type sink struct {
	mu     sync.Mutex // guards what follows
	events []lambent.Event
	err    error
}

func (s *sink) Publish(_ context.Context, e ...lambent.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.events = append(s.events, e...)
	return nil
}

func (s *sink) Refuse(context.Context, lambent.Event, string) error         { return nil }
func (s *sink) Deliver(context.Context, ...lambent.Event) ([]string, error) { return nil, nil }
func (s *sink) Position(context.Context) ([]byte, error)                    { return nil, nil }
func (s *sink) SetPosition(context.Context, []byte) error                   { return nil }

func (s *sink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *sink) take() []lambent.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.events
	s.events = nil
	return taken
}

// secret is that of an access key, which is PROJECT or PROJECT and a number.
func secret(key string) string { return "secret of " + key }

func start(t testing.TB, change ...func(*bucket.Options)) *platform {
	t.Helper()
	p := &platform{t: t, dir: filepath.Join(t.TempDir(), "buckets"), change: change}
	p.open()
	srv := httptest.NewServer(http.HandlerFunc(p.serve))
	p.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		p.close()
	})
	return p
}

func (p *platform) open() {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.source = object.Open(p.dir)
	o := bucket.Options{
		Dir: p.dir, Source: p.source, Program: []string{self, gatewayVerb}, Logger: slog.New(slog.DiscardHandler),
		Secret: func(project, key string) (string, error) { return secret(key), nil },
		Spare:  func(int64) error { return nil },
	}
	for _, change := range p.change {
		change(&o)
	}
	p.buckets, err = bucket.Open(context.Background(), o)
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *platform) close() {
	if err := p.buckets.Close(); err != nil {
		p.t.Error(err)
	}
	p.source.Close()
}

func (p *platform) serve(w http.ResponseWriter, r *http.Request) {
	err := func() error {
		if bucket.IsForm(r) {
			return p.buckets.ServeForm(w, r, func(key string) (string, error) { return key, nil })
		}
		s, err := sigv4.Parse(r)
		if err == nil {
			err = s.Verify(r, secret(s.AccessKey), time.Now())
		}
		if err != nil {
			return err
		}
		return p.buckets.Serve(w, r, s.AccessKey, s.AccessKey, 0)
	}()
	if err != nil {
		status := http.StatusBadRequest
		if lambent.Is(err, lambent.NoSpace) {
			status = http.StatusInsufficientStorage
		}
		http.Error(w, err.Error(), status)
	}
}

// client is one of a project's.
func (p *platform) client(project string, change ...func(*s3.Options)) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &p.url, Region: "eu-central-1", UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: project, SecretAccessKey: secret(project)}, nil
		}),
	}, change...)
}

// watch has what happens in a bucket go to the sink.
func (p *platform) watch(project string, b lambent.Bucket) (unbind func()) {
	return p.source.Bind(lambent.Trigger{ID: lambent.NewID(), Target: lambent.Name{Project: project, Function: "f"}, Bucket: &b}, &p.sink)
}

func (p *platform) must(_ any, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	p := start(t)
	c := p.client("shop")
	ctx := t.Context()
	_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: new("uploads")})
	p.must(nil, err)
	defer p.watch("shop", lambent.Bucket{Name: "uploads", Events: []string{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}})()
	for _, size := range []int{0, 1, 2, 1 << 10, 1 << 20, 3<<20 + 7} {
		want := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
		put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: new("uploads"), Key: new("a/photo of me.jpg"), Body: bytes.NewReader(want), ContentType: new("image/jpeg"), Metadata: map[string]string{"by": "me"}})
		if err != nil {
			t.Fatal(size, err)
		}
		got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: new("uploads"), Key: new("a/photo of me.jpg")})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(got.Body)
		if err != nil || !bytes.Equal(b, want) || *got.ETag != *put.ETag || got.Metadata["by"] != "me" {
			t.Fatalf("%d bytes: got %d, %v, %s, %v", size, len(b), err, *got.ETag, got.Metadata)
		}
		e := p.sink.take()
		if len(e) != 1 || e[0].Type != lambent.EventObjectCreated || !strings.Contains(string(e[0].Data), fmt.Sprintf(`"size":%d,`, size)) {
			t.Fatalf("%+v", e)
		}
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: new("uploads"), Key: new("a/photo of me.jpg")}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", p.sink.take()[0].Data)
	left, err := os.ReadDir(filepath.Join(p.dir, "shop", "intents"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// A gateway that nobody uses ends, and the next request has another.
func TestIdle(t *testing.T) {
	t.Parallel()
	p := start(t, func(o *bucket.Options) { o.Idle = 10 * time.Millisecond })
	c := p.client("shop")
	_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: new("uploads")})
	p.must(nil, err)
	lock := filepath.Join(p.dir, "shop", "lock")
	for range 3 {
		for begun := time.Now(); isLocked(t, lock); time.Sleep(time.Millisecond) {
			if time.Since(begun) > 10*time.Second {
				t.Fatal("the gateway does not end")
			}
		}
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: new("uploads"), Key: new("k"), Body: strings.NewReader("x")})
		p.must(nil, err)
	}
}

// isLocked reports whether a gateway is there.
func isLocked(t *testing.T, file string) bool {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// Buckets open where there is no room for the events of what was under way: these come
// when there is.
func TestOpensWithoutRoom(t *testing.T) {
	t.Parallel()
	var full sink
	p := start(t, func(o *bucket.Options) {
		o.Source.Bind(lambent.Trigger{ID: "t", Target: lambent.Name{Project: "shop", Function: "f"}, Bucket: &lambent.Bucket{Name: "uploads"}}, &full)
	})
	c := p.client("shop", func(o *s3.Options) { o.RetryMaxAttempts = 1 })
	_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: new("uploads")})
	p.must(nil, err)
	full.fail(lambent.Errorf(lambent.NoSpace, "test", "the disk is full"))
	if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: new("uploads"), Key: new("k"), Body: strings.NewReader("x")}); err == nil {
		t.Error("what has no event is acknowledged")
	}
	p.close()
	p.open()
	if e := full.take(); len(e) > 0 {
		t.Errorf("%+v", e)
	}
	full.fail(nil)
	put := func() error {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: new("uploads"), Key: new("l"), Body: strings.NewReader("x")})
		return err
	}
	for begun := time.Now(); put() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("nothing is taken though there is room")
		}
	}
	if e := full.take(); len(e) != 2 || e[0].Subject != "k" || e[1].Subject != "l" {
		t.Errorf("%+v", e)
	}
}

// A client that stops in the middle is not waited for, and has left nothing.
func TestStall(t *testing.T) {
	t.Parallel()
	p := start(t, func(o *bucket.Options) { o.Stall = 500 * time.Millisecond })
	c := p.client("shop")
	_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: new("uploads")})
	p.must(nil, err)
	defer p.watch("shop", lambent.Bucket{Name: "uploads"})()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.url+"/uploads/k", nil)
	p.must(nil, err)
	p.must(nil, sigv4.Sign(r, "shop", secret("shop"), "us-east-1", "s3", sigv4.UnsignedPayload, time.Now()))
	conn, err := net.Dial("tcp", r.URL.Host)
	p.must(nil, err)
	defer conn.Close()
	p.must(nil, conn.SetDeadline(time.Now().Add(10*time.Second)))
	var head bytes.Buffer
	fmt.Fprintf(&head, "PUT /uploads/k HTTP/1.1\r\nHost: %s\r\nContent-Length: 8\r\n", r.URL.Host)
	p.must(nil, r.Header.Write(&head))
	_, err = fmt.Fprintf(conn, "%s\r\nhalf", head.Bytes())
	p.must(nil, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	p.must(nil, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 400 || !strings.Contains(string(b), "has not come to its end") {
		t.Errorf("status %d: %s, %v", resp.StatusCode, b, err)
	}
	if _, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: new("uploads"), Key: new("k")}); err == nil {
		t.Error("half of it is there")
	}
	if e := p.sink.take(); len(e) != 0 {
		t.Errorf("%+v", e)
	}
}
