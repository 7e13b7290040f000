package v1

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
)

// A Version is an immutable snapshot of a function.
type Version struct {
	Version       int           `json:"version" example:"3"`
	Description   string        `json:"description,omitempty" example:"before the new resizer"`
	Published     time.Time     `json:"published"`
	Configuration Configuration `json:"configuration"`
}

func (s *service) version(v *lambent.Version) Version {
	return Version{v.Number, v.Description, v.Published, s.configuration(&v.Config)}
}

// A VersionList is one page of a function's versions.
type VersionList struct {
	Versions []Version `json:"versions" doc:"In the order of their numbers"`
	Next     int       `json:"next,omitempty" doc:"What after takes for the next page; not there on the last one"`
}

// A PublishRequest makes a version of latest.
type PublishRequest struct {
	Description    string `json:"description,omitempty" maxLength:"256"`
	ExpectRevision string `json:"expect_revision,omitempty" doc:"Refuse unless the function is at this revision" example:"42"`
}

// A RollbackRequest makes latest what a version is.
type RollbackRequest struct {
	Version        int    `json:"version,omitempty" minimum:"0" doc:"0 or not there: the newest version that is not what latest is" example:"2"`
	ExpectRevision string `json:"expect_revision,omitempty" doc:"Refuse unless the function is at this revision" example:"42"`
}

type (
	publishInput struct {
		FunctionInput
		Body *PublishRequest
	}
	versionOutput     struct{ Body Version }
	listVersionsInput struct {
		FunctionInput
		After int `query:"after" minimum:"0" doc:"Numbers after this one: next of the page before" example:"3"`
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The most that one page has" example:"100"`
	}
	listVersionsOutput struct{ Body VersionList }
	versionInput       struct {
		FunctionInput
		Version int `path:"version" minimum:"1" doc:"The number" example:"3"`
	}
	rollbackInput struct {
		FunctionInput
		Body *RollbackRequest
	}
)

func (s *service) versionOperations(api huma.API) {
	operation(s, api, huma.Operation{
		OperationID: "publish-version", Method: http.MethodPost, Path: "/v1/functions/{name}/versions", Tags: []string{"versions"},
		Summary:     "Publish a version",
		Description: "If latest has not changed since the last version was published, the answer is that one.",
	}, s.publish)
	operation(s, api, huma.Operation{
		OperationID: "list-versions", Method: http.MethodGet, Path: "/v1/functions/{name}/versions", Tags: []string{"versions"},
		Summary: "List versions",
	}, s.listVersions)
	operation(s, api, huma.Operation{
		OperationID: "get-version", Method: http.MethodGet, Path: "/v1/functions/{name}/versions/{version}", Tags: []string{"versions"},
		Summary: "Get a version",
	}, s.getVersion)
	operation(s, api, huma.Operation{
		OperationID: "delete-version", Method: http.MethodDelete, Path: "/v1/functions/{name}/versions/{version}", Tags: []string{"versions"},
		Summary:     "Delete a version",
		Description: "Its number is not used again. A version that an alias names stays.",
	}, s.deleteVersion)
	operation(s, api, huma.Operation{
		OperationID: "rollback", Method: http.MethodPost, Path: "/v1/functions/{name}/rollback", Tags: []string{"versions"},
		Summary:     "Make latest what a version is",
		Description: "Without a version it is the newest that latest is not, so that a second rollback takes back the first.",
	}, s.rollback)
}

func (s *service) publish(ctx context.Context, in *publishInput) (*versionOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	var r PublishRequest
	if in.Body != nil {
		r = *in.Body
	}
	v, err := s.Control.Publish(ctx, name, r.Description, r.ExpectRevision)
	if err != nil {
		return nil, err
	}
	return &versionOutput{Body: s.version(v)}, nil
}

func (s *service) listVersions(ctx context.Context, in *listVersionsInput) (*listVersionsOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	versions, more, err := s.Control.Versions(ctx, name, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &listVersionsOutput{Body: VersionList{Versions: make([]Version, 0, len(versions))}}
	for _, v := range versions {
		out.Body.Versions = append(out.Body.Versions, s.version(v))
	}
	if more {
		out.Body.Next = versions[len(versions)-1].Number
	}
	return out, nil
}

func (s *service) getVersion(ctx context.Context, in *versionInput) (*versionOutput, error) {
	name, err := in.name(ctx, in.Name, strconv.Itoa(in.Version))
	if err != nil {
		return nil, err
	}
	v, err := s.Control.Version(ctx, name)
	if err != nil {
		return nil, err
	}
	return &versionOutput{Body: s.version(v)}, nil
}

func (s *service) deleteVersion(ctx context.Context, in *versionInput) (*struct{}, error) {
	name, err := in.name(ctx, in.Name, strconv.Itoa(in.Version))
	if err != nil {
		return nil, err
	}
	return nil, s.Control.DeleteVersion(ctx, name)
}

func (s *service) rollback(ctx context.Context, in *rollbackInput) (*functionOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	var r RollbackRequest
	if in.Body != nil {
		r = *in.Body
	}
	return s.functionOutput(s.Control.Rollback(ctx, name, r.Version, r.ExpectRevision))
}
