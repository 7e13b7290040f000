package control

import (
	"context"
	"strings"
	"time"

	"lambent"
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
	add := func(config *lambent.Config) {
		used[config.Code] = true
		if config.CodeZip != "" {
			used[config.CodeZip] = true
		}
		for _, layer := range config.Layers {
			used[layer] = true
		}
	}
	for e, err := range c.plug.Store.List(ctx, headPrefix) {
		if err != nil {
			return nil, err
		}
		r, err := decode(e.Value, e.Revision)
		if err != nil {
			return nil, err
		}
		add(&r.Latest)
	}
	for e, err := range c.plug.Store.List(ctx, versionPrefix) {
		if err != nil {
			return nil, err
		}
		v, err := decodeVersion(e)
		if err != nil {
			return nil, err
		}
		add(&v.Config)
	}
	return used, nil
}

// Sweep deletes the records of versions that do not exist: what a crash left
// between two writes, older than SweepAge. It returns how many there were.
func (c *Control) Sweep(ctx context.Context) (int, error) {
	swept := 0
	for e, err := range c.plug.Store.List(ctx, versionPrefix) {
		if err != nil {
			return swept, err
		}
		if time.Since(e.Modified) < sweepAge {
			continue
		}
		words := strings.Split(e.Key, ".")
		if len(words) != 4 {
			continue
		}
		number, ok := parseLabel(words[3])
		r, err := c.get("control.Sweep", lambent.Name{Project: words[1], Function: words[2]})
		switch {
		case lambent.Is(err, lambent.NotFound):
		case err != nil:
			return swept, err
		case !ok || r.has(number):
			continue
		}
		_, err = c.plug.Store.Delete(ctx, e.Key, e.Revision)
		if lambent.Is(err, lambent.Stale) {
			continue // a publish has taken the key over
		}
		if err != nil {
			return swept, err
		}
		swept++
	}
	return swept, nil
}
