package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lambent"
	v1 "lambent/api/v1"
	"lambent/control/build"
)

// openBuilds makes what turns sources into code.
func (s *Server) openBuilds(context.Context) (err error) {
	if err := s.clearWork(s.path("build", "work")); err != nil {
		return err
	}
	memory := memoryShares()
	o := build.Options{
		CacheDir: s.path("build"), WorkDir: s.path("build", "work"), Path: s.cfg.Path, Proxy: s.cfg.GoProxy, SumDB: s.cfg.GoSumDB, NoSumDB: s.cfg.GoNoSumDB,
		GoCache: s.cfg.GoCache, GoModCache: s.cfg.GoModCache,
		Trees: s.code, MaxTree: s.limits.MaxTree, MaxFiles: s.limits.MaxFiles,
		Driver: s.driver, Env: s.cfg.BuildEnv, MemoryMB: memory.build, AtOnce: memory.builds, Logger: s.log,
	}
	if s.driverName != driverProcess {
		o.Network = buildNetwork(o.Env)
	}
	s.python = newByteCode()
	s.builder, err = build.New(o)
	return err
}

// clearWork makes the directory that builds work in, empty. What builds that were cut off
// have left is removed in the background, however much that is.
func (s *Server) clearWork(work string) error {
	old, _ := filepath.Glob(work + ".old-*") // the pattern is ours
	if err := os.Rename(work, fmt.Sprintf("%s.old-%d", work, time.Now().UnixNano())); err == nil {
		old, _ = filepath.Glob(work + ".old-*")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return lambent.Errorf(lambent.Internal, "serve", "%w", err)
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return lambent.Errorf(lambent.Internal, "serve", "%w", err)
	}
	s.running.Go(func() {
		for _, dir := range old {
			if err := os.RemoveAll(dir); err != nil {
				s.log.Warn("what builds have left cannot be removed", "directory", dir, "error", err)
			}
		}
	})
	return nil
}

// registries are where packages come from. Where there are mirrors of them on a private
// network, their names lead to it.
var registries = []string{
	"registry.npmjs.org:443", "registry.yarnpkg.com:443", "pypi.org:443", "files.pythonhosted.org:443",
	"index.crates.io:443", "static.crates.io:443", "repo.maven.apache.org:443", "repo1.maven.org:443", "plugins.gradle.org:443", "services.gradle.org:443",
}

// buildNetwork is what builds may connect to: the internet, as functions may, and
// whatever the operator's environment says that packages come from or by, be it
// private.
func buildNetwork(env []string) lambent.Network {
	entries := append([]string{"internet"}, registries...)
	for _, kv := range env {
		_, value, _ := strings.Cut(kv, "=")
		for word := range strings.FieldsSeq(value) {
			if !strings.Contains(word, "://") && strings.Contains(word, ":") { // a proxy's short form
				word = "http://" + word
			}
			u, err := url.Parse(word)
			if err != nil || u.Hostname() == "" {
				continue
			}
			port := u.Port()
			if port == "" {
				port = cmp.Or(map[string]string{"http": "80", "https": "443"}[u.Scheme], "1080")
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

// build has code made of a source that is stored. One that is under way when the server
// begins to end is given up: what it is for could not be started any more.
func (s *Server) build(ctx context.Context, r v1.BuildRequest, progress io.Writer) (v1.Code, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.closing:
			cancel(errors.New("the server is being stopped"))
		case <-ctx.Done():
		}
	}()
	rt, err := s.runtime(r.Runtime)
	if err != nil {
		return v1.Code{}, err
	}
	begun := time.Now()
	t, err := s.builder.Build(ctx, build.Request{Kind: r.Kind, Source: r.Source, Runtime: rt, Name: r.Name, Fresh: r.Fresh}, progress)
	s.metrics.Built(time.Since(begun), err)
	return asCode(t, err)
}
