// Package build makes what can run out of what people write: today a Go module
// into a `bootstrap`, by the toolchain of the machine. Lambda's provided runtimes
// execute that, and Google's, of functions to which a main is added.
//
// It guarantees that a build is bounded in time and in output, sees none of the
// server's environment, runs no code of the module (no cgo, no generators, no
// other toolchain), and reads through go.mod nothing that lies outside the source.
//
// What it does not do: it does not isolate the compiler, which runs as the
// server's user and downloads modules from where Options say; the sandboxed
// builds with network come with the build sandbox. It keeps no cache of results:
// control does, by the digest of the tree.
package build

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"lambent"
)

// Options are what the server's configuration says about builds.
type Options struct {
	CacheDir string        // for compiled packages and downloaded modules; shared by all builds
	WorkDir  string        // for what a build needs while it runs; empty: the system's for temporary files
	Path     string        // PATH, where the toolchain is looked for
	Timeout  time.Duration // of one build; 0: 5 minutes
	Proxy    string        // GOPROXY; empty: the toolchain's own default
	SumDB    string        // GOSUMDB, likewise
	NoSumDB  string        // GONOSUMDB, likewise

	// GoCache and GoModCache replace what is below CacheDir. A server that runs its
	// user's own code, such as a demo's, may share that user's caches: with an
	// empty one the first build compiles half the standard library (20 s on two
	// cores, against 0.7 s).
	GoCache, GoModCache string
}

// A Builder builds. Its method may be called concurrently; the toolchain locks
// its caches.
type Builder struct{ options Options }

// New returns a builder. It touches nothing yet: whether there is a toolchain is
// found out by the first build, so that one can be installed meanwhile.
func New(o Options) *Builder {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Minute
	}
	return &Builder{options: o}
}

// Build builds the source in srcDir by its kind ("go") into outDir, which must
// be empty or missing, and copies the files that the program may want to read at
// run time: all but Go's own. What the toolchain prints goes to progress.
//
// The errors are Broken for what is wrong with the source, Unsupported for an
// unknown kind or a missing toolchain, Canceled when ctx ends first, and NoSpace.
func (b *Builder) Build(ctx context.Context, kind, srcDir, outDir string, progress io.Writer) error {
	const op = "build.Build"
	if kind != "go" {
		return lambent.Errorf(lambent.Unsupported, op, "there is no build of kind %q: only go", kind)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, b.options.Timeout, errTimeout)
	defer cancel()
	if err := os.MkdirAll(outDir, 0o755); err != nil {
		return lambent.Errorf(lambent.Internal, op, "%w", err)
	}
	if err := b.buildGo(ctx, srcDir, filepath.Join(outDir, "bootstrap"), progress); err != nil {
		return err
	}
	return copyAssets(ctx, srcDir, outDir)
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
