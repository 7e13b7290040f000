package lambda

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lambent"
	"lambent/internal/jsonquote"
)

// event returns the bytes that the code gets for an invocation, which may be in b.
func (in *instance) event(b []byte, inv *lambent.Invocation, trace string) ([]byte, error) {
	switch {
	case inv.HTTP != nil:
		return httpEvent(b, inv, trace, in.limits.MaxPayload)
	case inv.Events != nil:
		return eventsEvent(inv)
	case len(inv.Raw) == 0:
		return []byte("{}"), nil
	}
	return inv.Raw, nil
}

// httpEvent appends a request in payload format 2.0, as function URLs send it
// (https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html). It is on the
// path of each call, and so written by hand; a test holds it to encoding/json.
func httpEvent(b []byte, inv *lambent.Invocation, trace string, limit int) ([]byte, error) {
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

	b = slices.Grow(b, 1024+len(body)+len(body)/2)
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
	b = appendHeaders(b, inv, trace, len(body))
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

// readBody returns the request's body, in place where it is in memory: then another
// instance may be tried.
func readBody(r *lambent.Request, limit int) ([]byte, error) {
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if r.ContentLength > int64(limit) {
		return nil, requestTooLarge(limit)
	}
	if b, ok := r.Body.(interface{ Bytes() []byte }); ok {
		return b.Bytes(), nil
	}
	buf := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength, 0)+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(r.Body, int64(limit)+1)); err != nil {
		return nil, lambent.Errorf(lambent.Canceled, "lambda.Invoke", "cannot read the request's body: %w", err)
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

// appendHeaders appends the request's headers as the code sees them: names in lower
// case, in order, values of one name joined, and what AWS's front adds.
func appendHeaders(b []byte, inv *lambent.Invocation, trace string, body int) []byte {
	r := inv.HTTP
	pairs := make([]pair, 0, 24)
	pairs = append(pairs, pair{"host", r.Host}, pair{"x-forwarded-for", r.RemoteIP}, pair{"x-forwarded-proto", r.Scheme},
		pair{"x-forwarded-port", port(r)}, pair{"x-amzn-trace-id", trace})
	if body > 0 {
		pairs = append(pairs, pair{"content-length", strconv.Itoa(body)})
	}
	ours := pairs
	for name, values := range r.Header {
		if !slices.ContainsFunc(ours, func(p pair) bool { return strings.EqualFold(p.name, name) }) {
			value := first(r.Header, name)
			if len(values) > 1 {
				value = strings.Join(values, ",")
			}
			pairs = append(pairs, pair{name, value})
		}
	}
	slices.SortFunc(pairs, func(x, y pair) int { return compareFold(x.name, y.name) })
	b = append(b, '{')
	for i, p := range pairs {
		if i > 0 {
			b = append(b, ',')
		}
		start := len(b)
		b = jsonquote.Append(b, p.name)
		lower(b[start:])
		b = jsonquote.Append(append(b, ':'), p.value)
	}
	return append(b, '}')
}

// compareFold compares as if ASCII letters were all lower.
func compareFold(x, y string) int {
	for i := range min(len(x), len(y)) {
		if c, d := lowered(x[i]), lowered(y[i]); c != d {
			return int(c) - int(d)
		}
	}
	return len(x) - len(y)
}

func lower(b []byte) {
	for i, c := range b {
		b[i] = lowered(c)
	}
}

func lowered(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
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

// queryParameters joins repeated parameters with commas, in their order. The
// parameters themselves are in none.
func queryParameters(raw string) (q []pair) {
	values := map[string][]string{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		k = unescapeQuery(k)
		values[k] = append(values[k], unescapeQuery(v))
	}
	for k, v := range values {
		q = append(q, pair{k, strings.Join(v, ",")})
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
