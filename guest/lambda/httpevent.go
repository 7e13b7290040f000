package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lambent"
)

// event returns the bytes that the code gets for an invocation.
func (in *instance) event(inv *lambent.Invocation) ([]byte, error) {
	switch {
	case inv.HTTP != nil:
		return httpEvent(inv, in.limits.MaxPayload)
	case inv.Events != nil:
		return nil, lambent.Errorf(lambent.Unsupported, "lambda.Invoke", "events cannot be shaped for AWS functions yet")
	case len(inv.Raw) == 0:
		return []byte("{}"), nil
	}
	return inv.Raw, nil
}

// An urlEvent is payload format 2.0 as function URLs send it
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html).
type urlEvent struct {
	Version               string            `json:"version"`
	RouteKey              string            `json:"routeKey"`
	RawPath               string            `json:"rawPath"`
	RawQueryString        string            `json:"rawQueryString"`
	Cookies               []string          `json:"cookies,omitempty"`
	Headers               map[string]string `json:"headers"`
	QueryStringParameters map[string]string `json:"queryStringParameters,omitempty"`
	RequestContext        urlContext        `json:"requestContext"`
	Body                  string            `json:"body,omitempty"`
	IsBase64Encoded       bool              `json:"isBase64Encoded"`
}

type urlContext struct {
	AccountID    string  `json:"accountId"`
	APIID        string  `json:"apiId"`
	DomainName   string  `json:"domainName"`
	DomainPrefix string  `json:"domainPrefix"`
	HTTP         urlHTTP `json:"http"`
	RequestID    string  `json:"requestId"`
	RouteKey     string  `json:"routeKey"`
	Stage        string  `json:"stage"`
	Time         string  `json:"time"`
	TimeEpoch    int64   `json:"timeEpoch"`
}

type urlHTTP struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

func httpEvent(inv *lambent.Invocation, limit int) ([]byte, error) {
	r := inv.HTTP
	var body []byte
	if r.Body != nil && r.ContentLength != 0 {
		if r.ContentLength > int64(limit) {
			return nil, requestTooLarge(limit)
		}
		var err error
		if body, err = io.ReadAll(io.LimitReader(r.Body, int64(limit)+1)); err != nil {
			return nil, lambent.Errorf(lambent.Canceled, "lambda.Invoke", "cannot read the request's body: %w", err)
		}
		if len(body) > limit {
			return nil, requestTooLarge(limit)
		}
	}
	path, err := url.PathUnescape(r.Path)
	if err != nil {
		path = r.Path
	}
	host, _, _ := strings.Cut(r.Host, ":")
	prefix, _, _ := strings.Cut(host, ".")
	now := time.Now().UTC()
	e := urlEvent{
		Version: "2.0", RouteKey: "$default", RawPath: path, RawQueryString: r.RawQuery,
		Headers: make(map[string]string, len(r.Header)+5),
		RequestContext: urlContext{
			AccountID: "anonymous", APIID: prefix, DomainName: host, DomainPrefix: prefix,
			HTTP: urlHTTP{
				Method: r.Method, Path: path, Protocol: r.Proto, SourceIP: r.RemoteIP, UserAgent: first(r.Header, "User-Agent"),
			},
			RequestID: inv.ID, RouteKey: "$default", Stage: "$default",
			Time: now.Format("02/Jan/2006:15:04:05 -0700"), TimeEpoch: now.UnixMilli(),
		},
	}
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
	e.Headers["host"] = r.Host
	e.Headers["x-forwarded-for"] = r.RemoteIP
	e.Headers["x-forwarded-proto"] = r.Scheme
	e.Headers["x-forwarded-port"] = port(r)
	e.Headers["x-amzn-trace-id"] = traceID(inv)
	if len(body) > 0 {
		e.Headers["content-length"] = strconv.Itoa(len(body))
	}
	if r.RawQuery != "" {
		e.QueryStringParameters = queryParameters(r.RawQuery)
	}
	if isText(first(r.Header, "Content-Type"), first(r.Header, "Content-Encoding")) && utf8.Valid(body) {
		e.Body = string(body)
	} else {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), len(body) > 0
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, lambent.Errorf(lambent.Internal, "lambda.Invoke", "cannot shape the request: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func requestTooLarge(limit int) error {
	return lambent.Errorf(lambent.TooLarge, "lambda.Invoke", "the request's body is over the limit of %d bytes", limit)
}

func first(h map[string][]string, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func port(r *lambent.Request) string {
	if _, p, ok := strings.Cut(r.Host, ":"); ok {
		return p
	}
	if r.Scheme == "https" {
		return "443"
	}
	return "80"
}

// queryParameters joins repeated parameters with commas, in their order.
func queryParameters(raw string) map[string]string {
	q := map[string]string{}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		k, v = unescapeQuery(k), unescapeQuery(v)
		if old, ok := q[k]; ok {
			v = old + "," + v
		}
		q[k] = v
	}
	return q
}

func unescapeQuery(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// isText reports whether a body of that type is handed on as text: AWS sends
// everything else in base64, forms too.
func isText(contentType, encoding string) bool {
	if encoding != "" && encoding != "identity" {
		return false
	}
	if contentType == "" {
		return true
	}
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	return strings.HasPrefix(t, "text/") || t == "application/json" || t == "application/javascript" || t == "application/xml" ||
		strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml")
}

// relayHTTP turns a buffered response into an HTTP answer. Without a statusCode
// the whole value is the body, as JSON; a string is the body as it is.
func relayHTTP(body []byte, out lambent.Reply) {
	status, header, content, err := parseHTTPResponse(body)
	if err != nil {
		out.End(lambent.Result{Fault: newFault(lambent.FaultHandler, "Runtime.InvalidResponse", "", err.Error())})
		return
	}
	if bodyAllowed(status) {
		header["Content-Length"] = []string{strconv.Itoa(len(content))}
	}
	if out.Begin(status, header) == nil && bodyAllowed(status) {
		_, _ = out.Write(content)
	}
	out.End(lambent.Result{})
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// An integration is what a handler returns to say status and headers, and the
// prelude of a streamed response.
type integration struct {
	StatusCode        *int                       `json:"statusCode"`
	Headers           map[string]json.RawMessage `json:"headers"`
	MultiValueHeaders map[string][]string        `json:"multiValueHeaders"`
	Cookies           []string                   `json:"cookies"`
	Body              json.RawMessage            `json:"body"`
	IsBase64Encoded   bool                       `json:"isBase64Encoded"`
}

func parseHTTPResponse(body []byte) (status int, header map[string][]string, content []byte, err error) {
	header = map[string][]string{"Content-Type": {"application/json"}}
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 {
		return http.StatusOK, header, nil, nil
	}
	if trimmed[0] == '"' {
		var s string
		if err := json.Unmarshal(trimmed, &s); err == nil {
			return http.StatusOK, header, []byte(s), nil
		}
	}
	if trimmed[0] != '{' || !bytes.Contains(trimmed, []byte(`"statusCode"`)) {
		return http.StatusOK, header, body, nil
	}
	var r integration
	if json.Unmarshal(trimmed, &r) != nil || r.StatusCode == nil {
		var probe struct {
			StatusCode json.RawMessage `json:"statusCode"`
		}
		if json.Unmarshal(trimmed, &probe) == nil && probe.StatusCode == nil {
			return http.StatusOK, header, body, nil // the word is somewhere inside
		}
		return 0, nil, nil, errors.New("the response has a statusCode, but is not of the documented form")
	}
	if status, header, err = r.head(); err != nil {
		return 0, nil, nil, err
	}
	switch {
	case len(r.Body) == 0 || string(r.Body) == "null":
	case r.Body[0] != '"':
		return 0, nil, nil, errors.New("the response's body is not a string")
	default:
		var s string
		if err := json.Unmarshal(r.Body, &s); err != nil {
			return 0, nil, nil, fmt.Errorf("the response's body: %w", err)
		}
		content = []byte(s)
		if r.IsBase64Encoded {
			if content, err = base64.StdEncoding.DecodeString(s); err != nil {
				return 0, nil, nil, errors.New("the response says isBase64Encoded, but its body is not base64")
			}
		}
	}
	return status, header, content, nil
}

// head returns the status and the headers; the type is JSON unless said.
func (r *integration) head() (int, map[string][]string, error) {
	status := http.StatusOK
	if r.StatusCode != nil {
		status = *r.StatusCode
	}
	if status < 200 || status > 599 {
		return 0, nil, fmt.Errorf("the response's statusCode %d is outside 200 to 599", status)
	}
	header := make(map[string][]string, len(r.Headers)+2)
	for name, raw := range r.Headers {
		header[http.CanonicalHeaderKey(name)] = []string{headerValue(raw)}
	}
	for name, values := range r.MultiValueHeaders {
		header[http.CanonicalHeaderKey(name)] = values
	}
	if len(r.Cookies) > 0 {
		header["Set-Cookie"] = append(header["Set-Cookie"], r.Cookies...)
	}
	delete(header, "Content-Length") // we know it better
	if _, ok := header["Content-Type"]; !ok {
		header["Content-Type"] = []string{"application/json"}
	}
	return status, header, nil
}

// headerValue accepts numbers and booleans beside strings, as AWS does.
func headerValue(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// integrationResponse is the content type that announces a prelude.
const integrationResponse = "application/vnd.awslambda.http-integration-response"

// maxPrelude bounds the JSON before a streamed body.
const maxPrelude = 64 << 10

// readPrelude reads {statusCode, headers, cookies} and the eight NUL bytes behind
// it, and returns what it read of the body.
func readPrelude(body io.Reader) (status int, header map[string][]string, rest []byte, err error) {
	buf := make([]byte, 0, 4<<10)
	end := make([]byte, 8)
	for {
		if i := bytes.Index(buf, end); i >= 0 {
			var r integration
			if err := json.Unmarshal(buf[:i], &r); err != nil {
				return 0, nil, nil, fmt.Errorf("the streamed response's prelude is not JSON: %w", err)
			}
			status, header, err = r.head()
			return status, header, buf[i+len(end):], err
		}
		if len(buf) > maxPrelude {
			return 0, nil, nil, fmt.Errorf("the streamed response's prelude is over %d bytes", maxPrelude)
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return 0, nil, nil, errors.New("the streamed response ends in its prelude")
		}
		if err != nil {
			return 0, nil, nil, err
		}
	}
}
