package control

import (
	"context"
	"slices"

	"lambent"
)

// MaxPage is the most that one page of a list holds, and the size of one where
// the limit is 0.
const MaxPage = 1000

func page(limit int) int {
	if limit <= 0 {
		return MaxPage
	}
	return min(limit, MaxPage)
}

// Get returns a function's head, the caller's to keep, whatever the name's
// qualifier. Kind: NotFound.
func (c *Control) Get(name lambent.Name) (*lambent.Function, error) {
	r, err := c.get("control.Get", name)
	if err != nil {
		return nil, err
	}
	return &r.Function, nil
}

// get returns a head from memory.
func (c *Control) get(op string, name lambent.Name) (*record, error) {
	f := c.functions.find(name)
	if f == nil {
		return nil, noFunction(op, name)
	}
	return f.snapshot()
}

// List returns the functions of a project whose names are after the given one,
// in the order of their names, and whether there are more.
func (c *Control) List(project, after string, limit int) (functions []*lambent.Function, more bool, err error) {
	names := c.functions.names(project)
	start, found := slices.BinarySearch(names, after)
	if found {
		start++
	}
	for _, name := range names[start:] {
		if len(functions) == page(limit) {
			return functions, true, nil
		}
		r, err := c.get("control.List", lambent.Name{Project: project, Function: name})
		if lambent.Is(err, lambent.NotFound) {
			continue // deleted just now
		}
		if err != nil {
			return nil, false, err
		}
		functions = append(functions, &r.Function)
	}
	return functions, false, nil
}

// Delete removes a function with its versions and aliases. Kinds: NotFound,
// Stale.
func (c *Control) Delete(ctx context.Context, name lambent.Name, expect string) error {
	const op = "control.Delete"
	if err := headName(op, name); err != nil {
		return err
	}
	c.commit.Lock()
	defer c.commit.Unlock()
	for {
		r, _, err := c.read(ctx, op, name)
		if err != nil {
			return err
		}
		if expect != "" && expect != r.RevisionID() {
			return stale(op, name, expect)
		}
		// The versions are listed before the head goes, so that what is deleted
		// afterwards is this function's, and not that of the next one of its name.
		type version struct {
			key      string
			revision uint64
		}
		var versions []version
		for e, err := range c.plug.Store.List(ctx, versionsKey(name)) {
			if err != nil {
				return err
			}
			versions = append(versions, version{e.Key, e.Revision})
		}
		deleted, err := c.plug.Store.Delete(ctx, headKey(name), r.Revision)
		if lambent.Is(err, lambent.Stale) && expect == "" {
			continue
		}
		if err != nil {
			return err
		}
		for _, v := range versions {
			// The function is gone. What a failure leaves behind here counts for
			// nothing, and is Sweep's.
			_, _ = c.plug.Store.Delete(ctx, v.key, v.revision)
		}
		c.functions.headsAt.await(ctx, deleted)
		if c.plug.Deleted != nil {
			c.plug.Deleted(name)
		}
		return nil
	}
}

// Count returns how many functions there are, in all projects.
func (c *Control) Count() int {
	n := 0
	for range c.functions.heads.Range {
		n++
	}
	return n
}
