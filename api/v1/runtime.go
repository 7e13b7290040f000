package v1

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"lambent"
	"lambent/auth"
)

// A Runtime is one that functions can run on here.
type Runtime struct {
	Name     string   `json:"name" example:"python3.11"`
	Family   string   `json:"family,omitempty" doc:"What names the newest of its kind" example:"python3"`
	Note     string   `json:"note,omitempty" doc:"Where it is from, in one line" example:"/usr/bin/python3.11 (3.11.2)"`
	From     string   `json:"from,omitempty" doc:"What was added: host, npm, tar, or an image" example:"docker.io/library/python:3.12-slim"`
	Version  string   `json:"version,omitempty" doc:"Of an interpreter that was added, as it says itself" example:"3.12.4"`
	Packages []string `json:"packages,omitempty" doc:"What functions can import without bringing it" example:"[\"boto3\"]"`
	Bytes    int64    `json:"bytes,omitempty" doc:"On the disk, of what was added" example:"134217728"`
}

// A RuntimeList is every runtime of the server.
type RuntimeList struct {
	Runtimes []Runtime `json:"runtimes"`
}

// A RuntimeRequest says which runtime is to be here, and what of.
type RuntimeRequest struct {
	Name     string    `json:"name" example:"python3.12"`
	From     string    `json:"from,omitempty" doc:"host, npm (Node.js), or an image's reference; without it, what the runtime is from now, or the usual" example:"docker.io/library/python:3.12-slim"`
	Packages *[]string `json:"packages,omitempty" doc:"As a whole: what is not in it is gone. Without it, those that are there" example:"[\"boto3\"]"`
}

// A RuntimeEvent is one line of the answer to a client that accepts
// application/x-ndjson: any number with progress, then one with either of the
// others.
type RuntimeEvent struct {
	Progress string   `json:"progress,omitempty" doc:"How far it is"`
	Runtime  *Runtime `json:"runtime,omitempty" doc:"The runtime; the last line"`
	Problem  *Problem `json:"problem,omitempty" doc:"The refusal; the last line"`
}

type (
	runtimesOutput  struct{ Body RuntimeList }
	addRuntimeInput struct {
		Scope
		Accept string `header:"Accept" hidden:"true"`
		Body   RuntimeRequest
	}
	addRuntimeOutput   struct{ Body func(huma.Context) }
	removeRuntimeInput struct {
		Scope
		Name  string `path:"name" doc:"The runtime's name"`
		Force bool   `query:"force" doc:"Although functions run on it"`
	}
)

func (s *service) runtimeOperations(api huma.API) {
	operation(s, api, huma.Operation{
		OperationID: "list-runtimes", Method: http.MethodGet, Path: "/v1/runtimes", Tags: []string{"server"},
		Summary: "List runtimes",
	}, func(context.Context, *Scope) (*runtimesOutput, error) {
		out := &runtimesOutput{Body: RuntimeList{Runtimes: s.Runtimes()}}
		if out.Body.Runtimes == nil {
			out.Body.Runtimes = []Runtime{}
		}
		return out, nil
	})
	added := map[string]*huma.Response{"200": {
		Description: "It is here",
		Content: map[string]*huma.MediaType{
			"application/json": {Schema: schema[Runtime](api)},
			ndjson:             {Schema: schema[RuntimeEvent](api)},
		},
	}}
	const takesTime = "A client that accepts application/x-ndjson is told of progress; its status is 200 in any case. It needs a credential for all projects."
	operation(s, api, huma.Operation{
		OperationID: "add-runtime", Method: http.MethodPost, Path: "/v1/runtimes", Tags: []string{"server"},
		Summary:     "Add a runtime, or make it of something else",
		Description: "The runtime is fetched, verified and run once to see which version it is; functions start on it from then on. " + takesTime,
		Responses:   added,
	}, s.addRuntime)
	s.plain(api, &huma.Operation{
		OperationID: "put-runtime", Method: http.MethodPut, Path: "/v1/runtimes/{name}", Tags: []string{"server"},
		Summary:     "Add a runtime out of a file",
		Description: "The body is a tar file, compressed by gzip or zstd or not: of an image (OCI layout or docker save), or of a root file system. " + takesTime,
		Parameters: []*huma.Param{param("path", "name", "The runtime's name"),
			param("query", "packages", "As in add-runtime, divided by commas; without it, those that are there")},
		RequestBody: &huma.RequestBody{Required: true, Content: binary("application/x-tar")},
		Responses:   added,
	}, auth.RoleAdmin, s.putRuntime)
	operation(s, api, huma.Operation{
		OperationID: "remove-runtime", Method: http.MethodDelete, Path: "/v1/runtimes/{name}", Tags: []string{"server"},
		Summary:     "Remove a runtime that was added",
		Description: "If the server's machine has one of that name, functions run on that again. It needs a credential for all projects.",
	}, func(ctx context.Context, in *removeRuntimeInput) (*struct{}, error) {
		if err := ofAllProjects(ctx.Value(identityKey{})); err != nil {
			return nil, err
		}
		return nil, s.RemoveRuntime(ctx, in.Name, in.Force)
	})
}

// ofAllProjects refuses who is an administrator of one project only: runtimes are
// everybody's.
func ofAllProjects(identity any) error {
	if id, ok := identity.(auth.Identity); !ok || !id.Allows("", auth.RoleAdmin) {
		return lambent.Errorf(lambent.Forbidden, "v1", "the token is for one project: runtimes are of all projects")
	}
	return nil
}

func (s *service) addRuntime(ctx context.Context, in *addRuntimeInput) (*addRuntimeOutput, error) {
	if err := ofAllProjects(ctx.Value(identityKey{})); err != nil {
		return nil, err
	}
	return &addRuntimeOutput{Body: func(hctx huma.Context) {
		r, w := humago.Unwrap(hctx)
		s.answerRuntime(w, r, in.Body, nil)
	}}, nil
}

func (s *service) putRuntime(w http.ResponseWriter, r *http.Request, _ string) error {
	id, err := s.Authenticate(r)
	if err == nil {
		err = ofAllProjects(id)
	}
	if err != nil {
		return err
	}
	request := RuntimeRequest{Name: r.PathValue("name")}
	if q := r.URL.Query(); q.Has("packages") {
		request.Packages = &[]string{}
		for p := range strings.SplitSeq(q.Get("packages"), ",") {
			if p = strings.TrimSpace(p); p != "" {
				*request.Packages = append(*request.Packages, p)
			}
		}
	}
	// Progress is told while the body is still coming.
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 always is
	s.answerRuntime(w, r, request, r.Body)
	return nil
}

// answerRuntime adds a runtime, in whichever way the client wants to be told.
func (s *service) answerRuntime(w http.ResponseWriter, r *http.Request, request RuntimeRequest, tar io.Reader) {
	if strings.Contains(r.Header.Get("Accept"), ndjson) {
		s.stream(w, r, func(progress io.Writer) (any, error) {
			rt, err := s.AddRuntime(r.Context(), request, tar, progress)
			return RuntimeEvent{Runtime: rt}, err
		})
		return
	}
	rt, err := s.AddRuntime(r.Context(), request, tar, io.Discard)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	_ = writeJSON(w, rt)
}
