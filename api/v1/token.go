package v1

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/auth"
)

// A Token is what is known of a project's credential: not its secret.
type Token struct {
	ID      string    `json:"id" doc:"Of an access key, what AWS calls the access key id" example:"1f3a5c7e9b0d"`
	Project string    `json:"project" example:"shop"`
	Kind    string    `json:"kind" doc:"A token is for the Authorization header; an access key signs requests, as AWS's clients do" enum:"token,access_key"`
	Role    string    `json:"role" doc:"invoke: call functions, publish events, send and receive messages; admin: everything in the project" enum:"admin,invoke"`
	Note    string    `json:"note,omitempty" doc:"What it is for" example:"the till"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero" doc:"Not there: never"`
}

// A NewToken is a Token with its secret, which is said this once.
type NewToken struct {
	Token
	Secret string `json:"secret" doc:"The token itself, or the secret access key"`
}

// A TokenRequest says what a credential is to be.
type TokenRequest struct {
	Kind       string `json:"kind,omitempty" enum:"token,access_key" doc:"Not there: token"`
	Role       string `json:"role,omitempty" enum:"admin,invoke" doc:"Not there: invoke"`
	Note       string `json:"note,omitempty" maxLength:"128" doc:"What it is for" example:"the till"`
	ExpiresInS int64  `json:"expires_in_s,omitempty" minimum:"1" maximum:"3153600000" doc:"Not there: never" example:"43200"`
}

// A WebhookSecret is what a project's webhooks are signed with.
type WebhookSecret struct {
	Secret string `json:"secret" doc:"As Standard Webhooks has it" example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
}

// A TokenList is those of a project.
type TokenList struct {
	Tokens []Token `json:"tokens" doc:"The oldest first"`
}

type (
	tokenInput struct {
		Scope
		ID string `path:"id" example:"1f3a5c7e9b0d"`
	}
	createTokenInput struct {
		Scope
		Body TokenRequest
	}
	tokenListOutput struct{ Body TokenList }
	newTokenOutput  struct{ Body NewToken }
	secretOutput    struct{ Body WebhookSecret }
)

func (s *service) tokenOperations(api huma.API) {
	const path = "/v1/tokens"
	tags := []string{"tokens"}
	operation(s, api, huma.Operation{
		OperationID: "list-tokens", Method: http.MethodGet, Path: path, Tags: tags, Summary: "List a project's tokens and access keys",
	}, s.listTokens)
	operation(s, api, huma.Operation{
		OperationID: "create-token", Method: http.MethodPost, Path: path, Tags: tags, Summary: "Make a token or an access key for a project",
		Description: "Its secret is in this answer, and in none after it.",
	}, s.createToken)
	operation(s, api, huma.Operation{
		OperationID: "revoke-token", Method: http.MethodDelete, Path: path + "/{id}", Tags: tags, Summary: "Make a token or an access key worthless, at once",
	}, s.revokeToken)
	operation(s, api, huma.Operation{
		OperationID: "get-webhook-secret", Method: http.MethodGet, Path: "/v1/webhook-secret", Tags: tags, Summary: "Get what a project's webhooks are signed with",
		Description: "Receivers of outcomes check signatures with it, by any library of Standard Webhooks.",
	}, s.getWebhookSecret)
}

func tokenOf(t auth.Token) Token {
	kind := "token"
	if t.IsAccessKey() {
		kind = "access_key"
	}
	return Token{ID: t.ID, Project: t.Project, Kind: kind, Role: string(t.Role), Note: t.Note, Created: t.Created, Expires: t.Expires}
}

func (s *service) listTokens(ctx context.Context, in *Scope) (*tokenListOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	out := &tokenListOutput{TokenList{[]Token{}}}
	for _, t := range s.Keys.List(project) {
		out.Body.Tokens = append(out.Body.Tokens, tokenOf(t))
	}
	return out, nil
}

func (s *service) createToken(ctx context.Context, in *createTokenInput) (*newTokenOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	want := auth.Token{Project: project, Role: auth.Role(in.Body.Role), Note: oneLine(in.Body.Note)}
	if want.Role == "" {
		want.Role = auth.RoleInvoke
	}
	if n := in.Body.ExpiresInS; n > 0 {
		want.Expires = time.Now().UTC().Truncate(time.Second).Add(time.Duration(n) * time.Second)
	}
	create := s.Keys.Create
	switch in.Body.Kind {
	case "", "token":
	case "access_key":
		create = s.Keys.CreateAccessKey
	default:
		return nil, lambent.Errorf(lambent.Invalid, "v1.createToken", "kind %.40q: one of token and access_key", in.Body.Kind)
	}
	secret, made, err := create(want)
	if err != nil {
		return nil, err
	}
	return &newTokenOutput{NewToken{tokenOf(made), secret}}, nil
}

func (s *service) getWebhookSecret(ctx context.Context, in *Scope) (*secretOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	return &secretOutput{WebhookSecret{s.Keys.WebhookSecret(project)}}, nil
}

func (s *service) revokeToken(ctx context.Context, in *tokenInput) (*struct{}, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	return nil, s.Keys.Revoke(project, in.ID)
}
