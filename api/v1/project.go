package v1

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/auth"
	"lambent/control"
)

// A Project is what an operator says about all functions of one project.
type Project struct {
	Name           string    `json:"name" example:"shop"`
	Revision       string    `json:"revision" doc:"Another one after every change: what expect_revision takes; 0 where nobody has said anything" example:"42"`
	Network        []string  `json:"network,omitempty" doc:"What functions may connect to that do not say their own: a default, not a ceiling. Not there: the internet, and nothing private" example:"[\"none\"]"`
	MaxConcurrency int       `json:"max_concurrency,omitempty" doc:"Invocations at a time, of all functions together; one more is throttled. Not there: no limit" example:"100"`
	Functions      int       `json:"functions" doc:"How many there are" example:"12"`
	Modified       time.Time `json:"modified,omitzero"`
}

// A ProjectRequest changes a Project. What is left out stays.
type ProjectRequest struct {
	Network        []string `json:"network,omitzero" doc:"As a whole: CIDR, CIDR:PORT, HOST, HOST:PORT or internet, or none alone; empty, or default alone: nothing is said" example:"[\"none\"]"`
	MaxConcurrency *int     `json:"max_concurrency,omitempty" doc:"Invocations at a time, of all functions together; 0: no limit" example:"100"`
	ExpectRevision string   `json:"expect_revision,omitempty" doc:"Refuse unless the project is at this revision" example:"42"`
}

// A ProjectList is every project that the credential is for.
type ProjectList struct {
	Projects []Project `json:"projects" doc:"That have functions, or that something is said about; in the order of their names"`
}

type (
	ProjectInput struct {
		Scope
		Name string `path:"name" doc:"The project's name" example:"shop"`
	}
	setProjectInput struct {
		ProjectInput
		Body ProjectRequest
	}
	projectOutput  struct{ Body Project }
	projectsOutput struct{ Body ProjectList }
)

func (s *service) projectOperations(api huma.API) {
	operation(s, api, huma.Operation{
		OperationID: "list-projects", Method: http.MethodGet, Path: "/v1/projects", Tags: []string{"projects"},
		Summary: "List projects", Description: "Those that the credential is for.",
	}, s.listProjects)
	operation(s, api, huma.Operation{
		OperationID: "get-project", Method: http.MethodGet, Path: "/v1/projects/{name}", Tags: []string{"projects"},
		Summary: "Get what is said about a project", Description: "There is one of every name.",
	}, s.getProject)
	operation(s, api, huma.Operation{
		OperationID: "set-project", Method: http.MethodPut, Path: "/v1/projects/{name}", Tags: []string{"projects"},
		Summary: "Change what is said about a project",
		Description: "With another network, instances that are started from then on are as it says, and others serve no call that comes later. " +
			"It needs a credential for all projects.",
	}, s.setProject)
}

func (s *service) project(p *lambent.Project, functions int) Project {
	return Project{Name: p.Name, Revision: p.RevisionID(), Network: p.Network, MaxConcurrency: p.MaxConcurrency, Functions: functions, Modified: p.Modified}
}

func (s *service) listProjects(ctx context.Context, _ *Scope) (*projectsOutput, error) {
	names, functions := s.Control.Projects()
	out := &projectsOutput{Body: ProjectList{Projects: []Project{}}}
	for _, name := range names {
		if !identity(ctx).Allows(name, auth.RoleAdmin) {
			continue
		}
		p, err := s.Control.Project(name)
		if err != nil {
			return nil, err
		}
		out.Body.Projects = append(out.Body.Projects, s.project(p, functions[name]))
	}
	return out, nil
}

func (s *service) getProject(ctx context.Context, in *ProjectInput) (*projectOutput, error) {
	if id := identity(ctx); !id.Allows(in.Name, auth.RoleAdmin) {
		return nil, lambent.Errorf(lambent.Forbidden, "v1", "the token is for project %q, not for %.64q", id.Project, in.Name).
			WithHint("lambent project show %s", id.Project)
	}
	return s.projectOutput(s.Control.Project(in.Name))
}

func (s *service) setProject(ctx context.Context, in *setProjectInput) (*projectOutput, error) {
	if !identity(ctx).Allows("", auth.RoleAdmin) {
		return nil, lambent.Errorf(lambent.Forbidden, "v1", "the token is for one project: what is said about projects is the server's administrator's to say")
	}
	r := control.ProjectRequest{Name: in.Name, Expect: in.Body.ExpectRevision, MaxConcurrency: in.Body.MaxConcurrency}
	if in.Body.Network != nil {
		n, err := lambent.ParseNetwork(strings.Join(in.Body.Network, ","))
		if err != nil {
			return nil, err
		}
		r.Network = &n
	}
	return s.projectOutput(s.Control.SetProject(ctx, r))
}

func (s *service) projectOutput(p *lambent.Project, err error) (*projectOutput, error) {
	if err != nil {
		return nil, err
	}
	_, functions := s.Control.Projects()
	return &projectOutput{Body: s.project(p, functions[p.Name])}, nil
}

// identity is who a request that huma serves is from; nobody, without the
// middleware that finds it.
func identity(ctx context.Context) auth.Identity {
	id, ok := ctx.Value(identityKey{}).(auth.Identity)
	if !ok {
		return auth.Identity{Project: "\x00"} // which no project is called
	}
	return id
}
