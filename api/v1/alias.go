package v1

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
)

// An Alias is a name for a version, or for two that share the traffic.
type Alias struct {
	Name        string  `json:"name" example:"live"`
	Version     string  `json:"version" doc:"A number, or latest" example:"3"`
	Other       string  `json:"other,omitempty" doc:"A second version" example:"4"`
	Weight      float64 `json:"weight,omitempty" doc:"The share of the second one" minimum:"0" maximum:"1" example:"0.1"`
	Description string  `json:"description,omitempty" example:"what customers get"`
}

func alias(name string, a lambent.Alias) Alias {
	return Alias{name, a.Version, a.Other, a.Weight, a.Description}
}

// An AliasRequest is what an alias is to be, as a whole.
type AliasRequest struct {
	Version        string  `json:"version" doc:"A number, or latest" example:"3"`
	Other          string  `json:"other,omitempty" doc:"A second version" example:"4"`
	Weight         float64 `json:"weight,omitempty" doc:"The share of the second one, 0 to 1" example:"0.1"`
	Description    string  `json:"description,omitempty"`
	ExpectRevision string  `json:"expect_revision,omitempty" doc:"Refuse unless the function is at this revision" example:"42"`
}

// An AliasList is all of a function's aliases.
type AliasList struct {
	Aliases []Alias `json:"aliases" doc:"In the order of their names"`
}

type (
	AliasInput struct {
		FunctionInput
		Alias string `path:"alias" doc:"The alias's name" example:"live"`
	}
	setAliasInput struct {
		AliasInput
		Body AliasRequest
	}
	deleteAliasInput struct {
		AliasInput
		Expect string `query:"expect_revision" doc:"Refuse unless the function is at this revision" example:"42"`
	}
	aliasOutput       struct{ Body Alias }
	listAliasesOutput struct{ Body AliasList }
)

func (s *service) aliasOperations(api huma.API) {
	operation(s, api, huma.Operation{
		OperationID: "list-aliases", Method: http.MethodGet, Path: "/v1/functions/{name}/aliases", Tags: []string{"aliases"},
		Summary: "List aliases",
	}, s.listAliases)
	operation(s, api, huma.Operation{
		OperationID: "get-alias", Method: http.MethodGet, Path: "/v1/functions/{name}/aliases/{alias}", Tags: []string{"aliases"},
		Summary: "Get an alias",
	}, s.getAlias)
	operation(s, api, huma.Operation{
		OperationID: "set-alias", Method: http.MethodPut, Path: "/v1/functions/{name}/aliases/{alias}", Tags: []string{"aliases"},
		Summary: "Make or change an alias",
	}, s.setAlias)
	operation(s, api, huma.Operation{
		OperationID: "delete-alias", Method: http.MethodDelete, Path: "/v1/functions/{name}/aliases/{alias}", Tags: []string{"aliases"},
		Summary: "Delete an alias",
	}, s.deleteAlias)
}

func (s *service) listAliases(ctx context.Context, in *FunctionInput) (*listAliasesOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	f, err := s.Control.Get(name)
	if err != nil {
		return nil, err
	}
	out := &listAliasesOutput{Body: AliasList{Aliases: make([]Alias, 0, len(f.Aliases))}}
	for _, n := range slices.Sorted(maps.Keys(f.Aliases)) {
		out.Body.Aliases = append(out.Body.Aliases, alias(n, f.Aliases[n]))
	}
	return out, nil
}

func (s *service) getAlias(ctx context.Context, in *AliasInput) (*aliasOutput, error) {
	name, err := in.name(ctx, in.Name, in.Alias)
	if err != nil {
		return nil, err
	}
	a, err := s.Control.GetAlias(name)
	if err != nil {
		return nil, err
	}
	return &aliasOutput{Body: alias(in.Alias, a)}, nil
}

func (s *service) setAlias(ctx context.Context, in *setAliasInput) (*aliasOutput, error) {
	name, err := in.name(ctx, in.Name, in.Alias)
	if err != nil {
		return nil, err
	}
	a := lambent.Alias{Version: in.Body.Version, Other: in.Body.Other, Weight: in.Body.Weight, Description: in.Body.Description}
	if _, err := s.Control.SetAlias(ctx, name, a, in.Body.ExpectRevision); err != nil {
		return nil, err
	}
	return &aliasOutput{Body: alias(in.Alias, a)}, nil
}

func (s *service) deleteAlias(ctx context.Context, in *deleteAliasInput) (*struct{}, error) {
	name, err := in.name(ctx, in.Name, in.Alias)
	if err != nil {
		return nil, err
	}
	_, err = s.Control.DeleteAlias(ctx, name, in.Expect)
	return nil, err
}
