package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"lambent"
)

// A urlEvent is the event as a type, for encoding/json.
type urlEvent struct {
	Version               string            `json:"version"`
	RouteKey              string            `json:"routeKey"`
	RawPath               string            `json:"rawPath"`
	RawQueryString        string            `json:"rawQueryString"`
	Cookies               []string          `json:"cookies,omitempty"`
	Headers               map[string]string `json:"headers"`
	QueryStringParameters map[string]string `json:"queryStringParameters,omitempty"`
	RequestContext        struct {
		AccountID    string `json:"accountId"`
		APIID        string `json:"apiId"`
		DomainName   string `json:"domainName"`
		DomainPrefix string `json:"domainPrefix"`
		HTTP         struct {
			Method    string `json:"method"`
			Path      string `json:"path"`
			Protocol  string `json:"protocol"`
			SourceIP  string `json:"sourceIp"`
			UserAgent string `json:"userAgent"`
		} `json:"http"`
		RequestID string `json:"requestId"`
		RouteKey  string `json:"routeKey"`
		Stage     string `json:"stage"`
		Time      string `json:"time"`
		TimeEpoch int64  `json:"timeEpoch"`
	} `json:"requestContext"`
	Body            string `json:"body,omitempty"`
	IsBase64Encoded bool   `json:"isBase64Encoded"`
}

func reference(t *testing.T, inv *lambent.Invocation, body []byte) string {
	r := inv.HTTP
	path, err := url.PathUnescape(r.Path)
	if err != nil {
		path = r.Path
	}
	host, _, _ := strings.Cut(r.Host, ":")
	prefix, _, _ := strings.Cut(host, ".")
	e := urlEvent{Version: "2.0", RouteKey: "$default", RawPath: path, RawQueryString: r.RawQuery, Headers: map[string]string{}}
	for name, values := range r.Header {
		if name == "Cookie" {
			for _, v := range values {
				for c := range strings.SplitSeq(v, ";") {
					e.Cookies = append(e.Cookies, strings.TrimSpace(c))
				}
			}
		}
		e.Headers[strings.ToLower(name)] = strings.Join(values, ",")
	}
	for k, v := range map[string]string{
		"host": r.Host, "x-forwarded-for": r.RemoteIP, "x-forwarded-proto": r.Scheme, "x-forwarded-port": port(r), "x-amzn-trace-id": traceID(inv),
	} {
		e.Headers[k] = v
	}
	if len(body) > 0 {
		e.Headers["content-length"] = strconv.Itoa(len(body))
	}
	for part := range strings.SplitSeq(r.RawQuery, "&") {
		if part == "" {
			continue
		}
		if e.QueryStringParameters == nil {
			e.QueryStringParameters = map[string]string{}
		}
		k, v, _ := strings.Cut(part, "=")
		k, v = unescapeQuery(k), unescapeQuery(v)
		if old, ok := e.QueryStringParameters[k]; ok {
			v = old + "," + v
		}
		e.QueryStringParameters[k] = v
	}
	c := &e.RequestContext
	c.AccountID, c.APIID, c.DomainName, c.DomainPrefix = "anonymous", prefix, host, prefix
	c.HTTP.Method, c.HTTP.Path, c.HTTP.Protocol, c.HTTP.SourceIP, c.HTTP.UserAgent = r.Method, path, r.Proto, r.RemoteIP, first(r.Header, "User-Agent")
	c.RequestID, c.RouteKey, c.Stage = inv.ID, "$default", "$default"
	if isText(first(r.Header, "Content-Type"), first(r.Header, "Content-Encoding")) && utf8.Valid(body) {
		e.Body = string(body)
	} else {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), len(body) > 0
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(buf.String(), "\n")
}

var moment = regexp.MustCompile(`"time":"[^"]*","timeEpoch":\d+`)

// FuzzHTTPEvent holds the event that is written by hand to what encoding/json writes.
func FuzzHTTPEvent(f *testing.F) {
	f.Add("GET", "/", "", "f.fn.localhost:9700", "X-A", "1", "", "")
	f.Add("POST", "/a%20b/%zz", "x=1&x=2&y=%20&&e", "h", "Cookie", "a=1; b=\"2\"", "application/json", `{"é": "\u2028"}`)
	f.Add("PUT", "/%00\x01\"", "%zz=\\", "", "X-Forwarded-For", "\xff", "image/png", "\x00\xff")
	f.Add("", "", "&", "a.b.c", "Content-Length", "7", "text/html; charset=x", "<p>&")
	f.Fuzz(func(t *testing.T, method, path, query, host, name, value, contentType, body string) {
		inv := &lambent.Invocation{ID: "8f5c3a0e-6f0b-4b8e-9d5a-3f6f3f1f2a10", Trace: "Root=1-5759e988-bd862e3fe1be46a994272793", HTTP: &lambent.Request{
			Method: method, Path: path, RawQuery: query, Host: host, Proto: "HTTP/1.1", Scheme: "http", RemoteIP: "127.0.0.1",
			Header: map[string][]string{name: {value, "second"}, "Content-Type": {contentType}, "User-Agent": {value}},
			Body:   bytes.NewBufferString(body), ContentLength: int64(len(body)),
		}}
		if name != strings.Map(func(r rune) rune { return min(r, unicode.MaxASCII) }, name) {
			t.Skip() // nor is what is not ASCII
		}
		if strings.EqualFold(name, "content-type") || strings.EqualFold(name, "user-agent") {
			t.Skip() // one name in two ways is nothing that net/http hands on
		}
		for range 2 { // as for an instance that turned out to be dead, and another
			got, err := httpEvent(nil, inv, traceID(inv), 6<<20)
			if err != nil {
				t.Fatal(err)
			}
			want := reference(t, inv, []byte(body))
			if g, w := moment.ReplaceAllString(string(got), ""), moment.ReplaceAllString(want, ""); g != w {
				t.Fatalf("the event is\n%s, want\n%s", g, w)
			}
		}
	})
}

func BenchmarkHTTPEvent(b *testing.B) {
	const body = "hello, lambent"
	r := bytes.NewBufferString(body)
	inv := &lambent.Invocation{ID: "8f5c3a0e-6f0b-4b8e-9d5a-3f6f3f1f2a10", HTTP: &lambent.Request{
		Method: "POST", Path: "/", Host: "f.fn.localhost:9700", Proto: "HTTP/1.1", Scheme: "http", RemoteIP: "127.0.0.1",
		Header: map[string][]string{"Content-Type": {"text/plain"}, "Content-Length": {"14"}, "User-Agent": {"curl/8.0"}, "Accept": {"*/*"}},
		Body:   r, ContentLength: int64(len(body)),
	}}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		var err error
		if buf, err = httpEvent(buf[:0], inv, traceID(inv), 6<<20); err != nil {
			b.Fatal(err)
		}
	}
}
