package v1

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"lambent"
	"lambent/auth"
)

// projectHeader names the project of a request, as the query parameter does.
const projectHeader = "Lambent-Project"

// A Scope is the part of every input that says whose functions are meant.
type Scope struct {
	ProjectHeader string `header:"Lambent-Project" doc:"The project; without one, that of the credential, or default" example:"default"`
	ProjectQuery  string `query:"project" doc:"The project, for clients that cannot set headers" example:"default"`
}

// projectKey is where the middleware leaves the project of a request, and
// identityKey who it is from.
type (
	projectKey  struct{}
	identityKey struct{}
)

// project decides whose functions a request is about, and whether who asks may
// do there what needs a role.
func project(id auth.Identity, need auth.Role, header, query string) (string, error) {
	asked := header
	switch {
	case header == "":
		asked = query
	case query != "" && query != header:
		return "", lambent.Errorf(lambent.Invalid, "v1", "the request names two projects: %.64q in the header %s and %.64q in the query", header, projectHeader, query)
	}
	if asked == "" {
		asked = cmp.Or(id.Project, lambent.DefaultProject)
	}
	switch {
	case id.Project != "" && id.Project != asked:
		return "", lambent.Errorf(lambent.Forbidden, "v1", "the token is for project %q, not for %.64q", id.Project, asked)
	case !id.Allows(asked, need):
		return "", lambent.Errorf(lambent.Forbidden, "v1", "the token is for role %q: this needs %q", id.Role, need)
	}
	return asked, nil
}

// project is that of a request that huma serves: the middleware has found it.
func (in *Scope) project(ctx context.Context) (string, error) {
	p, ok := ctx.Value(projectKey{}).(string)
	if !ok {
		return "", errors.New("v1: an operation without the middleware that authenticates")
	}
	return p, nil
}

// name is that of a function in the path. The parts are checked one by one: an
// escaped slash must not lead into another project.
func (in *Scope) name(ctx context.Context, function, qualifier string) (lambent.Name, error) {
	p, err := in.project(ctx)
	if err != nil {
		return lambent.Name{}, err
	}
	return checkedName(p, function, qualifier)
}

func checkedName(project, function, qualifier string) (lambent.Name, error) {
	if qualifier == "$LATEST" {
		qualifier = lambent.Latest
	}
	n := lambent.Name{Project: project, Function: function, Qualifier: qualifier}
	return n, n.Validate()
}

// authenticate is huma's middleware. All of huma's operations are for
// administrators, and nothing of a request is read before it is known to come from
// one.
func (s *service) authenticate(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	id, p, err := s.authorize(r, auth.RoleAdmin)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	next(&humaContext{inner: huma.WithValue(huma.WithValue(ctx, projectKey{}, p), identityKey{}, id)})
}

// authorize returns who a request is from, and the project, if they may do there
// what needs a role.
func (s *service) authorize(r *http.Request, need auth.Role) (auth.Identity, string, error) {
	id, err := s.Authenticate(r)
	if err != nil {
		return id, "", err
	}
	query := ""
	if strings.Contains(r.URL.RawQuery, "project=") { // the hot path does not parse queries for nothing
		query = r.URL.Query().Get("project")
	}
	p, err := project(id, need, r.Header.Get(projectHeader), query)
	return id, p, err
}

// A plainHandler serves what huma would only slow down or hold in memory. The
// project is the one that the request is about. It returns an error only while
// nothing has been answered.
type plainHandler func(w http.ResponseWriter, r *http.Request, project string) error

// plain adds a plain operation that needs a role, with its documentation.
func (s *service) plain(api huma.API, op *huma.Operation, need auth.Role, h plainHandler) {
	s.document(api, op)
	s.mux.HandleFunc(op.Method+" "+op.Path, s.answer(need, h))
}

// document adds a plain operation to the document.
func (s *service) document(api huma.API, op *huma.Operation) {
	if !op.Hidden {
		op.Parameters = append(op.Parameters,
			param("header", projectHeader, "The project; without one, that of the credential, or default"),
			param("query", "project", "The project, for clients that cannot set headers"))
		op.Responses["default"] = problemResponse(api)
		op.Security = nil
		api.OpenAPI().AddOperation(op)
	}
}

// answer has a plain operation answer whoever may.
func (s *service) answer(need auth.Role, h plainHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, p, err := s.authorize(r, need)
		if err == nil {
			err = h(w, r, p)
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	}
}

// gone makes the error of writing to a client one that is not answered: the
// status has been sent, and the connection is broken.
func gone(err error) error {
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return nil
}
