package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"strconv"

	"lambent"
)

// PutCode uploads a zip archive. length is its size, or -1.
func (c *Client) PutCode(ctx context.Context, zip io.Reader, length int64) (*Code, error) {
	resp, err := c.send(ctx, call{
		method: http.MethodPost, path: "/v1/code", body: zip, length: length,
		header: http.Header{"Content-Type": {"application/zip"}},
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var code Code
	if err := json.NewDecoder(resp.Body).Decode(&code); err != nil {
		return nil, c.broken(ctx, err)
	}
	return &code, nil
}

// HasCode reports whether the server has a tree.
func (c *Client) HasCode(ctx context.Context, digest string) (bool, error) {
	resp, err := c.send(ctx, call{method: http.MethodHead, path: "/v1/code/" + digest})
	if lambent.Is(err, lambent.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, resp.Body.Close()
}

// FunctionCode writes the archive of a function's code to w.
func (c *Client) FunctionCode(ctx context.Context, name, qualifier string, w io.Writer) error {
	resp, err := c.send(ctx, call{method: http.MethodGet, path: functionPath(name, "code"), query: query("qualifier", qualifier)})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// A deployEvent is one line of the answer to a deploy.
type deployEvent struct {
	Progress string    `json:"progress,omitempty"`
	Function *Function `json:"function,omitempty"`
	Problem  *problem  `json:"problem,omitempty"`
}

// Deploy makes a function or changes it. What a build says goes to progress, line
// by line, unless that is nil.
func (c *Client) Deploy(ctx context.Context, name string, r *DeployRequest, progress func(line string)) (*Function, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "", "%w", err)
	}
	resp, err := c.send(ctx, call{
		method: http.MethodPut, path: functionPath(name), body: bytes.NewReader(b),
		header: http.Header{"Content-Type": {"application/json"}, "Accept": {"application/x-ndjson"}},
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return lastOf(ctx, c, resp.Body, progress, func(e deployEvent) (*Function, *problem, string) { return e.Function, e.Problem, e.Progress })
}

// lastOf reads lines of progress up to the one that ends the answer: with what was
// asked for, or with a refusal.
func lastOf[E, T any](ctx context.Context, c *Client, body io.Reader, progress func(line string), parts func(E) (*T, *problem, string)) (*T, error) {
	for e, err := range lines[E](ctx, c, body) {
		if err != nil {
			return nil, err
		}
		switch out, refusal, line := parts(e); {
		case refusal != nil:
			return nil, refusal.err()
		case out != nil:
			return out, nil
		case progress != nil:
			progress(line)
		}
	}
	return nil, c.broken(ctx, io.ErrUnexpectedEOF)
}

// lines reads an answer of one JSON object on each line, up to its end.
func lines[T any](ctx context.Context, c *Client, body io.Reader) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for d := json.NewDecoder(bufio.NewReader(body)); ; {
			var v T
			err := d.Decode(&v)
			if err == io.EOF {
				return
			}
			if err != nil {
				err = c.broken(ctx, err)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Function returns a function.
func (c *Client) Function(ctx context.Context, name string) (*Function, error) {
	var f Function
	return &f, c.do(ctx, http.MethodGet, functionPath(name), nil, nil, &f)
}

// Functions returns one page of the functions whose names are after the given
// one.
func (c *Client) Functions(ctx context.Context, after string, limit int) (*FunctionList, error) {
	var l FunctionList
	return &l, c.do(ctx, http.MethodGet, "/v1/functions", query("after", after, "limit", number(limit)), nil, &l)
}

// Delete deletes a function.
func (c *Client) Delete(ctx context.Context, name, expectRevision string) error {
	return c.do(ctx, http.MethodDelete, functionPath(name), query("expect_revision", expectRevision), nil, nil)
}

// Publish makes a version of latest.
func (c *Client) Publish(ctx context.Context, name, description string) (*Version, error) {
	var v Version
	in := struct {
		Description string `json:"description,omitempty"`
	}{description}
	return &v, c.do(ctx, http.MethodPost, functionPath(name, "versions"), nil, in, &v)
}

// Versions returns one page of the versions with numbers over after.
func (c *Client) Versions(ctx context.Context, name string, after, limit int) (*VersionList, error) {
	var l VersionList
	return &l, c.do(ctx, http.MethodGet, functionPath(name, "versions"), query("after", number(after), "limit", number(limit)), nil, &l)
}

// DeleteVersion deletes a version.
func (c *Client) DeleteVersion(ctx context.Context, name string, version int) error {
	return c.do(ctx, http.MethodDelete, functionPath(name, "versions", strconv.Itoa(version)), nil, nil, nil)
}

// Rollback makes latest what a version is; 0: the newest that it is not.
func (c *Client) Rollback(ctx context.Context, name string, version int) (*Function, error) {
	var f Function
	in := struct {
		Version int `json:"version,omitempty"`
	}{version}
	return &f, c.do(ctx, http.MethodPost, functionPath(name, "rollback"), nil, in, &f)
}

// Aliases returns a function's aliases.
func (c *Client) Aliases(ctx context.Context, name string) ([]Alias, error) {
	var l AliasList
	err := c.do(ctx, http.MethodGet, functionPath(name, "aliases"), nil, nil, &l)
	return l.Aliases, err
}

type aliasRequest struct {
	Version     string  `json:"version"`
	Other       string  `json:"other,omitempty"`
	Weight      float64 `json:"weight,omitempty"`
	Description string  `json:"description,omitempty"`
}

// SetAlias makes an alias or changes it, as a whole.
func (c *Client) SetAlias(ctx context.Context, name string, a Alias) (*Alias, error) {
	var out Alias
	in := aliasRequest{a.Version, a.Other, a.Weight, a.Description} // the name is in the path
	return &out, c.do(ctx, http.MethodPut, functionPath(name, "aliases", a.Name), nil, in, &out)
}

// DeleteAlias deletes an alias.
func (c *Client) DeleteAlias(ctx context.Context, name, alias string) error {
	return c.do(ctx, http.MethodDelete, functionPath(name, "aliases", alias), nil, nil, nil)
}

// Server returns what the server says of itself.
func (c *Client) Server(ctx context.Context) (*Server, error) {
	var s Server
	return &s, c.do(ctx, http.MethodGet, "/v1/server", nil, nil, &s)
}
