package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"lambent"
)

// Runtimes returns what functions can run on.
func (c *Client) Runtimes(ctx context.Context) ([]Runtime, error) {
	var l RuntimeList
	err := c.do(ctx, http.MethodGet, "/v1/runtimes", nil, nil, &l)
	return l.Runtimes, err
}

// A runtimeEvent is one line of the answer to who adds a runtime.
type runtimeEvent struct {
	Progress string   `json:"progress,omitempty"`
	Runtime  *Runtime `json:"runtime,omitempty"`
	Problem  *problem `json:"problem,omitempty"`
}

// AddRuntime brings a runtime to the server, out of a tar file unless that is nil;
// then From says what of. How far it is goes to progress, line by line, unless that
// is nil.
func (c *Client) AddRuntime(ctx context.Context, r *RuntimeRequest, tar io.Reader, progress func(line string)) (*Runtime, error) {
	request := call{method: http.MethodPost, path: "/v1/runtimes"}
	contentType := "application/json"
	if tar == nil {
		b, err := json.Marshal(r)
		if err != nil {
			return nil, lambent.Errorf(lambent.Invalid, "", "%w", err)
		}
		request.body = bytes.NewReader(b)
	} else {
		request.method, request.path = http.MethodPut, runtimePath(r.Name)
		if r.Packages != nil {
			request.query = url.Values{"packages": {strings.Join(*r.Packages, ",")}}
		}
		request.body, request.length, contentType = tar, -1, "application/x-tar"
	}
	request.header = http.Header{"Content-Type": {contentType}, "Accept": {"application/x-ndjson"}}
	resp, err := c.send(ctx, request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return lastOf(ctx, c, resp.Body, progress, func(e runtimeEvent) (*Runtime, *problem, string) { return e.Runtime, e.Problem, e.Progress })
}

// RemoveRuntime removes a runtime that was added; force: although functions run on
// it.
func (c *Client) RemoveRuntime(ctx context.Context, name string, force bool) error {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	return c.do(ctx, http.MethodDelete, runtimePath(name), q, nil, nil)
}

func runtimePath(name string) string { return "/v1/runtimes/" + url.PathEscape(name) }
