package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"lambent"
	"lambent/internal/jsonquote"
)

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
	asJSON := func(content []byte) (int, map[string][]string, []byte, error) {
		return http.StatusOK, map[string][]string{"Content-Type": {"application/json"}}, content, nil
	}
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 {
		return asJSON(nil)
	}
	if text, rest, ok := jsonquote.Cut(trimmed); ok && len(rest) == 0 {
		return asJSON(text)
	}
	if trimmed[0] != '{' || !bytes.Contains(trimmed, []byte(`"statusCode"`)) {
		return asJSON(body)
	}
	if r, ok := plainIntegration(trimmed); ok {
		return r.answer()
	}
	var r integration
	if json.Unmarshal(trimmed, &r) != nil || r.StatusCode == nil {
		var probe struct {
			StatusCode json.RawMessage `json:"statusCode"`
		}
		if json.Unmarshal(trimmed, &probe) == nil && probe.StatusCode == nil {
			return asJSON(body) // the word is somewhere inside
		}
		return 0, nil, nil, errors.New("the response has a statusCode, but is not of the documented form")
	}
	return r.answer()
}

// answer returns what the integration says; content may be a part of it.
func (r *integration) answer() (status int, header map[string][]string, content []byte, err error) {
	if status, header, err = r.head(); err != nil {
		return 0, nil, nil, err
	}
	if len(r.Body) == 0 || string(r.Body) == "null" {
		return status, header, nil, nil
	}
	content, rest, ok := jsonquote.Cut(r.Body)
	if !ok || len(rest) > 0 {
		return 0, nil, nil, errors.New("the response's body is not a string")
	}
	if r.IsBase64Encoded {
		if content, err = base64.StdEncoding.AppendDecode(nil, content); err != nil {
			return 0, nil, nil, errors.New("the response says isBase64Encoded, but its body is not base64")
		}
	}
	return status, header, content, nil
}

// plainIntegration reads an integration of the usual form, without what
// encoding/json takes for it. ok is false where it has to be asked.
func plainIntegration(b []byte) (r integration, ok bool) {
	var seen [4]bool // a member that comes twice is not usual
	for sep := byte('{'); ; sep = ',' {
		if b = space(b); len(b) == 0 || b[0] != sep {
			return r, sep == ',' && r.StatusCode != nil && len(b) == 1 && b[0] == '}'
		}
		name, rest, ok := jsonquote.Cut(space(b[1:]))
		if rest = space(rest); !ok || len(rest) == 0 || rest[0] != ':' {
			return r, false
		}
		b = space(rest[1:])
		which := 0
		switch string(name) {
		case "statusCode":
			n, digits := 0, 0
			for digits < min(len(b), 4) && b[digits] >= '0' && b[digits] <= '9' {
				n = 10*n + int(b[digits]-'0')
				digits++
			}
			if digits != 3 || b[0] == '0' {
				return r, false
			}
			r.StatusCode, b = &n, b[digits:]
		case "headers":
			which = 1
			if r.Headers, b, ok = plainHeaders(b); !ok {
				return r, false
			}
		case "body":
			which = 2
			_, rest, ok := jsonquote.Cut(b)
			if !ok {
				return r, false
			}
			r.Body, b = b[:len(b)-len(rest)], rest
		case "isBase64Encoded":
			which = 3
			if rest, is := bytes.CutPrefix(b, []byte("true")); is {
				r.IsBase64Encoded, b = true, rest
			} else if b, ok = bytes.CutPrefix(b, []byte("false")); !ok {
				return r, false
			}
		default:
			return r, false
		}
		if seen[which] {
			return r, false
		}
		seen[which] = true
	}
}

// plainHeaders reads an object of strings that b begins with.
func plainHeaders(b []byte) (h map[string]json.RawMessage, rest []byte, ok bool) {
	h = map[string]json.RawMessage{}
	for sep := byte('{'); ; sep = ',' {
		if b = space(b); len(b) == 0 || b[0] != sep {
			return h, bytes.TrimPrefix(b, []byte("}")), sep == ',' && len(b) > 0 && b[0] == '}'
		}
		name, after, ok := jsonquote.Cut(space(b[1:]))
		if after = space(after); !ok || len(after) == 0 || after[0] != ':' {
			return h, b, false
		}
		after = space(after[1:])
		_, rest, ok := jsonquote.Cut(after)
		if !ok {
			return h, b, false
		}
		h[string(name)] = after[:len(after)-len(rest)]
		b = rest
	}
}

// space is b without the white space that it begins with.
func space(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	return b
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
	if s, rest, ok := jsonquote.Cut(raw); ok && len(rest) == 0 {
		return string(s)
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
