package aws_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lambent/client"
	"lambent/internal/sigv4"
	"lambent/server/servertest"
)

func TestMain(m *testing.M) {
	if code, is := servertest.Gateway(); is {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// key makes an access key on a server.
func key(t testing.TB, s *servertest.Server, project, role string) *client.NewToken {
	t.Helper()
	c := *s.Client
	c.Project = project
	k, err := c.CreateToken(t.Context(), client.TokenRequest{Kind: "access_key", Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ask sends a request that is signed for a service, and returns the answer.
func ask(t testing.TB, s *servertest.Server, k *client.NewToken, service string, r *http.Request, at time.Time) servertest.Answer {
	t.Helper()
	body := []byte{}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = b
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		r.ContentLength = int64(len(b))
	}
	if err := sigv4.Sign(r, k.ID, k.Secret, "eu-west-1", service, sigv4.Hash(body), at); err != nil {
		t.Fatal(err)
	}
	return servertest.Do(t, r)
}

// Who signs with no key of ours, or not as is to be done, is told so in the form that
// its protocol has.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	good := key(t, s, "default", "admin")
	wrong, unknown, revoked := *good, *good, key(t, s, "default", "admin")
	wrong.Secret += "x"
	unknown.ID = "LAAAAAAAAAAAAAAAAAAA"
	if err := s.Client.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	short, err := s.Client.CreateToken(t.Context(), client.TokenRequest{Kind: "access_key", ExpiresInS: 1})
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Client.CreateToken(t.Context(), client.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(short.Expires)) // a second at most

	form := []string{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}
	target := []string{"X-Amz-Target", "DynamoDB_20120810.GetItem", "Content-Type", "application/x-amz-json-1.0"}
	now := time.Now()
	for name, c := range map[string]struct {
		key     *client.NewToken
		service string
		header  []string
		at      time.Time
		status  int
		want    string
	}{
		"service, json":   {good, "dynamodb", target, now, 400, `{"__type":"UnknownOperationException","message":"\"dynamodb\" is not among the services`},
		"service, query":  {good, "iam", form, now, 400, `<ErrorResponse><Error><Type>Sender</Type><Code>InvalidAction</Code><Message>&#34;iam&#34; is not among`},
		"service, rest":   {good, "apigateway", nil, now, 501, `"__type":"NotImplemented"`},
		"key, json":       {&unknown, "events", target, now, 403, `"__type":"UnrecognizedClientException","message":"access key \"LAAAAAAAAAAAAAAAAAAA\" is not known: it was mistyped, revoked`},
		"key, query":      {&unknown, "events", form, now, 403, `<Code>InvalidClientTokenId</Code>`},
		"revoked":         {revoked, "events", target, now, 403, "is not known"},
		"expired":         {short, "events", target, now, 403, "expired at"},
		"a token":         {token, "events", target, now, 403, "is not known"},
		"secret, json":    {&wrong, "events", target, now, 403, `"__type":"InvalidSignatureException"`},
		"secret, query":   {&wrong, "events", form, now, 403, `<Code>SignatureDoesNotMatch</Code>`},
		"old, json":       {good, "events", target, now.Add(-20 * time.Minute), 403, `"__type":"RequestTimeTooSkewed"`},
		"old, query":      {good, "events", form, now.Add(-20 * time.Minute), 403, `<Code>RequestTimeTooSkewed</Code>`},
		"from the future": {good, "events", target, now.Add(20 * time.Minute), 403, `"__type":"RequestTimeTooSkewed"`},
		"session":         {good, "events", append([]string{"X-Amz-Security-Token", "x"}, target...), now, 403, "unset AWS_SESSION_TOKEN"},
		"another host":    {good, "events", append([]string{"Host", "evil.example"}, target...), now, 421, "this server is not called"},
	} {
		t.Run(name, func(t *testing.T) {
			a := ask(t, s, c.key, c.service, s.Request(t, "POST", "/", strings.NewReader("{}"), c.header...), c.at)
			if a.StatusCode != c.status || !strings.Contains(a.Body, c.want) {
				t.Errorf("status %d: %s", a.StatusCode, a.Body)
			}
			if c.status != 421 && a.Header.Get("X-Amzn-Requestid") == "" {
				t.Error("the answer has no id")
			}
			for name := range a.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("the answer has %s", name)
				}
			}
		})
	}
	a := ask(t, s, good, "events", s.Request(t, "POST", "/", strings.NewReader(strings.Repeat("x", 5<<20)), target...), now)
	if a.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("5 MB: status %d: %s", a.StatusCode, a.Body)
	}
	// A key is no token.
	for _, secret := range []string{good.ID, good.Secret} {
		if _, err := client.New(s.URL(), secret).Functions(context.WithoutCancel(t.Context()), "", 1); err == nil {
			t.Error("half of an access key is taken for a token")
		}
	}
}
