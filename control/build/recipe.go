package build

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"lambent"
)

// A recipe is how one kind of project gets what it depends on: a program of the shell
// that runs in a sandbox, over what of the project it has to see.
type recipe struct {
	tool   string // that it needs, for messages
	script string
	read   func(fs.FS) (plan, error) // what the project's manifests say
	vendor string                    // what whoever cannot build here can do
}

// A plan is what a project's manifests say about its build.
type plan struct {
	// sees names the files that the build has to see. Nothing else of the project then
	// has a part in it, and the result goes beneath the project's own files. Empty: it is
	// all of the project.
	sees []string
	// all says that the result is everything that is deployed, and not only what is
	// added.
	all bool
	// locked says that the same is installed each time.
	locked bool
	// compiles says that what is added is byte code of the project's own modules.
	compiles bool

	// first is the plan of the first stage: it sees only what hardly changes, and fetches
	// what the project depends on, for this build and for the next ones. nil: there is
	// none, and the build fetches for itself.
	first *plan
	// Of a first stage: fetch says that this is one, and empty names files of which it sees
	// only that they are there.
	fetch bool
	empty []string
}

var (
	//go:embed recipes/begin.sh
	begin string
	//go:embed recipes/npm.sh
	npmScript string
	//go:embed recipes/pip.sh
	pipScript string
	//go:embed recipes/bytecode.sh
	byteCodeScript string
	//go:embed recipes/cargo.sh
	cargoScript string
	//go:embed recipes/maven.sh
	mavenScript string
	//go:embed recipes/gradle.sh
	gradleScript string
)

// recipes are the kinds of builds that run in a sandbox.
var recipes = map[string]recipe{
	"npm":    {tool: "npm", script: begin + npmScript, read: readPackage, vendor: "npm ci && lambent deploy"},
	"pip":    {tool: "pip", script: begin + pipScript, read: readRequirements, vendor: "pip install -t . -r requirements.txt && lambent deploy"},
	"maven":  {tool: "mvn", script: begin + mavenScript, read: readMaven, vendor: "mvn package, and deploy the jars: see lambent deploy DIR of a directory with them"},
	"gradle": {tool: "gradle", script: begin + gradleScript, read: readGradle, vendor: "gradle assemble, and deploy the jars: see lambent deploy DIR of a directory with them"},
	"cargo":  {tool: "cargo", script: begin + cargoScript, read: readCargo, vendor: "deploy a directory with a ready-made bootstrap"},
}

// byteCode is no kind of build that is asked for: see Compile.
var byteCode = recipe{tool: "python", script: begin + byteCodeScript, read: func(fs.FS) (plan, error) { return plan{locked: true, compiles: true}, nil }}

// manifests are the files of a project, of which none is read that is too large to be a
// manifest.
type manifests struct{ fs.FS }

const maxManifest = 16 << 20

// ReadFile implements fs.ReadFileFS.
func (m manifests) ReadFile(name string) ([]byte, error) {
	info, err := fs.Stat(m.FS, name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxManifest {
		return nil, lambent.Errorf(lambent.Broken, "build", "%s is %d MB: over the limit of %d", name, info.Size()>>20, maxManifest>>20)
	}
	return fs.ReadFile(m.FS, name)
}

// manifest returns what one that has to be there says.
func manifest(src fs.FS, op, name, hint string) ([]byte, error) {
	text, err := fs.ReadFile(src, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, lambent.Errorf(lambent.Broken, op, "there is no %s beside the source", name).WithHint("%s", hint)
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), err
}

func exists(src fs.FS, name string) bool {
	_, err := fs.Stat(src, name)
	return err == nil
}

var (
	// Files that say which versions are installed, of the package managers of Node.js.
	nodeLocks = []string{"package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"}
	// Files by which these lead elsewhere, or by which npm builds the project itself.
	nodeWhole = []string{"binding.gyp", "pnpm-workspace.yaml", ".pnpmfile.cjs", ".yarnrc.yml", ".yarn"}
	// Scripts of the project that an install runs, and the one that Google's builds do.
	nodeScripts = []string{"preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare", "gcp-build"}

	// A version that is a path, or an archive that lies in the project.
	nodePath = regexp.MustCompile(`^(\.|/|~/|(file|link|portal|workspace|patch):)|^[^:]*\.(tgz|tar|tar\.gz)$`)
)

// readPackage reads what package.json says. What it names beside packages of a
// registry, and what its scripts may read, is anywhere in the project.
func readPackage(src fs.FS) (plan, error) {
	const op = "build.npm"
	text, err := manifest(src, op, "package.json", "npm init -y")
	if err != nil {
		return plan{}, err
	}
	var pkg map[string]any
	if err := json.Unmarshal(text, &pkg); err != nil {
		return plan{}, lambent.Errorf(lambent.Broken, op, "package.json is not as npm reads it: %w", err)
	}
	p := plan{sees: []string{"package.json"}, all: pkg["workspaces"] != nil || pkg["pnpm"] != nil}
	for _, name := range append([]string{".npmrc", ".yarnrc"}, nodeLocks...) {
		lock, err := fs.ReadFile(src, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return plan{}, err
		}
		p.sees = append(p.sees, name)
		p.locked = p.locked || slices.Contains(nodeLocks, name)
		p.all = p.all || leadsIn(lock) || bytes.Contains(lock, []byte(`"link": true`))
	}
	scripts, _ := pkg["scripts"].(map[string]any)
	for _, name := range nodeScripts {
		p.all = p.all || scripts[name] != nil
	}
	for _, list := range []string{"dependencies", "optionalDependencies"} {
		packages, _ := pkg[list].(map[string]any)
		for _, version := range packages {
			v, _ := version.(string)
			p.all = p.all || nodePath.MatchString(v)
		}
	}
	for _, name := range nodeWhole {
		p.all = p.all || exists(src, name)
	}
	if p.all = p.all || leadsIn(text); p.all {
		p.sees = nil
	}
	return p, nil
}

// leadsIn reports whether something in a manifest of npm's is said to lie in the project.
func leadsIn(text []byte) bool {
	for _, scheme := range []string{`"file:`, `"link:`, `"patch:`} {
		if bytes.Contains(text, []byte(scheme)) {
			return true
		}
	}
	return false
}

var (
	pipComment = regexp.MustCompile(`(^|\s)#.*$`)
	pipArchive = regexp.MustCompile(`^[^@;]*\.(whl|zip|tgz|tar(\.\w+)?)\b`)
	pipNamed   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*($|[<>=!~;@,( ])`)
)

// readRequirements reads what requirements.txt says. Lines that are not names of
// packages may lead to files of the project. With digests, pip wants one of everything:
// then all versions are said.
func readRequirements(src fs.FS) (plan, error) {
	text, err := manifest(src, "build.pip", "requirements.txt", "pip freeze > requirements.txt")
	if err != nil {
		return plan{}, err
	}
	p := plan{sees: []string{"requirements.txt"}}
	asked := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		comment := strings.HasPrefix(strings.TrimSpace(line), "#")
		line = pipComment.ReplaceAllString(line, "")
		if more, ok := strings.CutSuffix(line, `\`); ok && !comment {
			asked += more + " "
			continue
		}
		asked = strings.TrimSpace(asked + line)
		if asked != "" {
			p.locked = p.locked || strings.Contains(asked, "--hash=")
			if !pipNamed.MatchString(asked) || strings.Contains(asked, "file:") || pipArchive.MatchString(asked) {
				p.sees = nil
			}
		}
		asked = ""
	}
	if asked != "" { // the last line goes on where there is none
		p.sees = nil
	}
	return p, nil
}

var (
	cargoManifest = regexp.MustCompile(`(^|/)(Cargo\.(toml|lock)|\.cargo/config(\.toml)?|rust-toolchain(\.toml)?)$`)
	// What Cargo takes for a program or a library by its name, and misses where a manifest
	// speaks of it.
	cargoTarget = regexp.MustCompile(`(^|/)(src/(lib|main)|(src/bin|tests|examples|benches)/[^/]+(/main)?)\.rs$`)
	cargoInside = regexp.MustCompile(`\bfile:|\b(directory|local-registry)\s*=`)

	mavenManifest = regexp.MustCompile(`(^|/)pom\.xml$|^\.mvn/`)
	mavenInside   = regexp.MustCompile(`\bfile:|<systemPath>`)

	gradleManifest = regexp.MustCompile(`\.gradle(\.kts)?$|(^|/)gradle\.(properties|lockfile)$|^(gradlew$|gradle/|buildSrc/)`)
	gradleInside   = regexp.MustCompile(`\bfile:|\b(files|fileTree|flatDir|includeBuild|mavenLocal)\b`)
)

// readCargo takes a package as it is: its build may read all of it.
func readCargo(src fs.FS) (p plan, err error) {
	if _, err := manifest(src, "build.cargo", "Cargo.toml", "cargo init"); err != nil {
		return plan{}, err
	}
	p = plan{all: true, locked: exists(src, "Cargo.lock")}
	p.first, err = readFirst(src, p.locked, cargoManifest, cargoTarget, cargoInside)
	return p, err
}

// readMaven takes a project as it is. Its versions are said, but for snapshots.
func readMaven(src fs.FS) (p plan, err error) {
	text, err := manifest(src, "build.maven", "pom.xml", "mvn archetype:generate")
	if err != nil {
		return plan{}, err
	}
	p = plan{all: true, locked: !bytes.Contains(text, []byte("SNAPSHOT"))}
	p.first, err = readFirst(src, p.locked, mavenManifest, nil, mavenInside)
	return p, err
}

// readGradle takes a project as it is. What its scripts ask for they may compute: only a
// lock file says which versions those are.
func readGradle(src fs.FS) (p plan, err error) {
	if !exists(src, "build.gradle") && !exists(src, "build.gradle.kts") {
		return plan{}, lambent.Errorf(lambent.Broken, "build.gradle", "there is no build.gradle beside the source").WithHint("gradle init")
	}
	p = plan{all: true, locked: exists(src, "gradle.lockfile")}
	p.first, err = readFirst(src, p.locked, gradleManifest, nil, gradleInside)
	return p, err
}

// maxFirst is how many files a first stage has at most: with more there is a registry
// among them.
const maxFirst = 1000

// readFirst returns the plan of a first stage that sees the files of some names, and of
// others that they are there: nil where one says that what is to be fetched lies in the
// project, or is too large to be read.
func readFirst(src fs.FS, locked bool, sees, empty, inside *regexp.Regexp) (*plan, error) {
	p := &plan{fetch: true, locked: locked}
	err := fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "target" || d.Name() == ".git"): // what was built elsewhere
			return fs.SkipDir
		case !d.Type().IsRegular():
		case sees.MatchString(name):
			text, err := fs.ReadFile(src, name)
			if err != nil && !lambent.Is(err, lambent.Broken) {
				return err
			}
			if p.sees = append(p.sees, name); err != nil || inside.Match(text) {
				p = nil
			}
		case empty != nil && empty.MatchString(name):
			p.empty = append(p.empty, name)
		}
		if p == nil || len(p.sees)+len(p.empty) > maxFirst {
			p = nil
			return fs.SkipAll
		}
		return nil
	})
	return p, err
}

// copySeen copies the files that a build has to see into an empty directory, and makes
// those of which it has to see no more than their names.
func copySeen(src, dst string, names, empty []string) error {
	from, err := os.OpenRoot(src)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer to.Close()
	for _, name := range names {
		if err := errors.Join(to.MkdirAll(path.Dir(name), 0o755), copyFile(from, to, name)); err != nil {
			return err
		}
	}
	for _, name := range empty {
		if err := errors.Join(to.MkdirAll(path.Dir(name), 0o755), to.WriteFile(name, nil, 0o644)); err != nil {
			return err
		}
	}
	return nil
}
