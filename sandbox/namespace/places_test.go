//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"bufio"
	"os"
	"path/filepath"
	"testing"

	"lambent"
	"lambent/sandbox"
	"lambent/sandbox/namespace"
)

func TestAccepts(t *testing.T) {
	for program, want := range map[string]lambent.Kind{
		"/usr/bin/python3":                 0,
		"/usr/local/node/bin/node":         0,
		"/bin/sh":                          0,
		"/opt/node/bin/node":               0,
		"/opt/python/3.12/bin/python3":     0,
		"/srv/alice/.nvm/v20/bin/node":     0,
		"/srv/tools/node/node":             0,
		"/srv/alice/bin/node":              lambent.Unsupported, // all of a home
		"/srv/alice/x/../bin/node":         lambent.Unsupported,
		"/srv/alice/node":                  lambent.Unsupported,
		"/srv/bin/node":                    lambent.Unsupported,
		"/opt/bin/node":                    lambent.Unsupported,
		"/node":                            lambent.Unsupported,
		"/tmp/a/b/c/bin/node":              lambent.Unsupported, // theirs is another
		"/usr/../srv/bin/node":             lambent.Unsupported,
		"/etc/passwd":                      lambent.Unsupported,
		"/usr/../srv/alice/bin/../bin/sh/": lambent.Unsupported,
	} {
		err := namespace.Accepts(lambent.Runtime{Boot: []string{program}})
		if want == 0 && err != nil || want != 0 && !lambent.Is(err, want) {
			t.Errorf("%s: %v", program, err)
		}
	}
	for _, rt := range []lambent.Runtime{{}, {Boot: []string{"/x/node"}, Root: "/roots/x"}} {
		if err := namespace.Accepts(rt); err != nil {
			t.Error(err)
		}
	}
}

// What lies outside of the driver's places is not put into a sandbox, whoever names it
// and however, and whatever those may do who can write there.
func TestPlaces(t *testing.T) {
	needRoot(t)
	const above = "/var/lib" // not /tmp, where no interpreter may lie
	if err := os.MkdirAll(above, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(above, "lambent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"code/tree/below", "roots/tree/bin", "known/bin", "other/bin", "closed/in/bin", "outside/below"} {
		if err := os.MkdirAll(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"roots/tree/bin/node", "known/bin/node", "known/bin/other", "other/bin/node", "closed/in/bin/node"} {
		if err := os.WriteFile(at(f), []byte("#!/bin/sh\necho seen\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"code/link": at("outside"), "code/up": "..", "code/tree/out": "../../outside", "roots/link": at("other"), "roots/host": "/"} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, at("closed")} {
		if err := os.Chmod(d, map[bool]os.FileMode{true: 0o755, false: 0o700}[d == dir]); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *namespace.Driver {
		t.Helper()
		d, err := namespace.New(namespace.Options{
			Dir: t.TempDir(), Code: at("code"), Roots: at("roots"),
			Interpreters: func(p string) bool { return p == at("known/bin/node") || p == at("closed/in/bin/node") },
		})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	assign := func(d *namespace.Driver, code, opt string) error {
		t.Helper()
		s, err := d.Park(t.Context(), lambent.Runtime{Name: "provided"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Output().Close()
		defer s.Destroy()
		return s.Assign(t.Context(), sandbox.Task{Code: code, Opt: opt, MemoryMB: 128, TmpMB: 512})
	}
	park := func(d *namespace.Driver, rt lambent.Runtime) error {
		t.Helper()
		s, err := d.Park(t.Context(), rt)
		if err != nil {
			return err
		}
		defer s.Output().Close()
		defer s.Destroy()
		if len(rt.Boot) > 0 {
			if said, err := bufio.NewReader(s.Output()).ReadString('\n'); said != "seen\n" {
				t.Errorf("%s says %q, %v", rt.Boot[0], said, err)
			}
		}
		return nil
	}

	d := open()
	defer d.Close()
	if err := assign(d, at("code/tree"), at("code/tree/below")); err != nil {
		t.Error(err)
	}
	outside := []string{
		"/", "/etc", "/proc/self/root", "code", dir, at("code"), at("code") + "/", at("outside"), at("code-2"), at("code/../outside"), at("code/tree/../../outside"),
		dir + "/code/../outside", dir + "/code/tree/../../../../../etc", at("code/link"), at("code/link/below"), at("code/up/outside"), at("code/tree/out"), at("roots/tree"), "",
	}
	for _, name := range outside {
		if err := assign(d, name, ""); err == nil {
			t.Errorf("%s can be a function's code", name)
		}
		if err := assign(d, at("code/tree"), name); err == nil && name != "" {
			t.Errorf("%s can be a function's layers", name)
		}
	}

	for _, rt := range []lambent.Runtime{
		{Root: "/"}, {Root: at("roots")}, {Root: at("outside")}, {Root: dir + "/roots/../outside"}, {Packages: "/etc"}, {Packages: at("code/tree")}, {Packages: at("roots/link")},
		{Packages: at("roots/host/etc")}, {Root: at("roots/host"), Boot: []string{"/bin/true"}},
	} {
		if err := park(d, rt); err == nil {
			t.Errorf("a runtime can be of %+v", rt)
		}
	}
	for program, want := range map[string]lambent.Kind{
		at("known/bin/node"):               0,
		at("roots/tree/bin/node"):          0,
		at("other/bin/node"):               lambent.Forbidden,
		dir + "/known/../other/bin/node":   lambent.Forbidden,
		dir + "/roots/../other/bin/node":   lambent.Forbidden,
		at("roots/bin/node"):               lambent.Forbidden, // all of them
		"/srv/alice/x/bin/node":            lambent.Forbidden,
		"/srv/www/site/index":              lambent.Forbidden,
		"/etc/ssl/private/bin/x":           lambent.Forbidden,
		at("closed/in/bin/node"):           lambent.Forbidden, // others' users cannot see it
		at("closed/in/none/bin/node"):      lambent.Forbidden,
		at("code/tree/below/bin/node"):     lambent.Forbidden,
		"/proc/self/root/etc/ssl/bin/node": lambent.Forbidden,
	} {
		err := park(d, lambent.Runtime{Boot: []string{program}})
		if want == 0 && err != nil || want != 0 && !lambent.Is(err, want) {
			t.Errorf("%s: %v", program, err)
		}
	}
	if err := park(d, lambent.Runtime{Boot: []string{at("roots/link/bin/node")}}); err == nil {
		t.Error("a link among the roots leads out of them")
	}

	// The owner of the places puts others in their place, also before the driver is opened.
	for name, to := range map[string]string{"code": "/usr", "roots": "/var"} {
		if err := os.Rename(at(name), at(name+"-was")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	again := open()
	defer again.Close()
	for _, d := range []*namespace.Driver{d, again} {
		if err := assign(d, at("code/bin"), ""); err == nil {
			t.Error("a link can be put in the place of code")
		}
		if err := park(d, lambent.Runtime{Packages: at("roots/lib")}); err == nil {
			t.Error("a link can be put in the place of roots")
		}
	}
}
