package runtimes

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lambent"
)

// Options say where to look and what to accept.
type Options struct {
	Agents string   // the directory that Install returned
	Path   []string // directories to search before the usual ones, such as those of $PATH

	// Unprivileged accepts only interpreters that any user can reach and execute,
	// as the users inside sandboxes must.
	Unprivileged bool

	// Accepts says why the sandbox driver cannot run a runtime; nil: it runs all.
	Accepts func(lambent.Runtime) error
}

// A Missing is an interpreter that was found and cannot be offered.
type Missing struct {
	Name string // of the runtime that it would have been; empty if not even that is known
	Path string
	Why  string
}

// The usual places, after those of Options.Path.
var usualPlaces = []string{"/usr/local/bin", "/usr/bin", "/bin", "/opt/*/bin", "/opt/*/*/bin"}

// Discover returns what can run on this machine, one runtime of each name,
// sorted by name; of several interpreters of one version the first on the path
// that is usable. Each candidate is run once to tell its own version: a file's
// name is not believed.
func Discover(ctx context.Context, o Options) ([]lambent.Runtime, []Missing) {
	found := map[string]lambent.Runtime{}
	for _, name := range []string{"provided", "provided.al2", "provided.al2023"} {
		found[name] = lambent.Runtime{Name: name, Guest: "lambda", Note: "a program named bootstrap in the code"}
	}
	var missing []Missing
	seen := map[string]bool{}
	for _, c := range identifyAll(ctx, candidates(o.Path), nil) {
		i := c.interpreter
		if i.family == "go" && (seen["go"] || !slices.Contains(o.Path, filepath.Dir(c.file))) {
			continue // builds take the first on the path
		}
		if c.err != nil {
			missing = append(missing, Missing{Path: c.file, Why: c.err.Error()})
			continue
		}
		if seen[i.path] {
			continue
		}
		seen[i.path], seen[i.family] = true, true
		name := i.runtimeName()
		if name == "" {
			missing = append(missing, Missing{Path: i.path, Why: i.family + " " + i.version + " is not supported"})
			continue
		}
		if _, ok := found[name]; ok {
			continue
		}
		if o.Unprivileged && i.family != "go" { // which the server runs
			if err := i.reachable(); err != nil {
				missing = append(missing, Missing{Name: name, Path: i.path, Why: err.Error()})
				continue
			}
		}
		rt := i.runtime(name, o.Agents)
		if o.Accepts != nil {
			if err := o.Accepts(rt); err != nil {
				missing = append(missing, Missing{Name: name, Path: i.path, Why: err.Error()})
				continue
			}
		}
		found[name] = rt
	}
	missing = slices.DeleteFunc(missing, func(m Missing) bool { _, ok := found[m.Name]; return ok })
	return slices.SortedFunc(maps.Values(found), func(a, b lambent.Runtime) int { return Compare(a.Name, b.Name) }), missing
}

var candidateName = regexp.MustCompile(`^(python3(\.\d+)?|node(js)?(\d+)?|go|java)$`)

// candidates returns the files that are named like interpreters, in order of
// preference, each real file once. In one directory the more exact names come first.
func candidates(path []string) []string {
	var dirs, files []string
	for _, pattern := range slices.Concat(path, usualPlaces) {
		matches, _ := filepath.Glob(pattern) // the only error is a bad pattern
		dirs = append(dirs, matches...)
	}
	seen := map[string]bool{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // unreadable or gone: nothing to offer
		}
		for _, e := range slices.Backward(entries) {
			if !candidateName.MatchString(e.Name()) {
				continue
			}
			file := filepath.Join(dir, e.Name())
			real, err := filepath.EvalSymlinks(file)
			if err != nil || seen[real] {
				continue
			}
			seen[real] = true
			files = append(files, file)
		}
	}
	return files
}

// An interpreter is a file that has told what it is.
type interpreter struct {
	family  string // "python", "nodejs", "java" or "go"
	path    string // the real program, behind links and version managers
	library string // a file of its standard library, if that is on disk
	version string // such as "3.11.2"
}

const (
	pythonProbe = `import sys,os;print("%d.%d.%d"%sys.version_info[:3]);print(os.path.realpath(sys.executable));print(os.__file__)`
	nodeProbe   = `console.log(process.versions.node);console.log(process.execPath)`
)

// A candidate is a file that was asked what it is.
type candidate struct {
	file string
	interpreter
	err error
}

// identifyAll identifies files, in their order. The wrappers of version managers
// take up to 200 ms each, so several run at a time, with the attributes if there are any.
func identifyAll(ctx context.Context, files []string, attr *syscall.SysProcAttr) []candidate {
	out := make([]candidate, len(files))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2*runtime.NumCPU())
	for n, file := range files {
		slots <- struct{}{}
		wg.Go(func() {
			i, err := identify(ctx, file, attr)
			out[n] = candidate{file, i, err}
			<-slots
		})
	}
	wg.Wait()
	return out
}

// identify runs the file to learn what it is. A version manager's wrapper gives
// the program behind it, which boots without the wrapper's shell.
func identify(ctx context.Context, file string, attr *syscall.SysProcAttr) (interpreter, error) {
	family := "python"
	switch base := filepath.Base(file); {
	case strings.HasPrefix(base, "node"):
		family = "nodejs"
	case base == "go", base == "java":
		family = base
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, probes[family]...)
	cmd.WaitDelay, cmd.SysProcAttr = time.Second, attr
	if family == "go" { // itself, and not what a setting has it fetch
		cmd.Dir, cmd.Env = "/", []string{"GOTOOLCHAIN=local", "GOENV=off"}
	}
	if family == "java" {
		out, err := cmd.CombinedOutput()
		return told(family, javaTold(out), err)
	}
	out, err := cmd.Output()
	return told(family, out, err)
}

// probes are the arguments that make an interpreter tell what it is.
var probes = map[string][]string{
	"python": {"-I", "-S", "-c", pythonProbe}, "nodejs": {"-e", nodeProbe},
	"go": {"env", "GOVERSION", "GOROOT"}, "java": {"-XshowSettings:properties", "-version"},
}

// told reads what an interpreter answered to its family's probe.
func told(family string, out []byte, err error) (interpreter, error) {
	i := interpreter{family: family}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		return i, fmt.Errorf("does not run: %w", err)
	}
	if len(lines) < 2 || !filepath.IsAbs(lines[1]) {
		return i, fmt.Errorf("does not say what it is: %.80q", out)
	}
	i.version, i.path = lines[0], lines[1]
	if len(lines) > 2 {
		i.library = lines[2]
	}
	return i, nil
}

// runtimeName returns AWS's name for the version, or Google's where AWS runs nothing
// like it, or "" if nothing runs on it.
func (i interpreter) runtimeName() string {
	parts := strings.Split(i.version, ".")
	major, _ := strconv.Atoi(parts[0])
	switch {
	case i.family == "nodejs" && major >= 18:
		return fmt.Sprintf("nodejs%d.x", major)
	case i.family == "java" && major >= 11:
		return fmt.Sprintf("java%d", major)
	case i.family == "go" && parts[0] == "go1" && len(parts) > 1:
		minor, _, _ := strings.Cut(parts[1], "rc")
		return "go1" + minor
	case i.family == "python" && major == 3 && len(parts) > 1:
		if minor, _ := strconv.Atoi(parts[1]); minor >= 8 {
			return fmt.Sprintf("python3.%d", minor)
		}
	}
	return ""
}

// families are what the newest runtimes of an interpreter are called.
var families = map[string]string{"python": "python3", "nodejs": "nodejs"}

// runtime describes the interpreter with its agent. DESIGN.md has the reason for
// each flag.
func (i interpreter) runtime(name, agents string) lambent.Runtime {
	if compiled, ok := i.compiled(name); ok {
		return compiled
	}
	r := lambent.Runtime{
		Name: name, Guest: "lambda", Family: families[i.family], Note: i.path + " (" + i.version + ")",
		// What an interpreter reads at exec and never again; the function's own
		// environment replaces all of it.
		Env: map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
	}
	switch i.family {
	case "python":
		r.Boot = []string{i.path, "-I", "-S", "-B", filepath.Join(agents, "python", "boot.py")}
		r.Compile = slices.Concat(r.Boot[:len(r.Boot)-1], []string{filepath.Join(agents, "python", "compile.py")})
	case "nodejs":
		r.Boot = []string{i.path}
		if major, _, _ := strings.Cut(i.version, "."); len(major) == 2 && major >= "22" {
			r.Boot = append(r.Boot, "--no-experimental-require-module", "--no-experimental-detect-module")
		}
		r.Boot = append(r.Boot, filepath.Join(agents, "nodejs", "agent.cjs"))
	}
	return i.withFixedEnv(r)
}

// reachable says why some user may be unable to run the interpreter, or nil.
func (i interpreter) reachable() error {
	for _, file := range []string{i.path, i.library} {
		if file == "" {
			continue
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if want := fs.FileMode(0o004); info.Mode()&want == 0 || file == i.path && info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s is closed to other users (mode %04o)", file, info.Mode().Perm())
		}
		for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				return err
			}
			if info.Mode()&0o001 == 0 {
				return fmt.Errorf("%s is closed to other users (mode %04o)", dir, info.Mode().Perm())
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}

// Compare orders names of runtimes: python3.9 is before python3.11.
func Compare(a, b string) int {
	key := func(s string) string {
		return digits.ReplaceAllStringFunc(s, func(d string) string { return fmt.Sprintf("%06s", d) })
	}
	return strings.Compare(key(a), key(b))
}

var digits = regexp.MustCompile(`\d+`)

var knownName = regexp.MustCompile(`^(python3\.\d+|nodejs\d+\.x|provided(\.al2(023)?)?)$`)

// googleNames are of Google's runtimes: what is before the version, and the version.
var googleNames = regexp.MustCompile(`^(python3|nodejs|go1|java|ruby|php|dotnet)(\d+)$`)

// bringFamily has what brings some version of a family.
var bringFamily = map[string]string{
	"python3": "apt-get install python3", "google-python": "apt-get install python3",
	"nodejs": "apt-get install nodejs", "google-nodejs": "apt-get install nodejs",
	"google-go": "install Go from https://go.dev/dl, on the server's PATH", "google-java": "apt-get install default-jre-headless",
}

// NotFound is the refusal of a runtime that is not among those at hand: NotFound
// with the command that would bring it, Unsupported for one that nothing would, or
// Invalid for a name that no runtime has.
func NotFound(name string, have []lambent.Runtime) error {
	names := make([]string, len(have))
	for i, r := range have {
		names[i] = r.Name
	}
	list := strings.Join(names, ", ")
	hint, family := bringFamily[name]
	if !family {
		hint = "lambent runtime add " + name
	}
	switch google := googleNames.FindStringSubmatch(name); {
	case family, knownName.MatchString(name):
	case google == nil:
		return lambent.Errorf(lambent.Invalid, "runtime", "runtime %.64q is not one: there are %s", name, list).WithHint("lambent runtime list")
	case google[1] == "python3":
		hint = "lambent runtime add python3." + google[2]
	case google[1] == "nodejs":
		hint += ".x"
	case google[1] == "go1":
		hint = "install Go 1." + google[2] + " from https://go.dev/dl, the first on the server's PATH"
	case google[1] == "java":
		hint = "apt-get install openjdk-" + google[2] + "-jre-headless"
	default:
		return lambent.Errorf(lambent.Unsupported, "runtime", "runtime %s is not in this release: its programs run as web servers", name).
			WithHint("lambent deploy --runtime %s --command 'PROGRAM ARGUMENTS'", Web)
	}
	return lambent.Errorf(lambent.NotFound, "runtime", "runtime %s is not on this machine: there are %s", name, list).WithHint("%s", hint)
}
