package sigv4_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"lambent"
	"lambent/internal/sigv4"
)

const (
	testKey    = "LAEXAMPLE"
	testSecret = "secret/of+the-tests"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// arrive is a client's request as a server reads it off the wire.
func arrive(t testing.TB, r *http.Request) *http.Request {
	t.Helper()
	if r.GetBody != nil {
		r.Body, _ = r.GetBody() // it may have been sent before
	}
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	return parse(t, wire.String())
}

func parse(t testing.TB, wire string) *http.Request {
	t.Helper()
	in, err := readRequest(wire)
	if err != nil {
		t.Fatalf("%v\n%s", err, wire)
	}
	return in
}

// verify does what a server does with a request, and returns what the body is.
func verify(r *http.Request, secret string, now time.Time) (string, error) {
	s, err := sigv4.Parse(r)
	if err != nil {
		return "", err
	}
	if err := s.Verify(r, secret, now); err != nil {
		return "", err
	}
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

func wantReason(t *testing.T, err error, want string) {
	t.Helper()
	if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Reason != want {
		t.Errorf("the error is %v; want %s", err, want)
	}
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// What AWS's own signer makes is taken, by the header and presigned, and what Sign makes
// is the same.
func TestSDK(t *testing.T) {
	t.Parallel()
	paths := []string{
		"/", "", "/a/b", "/a b/ü/x+y", "/a%2Fb", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af/invocations",
		"/bucket/key=1,2;3@4$5!'()*", "/bucket/%25%20%7E~", "//a//b/./c/../d",
	}
	queries := []string{"", "a=1&b=2", "b=2&a=1&a=0", "list-type=2&prefix=a%2Fb%20c", "acl", "acl=&x", "x=%2B+%20", "%C3%BC=%C3%9C&~=-_.", "a=1=2"}
	credentials := awssdk.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
	for _, service := range []string{"s3", "sqs"} {
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
		for _, path := range paths {
			for _, query := range queries {
				for _, token := range []string{"", "session"} {
					credentials.SessionToken = token
					fresh := func() *http.Request {
						r, err := http.NewRequest("POST", "http://localhost:9700"+path+"?"+query, strings.NewReader("the body"))
						if err != nil {
							t.Fatal(err)
						}
						r.Header.Set("Content-Type", "application/x-amz-json-1.0")
						r.Header.Set("X-Amz-Meta-Spaces", "  a   b\tc  ")
						r.Header["X-Amz-Meta-Two"] = []string{"1", " 2 "}
						r.Header.Set("User-Agent", "changes on the way")
						return r
					}
					name := fmt.Sprintf("%s %s?%s %s", service, path, query, token)
					r := fresh()
					if service == "s3" {
						r.Header.Set("X-Amz-Content-Sha256", hash("the body"))
					}
					if err := signer.SignHTTP(t.Context(), credentials, r, hash("the body"), service, "eu-central-1", now); err != nil {
						t.Fatal(err)
					}
					in := arrive(t, r)
					in.Header.Set("User-Agent", "another")
					s, err := sigv4.Parse(in)
					if err != nil || s.AccessKey != testKey || s.Service != service || s.Region != "eu-central-1" || s.SessionToken != token || !s.Time.Equal(now) || s.Presigned {
						t.Fatalf("%s: %+v, %v", name, s, err)
					}
					if body, err := verify(in, testSecret, now); err != nil || body != "the body" {
						t.Errorf("%s: %q, %v", name, body, err)
					}
					_, err = verify(arrive(t, r), testSecret+"x", now)
					wantReason(t, err, sigv4.ReasonMismatch)

					ours := fresh()
					if token == "" {
						if err := sigv4.Sign(ours, testKey, testSecret, "eu-central-1", service, hash("the body"), now); err != nil {
							t.Fatal(err)
						}
						if body, err := verify(arrive(t, ours), testSecret, now); err != nil || body != "the body" {
							t.Errorf("%s, by Sign: %q, %v", name, body, err)
						}
					}

					pre := fresh()
					q := pre.URL.Query()
					q.Set("X-Amz-Expires", "60")
					pre.URL.RawQuery = q.Encode()
					payload := hash("the body")
					if service == "s3" {
						payload = sigv4.UnsignedPayload
					}
					uri, header, err := signer.PresignHTTP(t.Context(), credentials, pre, payload, service, "us-east-1", now)
					if err != nil {
						t.Fatal(err)
					}
					r, _ = http.NewRequest("POST", uri, strings.NewReader("the body"))
					for k, v := range header {
						if k != "Host" && k != "Content-Length" {
							r.Header[k] = v
						}
					}
					in = arrive(t, r)
					if !sigv4.IsSigned(in) {
						t.Fatalf("%s: not signed", uri)
					}
					if body, err := verify(in, testSecret, now.Add(59*time.Second)); err != nil || body != "the body" {
						t.Errorf("%s, presigned: %q, %v", name, body, err)
					}
					_, err = verify(arrive(t, r), testSecret, now.Add(61*time.Second))
					wantReason(t, err, sigv4.ReasonExpired)
				}
			}
		}
	}
}

// signed is a request that is signed, of S3.
func signed(t testing.TB, change func(*http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequest("PUT", "http://localhost/bucket/key?x=1", strings.NewReader("the body"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Meta-A", "1")
	if err := sigv4.Sign(r, testKey, testSecret, "us-east-1", "s3", hash("the body"), now); err != nil {
		t.Fatal(err)
	}
	r = arrive(t, r)
	if change != nil {
		change(r)
	}
	return r
}

// Whatever is signed cannot be changed, and what is not of the form is refused.
func TestRefusals(t *testing.T) {
	t.Parallel()
	replace := func(old, with string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, with, 1))
		}
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   string
	}{
		"method":                {func(r *http.Request) { r.Method = "DELETE" }, sigv4.ReasonMismatch},
		"path":                  {func(r *http.Request) { r.URL.Path = "/bucket/other" }, sigv4.ReasonMismatch},
		"query":                 {func(r *http.Request) { r.URL.RawQuery = "x=2" }, sigv4.ReasonMismatch},
		"more query":            {func(r *http.Request) { r.URL.RawQuery += "&y" }, sigv4.ReasonMismatch},
		"bad query":             {func(r *http.Request) { r.URL.RawQuery = "%zz" }, sigv4.ReasonIncomplete},
		"host":                  {func(r *http.Request) { r.Host = "evil.example" }, sigv4.ReasonMismatch},
		"signed header":         {func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "2") }, sigv4.ReasonMismatch},
		"unsigned header":       {func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }, sigv4.ReasonUnsigned},
		"hash":                  {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", hash("other")) }, sigv4.ReasonMismatch},
		"no hash":               {func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }, sigv4.ReasonMissingHash},
		"body":                  {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("the bodY")) }, sigv4.ReasonPayload},
		"no body":               {func(r *http.Request) { r.Body = nil }, sigv4.ReasonPayload},
		"region":                {replace("us-east-1", "us-east-2"), sigv4.ReasonMismatch},
		"service":               {replace("/s3/", "/sqs/"), sigv4.ReasonMismatch},
		"day":                   {replace("20260301", "20260302"), sigv4.ReasonIncomplete},
		"day in full":           {replace("20260301", "2026-03-01"), sigv4.ReasonIncomplete},
		"host not signed":       {replace("=host;", "="), sigv4.ReasonIncomplete},
		"order":                 {replace("host;x-amz-content-sha256", "x-amz-content-sha256;host"), sigv4.ReasonIncomplete},
		"case of headers":       {replace("=host;", "=Host;"), sigv4.ReasonIncomplete},
		"algorithm":             {replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), sigv4.ReasonIncomplete},
		"short signature":       {replace("Signature=", "Signature=; x="), sigv4.ReasonIncomplete},
		"terminator":            {replace("aws4_request", "aws4"), sigv4.ReasonIncomplete},
		"no credential":         {replace("Credential=", "Credentials="), sigv4.ReasonIncomplete},
		"no key":                {replace(testKey, ""), sigv4.ReasonIncomplete},
		"nothing":               {func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256") }, sigv4.ReasonIncomplete},
		"twice":                 {func(r *http.Request) { r.Header["Authorization"] = append(r.Header["Authorization"], "Basic x") }, sigv4.ReasonIncomplete},
		"both":                  {func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=x" }, sigv4.ReasonIncomplete},
		"no time":               {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, sigv4.ReasonIncomplete},
		"time without the zone": {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260301T120000") }, sigv4.ReasonIncomplete},
		"another time":          {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260301T120001Z") }, sigv4.ReasonMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verify(signed(t, c.change), testSecret, now)
			wantReason(t, err, c.want)
		})
	}
	if _, err := verify(signed(t, nil), testSecret, now); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	date := signed(t, func(r *http.Request) { r.Header.Set("Date", now.Format(http.TimeFormat)) })
	if _, err := verify(date, testSecret, now); err != nil {
		t.Errorf("with a date that is not signed, beside the one that is: %v", err)
	}
}

func TestSkew(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-15 * time.Minute, 0, 15 * time.Minute} {
		if _, err := verify(signed(t, nil), testSecret, now.Add(off)); err != nil {
			t.Errorf("at %v: %v", off, err)
		}
	}
	for _, off := range []time.Duration{-15*time.Minute - time.Second, 15*time.Minute + time.Second, 24 * time.Hour} {
		_, err := verify(signed(t, nil), testSecret, now.Add(off))
		wantReason(t, err, sigv4.ReasonSkewed)
	}
}

// A body whose hash is not in a header is read, within what the caller allows.
func TestBodyOfOtherServices(t *testing.T) {
	t.Parallel()
	fresh := func() *http.Request {
		r, _ := http.NewRequest("POST", "http://localhost/", strings.NewReader("{}"))
		if err := sigv4.Sign(r, testKey, testSecret, "us-east-1", "sqs", sigv4.Hash([]byte("{}")), now); err != nil {
			t.Fatal(err)
		}
		return arrive(t, r)
	}
	r := fresh()
	r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 1)
	if _, err := verify(r, testSecret, now); !lambent.Is(err, lambent.TooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	r = fresh()
	r.Body = io.NopCloser(strings.NewReader("[]"))
	_, err := verify(r, testSecret, now)
	wantReason(t, err, sigv4.ReasonMismatch)
	r = fresh()
	r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
	_, err = verify(r, testSecret, now)
	wantReason(t, err, sigv4.ReasonIncompleteEnd)
}
