package v1_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/server/servertest"
)

// An asynchronous call is answered once it is kept, and is the same one under one key.
func TestInvokeAsync(t *testing.T) {
	var got []lambent.Invocation
	s := listen(t, face(func(_ context.Context, inv *lambent.Invocation, r lambent.Reply) error {
		if r != nil {
			t.Error("somebody waits")
		}
		kept := *inv
		kept.Raw = append([]byte{}, inv.Raw...)
		got = append(got, kept)
		if string(inv.Raw) == "full" {
			return lambent.Errorf(lambent.Throttled, "test", "the lane is full")
		}
		return nil
	}))
	url := s.URL + "/v1/functions/f/invocations?qualifier=live"
	for i, key := range []string{"", "", "k", "k", "l"} {
		header := []string{"Prefer", "respond-async"}
		if key != "" {
			header = append(header, "Idempotency-Key", key)
		}
		resp := post(t, url, "payload", header...)
		inv := got[i]
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted || len(b) != 0 || resp.Header.Get("Preference-Applied") != "respond-async" {
			t.Errorf("%d, %q, %v", resp.StatusCode, b, resp.Header)
		}
		if !inv.Async || inv.ID != resp.Header.Get("Lambent-Request-Id") || inv.Target.Qualifier != "live" || string(inv.Raw) != "payload" {
			t.Errorf("%+v", inv)
		}
	}
	if got[0].ID == got[1].ID || got[2].ID != got[3].ID || got[3].ID == got[4].ID {
		t.Errorf("%v", got)
	}
	for _, c := range []struct {
		status int
		body   string
		header []string
	}{
		{429, "full", nil},
		{413, strings.Repeat("x", 1<<20+1), nil},
		{400, "x", []string{"Lambent-Log", "tail"}},
		{400, "x", []string{"Lambent-Wait-Ms", "5"}},
		{400, "x", []string{"Idempotency-Key", strings.Repeat("x", 300)}},
		{202, "x", []string{"Prefer", "wait=10, Respond-Async"}},
	} {
		if resp := post(t, url, c.body, append([]string{"Prefer", "respond-async"}, c.header...)...); resp.StatusCode != c.status {
			t.Errorf("%.20s with %v: %d, want %d", c.body, c.header, resp.StatusCode, c.status)
		}
	}
}

// Events come in any of the modes of CloudEvents over HTTP, and are what they were to the
// code.
func TestEventModes(t *testing.T) {
	s := servertest.Start(t)
	_, err := s.Deploy(t.Context(), t, "f", servertest.Files{"app.py": "import json\ndef handler(event, context):\n    print('got', json.dumps(event, sort_keys=True, ensure_ascii=False))\n"},
		client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler"), Triggers: []client.SourceRequest{{Pattern: []byte(`{"source":[{"exists":true}]}`)}}})
	if err != nil {
		t.Fatal(err)
	}
	const rest = `"region": "us-east-1", "resources": [], "source": "/shop", "time": "2026-11-27T18:00:00Z", "version": "0"}`
	for _, c := range []struct {
		body   string
		header []string
		want   string
	}{
		{
			`{"specversion":"1.0","id":"structured","source":"/shop","type":"t","time":"2026-11-27T18:00:00Z","data":{"a":1.50}}`, []string{"Content-Type", "application/cloudevents+json; charset=utf-8"},
			`got {"account": "000000000000", "detail": {"a": 1.5}, "detail-type": "t", "id": "structured", ` + rest,
		},
		{
			`[{"specversion":"1.0","id":"batch","source":"/shop","type":"t","time":"2026-11-27T18:00:00Z","data_base64":"eHl6"}]`, []string{"Content-Type", "application/cloudevents-batch+json"},
			`got {"account": "000000000000", "detail": "xyz", "detail-type": "t", "id": "batch", ` + rest,
		},
		{
			`{"a":2}`, []string{"Content-Type", "application/json", "Ce-Specversion", "1.0", "Ce-Id", "binary", "Ce-Source", "/shop", "Ce-Type", "gr%C3%BC%C3%9Fe", "Ce-Time", "2026-11-27T18:00:00Z", "Ce-Tenant", "x"},
			`got {"account": "000000000000", "detail": {"a": 2}, "detail-type": "grüße", "id": "binary", ` + rest,
		},
	} {
		resp := post(t, s.URL()+"/v1/events", c.body, append(c.header, "Authorization", "Bearer "+s.Token)...)
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted || strings.TrimSpace(string(b)) != `{"events":1,"invocations":1}` {
			t.Fatalf("%d, %s", resp.StatusCode, b)
		}
		await(t, s, "f", c.want)
	}
	accepted, err := s.Client.Events(t.Context(), client.ReplayRequest{Selection: client.Selection{Since: "1h"}}, 100)
	if err != nil {
		t.Fatal(err)
	}
	one := func(id string) string { return `{"specversion":"1.0","id":"` + id + `","source":"/shop","type":"t"}` }
	many := "[" + strings.Repeat(one("many")+",", 100) + one("many") + "]"
	for _, c := range []struct {
		status int
		body   string
		header []string
	}{
		{400, "[" + one("good 0") + `,{"specversion":"1.0","id":"bad","source":"/shop"},` + one("good 2") + "]", []string{"Content-Type", "application/cloudevents-batch+json"}},
		{400, "[" + one("good 0") + `,{"specversion":"1.0","id":"bad","source":"/shop","type":"t","time":"today"},` + one("good 2") + "]", []string{"Content-Type", "application/cloudevents-batch+json"}},
		{413, many, []string{"Content-Type", "application/cloudevents-batch+json"}},
		{400, `{}`, []string{"Content-Type", "application/cloudevents+json"}},
		{400, `{"specversion"`, []string{"Content-Type", "application/cloudevents+json"}},
		{400, `{}`, []string{"Content-Type", "application/cloudevents-batch+json"}},
		{400, `[{}]`, []string{"Content-Type", "application/cloudevents-batch+json"}},
		{400, `x`, []string{"Content-Type", "text/plain"}},
		{400, `x`, []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s"}},
		{400, `x`, []string{"Ce-Specversion", "0.3", "Ce-Id", "1", "Ce-Source", "s", "Ce-Type", "t"}},
		{400, `x`, []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s", "Ce-Type", "%zz"}},
		{400, `x`, []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s", "Ce-Type", "t", "Ce-Time", "today"}},
	} {
		resp := post(t, s.URL()+"/v1/events", c.body, append(c.header, "Authorization", "Bearer "+s.Token)...)
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != c.status || strings.Contains(c.body, "good") && !strings.Contains(string(b), "event 1 of the batch") ||
			c.status == 413 && !strings.Contains(string(b), "101 events are over the limit of 100") {
			t.Errorf("%.200s with %v: %d, %s", c.body, c.header, resp.StatusCode, b)
		}
	}
	if now, err := s.Client.Events(t.Context(), client.ReplayRequest{Selection: client.Selection{Since: "1h"}}, 100); err != nil || len(now) != len(accepted) {
		t.Errorf("of what was refused some was published: %d events, and %d before, %v", len(now), len(accepted), err)
	}
	if resp := post(t, s.URL()+"/v1/events", "{}"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d", resp.StatusCode)
	}
}

// A webhook whose signature is not the project's, of this message and of now, publishes nothing.
func TestWebhookSignatures(t *testing.T) {
	s := servertest.Start(t)
	secret, err := s.Client.WebhookSecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(id, secret, signed, body string, at time.Time) int {
		t.Helper()
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		seconds := strconv.FormatInt(at.Unix(), 10)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + seconds + "." + signed))
		resp := post(t, s.URL()+"/v1/webhooks", body, "Content-Type", "application/json",
			"Webhook-Id", id, "Webhook-Timestamp", seconds, "Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		return resp.StatusCode
	}
	const body = `{"type":"paid","data":{"n":1}}`
	now := time.Now()
	for name, status := range map[string]int{
		"another's secret": send("m1", "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 24)), body, body, now),
		"another body":     send("m2", secret, body, `{"type":"paid","data":{"n":2}}`, now),
		"long ago":         send("m3", secret, body, body, now.Add(-time.Hour)),
	} {
		if status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status := send("m4", secret, body, body, now); status != http.StatusAccepted {
		t.Errorf("as it should be: %d", status)
	}
	kept, err := s.Client.Events(t.Context(), client.ReplayRequest{Selection: client.Selection{Since: "1h"}}, 100)
	if err != nil || len(kept) != 1 || !strings.Contains(string(kept[0].Event), `"id":"m4"`) {
		t.Errorf("published: %s, %v", kept, err)
	}
}

// await waits until a function's log has a line.
func await(t *testing.T, s *servertest.Server, function, want string) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		log := ""
		for line, err := range s.Client.Logs(t.Context(), function, client.LogQuery{}) {
			if err != nil {
				t.Fatal(err)
			}
			log += line.Text + "\n"
		}
		if strings.Contains(log, want) {
			return
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("the log never says %s: %s", want, log)
		}
	}
}
