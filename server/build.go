package server

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"lambent"
	v1 "lambent/api/v1"
	"lambent/control/build"
)

// openBuilds makes what turns sources into code.
func (s *Server) openBuilds(context.Context) (err error) {
	work := s.path("build", "work")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(work, 0o700)); err != nil { // what builds that were cut off have left
		return lambent.Errorf(lambent.Internal, "serve", "%w", err)
	}
	o := build.Options{
		CacheDir: s.path("build"), WorkDir: work, Path: s.cfg.Path, Proxy: s.cfg.GoProxy, SumDB: s.cfg.GoSumDB, NoSumDB: s.cfg.GoNoSumDB,
		GoCache: s.cfg.GoCache, GoModCache: s.cfg.GoModCache,
		Trees: s.code, MaxTree: s.limits.MaxTree, MaxFiles: s.limits.MaxFiles,
		Driver: s.driver, Env: s.cfg.InstallerEnv,
	}
	if s.driverName != driverProcess {
		o.Network = buildNetwork(o.Env)
		// A directory of the machine's is not inside.
		o.Env = slices.DeleteFunc(slices.Clone(o.Env), func(kv string) bool { return strings.HasPrefix(kv, "PIP_FIND_LINKS=/") })
	}
	s.builder, err = build.New(o)
	return err
}

// registries are where packages come from. Where there are mirrors of them on a private
// network, their names lead to it.
var registries = []string{
	"registry.npmjs.org:443", "registry.yarnpkg.com:443", "pypi.org:443", "files.pythonhosted.org:443",
	"index.crates.io:443", "static.crates.io:443", "repo.maven.apache.org:443", "repo1.maven.org:443",
}

// buildNetwork is what builds may connect to: the internet, as functions may, and
// whatever the operator's environment says that packages come from or by, be it
// private.
func buildNetwork(env []string) lambent.Network {
	entries := append([]string{"internet"}, registries...)
	for _, kv := range env {
		_, value, _ := strings.Cut(kv, "=")
		for word := range strings.FieldsSeq(value) {
			u, err := url.Parse(word)
			if err != nil || u.Hostname() == "" {
				continue
			}
			port := u.Port()
			if port == "" {
				port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
			}
			// One that is no destination of a sandbox's, such as this machine's loopback,
			// cannot be reached from there.
			if n, err := lambent.ParseNetwork(u.Hostname() + ":" + port); err == nil {
				entries = append(entries, n...)
			}
		}
	}
	n, err := lambent.ParseNetwork(strings.Join(entries, ","))
	if err != nil { // too many: the public ones remain
		return lambent.Network{"internet"}
	}
	return n
}

// build has code made of a source that is stored.
func (s *Server) build(ctx context.Context, r v1.BuildRequest, progress io.Writer) (v1.Code, error) {
	rt, err := s.runtime(r.Runtime)
	if err != nil {
		return v1.Code{}, err
	}
	return asCode(s.builder.Build(ctx, build.Request{Kind: r.Kind, Source: r.Source, Runtime: rt, Name: r.Name, Fresh: r.Fresh}, progress))
}
