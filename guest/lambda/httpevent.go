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
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lambent"
	"lambent/internal/jsonquote"
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

// httpEvent shapes a request as payload format 2.0, as function URLs send it
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html). It is on the
// path of each call, and so written by hand; a test holds it to encoding/json.
func httpEvent(inv *lambent.Invocation, limit int) ([]byte, error) {
	r := inv.HTTP
	body, err := readBody(r, limit)
	if err != nil {
		return nil, err
	}
	path, err := url.PathUnescape(r.Path)
	if err != nil {
		path = r.Path
	}
	host, _, _ := strings.Cut(r.Host, ":")
	prefix, _, _ := strings.Cut(host, ".")
	now := time.Now().UTC()
	str := jsonquote.Append[string]

	b := make([]byte, 0, 1024+len(body)+len(body)/2)
	b = str(append(b, `{"version":"2.0","routeKey":"$default","rawPath":`...), path)
	b = str(append(b, `,"rawQueryString":`...), r.RawQuery)
	if values := r.Header["Cookie"]; len(values) > 0 {
		sep := byte('[')
		b = append(b, `,"cookies":`...)
		for _, v := range values {
			for c := range strings.SplitSeq(v, ";") {
				b = str(append(b, sep), strings.TrimSpace(c))
				sep = ','
			}
		}
		b = append(b, ']')
	}
	b = append(b, `,"headers":`...)
	b = appendPairs(b, eventHeaders(inv, len(body)))
	if r.RawQuery != "" {
		if q := queryParameters(r.RawQuery); len(q) > 0 {
			b = append(b, `,"queryStringParameters":`...)
			b = appendPairs(b, q)
		}
	}
	b = append(b, `,"requestContext":{"accountId":"anonymous","apiId":`...)
	b = str(b, prefix)
	b = str(append(b, `,"domainName":`...), host)
	b = str(append(b, `,"domainPrefix":`...), prefix)
	b = str(append(b, `,"http":{"method":`...), r.Method)
	b = str(append(b, `,"path":`...), path)
	b = str(append(b, `,"protocol":`...), r.Proto)
	b = str(append(b, `,"sourceIp":`...), r.RemoteIP)
	b = str(append(b, `,"userAgent":`...), first(r.Header, "User-Agent"))
	b = str(append(b, `},"requestId":`...), inv.ID)
	b = now.AppendFormat(append(b, `,"routeKey":"$default","stage":"$default","time":"`...), "02/Jan/2006:15:04:05 -0700")
	b = strconv.AppendInt(append(b, `","timeEpoch":`...), now.UnixMilli(), 10)
	b = append(b, '}')
	switch {
	case len(body) == 0:
		return append(b, `,"isBase64Encoded":false}`...), nil
	case isText(first(r.Header, "Content-Type"), first(r.Header, "Content-Encoding")) && utf8.Valid(body):
		b = jsonquote.Append(append(b, `,"body":`...), body)
		return append(b, `,"isBase64Encoded":false}`...), nil
	}
	b = base64.StdEncoding.AppendEncode(append(b, `,"body":"`...), body)
	return append(b, `","isBase64Encoded":true}`...), nil
}

// readBody reads the request's body from its start: another instance may have been
// tried before.
func readBody(r *lambent.Request, limit int) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > int64(limit) {
		return nil, requestTooLarge(limit)
	}
	unreadable := func(err error) error {
		return lambent.Errorf(lambent.Canceled, "lambda.Invoke", "cannot read the request's body: %w", err)
	}
	if s, ok := r.Body.(io.Seeker); ok {
		if _, err := s.Seek(0, io.SeekStart); err != nil {
			return nil, unreadable(err)
		}
	}
	buf := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength, 0)+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(r.Body, int64(limit)+1)); err != nil {
		return nil, unreadable(err)
	}
	if buf.Len() > limit {
		return nil, requestTooLarge(limit)
	}
	return buf.Bytes(), nil
}

// A pair is a member of an object of strings.
type pair struct{ name, value string }

// appendPairs appends an object of strings, its members in order.
func appendPairs(b []byte, pairs []pair) []byte {
	slices.SortFunc(pairs, func(x, y pair) int { return strings.Compare(x.name, y.name) })
	b = append(b, '{')
	for i, p := range pairs {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsonquote.Append(append(jsonquote.Append(b, p.name), ':'), p.value)
	}
	return append(b, '}')
}

// eventHeaders are the request's headers as the code sees them: names in lower case,
// values of one name joined, and what AWS's front adds.
func eventHeaders(inv *lambent.Invocation, body int) []pair {
	r := inv.HTTP
	pairs := make([]pair, 0, len(r.Header)+6)
	pairs = append(pairs, pair{"host", r.Host}, pair{"x-forwarded-for", r.RemoteIP}, pair{"x-forwarded-proto", r.Scheme},
		pair{"x-forwarded-port", port(r)}, pair{"x-amzn-trace-id", traceID(inv)})
	if body > 0 {
		pairs = append(pairs, pair{"content-length", strconv.Itoa(body)})
	}
	ours := pairs
	for name, values := range r.Header {
		name = strings.ToLower(name)
		if !slices.ContainsFunc(ours, func(p pair) bool { return p.name == name }) {
			pairs = append(pairs, pair{name, strings.Join(values, ",")})
		}
	}
	return pairs
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
func queryParameters(raw string) (q []pair) {
	at := map[string]int{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		k, v = unescapeQuery(k), unescapeQuery(v)
		if i, ok := at[k]; ok {
			q[i].value += "," + v
		} else {
			at[k] = len(q)
			q = append(q, pair{k, v})
		}
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
	switch contentType {
	case "", "application/json", "text/plain", "text/plain; charset=utf-8":
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
	if text, ok := jsonquote.Plain(trimmed); ok {
		return http.StatusOK, header, text, nil
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
		var plain bool
		if content, plain = jsonquote.Plain(r.Body); !plain {
			var s string
			if err := json.Unmarshal(r.Body, &s); err != nil {
				return 0, nil, nil, fmt.Errorf("the response's body: %w", err)
			}
			content = []byte(s)
		}
		if r.IsBase64Encoded {
			if content, err = base64.StdEncoding.AppendDecode(nil, content); err != nil {
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
