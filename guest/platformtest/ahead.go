package platformtest

import (
	"io"
	"maps"
	"path/filepath"
	"testing"

	"lambent"
	"lambent/internal/preload"
	"lambent/runtimes"
)

// LoadAhead gives a language's newest runtime of Google's the functions framework, as
// tools/setup.sh has installed it, to be loaded while its sandboxes are parked, and has
// some parked. The driver is one that has a file system for them.
func (p *Platform) LoadAhead(t *testing.T, language string) {
	t.Helper()
	family := map[string]string{"node": "nodejs", "python": "python"}[language]
	rt := p.Runtimes[p.Newest(t, "google-"+family)]
	packages := filepath.Join(PublicDir(t), "packages")
	Framework(t, language, packages)
	args, env := runtimes.Lister(family, packages, p.agents)
	lister := lambent.Runtime{Name: rt.Name, Boot: append([]string{rt.Boot[0]}, args...), Env: env, Packages: packages, PackagesAt: lambent.TaskInside}
	sb, err := p.driver.Park(t.Context(), lister)
	if err != nil {
		t.Fatal(err)
	}
	told, err := io.ReadAll(sb.Output())
	sb.Output().Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.Destroy(); err != nil {
		t.Error(err)
	}
	l, err := preload.Parse(told)
	if err != nil {
		t.Fatalf("%v: %.2000s", err, told)
	}
	if err := l.Write(packages); err != nil {
		t.Fatal(err)
	}
	rt.Packages, rt.PackagesAt, rt.Preloads = packages, lambent.TaskInside, l.Name
	p.Runtimes = maps.Clone(p.Runtimes)
	p.Runtimes[rt.Name], p.Parked = rt, 2
}
