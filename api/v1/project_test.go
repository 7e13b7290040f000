package v1_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lambent"
	"lambent/auth"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

// What is said about a project, and who may.
func TestProject(t *testing.T) {
	data := filepath.Join(servertest.PublicDir(t), "data")
	if err := os.Mkdir(data, 0o711); err != nil {
		t.Fatal(err)
	}
	keys, err := auth.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[auth.Role]string{}
	for _, role := range []auth.Role{auth.RoleAdmin, auth.RoleInvoke} {
		if tokens[role], _, err = keys.Create(auth.Token{Project: "mine", Role: role}); err != nil {
			t.Fatal(err)
		}
	}
	s := servertest.Start(t, func(c *server.Config) { c.Data = data })
	if strings.Contains(s.Isolation(), "NOT ISOLATED") {
		servertest.Missing(t, "the driver namespace, which holds functions to a network")
	}
	ctx := t.Context()
	python := client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler")}
	if _, err := s.Deploy(ctx, t, "f", source("one"), python); err != nil {
		t.Fatal(err)
	}
	p, err := s.Client.ProjectNamed(ctx, "default")
	if err != nil || p.Revision != "0" || p.Network != nil || p.Functions != 1 {
		t.Fatalf("got %+v, %v", p, err)
	}
	p, err = s.Client.SetProject(ctx, "default", client.ProjectRequest{Network: []string{"DB.internal:5432", "10.1.2.3"}, ExpectRevision: "0"})
	if err != nil || !slices.Equal(p.Network, []string{"10.1.2.3/32", "db.internal:5432"}) || p.Revision == "0" || p.Modified.IsZero() {
		t.Fatalf("got %+v, %v", p, err)
	}
	f, err := s.Client.Function(ctx, "f")
	if err != nil || f.Configuration.Network != nil || !slices.Equal(f.Network, p.Network) {
		t.Errorf("the function has %+v, %v", f, err)
	}
	if got := call(t, s, "f", ""); got != "one" {
		t.Errorf("it answers %s", got)
	}
	if list, err := s.Client.Projects(ctx); err != nil || len(list) != 1 || list[0].Name != "default" || list[0].Functions != 1 || !slices.Equal(list[0].Network, p.Network) {
		t.Errorf("projects: %+v, %v", list, err)
	}
	same, err := s.Client.SetProject(ctx, "default", client.ProjectRequest{})
	if err != nil || same.Revision != p.Revision {
		t.Errorf("nothing was said, and it is %+v, %v", same, err)
	}

	_, err = s.Client.SetProject(ctx, "default", client.ProjectRequest{Network: []string{"none"}, ExpectRevision: "0"})
	refused(t, err, lambent.Stale, "not at revision 0 any more")
	_, err = s.Client.SetProject(ctx, "default", client.ProjectRequest{Network: []string{"none", "internet"}})
	refused(t, err, lambent.Invalid, "stands alone")
	_, err = s.Client.SetProject(ctx, "a b", client.ProjectRequest{Network: []string{"none"}})
	refused(t, err, lambent.Invalid, `project "a b"`)

	// A project's administrators see theirs, and change nothing.
	mine, err := s.Client.SetProject(ctx, "mine", client.ProjectRequest{Network: []string{"none"}})
	if err != nil {
		t.Fatal(err)
	}
	for role, sees := range map[auth.Role]bool{auth.RoleAdmin: true, auth.RoleInvoke: false} {
		cl := client.New(s.URL(), tokens[role])
		defer cl.Close()
		p, err := cl.ProjectNamed(ctx, "mine")
		if sees != (err == nil && p.Revision == mine.Revision) {
			t.Errorf("%s: got %+v, %v", role, p, err)
		}
		_, err = cl.ProjectNamed(ctx, "default")
		refused(t, err, lambent.Forbidden, "")
		_, err = cl.SetProject(ctx, "mine", client.ProjectRequest{Network: []string{"internet"}})
		refused(t, err, lambent.Forbidden, "")
		list, err := cl.Projects(ctx)
		if sees != (err == nil && len(list) == 1 && list[0].Name == "mine") {
			t.Errorf("%s: projects are %+v, %v", role, list, err)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		a := servertest.Do(t, s.Request(t, method, "/v1/projects/mine", nil, "Authorization", "Bearer "+s.Token))
		if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "GET, HEAD, PUT" {
			t.Errorf("%s: %d, Allow %q", method, a.StatusCode, a.Header.Get("Allow"))
		}
	}
}

// Whoever cannot hold functions to it does not say so.
func TestProjectWithoutIsolation(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	_, err := s.Client.SetProject(t.Context(), "default", client.ProjectRequest{Network: []string{"none"}})
	refused(t, err, lambent.Unsupported, "the driver process does not isolate")
	if _, err := s.Client.SetProject(t.Context(), "default", client.ProjectRequest{Network: []string{"internet"}}); err != nil {
		t.Error(err)
	}
}
