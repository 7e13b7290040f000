package webhook_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lambent"
	"lambent/internal/webhook"
)

var secret = "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("lambent!"), 4))

func message(url string) webhook.Message {
	return webhook.Message{
		URL: url, ID: "msg-1", Secret: secret, Body: []byte(`{"type":"t"}`),
		Reach: func(string, netip.AddrPort) bool { return true },
	}
}

// A receiver checks with the library of those who made the standard.
func TestSignature(t *testing.T) {
	checker, err := standard.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		told <- errors.Join(err, checker.Verify(body, r.Header))
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	if err := webhook.Send(t.Context(), message(s.URL+"/hook?a=b")); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err != nil {
		t.Error(err)
	}
	other := message(s.URL)
	other.Secret = "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	if err := webhook.Send(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := <-told; err == nil {
		t.Error("a message of another's was taken for ours")
	}
}

func TestAnswers(t *testing.T) {
	moved := 0
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { moved++ }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/moved":
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		case "/broken":
			http.Error(w, strings.Repeat("no\n", 1<<20), http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	for path, want := range map[string]lambent.Kind{"/gone": lambent.NotFound, "/moved": lambent.Unavailable, "/broken": lambent.Unavailable} {
		err := webhook.Send(t.Context(), message(s.URL+path))
		if lambent.KindOf(err) != want || len(fmt.Sprint(err)) > 1000 {
			t.Errorf("%s: %v", path, err)
		}
	}
	if moved > 0 {
		t.Error("a redirection was followed")
	}
	s.Close()
	if err := webhook.Send(t.Context(), message(s.URL)); lambent.KindOf(err) != lambent.Unavailable {
		t.Errorf("nobody listens: %v", err)
	}
}

// Where a name leads is looked at when it has led there.
func TestReach(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	m := message(strings.Replace(s.URL, "127.0.0.1", "localhost", 1))
	var asked []string
	m.Reach = func(host string, to netip.AddrPort) bool {
		asked = append(asked, host+" "+to.Addr().String())
		return lambent.Network(nil).Allows(host, to, false)
	}
	err := webhook.Send(t.Context(), m)
	if lambent.KindOf(err) != lambent.Forbidden || !strings.Contains(err.Error(), "may not reach") {
		t.Errorf("%v", err)
	}
	for _, one := range asked {
		if one != "localhost 127.0.0.1" && one != "localhost ::1" {
			t.Errorf("asked for %q", one)
		}
	}
	if asked == nil {
		t.Error("nobody was asked")
	}
}

// What the library of those who made the standard signs we take, and nothing else.
func TestVerify(t *testing.T) {
	signer, err := standard.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	now, body := time.Now(), []byte(`{"type":"t","data":{}}`)
	signature, err := signer.Sign("msg-1", now, body)
	if err != nil {
		t.Fatal(err)
	}
	at := strconv.FormatInt(now.Unix(), 10)
	for _, c := range []struct {
		id, at, signature, body string
		now                     time.Time
		says                    string
	}{
		{"msg-1", at, signature, string(body), now, ""},
		{"msg-1", at, "v1,AAAA v2,x " + signature, string(body), now.Add(4 * time.Minute), ""},
		{"msg-1", at, signature, string(body), now.Add(6 * time.Minute), "from now"},
		{"msg-1", at, signature, string(body), now.Add(-6 * time.Minute), "from now"},
		{"msg-2", at, signature, string(body), now, "is not made with"},
		{"msg-1", at, signature, string(body) + " ", now, "is not made with"},
		{"msg-1", strconv.FormatInt(now.Unix()+1, 10), signature, string(body), now, "is not made with"},
		{"msg-1", "soon", signature, string(body), now, "not both"},
		{"", at, signature, string(body), now, "not both"},
		{"msg-1", at, "v1,", string(body), now, "is not made with"},
	} {
		h := http.Header{"Webhook-Id": {c.id}, "Webhook-Timestamp": {c.at}, "Webhook-Signature": {c.signature}}
		id, sent, err := webhook.Verify(h, []byte(c.body), secret, c.now)
		switch {
		case c.says == "" && (err != nil || id != "msg-1" || sent.Unix() != now.Unix()):
			t.Errorf("%+v: %v", c, err)
		case c.says != "" && (!lambent.Is(err, lambent.Unauthenticated) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%+v: %v", c, err)
		}
	}
}
