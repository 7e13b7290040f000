package control

import (
	"context"
	"strings"

	"lambent"
)

// maxAliases keeps a head well under the size limit of a record.
const maxAliases = 100

// SetAlias makes the alias that the name's qualifier says, or changes it. The
// versions must exist. Kinds: NotFound, Invalid, Stale.
func (c *Control) SetAlias(ctx context.Context, name lambent.Name, a lambent.Alias, expect string) (*lambent.Function, error) {
	const op = "control.SetAlias"
	alias, function, err := splitAlias(op, name)
	if err != nil {
		return nil, err
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	if len(a.Description) > 256 {
		return nil, lambent.Errorf(lambent.Invalid, op, "description is %d characters, over the limit of 256", len(a.Description))
	}
	return c.do(ctx, change{op: op, name: function, expect: expect, edit: func(r *record) error {
		for _, v := range []string{a.Version, a.Other} {
			if number, ok := parseLabel(v); v != "" && v != lambent.Latest && (!ok || !r.has(number)) {
				return noQualifier(op, r, v)
			}
		}
		if _, there := r.Aliases[alias]; !there && len(r.Aliases) >= maxAliases {
			return lambent.Errorf(lambent.Invalid, op, "function %q has %d aliases, the limit: delete one first", function.Function, maxAliases)
		}
		if r.Aliases == nil {
			r.Aliases = map[string]lambent.Alias{}
		}
		r.Aliases[alias] = a
		return nil
	}})
}

// GetAlias returns the alias that the name's qualifier says. All of them are in
// Get's Function.Aliases. Kind: NotFound.
func (c *Control) GetAlias(name lambent.Name) (lambent.Alias, error) {
	const op = "control.GetAlias"
	alias, function, err := splitAlias(op, name)
	if err != nil {
		return lambent.Alias{}, err
	}
	r, err := c.get(op, function)
	if err != nil {
		return lambent.Alias{}, err
	}
	a, ok := r.Aliases[alias]
	if !ok {
		return lambent.Alias{}, noQualifier(op, r, alias)
	}
	return a, nil
}

// DeleteAlias removes the alias that the name's qualifier says. Kinds: NotFound,
// Stale.
func (c *Control) DeleteAlias(ctx context.Context, name lambent.Name, expect string) (*lambent.Function, error) {
	const op = "control.DeleteAlias"
	alias, function, err := splitAlias(op, name)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, change{op: op, name: function, expect: expect, edit: func(r *record) error {
		if _, ok := r.Aliases[alias]; !ok {
			return noQualifier(op, r, alias)
		}
		delete(r.Aliases, alias)
		return nil
	}})
}

// splitAlias takes the alias off a name. A number would hide a version, and
// "latest" the head.
func splitAlias(op string, name lambent.Name) (alias string, function lambent.Name, err error) {
	if err := name.Validate(); err != nil {
		return "", name, err
	}
	alias, name.Qualifier = name.Qualifier, ""
	if alias == "" || alias == lambent.Latest || strings.Trim(alias, "0123456789") == "" {
		return "", name, lambent.Errorf(lambent.Invalid, op, "alias %q: 1 to 128 letters, digits, '-' or '_', not digits alone and not %q", alias, lambent.Latest)
	}
	return alias, name, nil
}
