package control

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"lambent"
	"lambent/store"
)

// SweepAge is how old something must be before its being referenced by nothing
// means that it is left over, and not that its deploy is still under way.
const SweepAge = time.Hour

var sweepAge = SweepAge // tests do not wait

// References returns the digests of all code that functions and their versions
// are made of: trees, archives and layers.
//
// It is not one moment's truth, so whoever deletes what is not in it must also
// spare whatever was last used within SweepAge, where both storing code (again)
// and Config.HasCode count as a use. That makes it safe: code that a deploy or a
// rollback is bringing in was asked for by HasCode, and code that a publish is
// moving from a head to a version is seen, because heads are read first.
func (c *Control) References(ctx context.Context) (map[string]bool, error) {
	used := map[string]bool{}
	err := c.eachConfig(ctx, func(_ lambent.Name, config *lambent.Config) {
		used[config.Code] = true
		if config.CodeZip != "" {
			used[config.CodeZip] = true
		}
		for _, layer := range config.Layers {
			used[layer] = true
		}
	})
	return used, err
}

// Users returns the functions that run on a runtime, or of which a version does.
func (c *Control) Users(ctx context.Context, runtime string) ([]lambent.Name, error) {
	users := map[lambent.Name]bool{}
	err := c.eachConfig(ctx, func(name lambent.Name, config *lambent.Config) {
		if config.Runtime == runtime {
			users[name] = true
		}
	})
	return slices.SortedFunc(maps.Keys(users), func(a, b lambent.Name) int { return strings.Compare(a.String(), b.String()) }), err
}

// eachConfig calls f with the configuration of each function and of each version,
// the functions first.
func (c *Control) eachConfig(ctx context.Context, f func(lambent.Name, *lambent.Config)) error {
	for e, err := range c.plug.Store.List(ctx, headPrefix) {
		if err != nil {
			return err
		}
		if bytes.Equal(e.Value, placeholder) {
			continue
		}
		r, err := decode(e.Value, e.Revision)
		if err != nil {
			return err
		}
		f(nameOf(e.Key), &r.Latest)
	}
	for e, err := range c.plug.Store.List(ctx, versionPrefix) {
		if err != nil {
			return err
		}
		v, err := decodeVersion(e)
		if err != nil {
			return err
		}
		f(nameOf(e.Key), &v.Config)
	}
	return nil
}

// nameOf is the function of a head's key, or of a version's.
func nameOf(key string) (n lambent.Name) {
	if words := strings.Split(key, "."); len(words) > 2 {
		n.Project, n.Function = words[1], words[2]
	}
	return n
}

// Sweep deletes what a crash left between two writes: the records of versions
// that do not exist, and placeholders, once they are older than SweepAge. It
// returns how many there were.
func (c *Control) Sweep(ctx context.Context) (swept int, err error) {
	sweep := func(prefix string, left func(store.Entry) (bool, error)) error {
		for e, err := range c.plug.Store.List(ctx, prefix) {
			if err != nil {
				return err
			}
			if time.Since(e.Modified) < sweepAge {
				continue
			}
			is, err := left(e)
			if err != nil {
				return err
			}
			if !is {
				continue
			}
			_, err = c.plug.Store.Delete(ctx, e.Key, e.Revision)
			switch {
			case err == nil:
				swept++
			case !lambent.Is(err, lambent.Stale): // else somebody took it over just now
				return err
			}
		}
		return nil
	}
	if err := sweep(versionPrefix, c.isLeftVersion); err != nil {
		return swept, err
	}
	err = sweep(headPrefix, func(e store.Entry) (bool, error) { return bytes.Equal(e.Value, placeholder), nil })
	return swept, err
}

// isLeftVersion reports whether a version's record is counted by no head.
func (c *Control) isLeftVersion(e store.Entry) (bool, error) {
	words := strings.Split(e.Key, ".")
	if len(words) != 4 {
		return false, nil // not a version; nothing of ours writes such a key
	}
	r, err := c.get("control.Sweep", lambent.Name{Project: words[1], Function: words[2]})
	if lambent.Is(err, lambent.NotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	number, ok := parseLabel(words[3])
	return ok && !r.has(number), nil
}
