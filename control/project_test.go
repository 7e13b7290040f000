package control_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"lambent"
	"lambent/control"
)

func setNetwork(t testing.TB, c *control.Control, project, network string) *lambent.Project {
	t.Helper()
	n, err := lambent.ParseNetwork(network)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.SetProject(t.Context(), control.ProjectRequest{Name: project, Network: &n})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantNetwork(t testing.TB, c *control.Control, name, want string) {
	t.Helper()
	if got := resolve(t, c, name).Revision.Network.String(); got != want {
		t.Errorf("%s may connect to %q, want %q", name, got, want)
	}
}

// TestProjectNetwork: what a project says holds for the functions that do not say
// their own, whichever version of them, at once and after the next start.
func TestProjectNetwork(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	plug := everything(s)
	c := openControl(t, plug)
	deploy(t, c, "f", 1, true)
	deploy(t, c, "f", 2, true)
	deploy(t, c, "unused", 1, false)
	own := config(3)
	own.Network = lambent.Network{"db:5432"}
	open := config(4)
	open.Network = lambent.Network{"internet"}
	for name, config := range map[string]lambent.Config{"own": own, "open": open, "other/f": config(1)} {
		if _, err := c.Deploy(t.Context(), control.DeployRequest{Name: named(name), Config: config}); err != nil {
			t.Fatal(err)
		}
	}
	var told []string
	var mu sync.Mutex
	c.OnChange(func(n lambent.Name) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, n.String()+" "+resolve(t, c, n.String()).Revision.Network.String())
	})
	before := map[string]*lambent.Revision{}
	for _, name := range []string{"f", "f:1", "own", "open", "other/f"} {
		before[name] = resolve(t, c, name).Revision
	}

	p := setNetwork(t, c, "default", "none")
	for name, want := range map[string]string{"f": "none", "f:1": "none", "f:2": "none", "unused": "none", "own": "db:5432", "open": "default", "other/f": "default"} {
		wantNetwork(t, c, name, want)
		old, now := before[name], resolve(t, c, name).Revision
		if changed := want == "none"; old != nil && ((old != now) != changed || (old.ID != now.ID) != changed) {
			t.Errorf("%s: the revision was %+v and is %+v", name, old, now)
		}
	}
	mu.Lock()
	slices.Sort(told)
	if want := []string{"f none", "open default", "own db:5432", "unused none"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
	told = nil
	mu.Unlock()

	// Saying the same again changes nothing, and what is made later is as it says.
	if again := setNetwork(t, c, "default", "none"); again.Revision != p.Revision {
		t.Errorf("the record was written for nothing: %+v, then %+v", p, again)
	}
	mu.Lock()
	if len(told) != 0 {
		t.Errorf("told of %q", told)
	}
	mu.Unlock()
	deploy(t, c, "later", 5, false)
	wantNetwork(t, c, "later", "none")
	deploy(t, c, "f", 6, true) // a change of the function takes it along
	wantNetwork(t, c, "f", "none")
	wantNetwork(t, c, "f:3", "none")

	got, err := c.Project("default")
	if err != nil || got.Revision != p.Revision || got.Network.String() != "none" || got.Modified.IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err = c.Project("nobody"); err != nil || got.Revision != 0 || got.RevisionID() != "0" || !got.Network.IsDefault() {
		t.Errorf("of a project that nobody has said anything about: %+v, %v", got, err)
	}
	setNetwork(t, c, "empty", "10.0.0.0/8")
	names, functions := c.Projects()
	if !slices.Equal(names, []string{"default", "empty", "other"}) || functions["default"] != 5 || functions["empty"] != 0 || functions["other"] != 1 {
		t.Errorf("projects %q with %v functions", names, functions)
	}

	c.Close()
	c = openControl(t, plug)
	wantNetwork(t, c, "f", "none")
	wantNetwork(t, c, "own", "db:5432")
	setNetwork(t, c, "default", "default")
	for name, old := range before {
		if name != "f" && resolve(t, c, name).Revision.ID != old.ID {
			t.Errorf("%s is not what it was: %+v, %+v", name, old, resolve(t, c, name).Revision)
		}
	}
}

func TestProjectRefusals(t *testing.T) {
	s := openStore(t, t.TempDir())
	plug := everything(s)
	plug.CanHold = func(n lambent.Network) error {
		if n.String() == "none" {
			return lambent.Errorf(lambent.Unsupported, "test", "nobody holds functions to it")
		}
		return nil
	}
	c := openControl(t, plug)
	network := lambent.Network{"10.0.0.0/8"}
	set := func(r control.ProjectRequest) error {
		_, err := c.SetProject(t.Context(), r)
		return err
	}
	wantKind(t, set(control.ProjectRequest{Name: "a b", Network: &network}), lambent.Invalid, `project "a b"`)
	wantKind(t, set(control.ProjectRequest{Name: "p", Network: &lambent.Network{"B.example"}}), lambent.Invalid, "is not written as")
	wantKind(t, set(control.ProjectRequest{Name: "p", Network: &lambent.Network{"none"}}), lambent.Unsupported, "nobody holds")
	wantKind(t, set(control.ProjectRequest{Name: "p", Network: &network, Expect: "7"}), lambent.Stale, "not at revision 7")
	if err := set(control.ProjectRequest{Name: "p", Network: &network, Expect: "0"}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, set(control.ProjectRequest{Name: "p", Network: new(lambent.Network), Expect: "0"}), lambent.Stale, "not at revision 0")
	if _, err := c.Project("a b"); err == nil {
		t.Error("a project of no name is there")
	}
}

// A record that nobody can read may have been a restriction.
func TestUnreadableProjectIsClosed(t *testing.T) {
	s := openStore(t, t.TempDir())
	c := openControl(t, everything(s))
	deploy(t, c, "f", 1, false)
	if _, err := s.Create(t.Context(), "project.default", []byte("{nonsense")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c = openControl(t, everything(s))
	wantNetwork(t, c, "f", "none")
}

// Resolving goes on, and is never wrong, while what the project says changes.
func TestProjectHammer(t *testing.T) {
	c := open(t)
	deploy(t, c, "f", 0, true)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, name := range []string{"f", "f:1", "new"} {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				target, err := c.Resolve(named(name))
				if lambent.Is(err, lambent.NotFound) && name == "new" {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if r := target.Revision; (r.ID == lambent.NewRevision(r.Name, r.Version, r.Config).ID) != r.Network.IsDefault() {
					t.Errorf("revision %s with the network %q", r.ID, r.Network)
				}
			}
		})
	}
	for n := range 40 {
		want := "default"
		if n%2 == 0 {
			want = fmt.Sprintf("10.0.%d.0/24", n)
		}
		setNetwork(t, c, "default", want)
		for _, name := range []string{"f", "f:1"} {
			wantNetwork(t, c, name, want)
		}
		if n%5 == 0 {
			deploy(t, c, "f", n, false)
			wantNetwork(t, c, "f", want)
			deploy(t, c, "new", n, false)
			wantNetwork(t, c, "new", want)
		}
	}
	close(done)
	wg.Wait()
}
