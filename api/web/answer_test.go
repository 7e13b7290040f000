package web_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"lambent/client"
	"lambent/server/servertest"
)

// What a handler returns, and what becomes of it over HTTP.
func TestAnswer(t *testing.T) {
	s := servertest.Start(t)
	// The handler's answer is the request's body, as the JSON that it is.
	s.Python(t, "py", "import json\ndef handler(event, context):\n    return json.loads(event['body'])\n")
	s.Node(t, "js", "export const handler = async (event) => JSON.parse(event.body)\n")
	for _, c := range []struct {
		name, returns string
		status        int
		contentType   string
		body          string
	}{
		{"an object", `{"a": [1, "x", null]}`, 200, "application/json", ""},
		{"a list", `[1,2]`, 200, "application/json", ""},
		{"a string", `"<p>hi</p>"`, 200, "application/json", "<p>hi</p>"},
		{"a number", `7`, 200, "application/json", "7"},
		{"a truth", `true`, 200, "application/json", "true"},
		{"nothing", `null`, 200, "application/json", "null"},
		{"an object with a status inside", `{"a": {"statusCode": 404}}`, 200, "application/json", ""},
		{"a status", `{"statusCode": 404}`, 404, "application/json", "-"},
		{"a status and a body", `{"statusCode": 418, "body": "tea"}`, 418, "application/json", "tea"},
		{"no body", `{"statusCode": 200, "body": null}`, 200, "application/json", "-"},
		{"a type", `{"statusCode": 200, "headers": {"Content-Type": "text/html"}, "body": "<p>"}`, 200, "text/html", "<p>"},
		{"base64", `{"statusCode": 200, "headers": {"content-type": "image/png"}, "body": "AP/+", "isBase64Encoded": true}`, 200, "image/png", "\x00\xff\xfe"},
		{"a redirect", `{"statusCode": 302, "headers": {"location": "/there"}}`, 302, "application/json", "-"},
		{"204", `{"statusCode": 204}`, 204, "application/json", "-"},
		{"304", `{"statusCode": 304, "body": "ignored"}`, 304, "", "-"},
		{"a length that is wrong", `{"statusCode": 200, "headers": {"content-length": "99"}, "body": "four"}`, 200, "application/json", "four"},
		{"headers of the hop", `{"statusCode": 200, "headers": {"connection": "upgrade", "transfer-encoding": "chunked", "keep-alive": "1", "upgrade": "h2c", "trailer": "x"}, "body": "x"}`, 200, "application/json", "x"},
		{"a status that is none", `{"statusCode": 99}`, 502, "text/plain; charset=utf-8", "Internal Server Error"},
		{"a status in words", `{"statusCode": "teapot"}`, 502, "text/plain; charset=utf-8", "Internal Server Error"},
		{"base64 that is none", `{"statusCode": 200, "body": "*", "isBase64Encoded": true}`, 502, "text/plain; charset=utf-8", "Internal Server Error"},
		{"a body that is no string", `{"statusCode": 200, "body": {"a": 1}}`, 502, "text/plain; charset=utf-8", "Internal Server Error"},
	} {
		for _, f := range []string{"py", "js"} {
			a := servertest.Do(t, s.Request(t, "POST", "/fn/"+f+"/", strings.NewReader(c.returns), "Content-Type", "application/json"))
			want := c.body
			switch want {
			case "":
				want = strings.ReplaceAll(c.returns, " ", "")
			case "-":
				want = ""
			}
			got := a.Body
			if c.body == "" {
				got = strings.ReplaceAll(got, " ", "")
			}
			if a.StatusCode != c.status || a.Header.Get("Content-Type") != c.contentType || got != want {
				t.Errorf("%s from %s: %d %s %q, want %d %s %q", c.name, f, a.StatusCode, a.Header.Get("Content-Type"), got, c.status, c.contentType, want)
			}
			if c.status == 302 && a.Header.Get("Location") != "/there" {
				t.Errorf("%s: %v", c.name, a.Header)
			}
			for _, hop := range []string{"Upgrade", "Keep-Alive", "Trailer"} {
				if a.Header.Get(hop) != "" {
					t.Errorf("%s: the header %s has passed", c.name, hop)
				}
			}
		}
	}
}

func TestAnswerHeaders(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "f", `def handler(event, context):
    return {"statusCode": 200, "headers": {"x-a": "1", "X-NUMBER": 5, "x-true": True, "x-split": "a\r\nSet-Cookie: b=c", "bad name": "x", "x-ü": "y"},
        "multiValueHeaders": {"x-many": ["1", "2"]}, "cookies": ["a=1; Path=/", "b=2"], "body": ""}
`)
	a := s.Get(t, "/fn/f/")
	for name, want := range map[string][]string{
		"X-A": {"1"}, "X-Number": {"5"}, "X-True": {"true"}, "X-Many": {"1", "2"}, "Set-Cookie": {"a=1; Path=/", "b=2"},
		"X-Split": {"a  Set-Cookie: b=c"}, "Bad Name": nil, "Bad name": nil, "X-Ü": nil,
	} {
		if got := a.Header[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A function's own failure is a 502 that tells a stranger nothing.
func TestAnswerFault(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "raise", "def handler(event, context):\n    raise ValueError('secret')\n")
	s.Python(t, "exit", "import os\ndef handler(event, context):\n    os._exit(3)\n")
	s.Python(t, "slow", "import time\ndef handler(event, context):\n    time.sleep(60)\n", func(r *client.DeployRequest) { r.TimeoutMS = new(int64(200)) })
	s.Python(t, "large", "def handler(event, context):\n    return 'x' * (6 * 1024 * 1024 + 100)\n")
	s.Python(t, "init", "if True:\n    import os\n    os._exit(1)\n", func(r *client.DeployRequest) { r.Check = new(false) })
	for name, outcome := range map[string]string{"raise": "error", "exit": "exit", "slow": "timeout", "large": "", "init": ""} {
		a := s.Get(t, "/fn/"+name+"/")
		if a.StatusCode != http.StatusBadGateway || a.Body != "Internal Server Error" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Body)
		}
		list, err := s.Client.Invocation(t.Context(), a.Header.Get("X-Amzn-Requestid"))
		if err != nil || len(list.Invocations) != 1 {
			t.Fatalf("%s: the usage record: %v, %v", name, list, err)
		}
		if u := list.Invocations[0]; u.Trigger != "http" || outcome != "" && u.Outcome != outcome || u.Outcome == "ok" {
			t.Errorf("%s: the usage record is %+v", name, u)
		}
	}
}
