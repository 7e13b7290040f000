package v1

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"lambent"
)

// newAPI returns what operations are registered with.
func (s *service) newAPI() huma.API {
	api := humago.New(s.mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "lambent", Version: "1",
				Description: "Serverless functions on your own machines. Every operation takes a bearer token. " +
					"Every refusal is a problem (RFC 9457) whose kind programs look at, and whose hint is the command that mends it.",
				License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{
				Schemas:         huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}},
			},
			Security: []map[string][]string{{"token": {}}},
		},
		Formats:                      huma.DefaultFormats,
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{translate},
	})
	api.UseMiddleware(s.authenticate)
	return api
}

// document returns the OpenAPI document, once every operation is registered.
func document(api huma.API) []byte {
	schemas := api.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel") // huma's own; ours is Problem
	delete(schemas, "ErrorDetail")
	b, err := json.MarshalIndent(api.OpenAPI(), "", "  ")
	if err != nil {
		panic("v1: the document is made of strings and maps: " + err.Error())
	}
	return append(b, '\n')
}

// operation registers an operation that huma serves. Its errors become problems.
func operation[I, O any](s *service, api huma.API, op huma.Operation, h func(context.Context, *I) (*O, error)) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = problemResponse(api)
	// A deadline for reading the body would outlast it, and end the connection of
	// a deploy that takes its time.
	op.BodyReadTimeout = -1
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, s.problem(requestLine{op.Method, op.Path}, err)
		}
		return out, nil
	})
}

// schema returns a reference to the schema of T.
func schema[T any](api huma.API) *huma.Schema {
	return api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

func problemResponse(api huma.API) *huma.Response {
	return &huma.Response{
		Description: "A refusal",
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema[Problem](api)}},
	}
}

// binary is a body of bytes.
func binary(contentType string) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
}

// param documents a parameter of a plain operation.
func param(in, name, doc string) *huma.Param {
	return &huma.Param{In: in, Name: name, Description: doc, Required: in == "path", Schema: &huma.Schema{Type: huma.TypeString}}
}

func functionParam() *huma.Param { return param("path", "name", "The function's name") }

// header documents a header of an answer.
func header(doc string) *huma.Header {
	return &huma.Header{Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
}

// writeJSON answers a plain operation.
func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return lambent.Errorf(lambent.Internal, "v1", "%w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(b, '\n'))
	return gone(err)
}
