package aws_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"lambent/api/aws"
	"lambent/auth"
	"lambent/internal/intake"
	"lambent/internal/sigv4"
)

// Who has said how much will come has that much room, and others wait for theirs; what has
// no body, and S3's, waits for none.
func TestMemory(t *testing.T) {
	k := auth.AccessKey{ID: "LSAAAAAAAAAAAAAAAAAA", Secret: "secret"}
	began := make(chan struct{})
	begins := sync.OnceFunc(func() { close(began) })
	answers := func(w http.ResponseWriter, r *http.Request, _ aws.Caller) error {
		_, err := io.Copy(io.Discard, r.Body)
		return err
	}
	face := aws.New(aws.Config{Services: map[string]aws.Service{"s3": answers, "sqs": answers}})
	memory := semaphore.NewWeighted(4 << 20)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 4<<20 {
			r.Body = io.NopCloser(io.TeeReader(r.Body, writing(begins)))
		}
		face.For(k, 0, memory).ServeHTTP(w, r)
	}))
	defer s.Close()
	send := func(ctx context.Context, service string, body io.Reader, hash string, length int64) (int, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/", body)
		if err != nil {
			return 0, err
		}
		r.ContentLength = length
		if err := sigv4.Sign(r, k.ID, k.Secret, "us-east-1", service, hash, time.Now()); err != nil {
			return 0, err
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		return resp.StatusCode, nil
	}
	slow, body := io.Pipe()
	large := []byte(strings.Repeat("x", 4<<20))
	ended := make(chan error, 1)
	go func() {
		code, err := send(t.Context(), "sqs", slow, sigv4.Hash(large), int64(len(large)))
		if err == nil && code != http.StatusOK {
			err = errors.New(http.StatusText(code))
		}
		ended <- err
	}()
	if _, err := body.Write(large[:1000]); err != nil {
		t.Fatal(err)
	}
	<-began
	small := func(service, text string, wait time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		_, err := send(ctx, service, strings.NewReader(text), sigv4.Hash([]byte(text)), int64(len(text)))
		return err
	}
	if err := small("sqs", "{}", 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("there is room for another: %v", err)
	}
	if err := errors.Join(small("sqs", "", 10*time.Second), small("s3", "x", 10*time.Second)); err != nil {
		t.Error(err)
	}
	if _, err := body.Write(large[1000:]); err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	if err := errors.Join(<-ended, small("sqs", "{}", 10*time.Second)); err != nil {
		t.Error(err)
	}
}

// A writing is a writer that is told what is written.
type writing func()

func (f writing) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// A payload of Lambda's for which there is no room is refused, and has no part in whose is right.
func TestPayloadWithoutRoom(t *testing.T) {
	k := auth.AccessKey{ID: "LSAAAAAAAAAAAAAAAAAA", Secret: "secret"}
	answers := func(w http.ResponseWriter, r *http.Request, _ aws.Caller) error {
		_, err := io.Copy(io.Discard, r.Body)
		return err
	}
	face := aws.New(aws.Config{Services: map[string]aws.Service{"lambda": answers}, Intake: intake.New(256 << 10)})
	for size, want := range map[int]int{4 << 10: http.StatusOK, 100 << 10: http.StatusOK, 200 << 10: http.StatusTooManyRequests} {
		payload := strings.Repeat("x", size)
		r := httptest.NewRequest(http.MethodPost, "/2015-03-31/functions/f/invocations", strings.NewReader(payload))
		if err := sigv4.Sign(r, k.ID, k.Secret, "us-east-1", "lambda", sigv4.Hash([]byte(payload)), time.Now()); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		if face.For(k, 0, nil).ServeHTTP(w, r); w.Code != want {
			t.Errorf("%d bytes: %d %s, want %d", size, w.Code, w.Body, want)
		}
	}
}
