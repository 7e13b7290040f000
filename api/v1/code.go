package v1

import (
	"net/http"
	"os"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/auth"
)

// A Code is what was made of an archive that came in, or of a build.
type Code struct {
	Digest   string `json:"code" doc:"sha256 of the unpacked tree: what a function is deployed from" example:"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	Zip      string `json:"zip" doc:"sha256 of the archive" example:"60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"`
	ZipBytes int64  `json:"zip_bytes" doc:"Size of the archive" example:"1312"`
	Bytes    int64  `json:"bytes" doc:"Size of all files, unpacked" example:"4096"`
	Files    int    `json:"files" doc:"Files and links" example:"3"`
}

func (s *service) codeOperations(api huma.API) {
	s.plain(api, &huma.Operation{
		OperationID: "put-code", Method: http.MethodPost, Path: "/v1/code", Tags: []string{"code"},
		Summary:     "Upload code",
		Description: "The body is a zip archive. It is verified, unpacked and kept under the digest of its content; the same content is kept once. What no function refers to is removed after an hour.",
		RequestBody: &huma.RequestBody{Required: true, Content: binary("application/zip")},
		Responses: map[string]*huma.Response{"200": {
			Description: "The code is here", Content: map[string]*huma.MediaType{"application/json": {Schema: schema[Code](api)}},
		}},
	}, auth.RoleAdmin, s.putCode)
	s.plain(api, &huma.Operation{
		OperationID: "has-code", Method: http.MethodHead, Path: "/v1/code/{digest}", Tags: []string{"code"},
		Summary:    "Ask whether code is here",
		Parameters: []*huma.Param{param("path", "digest", "The digest of the tree")},
		Responses:  map[string]*huma.Response{"200": {Description: "It is here"}},
	}, auth.RoleAdmin, s.hasCode)
	s.plain(api, &huma.Operation{
		OperationID: "get-code", Method: http.MethodGet, Path: "/v1/functions/{name}/code", Tags: []string{"code"},
		Summary:    "Download a function's code",
		Parameters: []*huma.Param{functionParam(), param("query", "qualifier", "A version or an alias; without one, latest")},
		Responses:  map[string]*huma.Response{"200": {Description: "The archive", Content: binary("application/zip")}},
	}, auth.RoleAdmin, s.getCode)
}

func (s *service) putCode(w http.ResponseWriter, r *http.Request, _ string) error {
	code, err := s.PutCode(r.Context(), r.Body)
	if err != nil {
		return err
	}
	return writeJSON(w, code)
}

func (s *service) hasCode(w http.ResponseWriter, r *http.Request, _ string) error {
	digest := r.PathValue("digest")
	if !s.HasCode(digest) {
		return lambent.Errorf(lambent.NotFound, "v1", "code %.64q is not here", digest)
	}
	return nil
}

func (s *service) getCode(w http.ResponseWriter, r *http.Request, project string) error {
	name, err := checkedName(project, r.PathValue("name"), r.URL.Query().Get("qualifier"))
	if err != nil {
		return err
	}
	t, err := s.Control.Resolve(name)
	if err != nil {
		return err
	}
	if t.Revision.Config.CodeZip == "" {
		return lambent.Errorf(lambent.NotFound, "v1", "the archive of %s was not kept: it was deployed without one", name)
	}
	path, err := s.Zip(t.Revision.Config.CodeZip)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return lambent.Errorf(lambent.NotFound, "v1", "the archive of %s is not here any more", name)
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", `attachment; filename="`+name.Function+`.zip"`)
	h.Set("Etag", `"`+t.Revision.Config.CodeZip+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}
