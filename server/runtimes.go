package server

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lambent"
	v1 "lambent/api/v1"
	"lambent/runtimes"
	"lambent/runtimes/rootfs"
	"lambent/sandbox"
)

// A catalog is what functions can run on: the host's own interpreters, and what was
// added, which comes first.
type catalog struct {
	options runtimes.Options
	roots   *rootfs.Store
	noRoots error // why the driver has no root file systems
	log     *slog.Logger
	ctx     context.Context

	mu      sync.Mutex // guards what follows, and is held while the host is looked at
	looked  bool
	found   []lambent.Runtime
	served  []lambent.Runtime // found, and the web servers of it
	missing []runtimes.Missing
}

// openRuntimes opens what was added, and looks for what is on the host in the
// background: it executes each interpreter, and some are scripts of version
// managers that take 200 ms. Whoever needs a runtime waits; the server does not.
func (s *Server) openRuntimes(context.Context) error {
	path := filepath.SplitList(s.cfg.Path)
	c := &catalog{
		options: runtimes.Options{Agents: s.agents, Path: path, Unprivileged: os.Geteuid() == 0 || s.driverName == driverNamespace, Accepts: s.accepts},
		log:     s.log, ctx: s.background,
	}
	packages := lambent.PackagesInside
	if s.driverName != driverNamespace {
		packages = "" // where they are
		c.noRoots = lambent.Errorf(lambent.Unsupported, "runtime", "the driver %s has no root file systems for functions: runtimes of images and tar files need the driver namespace", s.driverName).
			WithHint("sudo lambent serve --driver namespace")
	}
	var err error
	s.roots, err = rootfs.Open(rootfs.Options{
		Dir: s.path("roots"), Interpreters: c.interpreters, NoRoots: c.noRoots, MaxBytes: int64(s.cfg.MaxRootMB) << 20,
		Driver: s.driver, PackagesSeen: packages, Agents: s.agents, Path: path, Env: s.cfg.InstallerEnv, Registry: s.cfg.NPMRegistry,
	})
	if err != nil {
		return err
	}
	c.roots, s.catalog = s.roots, c
	s.driver = holdingDriver{s.driver, s.roots}
	s.running.Go(func() { c.host() })
	return nil
}

// host returns what is on the host. It is looked at once, and again after again.
func (c *catalog) host() ([]lambent.Runtime, []runtimes.Missing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.looked {
		begun := time.Now()
		c.found, c.missing = runtimes.Discover(c.ctx, c.options)
		c.served = c.withServers(c.found)
		c.looked = true
		for _, m := range c.missing {
			c.log.Debug("an interpreter cannot be used", "path", m.Path, "runtime", m.Name, "why", m.Why)
		}
		c.log.Debug("runtimes found", "count", len(c.found), "took", time.Since(begun))
	}
	return c.found, c.missing
}

// again has the host looked at anew.
func (c *catalog) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = false
}

// interpreters are the host's programs, by runtime.
func (c *catalog) interpreters() map[string]string {
	found, _ := c.host()
	programs := map[string]string{}
	for _, r := range found {
		if len(r.Boot) > 0 {
			programs[r.Name] = r.Boot[0]
		}
	}
	return programs
}

// all returns everything that functions can run on, sorted, and why something that
// was added is not among it.
func (c *catalog) all() ([]lambent.Runtime, map[string]error) {
	added := c.roots.List()
	found, _ := c.host()
	if len(added) == 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.served, nil
	}
	list, without := slices.Clone(found), map[string]error{}
	for _, a := range added {
		at := slices.IndexFunc(list, func(r lambent.Runtime) bool { return r.Name == a.Name })
		rt, err := c.runtime(a, list, at)
		switch {
		case err != nil:
			without[a.Name] = err // and not the host's either: it is not what was asked for
			if at >= 0 {
				list = slices.Delete(list, at, at+1)
			}
		case at >= 0:
			list[at] = rt
		default:
			list = append(list, rt)
		}
	}
	return c.withServers(list), without
}

// withServers returns the runtimes and those of web servers that come with them, sorted.
func (c *catalog) withServers(list []lambent.Runtime) []lambent.Runtime {
	list = append(list[:len(list):len(list)], runtimes.Servers(list, c.options.Agents)...)
	slices.SortFunc(list, func(a, b lambent.Runtime) int { return runtimes.Compare(a.Name, b.Name) })
	return list
}

// runtime describes what was added; at is where the list has the host's of the
// name, or -1.
func (c *catalog) runtime(a rootfs.Added, list []lambent.Runtime, at int) (lambent.Runtime, error) {
	if a.Rooted && c.noRoots != nil {
		return lambent.Runtime{}, c.noRoots
	}
	if a.Tree != nil {
		rt, err := c.roots.Runtime(a, c.options.Agents)
		if err == nil && c.options.Accepts != nil {
			err = c.options.Accepts(rt)
		}
		return rt, err
	}
	if at < 0 {
		return lambent.Runtime{}, lambent.Errorf(lambent.NotFound, "runtime", "packages were added to %s of the server's machine, which has it no more", a.Name).
			WithHint("lambent runtime remove %s", a.Name)
	}
	return c.roots.WithPackages(list[at], a), nil
}

func (s *Server) runtimes() []lambent.Runtime {
	list, _ := s.catalog.all()
	return list
}

func (s *Server) runtime(name string) (lambent.Runtime, error) {
	list, without := s.catalog.all()
	if err := without[name]; err != nil {
		return lambent.Runtime{}, err
	}
	for _, r := range list {
		if r.Name == name {
			return r, nil
		}
	}
	return lambent.Runtime{}, runtimes.NotFound(name, list)
}

// describeRuntimes is what the API says of them.
func (s *Server) describeRuntimes() []v1.Runtime {
	added := map[string]rootfs.Added{}
	for _, a := range s.roots.List() {
		added[a.Name] = a
	}
	var list []v1.Runtime
	for _, r := range s.runtimes() {
		list = append(list, describeRuntime(r, added[r.Name]))
	}
	return list
}

func describeRuntime(r lambent.Runtime, a rootfs.Added) v1.Runtime {
	return v1.Runtime{Name: r.Name, Family: r.Family, Note: r.Note, From: a.From, Version: a.Version, Packages: a.Packages, Bytes: a.Bytes()}
}

// addRuntime brings a runtime. The agent of one that is really there is not started
// on trial: the first deploy does that.
func (s *Server) addRuntime(ctx context.Context, r v1.RuntimeRequest, tar io.Reader, progress io.Writer) (*v1.Runtime, error) {
	if r.From == rootfs.FromHost {
		s.catalog.again() // it may have been installed just now
	}
	request := rootfs.Request{Name: r.Name, From: r.From, Tar: tar}
	if r.Packages != nil {
		request.Packages = append([]string{}, *r.Packages...)
	}
	a, err := s.roots.Add(ctx, request, progress)
	if err != nil {
		return nil, err
	}
	rt, err := s.runtime(r.Name)
	if err != nil {
		return nil, err
	}
	out := describeRuntime(rt, a)
	return &out, nil
}

// removeRuntime forgets what was added, unless functions need it.
func (s *Server) removeRuntime(ctx context.Context, name string, force bool) error {
	const op = "runtime"
	if !slices.ContainsFunc(s.roots.List(), func(a rootfs.Added) bool { return a.Name == name }) {
		found, _ := s.catalog.host()
		if slices.ContainsFunc(found, func(r lambent.Runtime) bool { return r.Name == name }) {
			return lambent.Errorf(lambent.Invalid, op, "runtime %s was not added: it is what the server's machine has", name).WithHint("lambent runtime list")
		}
		return s.roots.Remove(name) // which words it
	}
	if !force {
		users, err := s.control.Users(ctx, name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			const shown = 5
			names := make([]string, 0, shown+1)
			for _, n := range users[:min(len(users), shown)] {
				names = append(names, n.String())
			}
			if len(users) > shown {
				names = append(names, "...")
			}
			return lambent.Errorf(lambent.Invalid, op, "runtime %s is in use: %s", name, strings.Join(names, ", ")).
				WithHint("lambent runtime remove %s --force", name)
		}
	}
	return s.roots.Remove(name)
}

// A holdingDriver keeps what a runtime is made of for as long as sandboxes have it.
type holdingDriver struct {
	sandbox.Driver
	roots *rootfs.Store
}

// Park implements sandbox.Driver.
func (d holdingDriver) Park(ctx context.Context, rt lambent.Runtime) (sandbox.Sandbox, error) {
	release := d.roots.Hold(rt)
	sb, err := d.Driver.Park(ctx, rt)
	if release == nil {
		return sb, err
	}
	if err != nil {
		release()
		return nil, err
	}
	go func() {
		<-sb.Done()
		release()
	}()
	return sb, nil
}
