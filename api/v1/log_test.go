package v1_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/server/servertest"
)

// The log of a call: its lines between START and END, and the report.
func TestLog(t *testing.T) {
	s := servertest.Start(t)
	ctx := t.Context()
	s.Python(t, "f", `import sys
print("loading")
def handler(event, context):
    print("to\tout é")
    print("to err", file=sys.stderr)
    sys.stdout.write("no newline")
    return event
`)
	var out bytes.Buffer
	o, err := s.Client.Invoke(ctx, client.InvokeRequest{Name: "f", Payload: strings.NewReader(`{"n":1}`), Log: true, Usage: true}, &out)
	if err != nil || out.String() != `{"n": 1}` {
		t.Fatalf("%s, %v", out.String(), err)
	}
	var texts []string
	for line, err := range s.Client.Logs(ctx, "f", client.LogQuery{Request: o.RequestID}) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Request != o.RequestID || line.Version != "latest" || time.Since(line.Time) > time.Minute {
			t.Errorf("%+v", line)
		}
		texts = append(texts, line.Text)
	}
	want := []string{"START RequestId: " + o.RequestID + " Version: $LATEST", "to\tout é", "to err", "no newline", "END RequestId: " + o.RequestID, "REPORT RequestId: " + o.RequestID}
	if len(texts) != len(want) {
		t.Fatalf("%q", texts)
	}
	for i := range want {
		if !strings.HasPrefix(texts[i], want[i]) || i < 5 && texts[i] != want[i] {
			t.Errorf("line %d is %q, want %q", i, texts[i], want[i])
		}
	}
	if tail := string(o.LogTail); tail != strings.Join(texts, "\n")+"\n" {
		t.Errorf("the tail is %q", tail)
	}
	if u := o.Usage; u == nil || u.ID != o.RequestID || u.Outcome != "ok" || u.BytesIn != 7 || u.BytesOut != 8 || u.Trigger != "invoke" || u.BilledMS < 1 {
		t.Errorf("%+v", u)
	}
	for q, want := range map[client.LogQuery]int{
		{}: 7, {Limit: 2}: 2, {Grep: "^to "}: 1, {Grep: "loading"}: 1, {Since: "1h"}: 7, {Until: "1h"}: 0,
		{Since: time.Now().Add(time.Hour).Format(time.RFC3339)}: 0, {Request: "none"}: 0,
	} {
		n := 0
		for _, err := range s.Client.Logs(ctx, "f", q) {
			if err != nil {
				t.Errorf("%+v: %v", q, err)
			}
			n++
		}
		if n != want {
			t.Errorf("%+v: %d lines, want %d", q, n, want)
		}
	}
	for _, q := range []client.LogQuery{{Grep: "("}, {Since: "yesterday"}, {Limit: -1}} {
		for _, err := range s.Client.Logs(ctx, "f", q) {
			refused(t, err, lambent.Invalid, "")
		}
	}
	for _, err := range s.Client.Logs(ctx, "nothing", client.LogQuery{Follow: true}) {
		refused(t, err, lambent.NotFound, "nothing")
	}
}

// Who follows a log sees each line as it is written, and hears of the end where
// the function is deleted.
func TestLogFollow(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "f", "def handler(event, context):\n    print('line', event)\n")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	lines, ended := make(chan string, 100), make(chan error, 1)
	go func() {
		for line, err := range s.Client.Logs(ctx, "f", client.LogQuery{Follow: true, Grep: "^line", Since: "1h"}) {
			if err != nil {
				ended <- err
				return
			}
			lines <- line.Text
		}
		ended <- nil
	}()
	for i := range 5 {
		payload := string(rune('0' + i))
		if _, err := s.Client.Invoke(ctx, client.InvokeRequest{Name: "f", Payload: strings.NewReader(payload)}, io.Discard); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-lines:
			if got != "line "+payload {
				t.Errorf("%q, want line %s", got, payload)
			}
		case <-ctx.Done():
			t.Fatal("the line does not come")
		}
	}
	if err := s.Client.Delete(ctx, "f", ""); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}

// A follower that does not read loses lines and is told how many; it delays no
// function, and holds no memory to speak of.
func TestSlowFollower(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "f", "def handler(event, context):\n    for i in range(100_000):\n        print('line', i, 'x' * 100)\n",
		func(r *client.DeployRequest) { r.TimeoutMS = new(int64(60_000)) })
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = io.WriteString(c, "GET /v1/functions/f/logs?follow=true&limit=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+s.Token+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 64)
	if _, err := io.ReadFull(c, head); err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 200 OK") {
		t.Fatalf("%q, %v", head, err) // it is followed from here on
	}
	for range 3 { // 36 MB of log
		o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: "f"}, io.Discard)
		if err != nil || o.Fault != "" {
			t.Fatalf("%+v, %v", o, err)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	var got strings.Builder
	buf := make([]byte, 64<<10)
	for !strings.Contains(got.String(), `"dropped":`) {
		n, err := c.Read(buf)
		got.Write(buf[:n])
		if err != nil {
			t.Fatalf("after %d bytes, none of which say what is missing: %v", got.Len(), err)
		}
	}
	if got.Len() > 24<<20 {
		t.Errorf("%d MB were kept for a reader that did not read", got.Len()>>20)
	}
}
