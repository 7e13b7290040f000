// Package build makes what can run out of what people write: a Go module becomes the
// `bootstrap` that Lambda's provided runtimes execute, and Google's, of functions to
// which a main is added; projects in Node.js, Python, Rust and Java get what they depend
// on; and code in Python its byte code.
//
// Whatever may run a stranger's code, such as npm and the scripts of its packages, runs
// in a sandbox as functions do, with a network, over a copy of what was deployed; what
// it makes comes out as an archive and is judged like any other that is sent in.
// A Go module is built without running any of its code (no cgo, no generators, no other
// toolchain), by the toolchain of the machine and as the server's user; what it reads
// through go.mod does not lie outside the source.
//
// It guarantees that a build is bounded in time, in output and in what it makes, and
// sees none of the server's environment but what Options hand it. What is installed, or
// fetched to build with, is kept by what the manifests say, for the next build of the same
// project, which is given a copy.
package build

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lambent"
	"lambent/bundle"
	"lambent/sandbox"
)

// Options are what the server's configuration says about builds.
type Options struct {
	CacheDir string        // for what one build leaves to the next
	WorkDir  string        // for what a build needs while it runs
	Path     string        // PATH, where the toolchain is looked for
	Timeout  time.Duration // of one build; 0: 10 minutes

	Trees    Trees
	MaxTree  int64 // bytes of a result
	MaxFiles int   // and what it may have

	// Of builds in sandboxes. Env is what installers see of the server's environment,
	// such as their registries.
	Driver   sandbox.Driver
	Network  lambent.Network
	Env      []string
	MemoryMB int // of one sandbox; 0: 2048
	AtOnce   int // sandboxes; 0: 2

	// GoMemoryMB is what each process of the go command may have, which is in no sandbox;
	// 0: 2048. The largest packages that people use need more than 1024.
	GoMemoryMB int

	Logger *slog.Logger // nil: nowhere

	Proxy   string // GOPROXY; empty: the toolchain's own default
	SumDB   string // GOSUMDB, likewise
	NoSumDB string // GONOSUMDB, likewise

	// GoCache and GoModCache replace what is below CacheDir. A server that runs its
	// user's own code, such as a demo's, may share that user's caches: with an
	// empty one the first build compiles half the standard library (20 s on two
	// cores, against 0.7 s).
	GoCache, GoModCache string
}

// Trees is where sources come from and results go, by digest.
type Trees interface {
	// Path returns the directory of a tree, for reading only.
	Path(digest string) (string, error)
	// PutDirs stores what is in the directories; of files with the same name, the one in
	// the first.
	PutDirs(ctx context.Context, dirs ...string) (bundle.Tree, error)
}

// A Request says what is to be built.
type Request struct {
	Kind    string          // go, npm, pip, cargo, maven or gradle
	Source  string          // digest of the tree
	Runtime lambent.Runtime // that it is for; Go needs none
	Name    lambent.Name    // of the function, whose project shares nothing with others
	Fresh   bool            // takes nothing from the cache
}

// A Builder builds. Its method may be called concurrently; the toolchain locks
// its caches.
type Builder struct {
	options Options
	log     *slog.Logger
	cache   *cache
	turns   *turns
}

// New returns a builder. Whether there is a toolchain is found out by the first build,
// so that one can be installed meanwhile.
func New(o Options) (*Builder, error) {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	o.MemoryMB, o.GoMemoryMB, o.AtOnce = cmp.Or(o.MemoryMB, 2048), cmp.Or(o.GoMemoryMB, 2048), cmp.Or(o.AtOnce, 2)
	b := &Builder{options: o, log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), cache: &cache{filepath.Join(o.CacheDir, "installed")}, turns: newTurns(o.AtOnce)}
	if err := errors.Join(os.MkdirAll(b.cache.dir, 0o700), os.MkdirAll(b.logs(), 0o700)); err != nil {
		return nil, diskError(err)
	}
	if err := b.cache.trim(cacheMB<<20, time.Now().Add(-cacheFor)); err != nil {
		b.log.Warn("what builds have installed cannot be removed", "error", err)
	}
	return b, nil
}

// Build builds a source, and stores the result. What the tools print goes to progress.
//
// The errors are Broken for what is wrong with the source, or with what it asks for,
// Unsupported for an unknown kind or a missing tool, Canceled when ctx ends first,
// TooLarge, NoSpace, and those of Trees.
func (b *Builder) Build(ctx context.Context, r Request, progress io.Writer) (_ bundle.Tree, err error) {
	const op = "build.Build"
	progress, end := b.logged(&r, progress)
	defer func() { end(err) }()
	if rec, ok := recipes[r.Kind]; ok {
		return b.sandboxed(ctx, &r, &rec, progress)
	}
	if r.Kind != "go" {
		return bundle.Tree{}, lambent.Errorf(lambent.Unsupported, op, "there is no build of kind %q: %s", r.Kind, kinds())
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.options.Timeout, errTimeout)
	defer cancel()
	src, err := b.options.Trees.Path(r.Source)
	if err != nil {
		return bundle.Tree{}, err
	}
	out, err := os.MkdirTemp(b.options.WorkDir, "")
	if err != nil {
		return bundle.Tree{}, diskError(err)
	}
	defer os.RemoveAll(out)
	if err := b.buildGo(ctx, src, filepath.Join(out, "bootstrap"), progress); err != nil {
		return bundle.Tree{}, err
	}
	if err := copyAssets(ctx, src, out); err != nil {
		return bundle.Tree{}, err
	}
	return b.options.Trees.PutDirs(ctx, out)
}

// Compile stores a source in Python once more, with the byte code of its modules, as the
// runtime's interpreter has it. The Request needs no kind. The errors are those of Build, and
// Throttled while builds of the project are under way: nobody waits for byte code.
func (b *Builder) Compile(ctx context.Context, r Request) (bundle.Tree, error) {
	return b.sandboxed(ctx, &r, &byteCode, io.Discard)
}

// kinds names what can be built.
func kinds() string {
	return strings.Join(slices.Sorted(maps.Keys(recipes)), ", ") + " and go"
}

var errTimeout = errors.New("the build took too long")

// lookup finds a program in a PATH that is not this process's own.
func lookup(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && filepath.IsAbs(file) {
			return file, nil
		}
	}
	return "", exec.ErrNotFound
}
