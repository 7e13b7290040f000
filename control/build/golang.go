package build

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lambent"
)

const goOp = "build.go"

// buildGo compiles the package at the top of the module in src into the file out.
func (b *Builder) buildGo(ctx context.Context, src, out string, progress io.Writer) error {
	tool, err := lookup(b.options.Path, "go")
	if err != nil {
		return lambent.Errorf(lambent.Unsupported, goOp, "building Go sources needs the go command, which is not on the server").
			WithHint("install Go from https://go.dev/dl, or deploy a directory with a ready-made bootstrap")
	}
	if src, err = filepath.Abs(src); err != nil {
		return lambent.Errorf(lambent.Internal, goOp, "%w", err)
	}
	if out, err = filepath.Abs(out); err != nil {
		return lambent.Errorf(lambent.Internal, goOp, "%w", err)
	}
	home, err := os.MkdirTemp(b.options.WorkDir, "lambent-build-")
	if err != nil {
		return lambent.Errorf(lambent.Internal, goOp, "%w", err)
	}
	defer os.RemoveAll(home)
	if err := noTelemetry(home); err != nil {
		return lambent.Errorf(lambent.Internal, goOp, "%w", err)
	}
	cache, err := filepath.Abs(b.options.CacheDir)
	if err != nil {
		return lambent.Errorf(lambent.Internal, goOp, "%w", err)
	}
	run := &goRun{tool: tool, dir: src, env: b.goEnv(home, cache), memoryMB: b.options.GoMemoryMB, progress: progress}
	if info, err := os.Lstat(filepath.Join(src, "go.mod")); err != nil || !info.Mode().IsRegular() {
		return lambent.Errorf(lambent.Broken, goOp, "there is no go.mod beside the source").WithHint("go mod init NAME && go mod tidy")
	}
	mod := "-mod=vendor" // then nothing outside of the source is read, whatever go.mod says
	if _, err := os.Lstat(filepath.Join(src, "vendor", "modules.txt")); err != nil {
		mod = "-mod=readonly"
		if err := run.checkReplacements(ctx); err != nil {
			return err
		}
	}
	pkg, err := run.list(ctx, mod)
	if err != nil {
		return err
	}
	target := []string{mod, "."}
	if pkg.Name != "main" {
		if target, err = run.function(ctx, pkg, mod, home); err != nil {
			return err
		}
		if err := linkSource(src, filepath.Dir(out)); err != nil {
			return lambent.Errorf(lambent.Internal, goOp, "%w", err)
		}
	}
	return run.do(ctx, io.Discard, append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out}, target...)...)
}

// noTelemetry does for a home what `go telemetry off` does. The command counts what it is
// used for, in its user's home, and starts a process for that which may outlive it.
func noTelemetry(home string) error {
	dir := filepath.Join(home, ".config", "go", "telemetry")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "mode"), []byte("off"), 0o600)
}

// goEnv is all of the environment that the toolchain sees.
func (b *Builder) goEnv(home, cache string) []string {
	env := []string{
		"PATH=" + b.options.Path,
		"HOME=" + home, "TMPDIR=" + home, "GOTMPDIR=" + home,
		"GOCACHE=" + cmp.Or(b.options.GoCache, filepath.Join(cache, "go-build")),
		"GOMODCACHE=" + cmp.Or(b.options.GoModCache, filepath.Join(cache, "go-mod")),
		"GOPATH=" + filepath.Join(home, "go"),
		"GOFLAGS=-modcacherw", // so that removing the cache needs no more than the right to
		"GOENV=off", "GOWORK=off", "GOTOOLCHAIN=local", "GOVCS=*:off", "CGO_ENABLED=0",
	}
	for _, v := range []struct{ name, value string }{
		{"GOPROXY", b.options.Proxy}, {"GOSUMDB", b.options.SumDB}, {"GONOSUMDB", b.options.NoSumDB},
	} {
		if v.value != "" {
			env = append(env, v.name+"="+v.value)
		}
	}
	return env
}

// A goRun runs the go command in one module.
type goRun struct {
	tool, dir string
	env       []string
	memoryMB  int // of each process
	progress  io.Writer
}

// A goPackage is what the go command says of the package beside go.mod.
type goPackage struct {
	Name, ImportPath string
	GoFiles          []string // without tests, and what other systems are for
}

func (r *goRun) list(ctx context.Context, mod string) (pkg goPackage, err error) {
	var printed bytes.Buffer
	if err := r.do(ctx, &printed, "list", mod, "-find", "-json=Name,ImportPath,GoFiles", "."); err != nil {
		return pkg, err
	}
	if err := json.Unmarshal(printed.Bytes(), &pkg); err != nil {
		return pkg, lambent.Errorf(lambent.Internal, goOp, "what `go list -json` prints: %w", err)
	}
	return pkg, nil
}

// maxOutput is how much of what the toolchain prints is passed on.
const maxOutput = 256 << 10

func (r *goRun) do(ctx context.Context, stdout io.Writer, args ...string) error {
	said := &output{to: r.progress, left: maxOutput}
	// What a compiler takes is up to the source.
	shell := []string{"-c", `ulimit -d "$0"; exec "$@"`, strconv.Itoa(r.memoryMB << 10), r.tool}
	cmd := exec.CommandContext(ctx, "/bin/sh", append(shell, args...)...)
	cmd.Dir, cmd.Env = r.dir, append(r.env, "PWD="+r.dir, "GOMEMLIMIT="+strconv.Itoa(r.memoryMB*3/4)+"MiB")
	cmd.Stdout, cmd.Stderr = stdout, said
	// The compiler and the linker are children of the go command.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case context.Cause(ctx) == errTimeout:
		return lambent.Errorf(lambent.Broken, goOp, "the build was ended because it took too long").
			WithHint("go mod vendor && lambent deploy")
	case ctx.Err() != nil:
		return lambent.Errorf(lambent.Canceled, goOp, "given up during the build: %w", context.Cause(ctx))
	}
	if _, exited := errors.AsType[*exec.ExitError](err); !exited {
		return lambent.Errorf(lambent.Internal, goOp, "%w", err)
	}
	if outOfMemory.MatchString(said.kept.String()) {
		return lambent.Errorf(lambent.Broken, goOp, "go build needs more than the %d MB of memory that it has here", r.memoryMB).
			WithHint("CGO_ENABLED=0 go build -o bootstrap . && lambent deploy")
	}
	return explain(said.kept.String(), err)
}

// outOfMemory is how the toolchain's programs end that may have no more of it, or that
// the kernel ends for want of it. Go's runtime does not look everywhere whether it has
// got what it asked for.
var outOfMemory = regexp.MustCompile(`(?m)^fatal error: .*(out of memory|cannot allocate memory)|^SIGSEGV: segmentation violation|: signal: killed$`)

// checkReplacements refuses `replace` directives that lead out of the source:
// on the author's machine they find a module beside this one, on the server they
// would find whatever is there.
func (r *goRun) checkReplacements(ctx context.Context) error {
	mod, err := r.readModule(ctx)
	if err != nil {
		return err
	}
	for _, rep := range mod.Replace {
		path := rep.New.Path
		local := strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../") || filepath.IsAbs(path) || path == "." || path == ".."
		if local && !filepath.IsLocal(path) {
			return lambent.Errorf(lambent.Broken, goOp, "go.mod replaces a module by %q, which is not in what was deployed", path).
				WithHint("go mod vendor && lambent deploy")
		}
	}
	return nil
}

// A goModule is what is read of go.mod.
type goModule struct {
	Require []struct{ Path string }
	Replace []struct{ New struct{ Path string } }
}

func (r *goRun) readModule(ctx context.Context) (mod goModule, err error) {
	var printed bytes.Buffer
	if err := r.do(ctx, &printed, "mod", "edit", "-json"); err != nil {
		return mod, err
	}
	if err := json.Unmarshal(printed.Bytes(), &mod); err != nil {
		return mod, lambent.Errorf(lambent.Internal, goOp, "what `go mod edit -json` prints: %w", err)
	}
	return mod, nil
}

// explain makes one line of what a failed build printed. All of it went to
// progress.
func explain(said string, err error) error {
	first, more := "", 0
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "go: downloading") {
			continue
		}
		switch {
		case first == "":
			first = line
		case strings.HasSuffix(first, ":"): // "errors parsing go.mod:", and then which
			first += " " + line
		default:
			more++
		}
	}
	e := lambent.Errorf(lambent.Broken, goOp, "go build failed: %s", first)
	if first == "" {
		e = lambent.Errorf(lambent.Broken, goOp, "go build failed: %w", err)
	} else if more > 0 {
		e.Message += " (and more: see the build's output)"
	}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(said, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("missing go.sum entry", "updates to go.mod needed", "no required module provides"):
		e.Hint = "go mod tidy && lambent deploy"
	case has("inconsistent vendoring"):
		e.Hint = "go mod vendor && lambent deploy"
	case has("dial tcp", "no such host", "module lookup disabled", "i/o timeout", "connection refused", "disabled by GOVCS", "reading file://"):
		e.Message = "the modules that the source needs cannot be downloaded here: " + first
		e.Hint = "go mod vendor && lambent deploy"
	case has("requires go >="):
		e.Hint = "install a newer Go on the server, or deploy a directory with a ready-made bootstrap"
	case has("no space left on device"):
		e.Kind = lambent.NoSpace
	}
	return e
}

// output passes on what comes, up to a limit, and keeps the same, and after it the end
// of what comes.
type output struct {
	to   io.Writer
	left int
	kept bytes.Buffer
	last []byte // at most twice maxTail
}

// maxTail is how much of the end of an output is looked at for what went wrong.
const maxTail = 8 << 10

// Write never fails: a client that no longer watches does not end the build.
func (o *output) Write(p []byte) (int, error) {
	n := min(len(p), o.left)
	if n > 0 {
		o.kept.Write(p[:n])
		o.to.Write(p[:n])
		if o.left -= n; o.left == 0 {
			io.WriteString(o.to, "\n... the rest of the output is left out\n")
		}
	}
	o.last = append(o.last, p[max(0, len(p)-maxTail):]...)
	if len(o.last) > 2*maxTail {
		o.last = append(o.last[:0], o.tail()...)
	}
	return len(p), nil
}

// tail is the end of what came.
func (o *output) tail() []byte { return o.last[max(0, len(o.last)-maxTail):] }
