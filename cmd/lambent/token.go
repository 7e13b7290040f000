package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lambent/client"
)

const tokenHelp = `Make, list and revoke the credentials of a project. The role invoke may call
functions, publish events, and send and receive messages; admin may do everything
in the project. A token goes into LAMBENT_TOKEN, or the header Authorization; an
access key is for AWS's clients, which sign what they ask for (see lambent env aws).
The webhook secret is what receivers of outcomes check our signatures with.

  lambent token create --note "the till"
  lambent token create --role admin --expires 720h --project shop
  lambent token create --access-key
  lambent token list
  lambent token revoke ID
  lambent token webhook`

func tokenCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "token", Short: "The credentials of a project", Long: tokenHelp},
		tokenCreateCommand(p), tokenListCommand(p), tokenRevokeCommand(p), tokenWebhookCommand(p))
}

func tokenCreateCommand(p *program) *cobra.Command {
	var r client.TokenRequest
	var expires time.Duration
	var accessKey bool
	c := &cobra.Command{Use: "create", Short: "Make a token or an access key, and print its secret this once", Long: tokenHelp, Args: args(0)}
	c.Flags().BoolVar(&accessKey, "access-key", false, "an access key: its id and its secret, on two lines")
	tokenFlags(c, &r, &expires, "invoke", 0)
	o := outputFlag(c, "secret", "json", "yaml")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if accessKey {
			r.Kind = "access_key"
		}
		t, err := p.createToken(c, &r, expires)
		if err != nil {
			return err
		}
		if o.format != "secret" {
			return o.print(p.out, t, nil, nil)
		}
		if accessKey {
			fmt.Fprintln(p.out, t.ID)
		}
		_, err = fmt.Fprintln(p.out, t.Secret)
		return err
	}
	return c
}

// tokenFlags adds what a credential is to be.
func tokenFlags(c *cobra.Command, r *client.TokenRequest, expires *time.Duration, role string, lasts time.Duration) {
	c.Flags().StringVar(&r.Role, "role", role, "what it may do: invoke or admin")
	c.Flags().StringVar(&r.Note, "note", r.Note, "what it is for")
	c.Flags().DurationVar(expires, "expires", lasts, "after how long it is worthless; 0: never")
}

func (p *program) createToken(c *cobra.Command, r *client.TokenRequest, expires time.Duration) (*client.NewToken, error) {
	if expires < 0 || expires%time.Second != 0 {
		return nil, usagef(c, "--expires %v: whole seconds from now, or 0 for never", expires)
	}
	r.ExpiresInS = int64(expires / time.Second)
	cl, err := p.connect()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	return cl.CreateToken(c.Context(), *r)
}

func tokenListCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List a project's tokens and access keys", Long: tokenHelp, Args: args(0), Aliases: []string{"ls"}}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = p.withClient(func(c *cobra.Command, cl *client.Client, _ []string) error {
		list, err := cl.Tokens(c.Context())
		if err != nil {
			return err
		}
		ids := []string{}
		t := table{{"ID", "KIND", "ROLE", "CREATED", "EXPIRES", "NOTE"}}
		for _, one := range list {
			ids = append(ids, one.ID)
			kind := "token"
			if one.Kind == "access_key" {
				kind = "access key"
			}
			t = append(t, []string{one.ID, kind, one.Role, when(one.Created), when(one.Expires), one.Note})
		}
		return o.print(p.out, list, ids, t)
	})
	return c
}

func tokenRevokeCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Make a token or an access key worthless, at once", Args: args(1, "ID"),
		RunE: p.withClient(func(c *cobra.Command, cl *client.Client, args []string) error {
			err := cl.RevokeToken(c.Context(), args[0])
			if err == nil {
				p.note("revoked %s", args[0])
			}
			return err
		}),
	}
}

func tokenWebhookCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "webhook", Short: "Print what the project's webhooks are signed with", Args: args(0),
		Long: "Print the secret that the project's webhooks are signed with, as Standard Webhooks has it:\nany of its libraries checks the signature with it.",
		RunE: p.withClient(func(c *cobra.Command, cl *client.Client, _ []string) error {
			secret, err := cl.WebhookSecret(c.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.out, secret)
			return err
		}),
	}
}
