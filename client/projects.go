package client

import (
	"context"
	"net/http"
	"net/url"
)

// Projects returns the projects that the token is for.
func (c *Client) Projects(ctx context.Context) ([]Project, error) {
	var l ProjectList
	err := c.do(ctx, http.MethodGet, "/v1/projects", nil, nil, &l)
	return l.Projects, err
}

// ProjectNamed returns what is said about a project.
func (c *Client) ProjectNamed(ctx context.Context, name string) (*Project, error) {
	var p Project
	return &p, c.do(ctx, http.MethodGet, projectPath(name), nil, nil, &p)
}

// SetProject changes what is said about a project.
func (c *Client) SetProject(ctx context.Context, name string, r ProjectRequest) (*Project, error) {
	var p Project
	return &p, c.do(ctx, http.MethodPut, projectPath(name), nil, r, &p)
}

func projectPath(name string) string { return "/v1/projects/" + url.PathEscape(name) }
