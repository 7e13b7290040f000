package gcf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"syscall"

	"lambent"
	"lambent/guest"
	"lambent/internal/preload"
	"lambent/sandbox"
)

// What of the framework is loaded while a sandbox is parked, serves code that brings
// the same. Which that is is known before one is taken: code and packages never change.

// remembered is how many answers are kept. They are some hundred bytes each, and cost
// 10 ms to find again.
const remembered = 10_000

// A comparison is of the packages of a runtime with a tree of code.
type comparison struct{ packages, tree string }

// comparisons remembers what has come out.
type comparisons struct {
	mu    sync.Mutex               // guards what follows
	lists map[string]*preload.List // by the directory of the packages
	known map[comparison]error
}

// list returns what is loaded of packages.
func (c *comparisons) list(packages string) (*preload.List, error) {
	c.mu.Lock()
	l := c.lists[packages]
	c.mu.Unlock()
	if l != nil {
		return l, nil
	}
	l, err := preload.Read(packages)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lists == nil || len(c.lists) >= 100 {
		c.lists = map[string]*preload.List{}
	}
	c.lists[packages] = l
	return l, nil
}

// same returns nil if a tree has what is loaded of the packages, or why it has not.
func (c *comparisons) same(l *preload.List, packages, tree string) error {
	key := comparison{packages, tree}
	c.mu.Lock()
	err, ok := c.known[key]
	c.mu.Unlock()
	if ok {
		return err
	}
	err = l.Same(packages, tree)
	if errors.As(err, new(*fs.PathError)) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err // it is the disk's, and passes
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= remembered {
		c.known = map[comparison]error{}
	}
	c.known[key] = err
	return err
}

// Choose implements guest.Chooser: with the framework loaded, where the code brings the
// same; else without; and not at all before it is known what is to be run, where that
// is a command.
func (g *Guest) Choose(rt lambent.Runtime, rev *lambent.Revision, tree string) lambent.Runtime {
	switch {
	case len(rt.Boot) == 0 || rt.BootLate:
		return rt
	case len(rev.Config.Command) > 0:
		return rt.Late()
	}
	l, err := g.Ahead(rt, rev, tree)
	if err != nil {
		return rt.Plain()
	}
	rt.Env = maps.Clone(rt.Env)
	rt.Env["LAMBENT_AHEAD"] = rt.PackagesAt
	for name, value := range l.Env {
		if value != nil {
			rt.Env[name] = *value
		}
	}
	return rt
}

// Ahead returns what is loaded of the framework before the code of a revision is there,
// or why nothing is.
func (g *Guest) Ahead(rt lambent.Runtime, rev *lambent.Revision, tree string) (*preload.List, error) {
	if rt.Preloads == "" {
		return nil, fmt.Errorf("runtime %s has none to load ahead", rt.Name)
	}
	l, err := g.comparisons.list(rt.Packages)
	if err != nil {
		return nil, err
	}
	in := instance{runtime: rt, port: usualPort, unit: guest.Unit{Revision: rev, Paths: sandbox.Paths{Task: lambent.TaskInside, Tmp: "/tmp"}}}
	env := in.environment()
	if name := l.Differs(env, rev.Config.Secrets); name != "" {
		return nil, fmt.Errorf("it is to see the function's %s", name)
	}
	return l, g.comparisons.same(l, rt.Packages, tree)
}
