package rootfs

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"lambent"
	"lambent/internal/preload"
	"lambent/runtimes"
)

const packagesOp = "rootfs.packages"

const maxInstall = 15 * time.Minute

// What may be asked for: a name, perhaps with a version. No address, no path and
// no option of the installer's.
var packageNames = map[string]*regexp.Regexp{
	"python": regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._-]+\])?((==|>=|<=|~=|!=|<|>)[A-Za-z0-9][A-Za-z0-9.*+!_-]*)?$`),
	"nodejs": regexp.MustCompile(`^(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~][a-z0-9._~-]*(@[A-Za-z0-9^~<>=][A-Za-z0-9.^~*<>=+-]*)?$`),
}

// checkPackages refuses what an installer should not see.
func checkPackages(name string, packages []string) error {
	family, err := runtimes.Family(name)
	if err != nil {
		return err
	}
	if family == "" && len(packages) > 0 {
		return lambent.Errorf(lambent.Invalid, packagesOp, "%s has no packages: its functions are programs that bring everything", name)
	}
	if len(packages) > 100 {
		return lambent.Errorf(lambent.Invalid, packagesOp, "--packages names %d: over the limit of 100", len(packages))
	}
	for _, p := range packages {
		if !packageNames[family].MatchString(p) || len(p) > 214 {
			return lambent.Errorf(lambent.Invalid, packagesOp, "--packages: %.80q is not the name of a package, such as %s", p, map[string]string{"python": "boto3 or boto3==1.40.1", "nodejs": "@aws-sdk/client-s3 or uuid@11"}[family])
		}
	}
	return nil
}

// install installs packages into a directory that is made for it in work, and
// returns it.
func (s *Store) install(ctx context.Context, a *Added, work string, p *progress) (library string, err error) {
	family, err := runtimes.Family(a.Name)
	if err != nil {
		return "", err
	}
	// Whoever installs may write here and nowhere else.
	library, scratch := filepath.Join(work, "library"), filepath.Join(work, "scratch")
	for _, d := range []string{library, scratch} {
		if err := errors.Join(os.Mkdir(d, 0o755), asInstaller(d)); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, maxInstall, errSlow)
	defer cancel()
	p.say("installing %s", strings.Join(a.Packages, ", "))
	if family == "nodejs" {
		err = s.npmInstall(ctx, a, library, scratch, p)
	} else if err = s.pipInstall(ctx, a, library, scratch, p); err == nil {
		err = s.compile(ctx, a, library, p)
	}
	if err != nil {
		return "", err
	}
	return library, s.list(ctx, a, family, library, p)
}

// maxList bounds what a program tells of packages.
const maxList = 4 << 20

// list has the runtime's own interpreter tell what of the packages can be loaded ahead,
// in a sandbox that sees them where code will be, and keeps that beside them.
func (s *Store) list(ctx context.Context, a *Added, family, library string, p *progress) error {
	args, env := runtimes.Lister(family, library, s.o.Agents)
	if args == nil || s.o.Agents == "" || s.o.PackagesSeen == "" {
		return nil
	}
	rt := s.booted(a, cmp.Or(a.Program, s.o.Interpreters()[a.Name]), args...)
	maps.Copy(rt.Env, env)
	rt.Packages, rt.PackagesAt = library, lambent.TaskInside
	var told []byte
	err := s.run(ctx, rt, func(r io.Reader) (err error) {
		told, err = io.ReadAll(io.LimitReader(r, maxList))
		return err
	})
	if lambent.Is(err, lambent.Canceled) {
		return err
	}
	var l *preload.List
	if err == nil {
		l, err = preload.Parse(told)
	}
	if err != nil {
		p.say("nothing of the packages is loaded ahead: %v: %s", err, lastLine(told))
		return nil
	}
	a.Preloads = l.Name
	return l.Write(library)
}

// pipInstall has pip unpack wheels, which run nothing when they are installed. pip
// is the host's: it can install for another Python than its own, and needs no
// program of a stranger's to have the network.
func (s *Store) pipInstall(ctx context.Context, a *Added, library, scratch string, p *progress) error {
	python, err := s.withPip(ctx, scratch)
	if err != nil {
		return err
	}
	argv := []string{
		python, "-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir", "--no-compile", "--disable-pip-version-check", "--no-warn-script-location",
		"--only-binary", ":all:", "--implementation", "cp", "--python-version", strings.TrimPrefix(a.Name, "python"), "--target", library,
	}
	for _, platform := range s.wheelPlatforms(a) {
		argv = append(argv, "--platform", platform)
	}
	argv = append(append(argv, "--"), a.Packages...)
	return s.runInstaller(ctx, "pip", argv, library, scratch, p)
}

// withPip returns an interpreter of the host that has pip.
func (s *Store) withPip(ctx context.Context, scratch string) (string, error) {
	for name, python := range s.o.Interpreters() {
		if family, _ := runtimes.Family(name); family != "python" {
			continue
		}
		if _, err := runTool(ctx, scratch, []string{python, "-I", "-c", "import pip"}, s.toolEnv(scratch), io.Discard); err == nil {
			return python, nil
		}
	}
	if ctx.Err() != nil {
		return "", canceled(ctx)
	}
	return "", lambent.Errorf(lambent.Unavailable, packagesOp, "--packages needs pip on the server's machine, of a Python that any user can run").
		WithHint("apt-get install python3-pip")
}

// npmInstall has npm install, and run nothing of what it installs.
func (s *Store) npmInstall(ctx context.Context, a *Added, library, scratch string, p *progress) error {
	npm := s.lookup("npm")
	if npm == "" {
		return lambent.Errorf(lambent.Unavailable, packagesOp, "--packages needs npm on the server's machine").WithHint("apt-get install npm")
	}
	argv := []string{
		npm, "install", "--prefix", library, "--cache", filepath.Join(scratch, "npm"), "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund",
		"--no-save", "--no-package-lock", "--no-update-notifier", "--loglevel=error", "--",
	}
	return s.runInstaller(ctx, "npm", append(argv, a.Packages...), library, scratch, p)
}

// toolEnv is all of the environment that pip and npm see.
func (s *Store) toolEnv(scratch string) []string {
	return append([]string{"LANG=C.UTF-8", "TMPDIR=" + scratch, "HOME=" + scratch, "PATH=" + strings.Join(s.o.Path, ":")}, s.o.Env...)
}

func (s *Store) runInstaller(ctx context.Context, tool string, argv []string, library, scratch string, p *progress) error {
	said, err := runTool(ctx, library, argv, s.toolEnv(scratch), p)
	switch {
	case err == nil:
		return nil
	case lambent.Is(err, lambent.Canceled):
		return err
	case ctx.Err() != nil:
		return lambent.Errorf(lambent.Unavailable, packagesOp, "%s was ended after %v", tool, maxInstall)
	}
	why := lastLine(said)
	if strings.Contains(string(said), "No space left on device") || strings.Contains(string(said), "ENOSPC") {
		return lambent.Errorf(lambent.NoSpace, packagesOp, "no space is left on the disk of the server's runtimes %s: nothing was added", s.o.Dir).WithHint("df -h %s", s.o.Dir)
	}
	return lambent.Errorf(lambent.Invalid, packagesOp, "%s cannot install the packages: %s", tool, cmp.Or(why, err.Error()))
}

// lastLine is where installers say what went wrong.
func lastLine(b []byte) string {
	last := ""
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "npm error A complete log") {
			last = line
		}
	}
	return fmt.Sprintf("%.300s", last)
}

//go:embed compile.py
var compiler string

// compile has the runtime's own interpreter compile Python's packages, in a sandbox
// that it answers from with a tar file: nothing of a function's may be written beside
// them later. What does not compile works, only slower.
func (s *Store) compile(ctx context.Context, a *Added, library string, p *progress) error {
	program, seen := cmp.Or(a.Program, s.o.Interpreters()[a.Name]), cmp.Or(s.o.PackagesSeen, library)
	rt := s.booted(a, program, "-I", "-S", "-c", compiler, seen)
	rt.Packages = library
	root, err := os.OpenRoot(library)
	if err != nil {
		return err
	}
	defer root.Close()
	err = s.run(ctx, rt, s.newUnpacker(ctx, root).unpack)
	if lambent.Is(err, lambent.Canceled) || isFull(err) {
		return err
	}
	if err != nil {
		p.say("the packages are not all compiled: %v", err)
	}
	return nil
}

// wheelPlatforms are the kinds of wheels that fit a root file system, or the host.
func (s *Store) wheelPlatforms(a *Added) []string {
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if runtime.GOOS == "darwin" {
		machine = map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]
		return []string{"macosx_11_0_" + machine, "macosx_10_9_universal2"}
	}
	root := "/"
	if a.Rooted {
		root = s.Path(a.Tree)
	}
	if musl, _ := filepath.Glob(filepath.Join(root, "lib", "ld-musl-*")); len(musl) > 0 {
		return []string{"musllinux_1_2_" + machine, "musllinux_1_1_" + machine}
	}
	// Old enough for every C library in use: AWS's own has been 2.26.
	return []string{"manylinux_2_17_" + machine, "manylinux2014_" + machine, "manylinux_2_12_" + machine, "manylinux1_" + machine}
}

// lookup finds a program on the server's path.
func (s *Store) lookup(name string) string {
	for _, dir := range s.o.Path {
		if file, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return file
		}
	}
	return ""
}
