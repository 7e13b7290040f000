package control

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"

	"lambent"
	"lambent/store"
)

func projectKey(name string) string { return projectPrefix + "." + name }

// A ProjectRequest alters what is said about a project.
type ProjectRequest struct {
	Name           string
	Network        *lambent.Network // nil: as it is
	MaxConcurrency *int             // nil: as it is
	Expect         string           // Project.RevisionID as read, "0" where nothing was said; "": whatever is there
}

// SetProject changes what is said about a project, in one compare-and-set. What is
// started from then on is as it says; instances that are not end once they have
// answered the calls that they have. Kinds: Invalid, Unsupported, Stale, NoSpace.
func (c *Control) SetProject(ctx context.Context, r ProjectRequest) (*lambent.Project, error) {
	const op = "control.SetProject"
	if err := (&lambent.Project{Name: r.Name}).Validate(); err != nil {
		return nil, err
	}
	c.commit.Lock()
	defer c.commit.Unlock()
	for {
		p, err := c.readProject(ctx, r.Name)
		if err != nil {
			return nil, err
		}
		if r.Expect != "" && r.Expect != p.RevisionID() {
			return nil, staleProject(op, r)
		}
		before := encodeProject(p)
		if r.Network != nil {
			p.Network = *r.Network
		}
		if r.MaxConcurrency != nil {
			p.MaxConcurrency = *r.MaxConcurrency
		}
		if err := p.Validate(); err != nil {
			return nil, err
		}
		if err := c.plug.CanHold(p.Network); err != nil {
			return nil, err
		}
		if bytes.Equal(before, encodeProject(p)) {
			return p, nil
		}
		p.Modified = now()
		if p.Revision == 0 {
			p.Revision, err = c.plug.Store.Create(ctx, projectKey(r.Name), encodeProject(p))
		} else {
			p.Revision, err = c.plug.Store.Update(ctx, projectKey(r.Name), encodeProject(p), p.Revision)
		}
		switch {
		case err == nil:
			c.functions.projectsAt.await(ctx, p.Revision)
			return p, nil
		case !lambent.Is(err, lambent.Stale) && !lambent.Is(err, lambent.Exists):
			return nil, err
		}
		// Another process was faster: once more, unless the caller has said from where.
	}
}

// Project returns what is said about a project, the caller's to keep: nothing, of
// one that nobody has said anything about. Kind: Invalid.
func (c *Control) Project(name string) (*lambent.Project, error) {
	p := &lambent.Project{Name: name}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if known, ok := c.functions.projects.Load(name); ok {
		*p = *known.(*lambent.Project)
		p.Network = slices.Clone(p.Network)
	}
	return p, nil
}

// Projects returns the projects that something is said about or that have
// functions, sorted, and how many functions each has.
func (c *Control) Projects() (names []string, functions map[string]int) {
	functions = map[string]int{}
	for name := range c.functions.projects.Range {
		functions[name.(string)] = 0
	}
	for k := range c.functions.heads.Range {
		functions[k.(key).project]++
	}
	return slices.Sorted(maps.Keys(functions)), functions
}

// Network returns what a function's latest may connect to, now.
func (c *Control) Network(f *lambent.Function) lambent.Network {
	return f.Latest.Network.Or(c.functions.project(f.Name.Project).Network)
}

// readProject returns the record as the store has it, at revision 0 if it has none.
func (c *Control) readProject(ctx context.Context, name string) (*lambent.Project, error) {
	e, err := c.plug.Store.Get(ctx, projectKey(name))
	if lambent.Is(err, lambent.NotFound) {
		return &lambent.Project{Name: name}, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeProject(e)
}

func decodeProject(e store.Entry) (*lambent.Project, error) {
	var p lambent.Project
	if err := json.Unmarshal(e.Value, &p); err != nil {
		return nil, lambent.Errorf(lambent.Internal, "control", "the record %s cannot be read: %w", e.Key, err)
	}
	p.Revision = e.Revision
	return &p, p.Validate()
}

func encodeProject(p *lambent.Project) []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic("control: a project always has a JSON form: " + err.Error())
	}
	return b
}

func staleProject(op string, r ProjectRequest) error {
	return lambent.Errorf(lambent.Stale, op, "project %q is not at revision %s any more: read it again, and repeat the change", r.Name, r.Expect).
		WithHint("lambent project show %s", r.Name)
}
