// Package client is the Go client of lambent's own API (api/v1), which the
// command line uses and tests may.
//
// What it guarantees: what the server refuses comes back as a *lambent.Error
// with the server's kind, message and hint; code, payloads, answers and logs
// pass through in bounded memory. A Client is safe for concurrent use.
//
// What it does not do: it reads no environment and no files, repeats nothing,
// and has no deadlines but those of the contexts that it is given.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lambent"
)

// A Client speaks to one server, for one project.
type Client struct {
	URL     string // of the server, such as http://127.0.0.1:9700
	Token   string
	Project string // "": the token's own, or the default one
	HTTP    *http.Client
}

// New returns a client with a connection pool of its own.
func New(url, token string) *Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	return &Client{URL: strings.TrimRight(url, "/"), Token: token, HTTP: &http.Client{Transport: t}}
}

// Close gives idle connections back.
func (c *Client) Close() { c.HTTP.CloseIdleConnections() }

// A problem is how the server words a refusal (RFC 9457).
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func (p *problem) err() error {
	return &lambent.Error{Kind: lambent.ParseKind(p.Kind), Message: p.Detail, Hint: p.Hint, Reason: p.Reason}
}

// A call is one request.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         io.Reader
	length       int64 // of the body; -1: not known
}

// send sends a request and returns the answer, whose status is 2xx.
func (c *Client) send(ctx context.Context, r call) (*http.Response, error) {
	u := c.URL + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, r.body)
	if err != nil || req.URL.Host == "" {
		return nil, lambent.Errorf(lambent.Invalid, "", "%q is not the address of a server, such as http://127.0.0.1:9700", c.URL)
	}
	if r.header != nil {
		req.Header = r.header
	}
	if r.length > 0 || r.length < 0 {
		req.ContentLength = r.length
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if c.Project != "" {
		req.Header.Set("Lambent-Project", c.Project)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refusal(resp)
}

// unreachable phrases a request that got no answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return lambent.Errorf(lambent.Canceled, "", "given up: %w", context.Cause(ctx))
	}
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		return e // of who wrote the body
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // the address is in the message already
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return lambent.Errorf(lambent.Unavailable, "", "no server answers at %s", c.URL).WithHint("lambent serve")
	}
	return lambent.Errorf(lambent.Unavailable, "", "the server at %s does not answer: %w", c.URL, err)
}

// maxProblem bounds what is read of a refusal.
const maxProblem = 64 << 10

// refusal phrases an answer that is not 2xx.
func (c *Client) refusal(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p problem
	if mediaType != "application/problem+json" || json.Unmarshal(b, &p) != nil {
		p.Detail = resp.Status // as after HEAD, which has no body
		switch resp.StatusCode {
		case http.StatusNotFound:
			p.Kind = lambent.NotFound.String()
		case http.StatusUnauthorized:
			p.Kind = lambent.Unauthenticated.String()
		case http.StatusForbidden:
			p.Kind = lambent.Forbidden.String()
		}
		if line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n"); line != "" && mediaType == "text/plain" {
			p.Detail += ": " + line
		}
		p.Detail = "the server at " + c.URL + " answered " + p.Detail
	}
	e := &lambent.Error{Kind: lambent.ParseKind(p.Kind), Message: p.Detail, Hint: p.Hint}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// do sends a request with a JSON body, unless in is nil, and reads the JSON of
// the answer into out, unless that is nil.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	r := call{method: method, path: path, query: query}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return lambent.Errorf(lambent.Invalid, "", "%w", err)
		}
		r.body, r.header = bytes.NewReader(b), http.Header{"Content-Type": {"application/json"}}
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProblem)) // the connection serves again
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.broken(ctx, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProblem))
	return nil
}

// broken phrases an answer that cannot be read to its end.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return lambent.Errorf(lambent.Canceled, "", "given up: %w", context.Cause(ctx))
	}
	return lambent.Errorf(lambent.Unavailable, "", "the answer of %s broke off: %w", c.URL, err)
}

// functionPath is the path of a function, or of something of it.
func functionPath(name string, more ...string) string {
	p := "/v1/functions/" + url.PathEscape(name)
	for _, m := range more {
		p += "/" + url.PathEscape(m)
	}
	return p
}

// query makes a query of pairs; those with an empty value are left out.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// number is an optional number of a query.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
