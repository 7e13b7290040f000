package control

import (
	"context"

	"lambent"
)

// Publish makes a version of latest, and returns it; if latest has not changed
// since the last version was published, it returns that one. Kinds: NotFound,
// Stale, NoSpace.
func (c *Control) Publish(ctx context.Context, name lambent.Name, description, expect string) (*lambent.Version, error) {
	const op = "control.Publish"
	f, err := c.do(ctx, change{
		op: op, name: name, expect: expect, publish: true, description: description,
		edit: func(*record) error { return nil },
	})
	if err != nil {
		return nil, err
	}
	return c.readVersion(ctx, f.Name, f.LastVersion)
}

// Version returns the version that the name's qualifier says, a number. Kind:
// NotFound.
func (c *Control) Version(ctx context.Context, name lambent.Name) (*lambent.Version, error) {
	const op = "control.Version"
	r, err := c.get(op, name)
	if err != nil {
		return nil, err
	}
	number, ok := parseLabel(name.Qualifier)
	if !ok || !r.has(number) {
		return nil, noQualifier(op, r, name.Qualifier)
	}
	return c.readVersion(ctx, name, number)
}

// Versions returns a function's versions with numbers over after, in order, and
// whether there are more.
func (c *Control) Versions(ctx context.Context, name lambent.Name, after, limit int) (versions []*lambent.Version, more bool, err error) {
	r, err := c.get("control.Versions", name)
	if err != nil {
		return nil, false, err
	}
	for number := max(after, 0) + 1; number <= r.LastVersion; number++ {
		if at, gone := r.Gone.find(number); gone {
			number = r.Gone[at].Last
			continue
		}
		if len(versions) == page(limit) {
			return versions, true, nil
		}
		v, err := c.readVersion(ctx, name, number)
		if lambent.Is(err, lambent.NotFound) {
			continue // deleted just now
		}
		if err != nil {
			return nil, false, err
		}
		versions = append(versions, v)
	}
	return versions, false, nil
}

// DeleteVersion removes the version that the name's qualifier says. Its number
// is not used again. An alias that points to it forbids that. Kinds: NotFound,
// Invalid.
func (c *Control) DeleteVersion(ctx context.Context, name lambent.Name) error {
	const op = "control.DeleteVersion"
	number, ok := parseLabel(name.Qualifier)
	if !ok {
		return lambent.Errorf(lambent.Invalid, op, "qualifier %q: the number of a version is needed", name.Qualifier)
	}
	function := name
	function.Qualifier = ""
	_, err := c.do(ctx, change{op: op, name: function, edit: func(r *record) error {
		if !r.has(number) {
			return noQualifier(op, r, name.Qualifier)
		}
		for alias, a := range r.Aliases {
			if a.Version == name.Qualifier || a.Other == name.Qualifier {
				return lambent.Errorf(lambent.Invalid, op, "version %d is in use by alias %q: point that elsewhere first", number, alias).
					WithHint("lambent alias set %s %s VERSION", function, alias)
			}
		}
		r.Gone = r.Gone.add(number)
		return nil
	}})
	if err != nil {
		return err
	}
	// The version does not exist any more. If the rest fails, the record is
	// Sweep's.
	if e, err := c.plug.Store.Get(ctx, versionKey(function, number)); err == nil {
		_, _ = c.plug.Store.Delete(ctx, e.Key, e.Revision)
	}
	return nil
}

// Rollback makes latest what a version is; 0 means the newest version that is
// not what latest is now, so that a second Rollback takes back the first. Aliases
// stay. The version is started on trial as a deploy would, unless the server has no
// room for that, which must not keep anybody from going back. Kinds: NotFound,
// Broken, Stale.
func (c *Control) Rollback(ctx context.Context, name lambent.Name, number int, expect string) (*lambent.Function, error) {
	const op = "control.Rollback"
	return c.do(ctx, change{op: op, name: name, expect: expect, proven: true, edit: func(r *record) error {
		to, err := c.rollbackTarget(ctx, op, r, number)
		if err != nil {
			return err
		}
		r.Latest = to.Config
		return nil
	}})
}

func (c *Control) rollbackTarget(ctx context.Context, op string, r *record, number int) (*lambent.Version, error) {
	if number != 0 {
		if !r.has(number) {
			return nil, noQualifier(op, r, label(number))
		}
		return c.readVersion(ctx, r.Name, number)
	}
	latest := r.Latest.Digest()
	for number := r.LastVersion; number >= 1; number-- {
		if !r.has(number) {
			continue
		}
		v, err := c.readVersion(ctx, r.Name, number)
		if err != nil {
			return nil, err
		}
		if v.Config.Digest() != latest {
			return v, nil
		}
	}
	return nil, lambent.Errorf(lambent.NotFound, op, "function %q has no version that differs from latest: it has %s", r.Name.Function, r.qualifiers()).
		WithHint("lambent versions %s", r.Name)
}
