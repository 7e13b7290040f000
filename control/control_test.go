package control_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"lambent"
	"lambent/control"
	"lambent/store"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		deployUntilKilled(dir)
	}
	goleak.VerifyTestMain(m)
}

// everything accepts whatever it is asked.
func everything(s *store.Store) control.Config {
	return control.Config{
		Store: s, Limits: lambent.DefaultLimits(),
		HasCode: func(string) bool { return true },
		CanRun:  func(*lambent.Config) error { return nil },
		CanHold: func(lambent.Network) error { return nil },
		CanKeep: func(*lambent.Function) error { return nil },
		Check:   func(context.Context, *lambent.Revision, *lambent.Scaling) error { return nil },
	}
}

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openControl(t testing.TB, config control.Config) *control.Control {
	t.Helper()
	c, err := control.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// open is a control over an empty store.
func open(t testing.TB) *control.Control {
	t.Helper()
	return openControl(t, everything(openStore(t, t.TempDir())))
}

func named(s string) lambent.Name {
	n, err := lambent.ParseName(lambent.DefaultProject, s)
	if err != nil {
		panic(err)
	}
	return n
}

// config is a configuration that one number tells from others.
func config(n int) lambent.Config {
	return lambent.Config{
		Runtime: "python3.11", Handler: "app.handler", Code: fmt.Sprintf("%064x", n),
		Env: map[string]string{"N": fmt.Sprint(n)},
	}
}

func deploy(t testing.TB, c *control.Control, name string, n int, publish bool) *lambent.Function {
	t.Helper()
	f, err := c.Deploy(t.Context(), control.DeployRequest{Name: named(name), Config: config(n), Publish: publish})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func resolve(t testing.TB, c *control.Control, name string) lambent.Target {
	t.Helper()
	target, err := c.Resolve(named(name))
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// wantServes checks which configuration serves a name.
func wantServes(t testing.TB, c *control.Control, name string, n int) {
	t.Helper()
	if got, want := resolve(t, c, name).Revision.Config.Env["N"], fmt.Sprint(n); got != want {
		t.Fatalf("%s is served by configuration %s, want %s", name, got, want)
	}
}

func wantKind(t testing.TB, err error, kind lambent.Kind, words ...string) {
	t.Helper()
	if !lambent.Is(err, kind) {
		t.Fatalf("error is %v (%v), want kind %v", err, lambent.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not name %q", err, w)
		}
	}
}

func TestDeploy(t *testing.T) {
	ctx := t.Context()
	c := open(t)
	_, err := c.Resolve(named("f"))
	wantKind(t, err, lambent.NotFound, `"f"`, `"default"`)

	one, err := c.Create(ctx, control.DeployRequest{Name: named("f"), Config: config(1)})
	if err != nil {
		t.Fatal(err)
	}
	wantServes(t, c, "f", 1)
	wantServes(t, c, "f:latest", 1)
	if one.Latest.MemoryMB != 128 || one.Created.IsZero() || one.Modified.IsZero() || one.LastVersion != 0 {
		t.Errorf("a new function is %+v", one)
	}
	_, err = c.Create(ctx, control.DeployRequest{Name: named("f"), Config: config(2)})
	wantKind(t, err, lambent.Exists, `"f"`)

	if again := deploy(t, c, "f", 1, false); again.Revision != one.Revision {
		t.Errorf("a deploy of the same went from revision %d to %d", one.Revision, again.Revision)
	}
	two := deploy(t, c, "f", 2, false)
	wantServes(t, c, "f", 2)
	if !two.Created.Equal(one.Created) || two.Revision <= one.Revision {
		t.Errorf("%+v became %+v", one, two)
	}

	_, err = c.Deploy(ctx, control.DeployRequest{Name: named("f"), Config: config(3), Expect: one.RevisionID()})
	wantKind(t, err, lambent.Stale, one.RevisionID())
	_, err = c.Deploy(ctx, control.DeployRequest{Name: named("absent"), Config: config(3), Expect: one.RevisionID()})
	wantKind(t, err, lambent.Stale)
	wantServes(t, c, "f", 2)
	_, err = c.Deploy(ctx, control.DeployRequest{Name: named("f"), Config: config(3), Expect: two.RevisionID()})
	if err != nil {
		t.Fatal(err)
	}
	wantServes(t, c, "f", 3)

	reserved := 5
	f, err := c.UpdateConfig(ctx, control.UpdateRequest{
		Name: named("f"), Config: func(c *lambent.Config) { c.MemoryMB = 256 },
		Scaling: &lambent.Scaling{Reserved: &reserved}, URL: &lambent.URL{Policy: lambent.URLPublic},
	})
	if err != nil {
		t.Fatal(err)
	}
	target := resolve(t, c, "f")
	if f.Latest.MemoryMB != 256 || target.Revision.Config.MemoryMB != 256 || *target.Scaling.Reserved != 5 || f.URL.Policy != lambent.URLPublic {
		t.Errorf("updated to %+v, resolves to %+v", f, target)
	}
	_, err = c.UpdateCode(ctx, control.UpdateRequest{Name: named("f")}, control.Code{Tree: config(9).Code, Size: 7})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(named("f"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Latest.Code != config(9).Code || got.Latest.CodeSize != 7 || got.Latest.MemoryMB != 256 || got.Latest.Env["N"] != "3" {
		t.Errorf("new code made it %+v", got.Latest)
	}
	_, err = c.UpdateConfig(ctx, control.UpdateRequest{Name: named("absent")})
	wantKind(t, err, lambent.NotFound, `"absent"`)
}

// What sets more aside is asked for, an alias that has another version kept ready as well, and
// nothing is changed where there is not so much; what sets less aside is not.
func TestMoreSetAsideIsAskedFor(t *testing.T) {
	ctx := t.Context()
	given := everything(openStore(t, t.TempDir()))
	most := 3
	given.CanKeep = func(f *lambent.Function) error {
		if n, _ := f.SetAside(); n > most {
			return lambent.Errorf(lambent.Invalid, "test", "%d instances", n)
		}
		return nil
	}
	c := openControl(t, given)
	deploy(t, c, "f", 1, true)
	scale := func(s lambent.Scaling) error {
		_, err := c.Deploy(ctx, control.DeployRequest{Name: named("f"), Config: config(1), Scaling: &s})
		return err
	}
	wantKind(t, scale(lambent.Scaling{Reserved: new(4)}), lambent.Invalid, "4 instances")
	if resolve(t, c, "f").Scaling.Reserved != nil {
		t.Error("it is reserved all the same")
	}
	if err := scale(lambent.Scaling{MinInstances: 2}); err != nil {
		t.Fatal(err)
	}
	_, err := c.SetAlias(ctx, named("f:live"), lambent.Alias{Version: "1"}, "")
	wantKind(t, err, lambent.Invalid, "4 instances")
	most = 0 // the server was started with less
	if err := scale(lambent.Scaling{MinInstances: 1}); err != nil {
		t.Errorf("less than before: %v", err)
	}
}

// Whatever is refused leaves the function as it was, and serving.
func TestRefusalsChangeNothing(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, t.TempDir())
	given := everything(s)
	fault := &lambent.Fault{Kind: lambent.FaultInit, Type: "Runtime.ImportModuleError", Message: "No module named 'x'\nTraceback"}
	platform := errors.New("no sandbox")
	tried := 0
	given.Check = func(_ context.Context, r *lambent.Revision, _ *lambent.Scaling) error {
		tried++
		switch r.Config.Env["N"] {
		case "66":
			return fault
		case "67":
			return platform
		}
		return nil
	}
	given.CanRun = func(c *lambent.Config) error {
		if c.Runtime != "python3.11" {
			return lambent.Errorf(lambent.Invalid, "runtimes", "runtime %q is not here", c.Runtime)
		}
		return nil
	}
	given.HasCode = func(digest string) bool { return digest != config(65).Code }
	c := openControl(t, given)
	before := deploy(t, c, "f", 1, true)
	was := resolve(t, c, "f")
	triedBefore := tried

	edit := func(change func(*lambent.Config)) lambent.Config {
		c := config(2)
		change(&c)
		return c
	}
	for what, r := range map[string]struct {
		kind   lambent.Kind
		config lambent.Config
		name   lambent.Name
		url    *lambent.URL
	}{
		"memory":   {lambent.Invalid, edit(func(c *lambent.Config) { c.MemoryMB = 64 }), named("f"), nil},
		"runtime":  {lambent.Invalid, edit(func(c *lambent.Config) { c.Runtime = "cobol74" }), named("f"), nil},
		"no code":  {lambent.Invalid, config(65), named("f"), nil},
		"no layer": {lambent.Invalid, edit(func(c *lambent.Config) { c.Layers = []string{config(65).Code} }), named("f"), nil},
		"fault":    {lambent.Broken, config(66), named("f"), nil},
		"platform": {lambent.Internal, config(67), named("f"), nil},
		"name":     {lambent.Invalid, config(2), lambent.Name{Project: "default", Function: "a/b"}, nil},
		"version":  {lambent.Invalid, config(2), named("f:1"), nil},
		"url":      {lambent.Invalid, config(2), named("f"), &lambent.URL{Policy: "open"}},
	} {
		_, err := c.Deploy(ctx, control.DeployRequest{Name: r.name, Config: r.config, URL: r.url, Publish: true})
		if err == nil || lambent.KindOf(err) != r.kind {
			t.Errorf("%s: %v (%v), want kind %v", what, err, lambent.KindOf(err), r.kind)
		}
		if what == "fault" {
			wantKind(t, err, lambent.Broken, "Runtime.ImportModuleError: No module named 'x'")
			if !errors.Is(err, fault) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error of a fault is %q", err)
			}
		}
	}
	if tried != triedBefore+2 {
		t.Errorf("%d trial starts, want one for each of the two that are otherwise right", tried-triedBefore)
	}
	after, err := c.Get(named("f"))
	if err != nil {
		t.Fatal(err)
	}
	if after.Revision != before.Revision || resolve(t, c, "f") != was {
		t.Errorf("the function went from revision %d to %d", before.Revision, after.Revision)
	}
	versions, _, err := c.Versions(ctx, named("f"), 0, 0)
	if err != nil || len(versions) != 1 {
		t.Errorf("%d versions, %v", len(versions), err)
	}
	if _, more, err := c.List("default", "", 10); err != nil || more {
		t.Errorf("more functions than one, or %v", err)
	}
}

func TestDelete(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, t.TempDir())
	c := openControl(t, everything(s))
	deploy(t, c, "other", 7, true)
	deploy(t, c, "f", 1, true)
	f := deploy(t, c, "f", 2, true)
	wantServes(t, c, "f:1", 1)
	wantKind(t, c.Delete(ctx, named("f"), "1"), lambent.Stale)
	wantKind(t, c.Delete(ctx, named("f:1"), ""), lambent.Invalid)
	if err := c.Delete(ctx, named("f"), f.RevisionID()); err != nil {
		t.Fatal(err)
	}
	_, err := c.Resolve(named("f"))
	wantKind(t, err, lambent.NotFound)
	wantKind(t, c.Delete(ctx, named("f"), ""), lambent.NotFound)
	if n := count(t, s); n != 2 {
		t.Errorf("%d records are left, want the other function's two", n)
	}

	// The next one of that name has nothing of it.
	deploy(t, c, "f", 3, false)
	_, err = c.Resolve(named("f:1"))
	wantKind(t, err, lambent.NotFound)
	deploy(t, c, "f", 4, true)
	wantServes(t, c, "f:1", 4)
}

func count(t testing.TB, s *store.Store) (n int) {
	t.Helper()
	for _, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestList(t *testing.T) {
	c := open(t)
	for _, name := range []string{"b", "d", "a", "c", "other/x"} {
		deploy(t, c, name, 1, false)
	}
	page := func(after string, limit int) (names []string, more bool) {
		t.Helper()
		functions, more, err := c.List(lambent.DefaultProject, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range functions {
			names = append(names, f.Name.Function)
		}
		return names, more
	}
	for _, p := range []struct {
		after string
		limit int
		want  string
		more  bool
	}{
		{"", 0, "[a b c d]", false}, {"", 3, "[a b c]", true}, {"c", 3, "[d]", false}, {"bb", 1, "[c]", true}, {"d", 1, "[]", false}, {"", 4, "[a b c d]", false},
	} {
		if names, more := page(p.after, p.limit); fmt.Sprint(names) != p.want || more != p.more {
			t.Errorf("after %q, %d: %v, more %v; want %s, %v", p.after, p.limit, names, more, p.want, p.more)
		}
	}
}

func TestOnChange(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, t.TempDir())
	c := openControl(t, everything(s))
	deploy(t, c, "before", 1, false)
	var mu sync.Mutex
	var told []string
	listen := func(c *control.Control) {
		c.OnChange(func(n lambent.Name) {
			target, err := c.Resolve(n)
			serves := "nothing"
			if err == nil {
				serves = target.Revision.Config.Env["N"]
			}
			mu.Lock()
			told = append(told, n.String()+" "+serves)
			mu.Unlock()
		})
	}
	listen(c)
	deploy(t, c, "f", 1, true) // with a version the head is claimed first: nobody else's business
	deploy(t, c, "f", 2, true)
	if err := c.Delete(ctx, named("f"), ""); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if got, want := strings.Join(told, ", "), "f 1, f 2, f nothing"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// What was there before a restart is there after it.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	c := openControl(t, everything(s))
	deploy(t, c, "f", 1, true)
	deploy(t, c, "f", 2, false)
	if _, err := c.SetAlias(t.Context(), named("f:live"), lambent.Alias{Version: "1"}, ""); err != nil {
		t.Fatal(err)
	}
	before := resolve(t, c, "f:live").Revision.ID
	c.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c = openControl(t, everything(openStore(t, dir)))
	wantServes(t, c, "f", 2)
	wantServes(t, c, "f:live", 1)
	if after := resolve(t, c, "f:live").Revision.ID; after != before {
		t.Errorf("revision %s became %s", before, after)
	}
}
