package server_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent/client"
	"lambent/internal/sigv4"
	"lambent/server"
	"lambent/server/servertest"
)

// On a disk that is full an upload is refused in S3's words, and there is neither half of
// it nor an event, while what was there stays; with room again it is taken.
func TestFullDiskBuckets(t *testing.T) {
	dir := smallDisk(t, "64m")
	s := servertest.Start(t, func(c *server.Config) { c.Data = dir })
	s.Python(t, "f", hello)
	if _, err := s.Client.AddTrigger(t.Context(), client.TriggerRequest{Function: "f", SourceRequest: client.SourceRequest{Bucket: &client.Bucket{Name: "uploads"}}}); err != nil {
		t.Fatal(err)
	}
	key, err := s.Client.CreateToken(t.Context(), client.TokenRequest{Kind: "access_key", Role: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string) servertest.Answer {
		t.Helper()
		r := s.Request(t, method, path, io.NopCloser(strings.NewReader(body)))
		if r.ContentLength = int64(len(body)); body == "" {
			r.Body = http.NoBody
		}
		if err := sigv4.Sign(r, key.ID, key.Secret, "us-east-1", "s3", sigv4.Hash([]byte(body)), time.Now()); err != nil {
			t.Fatal(err)
		}
		return servertest.Do(t, r)
	}
	want := func(status int, method, path, body string) servertest.Answer {
		t.Helper()
		a := ask(method, path, body)
		if a.StatusCode != status {
			t.Errorf("%s %s: status %d, want %d: %s", method, path, a.StatusCode, status, a.Body)
		}
		return a
	}
	ran := func(n int) { // so many events have reached the function
		t.Helper()
		for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			list, err := s.Client.Invocations(t.Context(), "f", client.Period{}, 100)
			if err != nil || len(list.Invocations) > n || time.Since(begun) > 5*time.Second {
				t.Fatalf("%d invocations, want %d, %v", len(list.Invocations), n, err)
			}
			if len(list.Invocations) == n {
				return
			}
		}
	}
	big := strings.Repeat("0123456789abcdef", 1<<20/16)
	want(200, "PUT", "/uploads", "")
	want(200, "PUT", "/uploads/old", "old")
	ran(1)

	// A part of the disk stays free of objects, here 16 MB, so that all else goes on.
	const reserve = 16 << 20
	room := fill(t, s.Data, reserve+3<<20)
	taken := 0
	for ; taken < 8 && ask("PUT", fmt.Sprintf("/uploads/%d", taken), big).StatusCode == 200; taken++ {
	}
	if left := free(t, s.Data); taken == 0 || taken > 3 || left < reserve-1<<20 {
		t.Errorf("%d objects were taken, and %d bytes are free", taken, left)
	}
	ran(1 + taken)
	if o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: "f"}, io.Discard); err != nil || o.Fault != "" {
		t.Errorf("called with no room for objects: %v, %s", err, o.Fault)
	}
	for i := range taken {
		want(204, "DELETE", fmt.Sprintf("/uploads/%d", i), "")
	}
	want(200, "PUT", "/uploads/after", big)
	room()
	ran(3 + taken)

	room = fill(t, s.Data, 600<<10)
	for range 3 {
		if a := want(507, "PUT", "/uploads/new", big); !strings.Contains(a.Body, "<Code>InsufficientStorage</Code>") {
			t.Error(a.Body)
		}
		want(507, "PUT", "/uploads/old", big)
	}
	want(404, "GET", "/uploads/new", "")
	if a := want(200, "GET", "/uploads/old", ""); a.Body != "old" {
		t.Errorf("the old one is %.40q now", a.Body)
	}
	room()
	left, err := os.ReadDir(filepath.Join(s.Data, "buckets", "default", "intents"))
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	want(200, "PUT", "/uploads/new", big)
	ran(4 + taken)
}
