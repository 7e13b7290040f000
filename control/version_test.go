package control_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lambent"
	"lambent/control"
)

func TestPublish(t *testing.T) {
	ctx := t.Context()
	c := open(t)
	deploy(t, c, "f", 1, false)
	one, err := c.Publish(ctx, named("f"), "first", "")
	if err != nil {
		t.Fatal(err)
	}
	if one.Number != 1 || one.Description != "first" || one.Config.Env["N"] != "1" || one.Published.IsZero() {
		t.Errorf("published %+v", one)
	}
	same, err := c.Publish(ctx, named("f"), "again", "")
	if err != nil || same.Number != 1 || same.Description != "first" {
		t.Errorf("publishing the same again made %+v, %v", same, err)
	}
	if f := deploy(t, c, "f", 1, true); f.LastVersion != 1 {
		t.Errorf("deploying the same again made version %d", f.LastVersion)
	}
	if f := deploy(t, c, "f", 2, true); f.LastVersion != 2 {
		t.Errorf("a deploy published version %d, want 2", f.LastVersion)
	}
	wantServes(t, c, "f:1", 1)
	wantServes(t, c, "f:2", 2)
	if v := resolve(t, c, "f:2").Revision.Version; v != "2" {
		t.Errorf("the revision of f:2 is labelled %q", v)
	}
	for _, absent := range []string{"f:3", "f:01", "f:0", "f:prod"} {
		_, err := c.Resolve(named(absent))
		wantKind(t, err, lambent.NotFound, "latest, versions 1 to 2")
	}
	_, err = c.Publish(ctx, named("absent"), "", "")
	wantKind(t, err, lambent.NotFound)
	_, err = c.Publish(ctx, named("f"), "", "1")
	wantKind(t, err, lambent.Stale)
}

// What is led to is latest and what aliases say, each once; also after a start, when no
// version has been read.
func TestLed(t *testing.T) {
	ctx := t.Context()
	s := openStore(t, t.TempDir())
	c := openControl(t, everything(s))
	for n := 1; n <= 4; n++ {
		deploy(t, c, "f", n, true)
	}
	for name, a := range map[string]lambent.Alias{"f:live": {Version: "2", Other: "3", Weight: 0.5}, "f:same": {Version: "3"}, "f:next": {Version: lambent.Latest}} {
		if _, err := c.SetAlias(ctx, named(name), a, ""); err != nil {
			t.Fatal(err)
		}
	}
	led, err := openControl(t, everything(s)).Led(named("f"))
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, target := range led {
		versions = append(versions, target.Revision.Version)
	}
	if want := []string{"2", "3", lambent.Latest}; !slices.Equal(versions, want) {
		t.Errorf("led to are %q, want %q", versions, want)
	}
	_, err = c.Led(named("absent"))
	wantKind(t, err, lambent.NotFound)
}

func TestDeleteVersion(t *testing.T) {
	ctx := t.Context()
	c := open(t)
	for n := 1; n <= 6; n++ {
		deploy(t, c, "f", n, true)
		wantServes(t, c, fmt.Sprintf("f:%d", n), n)
	}
	if _, err := c.SetAlias(ctx, named("f:live"), lambent.Alias{Version: "2", Other: "3", Weight: 0.5}, ""); err != nil {
		t.Fatal(err)
	}
	wantKind(t, c.DeleteVersion(ctx, named("f:3")), lambent.Invalid, `"live"`)
	wantKind(t, c.DeleteVersion(ctx, named("f:latest")), lambent.Invalid)
	wantKind(t, c.DeleteVersion(ctx, named("f")), lambent.Invalid)
	for _, v := range []string{"f:1", "f:6", "f:5"} {
		if err := c.DeleteVersion(ctx, named(v)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Resolve(named(v))
		wantKind(t, err, lambent.NotFound)
		wantKind(t, c.DeleteVersion(ctx, named(v)), lambent.NotFound)
	}
	_, err := c.Resolve(named("f:1"))
	wantKind(t, err, lambent.NotFound, "versions 2 to 4", "aliases live")
	versions, more, err := c.Versions(ctx, named("f"), 0, 2)
	if err != nil || !more || len(versions) != 2 || versions[0].Number != 2 || versions[1].Number != 3 {
		t.Errorf("the first page is %v, more %v, %v", versions, more, err)
	}
	versions, more, err = c.Versions(ctx, named("f"), 3, 2)
	if err != nil || more || len(versions) != 1 || versions[0].Number != 4 {
		t.Errorf("the second page is %v, more %v, %v", versions, more, err)
	}
	// Number 6 is gone for good, though latest is what it was.
	if f := deploy(t, c, "f", 6, true); f.LastVersion != 7 {
		t.Errorf("version %d was published, want 7", f.LastVersion)
	}
	wantServes(t, c, "f:7", 6)
}

// In whatever order versions go, exactly the others stay.
func TestDeleteVersionsInAnyOrder(t *testing.T) {
	const versions = 20
	c := open(t)
	for n := 1; n <= versions; n++ {
		deploy(t, c, "f", n, true)
	}
	gone := map[int]bool{}
	for _, i := range rand.Perm(versions) {
		gone[i+1] = true
		if err := c.DeleteVersion(t.Context(), named(fmt.Sprintf("f:%d", i+1))); err != nil {
			t.Fatal(err)
		}
		left, _, err := c.Versions(t.Context(), named("f"), 0, 0)
		if err != nil || len(left) != versions-len(gone) {
			t.Fatalf("%d versions are left after %d deletes, %v", len(left), len(gone), err)
		}
		for n := 1; n <= versions; n++ {
			_, err := c.Resolve(named(fmt.Sprintf("f:%d", n)))
			if gone[n] != lambent.Is(err, lambent.NotFound) {
				t.Fatalf("version %d, deleted %v: %v", n, gone[n], err)
			}
		}
	}
}

func TestAliases(t *testing.T) {
	ctx := t.Context()
	c := open(t)
	for n := 1; n <= 2; n++ {
		deploy(t, c, "f", n, true)
	}
	set := func(alias string, a lambent.Alias) error {
		_, err := c.SetAlias(ctx, lambent.Name{Project: "default", Function: "f", Qualifier: alias}, a, "")
		return err
	}
	for _, alias := range []string{"", "latest", "7", "a b"} {
		wantKind(t, set(alias, lambent.Alias{Version: "1"}), lambent.Invalid)
	}
	wantKind(t, set("live", lambent.Alias{Version: "3"}), lambent.NotFound, `"3"`, "versions 1 to 2")
	wantKind(t, set("live", lambent.Alias{Version: "1", Other: "3", Weight: 0.1}), lambent.NotFound)
	wantKind(t, set("live", lambent.Alias{Version: "one"}), lambent.Invalid)

	if err := set("live", lambent.Alias{Version: "1"}); err != nil {
		t.Fatal(err)
	}
	wantServes(t, c, "f:live", 1)
	if target := resolve(t, c, "f:live"); target.Alias != "live" || target.Revision != resolve(t, c, "f:1").Revision {
		t.Errorf("f:live resolves to %+v, not f:1's revision", target)
	}
	if err := set("head", lambent.Alias{Version: lambent.Latest}); err != nil {
		t.Fatal(err)
	}
	wantServes(t, c, "f:head", 2)

	if err := set("live", lambent.Alias{Version: "1", Other: "2", Weight: 0.3}); err != nil {
		t.Fatal(err)
	}
	const calls = 20_000
	other := 0
	for range calls {
		if resolve(t, c, "f:live").Revision.Version == "2" {
			other++
		}
	}
	// Five standard deviations.
	if d := math.Abs(float64(other) - 0.3*calls); d > 5*math.Sqrt(0.3*0.7*calls) {
		t.Errorf("%d of %d calls went to a version of weight 0.3", other, calls)
	}

	if a, err := c.GetAlias(named("f:live")); err != nil || a.Other != "2" {
		t.Errorf("the alias is %+v, %v", a, err)
	}
	if _, err := c.DeleteAlias(ctx, named("f:live"), ""); err != nil {
		t.Fatal(err)
	}
	_, err := c.Resolve(named("f:live"))
	wantKind(t, err, lambent.NotFound, "aliases head")
	_, err = c.GetAlias(named("f:live"))
	wantKind(t, err, lambent.NotFound)
	_, err = c.DeleteAlias(ctx, named("f:live"), "")
	wantKind(t, err, lambent.NotFound)

	for i := range 99 {
		if err := set(fmt.Sprintf("a%d", i), lambent.Alias{Version: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	wantKind(t, set("one-more", lambent.Alias{Version: "1"}), lambent.Invalid, "100")
	if err := set("a1", lambent.Alias{Version: "2"}); err != nil {
		t.Errorf("changing an alias where no more fit: %v", err)
	}
}

func TestRollback(t *testing.T) {
	ctx := t.Context()
	c := open(t)
	deploy(t, c, "f", 1, false)
	_, err := c.Rollback(ctx, named("f"), 0, "")
	wantKind(t, err, lambent.NotFound, `"f"`)
	for n := 1; n <= 3; n++ {
		deploy(t, c, "f", n, true)
	}
	back := func(to int) {
		t.Helper()
		if _, err := c.Rollback(ctx, named("f"), to, ""); err != nil {
			t.Fatal(err)
		}
	}
	back(0)
	wantServes(t, c, "f", 2)
	back(0) // takes the first back
	wantServes(t, c, "f", 3)
	back(1)
	wantServes(t, c, "f", 1)
	_, err = c.Rollback(ctx, named("f"), 4, "")
	wantKind(t, err, lambent.NotFound, "versions 1 to 3")
	f := deploy(t, c, "f", 9, false) // a bad one, never published
	back(0)
	wantServes(t, c, "f", 3)
	_, err = c.Rollback(ctx, named("f"), 1, f.RevisionID())
	wantKind(t, err, lambent.Stale)
}

// A server without room for a trial refuses what it has not tried, and goes back to
// what it has.
func TestRollbackOfFullServer(t *testing.T) {
	given := everything(openStore(t, t.TempDir()))
	var full error
	given.Check = func(context.Context, *lambent.Revision, *lambent.Scaling) error { return full }
	c := openControl(t, given)
	deploy(t, c, "f", 1, true)
	deploy(t, c, "f", 2, true)
	full = lambent.Errorf(lambent.Throttled, "dispatch", "no room")
	_, err := c.Deploy(t.Context(), control.DeployRequest{Name: named("f"), Config: config(3)})
	wantKind(t, err, lambent.Throttled, "no room")
	if _, err := c.Rollback(t.Context(), named("f"), 0, ""); err != nil {
		t.Error(err)
	}
	wantServes(t, c, "f", 1)
}

// A revision is the same pointer for as long as its configuration is the same,
// whatever else changes.
func TestRevisionsStay(t *testing.T) {
	ctx := t.Context()
	c := open(t)
	deploy(t, c, "f", 1, true)
	latest, one := resolve(t, c, "f").Revision, resolve(t, c, "f:1").Revision
	keep := &lambent.Scaling{MaxInstances: 3}
	if _, err := c.UpdateConfig(ctx, control.UpdateRequest{Name: named("f"), Scaling: keep}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetAlias(ctx, named("f:live"), lambent.Alias{Version: "1"}, ""); err != nil {
		t.Fatal(err)
	}
	if now := resolve(t, c, "f"); now.Revision != latest || now.Scaling.MaxInstances != 3 {
		t.Errorf("latest is another revision, or scaling %+v is old", now.Scaling)
	}
	deploy(t, c, "f", 2, true)
	if resolve(t, c, "f").Revision == latest {
		t.Error("latest is the same revision after a deploy")
	}
	if resolve(t, c, "f:1").Revision != one || resolve(t, c, "f:live").Revision != one {
		t.Error("version 1 is another revision after a deploy")
	}
}
