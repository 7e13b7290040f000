package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// A Token is what is known of a project's credential: not its secret.
type Token struct {
	ID      string    `json:"id"` // of an access key, what AWS calls the access key id
	Project string    `json:"project"`
	Kind    string    `json:"kind"` // "token", for the Authorization header, or "access_key", to sign requests with
	Role    string    `json:"role"` // "admin" or "invoke"
	Note    string    `json:"note,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// A NewToken is a Token with its secret, which is said once.
type NewToken struct {
	Token
	Secret string `json:"secret"` // the token itself, or the secret access key
}

// A TokenRequest says what a credential is to be.
type TokenRequest struct {
	Kind       string `json:"kind,omitempty"` // "token" or "access_key"; "": token
	Role       string `json:"role,omitempty"` // "admin" or "invoke"; "": invoke
	Note       string `json:"note,omitempty"`
	ExpiresInS int64  `json:"expires_in_s,omitempty"` // 0: never
}

// A WebhookSecret is what a project's webhooks are signed with.
type WebhookSecret struct {
	Secret string `json:"secret"` // as Standard Webhooks has it: whsec_...
}

// A TokenList is those of a project.
type TokenList struct {
	Tokens []Token `json:"tokens"` // the oldest first
}

// Tokens returns the project's tokens and access keys, the oldest first.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	var l TokenList
	err := c.do(ctx, http.MethodGet, "/v1/tokens", nil, nil, &l)
	return l.Tokens, err
}

// CreateToken makes a token or an access key for the project.
func (c *Client) CreateToken(ctx context.Context, r TokenRequest) (*NewToken, error) {
	var t NewToken
	return &t, c.do(ctx, http.MethodPost, "/v1/tokens", nil, r, &t)
}

// RevokeToken makes a token or an access key worthless, at once.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil, nil)
}

// WebhookSecret returns what the project's webhooks are signed with.
func (c *Client) WebhookSecret(ctx context.Context) (string, error) {
	var s WebhookSecret
	err := c.do(ctx, http.MethodGet, "/v1/webhook-secret", nil, nil, &s)
	return s.Secret, err
}
