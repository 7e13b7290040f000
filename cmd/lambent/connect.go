package main

import (
	"cmp"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
	"lambent/server"
)

// connect returns a client for the server that the environment names.
func (p *program) connect() (*client.Client, error) {
	address := cmp.Or(p.getenv("LAMBENT_URL"), "http://"+server.DefaultListen)
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, lambent.Errorf(lambent.Invalid, "", "LAMBENT_URL is %q: the address of a server is needed", address).
			WithHint("export LAMBENT_URL=http://%s", server.DefaultListen)
	}
	token, err := p.token(u)
	if err != nil {
		return nil, err
	}
	c := client.New(address, token)
	c.Project = cmp.Or(p.project, p.getenv("LAMBENT_PROJECT"))
	return c, nil
}

// token returns the credential for a server. That of the data directory goes to
// this machine only: another one must not get it.
func (p *program) token(u *url.URL) (string, error) {
	if t := strings.TrimSpace(p.getenv("LAMBENT_TOKEN")); t != "" {
		return t, nil
	}
	if !isLoopback(u.Hostname()) {
		return "", lambent.Errorf(lambent.Unauthenticated, "", "LAMBENT_URL is %s, another machine: it needs a token of its own", u.Redacted()).
			WithHint("export LAMBENT_TOKEN=...")
	}
	file := filepath.Join(server.DefaultData(p.getenv), "token")
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", lambent.Errorf(lambent.Unauthenticated, "", "the token of the server on this machine is for another user: %s", err).
			WithHint("export LAMBENT_TOKEN=$(sudo cat %s)", file)
	case errors.Is(err, fs.ErrNotExist):
		return "", nil // the server will say what it thinks of that, if there is one
	case err != nil:
		return "", lambent.Errorf(lambent.Unauthenticated, "", "the token cannot be read: %s", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// function reads an argument that names a function: NAME, NAME:QUALIFIER, or
// either after PROJECT/, for which the client then is.
func (p *program) function(c *cobra.Command, cl *client.Client, arg string, qualified bool) (name, qualifier string, err error) {
	n, err := lambent.ParseName(cmp.Or(cl.Project, lambent.DefaultProject), arg)
	if err != nil {
		return "", "", usagef(c, "%s", lambent.UserMessage(err))
	}
	if n.Qualifier != "" && !qualified {
		return "", "", usagef(c, "%q names a version: %s takes a function as a whole", arg, c.CommandPath())
	}
	if strings.Contains(arg, "/") {
		cl.Project = n.Project
	}
	return n.Function, n.Qualifier, nil
}

// qualified is function where a qualifier may be said by a flag, too.
func (p *program) qualified(c *cobra.Command, cl *client.Client, arg, flag string) (name, qualifier string, err error) {
	name, qualifier, err = p.function(c, cl, arg, true)
	if err == nil && qualifier != "" && flag != "" && qualifier != flag {
		err = usagef(c, "the name says %q and --qualifier %q: one is enough", qualifier, flag)
	}
	return name, cmp.Or(qualifier, flag), err
}

// withClient runs a command that talks to a server.
func (p *program) withClient(f func(c *cobra.Command, cl *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		return f(c, cl, args)
	}
}

// on runs f with a client and the function that the first argument names.
func (p *program) on(f func(c *cobra.Command, cl *client.Client, name string, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		name, _, err := p.function(c, cl, args[0], false)
		if err != nil {
			return err
		}
		return f(c, cl, name, args[1:])
	}
}

// completeFunctions offers functions' names to a shell.
func (p *program) completeFunctions(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cl, err := p.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer cl.Close()
	page, err := cl.Functions(c.Context(), "", 1000)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, f := range page.Functions {
		names = append(names, f.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
