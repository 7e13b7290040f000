package web_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"lambent/server/servertest"
)

// event reads an event as AWS's own types have it.
func event(t *testing.T, body string) events.LambdaFunctionURLRequest {
	t.Helper()
	var e events.LambdaFunctionURLRequest
	d := json.NewDecoder(strings.NewReader(body))
	if err := d.Decode(&e); err != nil {
		t.Fatalf("the event %s: %v", body, err)
	}
	return e
}

// The event is payload format 2.0, the same in each language, by host and by path.
func TestEvent(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "python", echo)
	s.Node(t, "node", "export const handler = async (event) => ({statusCode: 200, body: JSON.stringify(event)})\n")
	deployGo(t, s, "go", "gourl")
	for _, name := range []string{"python", "node", "go"} {
		host := name + ".fn.localhost:" + s.Port()
		for _, at := range []struct{ path, host string }{{"", host}, {"/fn/" + name, "127.0.0.1:" + s.Port()}} {
			t.Run(name+at.path, func(t *testing.T) {
				a := servertest.Do(t, s.Request(t, "POST", at.path+"/a%20b/c%2Fd/%C3%A9?x=1&y=%20z&x=2&flag&e=", strings.NewReader(`{"k":"ü"}`),
					"Host", at.host, "Content-Type", "application/json", "Cookie", "a=1; b=2", "Cookie", "c=3",
					"X-Two", "one", "X-Two", "two", "User-Agent", "me/1", "X-Forwarded-For", "203.0.113.9"))
				e := event(t, a.Body)
				c := e.RequestContext
				if e.Version != "2.0" || e.RawPath != "/a b/c/d/é" || e.RawQueryString != "x=1&y=%20z&x=2&flag&e=" || e.Body != `{"k":"ü"}` || e.IsBase64Encoded {
					t.Errorf("the event is %s", a.Body)
				}
				if want := map[string]string{"x": "1,2", "y": " z", "flag": "", "e": ""}; !reflect.DeepEqual(e.QueryStringParameters, want) {
					t.Errorf("queryStringParameters %v, want %v", e.QueryStringParameters, want)
				}
				if want := []string{"a=1", "b=2", "c=3"}; !reflect.DeepEqual(e.Cookies, want) {
					t.Errorf("cookies %q, want %q", e.Cookies, want)
				}
				for h, want := range map[string]string{
					"host": at.host, "content-type": "application/json", "x-two": "one,two", "user-agent": "me/1",
					"content-length": "10", "x-forwarded-proto": "http", "x-forwarded-port": s.Port(), "x-forwarded-for": "127.0.0.1",
				} {
					if e.Headers[h] != want {
						t.Errorf("header %s: %q, want %q", h, e.Headers[h], want)
					}
				}
				if !strings.HasPrefix(e.Headers["x-amzn-trace-id"], "Root=1-") {
					t.Errorf("x-amzn-trace-id %q", e.Headers["x-amzn-trace-id"])
				}
				for h := range e.Headers {
					if h != strings.ToLower(h) {
						t.Errorf("header %s is not in lower case", h)
					}
				}
				h := c.HTTP
				if h.Method != "POST" || h.Path != e.RawPath || h.Protocol != "HTTP/1.1" || h.SourceIP != "127.0.0.1" || h.UserAgent != "me/1" {
					t.Errorf("requestContext.http is %+v", h)
				}
				if c.RequestID != a.Header.Get("X-Amzn-Requestid") || c.RequestID == "" || time.Since(time.UnixMilli(c.TimeEpoch)) > time.Minute ||
					c.AccountID != "anonymous" || c.DomainName+":"+s.Port() != at.host {
					t.Errorf("requestContext is %+v", c)
				}
				if at.path == "" && (c.APIID != name || c.DomainPrefix != name) {
					t.Errorf("apiId %q, domainPrefix %q, want the label of the host", c.APIID, c.DomainPrefix)
				}
				if name == "go" && (a.StatusCode != 201 || a.Header.Get("X-Go") != "1" || !reflect.DeepEqual(a.Header["Set-Cookie"], []string{"a=1", "b=2"})) {
					t.Errorf("the Go function's answer is %d %v", a.StatusCode, a.Header)
				}
			})
		}
	}
}

// The path that the code sees begins behind the function's name.
func TestEventPath(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "echo", echo)
	for path, want := range map[string]string{
		"/fn/echo": "/", "/fn/echo/": "/", "/fn/echo/a": "/a", "/fn/echo/fn/echo/": "/fn/echo/", "/fn/echo.default/x": "/x",
		"/fn/echo:latest/x": "/x", "/fn/echo/a?": "/a", "/fn/echo/%2e%2e/x": "/../x", "/fn/echo/a%3Fb": "/a?b",
		"/fn/echo/to/https://x//y/../z": "/to/https://x//y/../z", "/fn/echo//": "//",
	} {
		a := s.Get(t, path)
		if a.StatusCode != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, a.StatusCode, a.Body)
			continue
		}
		if e := event(t, a.Body); e.RawPath != want || e.RequestContext.HTTP.Path != want {
			t.Errorf("GET %s: rawPath %q, want %q", path, e.RawPath, want)
		}
	}
}

// Text goes as text; all else, and what only claims to be text, in base64.
func TestEventBody(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "echo", echo)
	binary := "\x00\xff\xfe"
	for _, c := range []struct {
		contentType, encoding, body, want string
		base64                            bool
	}{
		{"application/json", "", `{"a":1}`, `{"a":1}`, false},
		{"application/json; charset=utf-8", "", `"é"`, `"é"`, false},
		{"text/plain", "", "line\nline", "line\nline", false},
		{"application/vnd.x+json", "", "1", "1", false},
		{"application/xml", "", "<a/>", "<a/>", false},
		{"", "", "text", "text", false},
		{"text/plain", "", binary, "AP/+", true},
		{"text/plain", "gzip", "x", "eA==", true},
		{"application/octet-stream", "", "abc", "YWJj", true},
		{"application/x-www-form-urlencoded", "", "a=b", "YT1i", true},
		{"multipart/form-data; boundary=x", "", "--x--", "LS14LS0=", true},
		{"image/png", "", binary, "AP/+", true},
		{"not a type", "", "abc", "YWJj", true},
		{"image/png", "", "", "", false},
	} {
		for _, length := range []string{"length", "chunks"} {
			var body io.Reader = strings.NewReader(c.body)
			if length == "chunks" {
				body = io.MultiReader(body) // of which net/http does not know the length
			}
			a := servertest.Do(t, s.Request(t, "POST", "/fn/echo/", body, "Content-Type", c.contentType, "Content-Encoding", c.encoding))
			if e := event(t, a.Body); e.Body != c.want || e.IsBase64Encoded != c.base64 {
				t.Errorf("%s %s %q by %s: body %q, base64 %v; want %q, %v", c.contentType, c.encoding, c.body, length, e.Body, e.IsBase64Encoded, c.want, c.base64)
			}
		}
	}
}

// The methods are the function's to tell apart.
func TestEventMethod(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "method", `def handler(event, context):
    return {"statusCode": 200, "headers": {"x-method": event["requestContext"]["http"]["method"]}, "body": "body"}
`)
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		for _, host := range []string{"127.0.0.1", "method.fn.localhost"} {
			path := "/"
			if host == "127.0.0.1" {
				path = "/fn/method/"
			}
			a := servertest.Do(t, s.Request(t, m, path, nil, "Host", host))
			want := "body"
			if m == "HEAD" {
				want = ""
			}
			if a.StatusCode != 200 || a.Header.Get("X-Method") != m || a.Body != want || a.Header.Get("Content-Length") != "4" {
				t.Errorf("%s at %s: %d %v %q", m, host, a.StatusCode, a.Header, a.Body)
			}
		}
	}
}

// A body up to the limit passes, and one byte more is refused: announced or not.
func TestEventBodyLimit(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "size", "def handler(event, context):\n    return str(len(event.get('body', '')))\n")
	const limit = 6 << 20
	for _, c := range []struct {
		bytes  int
		chunks bool
		status int
	}{{limit / 2, false, 200}, {limit / 2, true, 200}, {limit + 1, false, 413}, {limit + 1, true, 413}, {limit * 3, true, 413}} {
		var body io.Reader = bytes.NewReader(bytes.Repeat([]byte("a"), c.bytes))
		if c.chunks {
			body = io.MultiReader(body)
		}
		a := servertest.Do(t, s.Request(t, "POST", "/fn/size/", body, "Content-Type", "text/plain"))
		if a.StatusCode != c.status {
			t.Errorf("%d bytes, chunks %v: %d %s, want %d", c.bytes, c.chunks, a.StatusCode, a.Body, c.status)
		}
		if c.status == 413 && !strings.Contains(a.Body, "over the limit of 6291456 bytes") {
			t.Errorf("%d bytes: %s", c.bytes, a.Body)
		}
	}
}
