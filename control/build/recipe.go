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
}

var (
	//go:embed recipes/begin.sh
	begin string
	//go:embed recipes/npm.sh
	npmScript string
	//go:embed recipes/pip.sh
	pipScript string
	//go:embed recipes/cargo.sh
	cargoScript string
	//go:embed recipes/maven.sh
	mavenScript string
)

// recipes are the kinds of builds that run in a sandbox.
var recipes = map[string]recipe{
	"npm":   {tool: "npm", script: begin + npmScript, read: readPackage, vendor: "npm ci && lambent deploy"},
	"pip":   {tool: "pip", script: begin + pipScript, read: readRequirements, vendor: "pip install -t . -r requirements.txt && lambent deploy"},
	"maven": {tool: "mvn", script: begin + mavenScript, read: readMaven, vendor: "mvn package, and deploy the jars: see lambent deploy DIR of a directory with them"},
	"cargo": {tool: "cargo", script: begin + cargoScript, read: readCargo, vendor: "deploy a directory with a ready-made bootstrap"},
}

// Files that say which versions are installed, of the package managers of Node.js.
var nodeLocks = []string{"package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"}

// readPackage reads what package.json says. What it names beside packages of a
// registry, and what its scripts may read, is anywhere in the project.
func readPackage(src fs.FS) (plan, error) {
	const op = "build.npm"
	text, err := fs.ReadFile(src, "package.json")
	if err != nil {
		return plan{}, lambent.Errorf(lambent.Broken, op, "there is no package.json beside the source").WithHint("npm init -y")
	}
	var pkg struct {
		Scripts              map[string]string
		Workspaces           json.RawMessage
		Dependencies         map[string]string
		OptionalDependencies map[string]string
	}
	if err := json.Unmarshal(text, &pkg); err != nil {
		return plan{}, lambent.Errorf(lambent.Broken, op, "package.json is not as npm reads it: %w", err)
	}
	p := plan{sees: []string{"package.json"}}
	for _, name := range append([]string{".npmrc", ".yarnrc"}, nodeLocks...) {
		lock, err := fs.ReadFile(src, name)
		if err != nil {
			continue
		}
		p.sees = append(p.sees, name)
		p.locked = p.locked || slices.Contains(nodeLocks, name)
		p.all = p.all || bytes.Contains(lock, []byte(`"file:`)) || bytes.Contains(lock, []byte(`"link": true`))
	}
	for _, script := range []string{"preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare", "gcp-build"} {
		p.all = p.all || pkg.Scripts[script] != ""
	}
	for _, list := range []map[string]string{pkg.Dependencies, pkg.OptionalDependencies} {
		for _, version := range list {
			p.all = p.all || strings.HasPrefix(version, ".") || strings.HasPrefix(version, "/") || strings.HasPrefix(version, "~/") ||
				strings.HasPrefix(version, "file:") || strings.HasPrefix(version, "link:") || strings.HasPrefix(version, "portal:") || strings.HasPrefix(version, "workspace:")
		}
	}
	if p.all = p.all || len(pkg.Workspaces) > 0; p.all {
		p.sees = nil
	}
	return p, nil
}

var (
	pipComment = regexp.MustCompile(`(^|\s)#.*$`)
	pipExact   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*(===?\s*[^\s*,;]+\s*|@\s*https://\S+\s*)(;.*|--hash.*)?$`)
	pipNamed   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[^\]]*\])?\s*($|[<>=!~;@,( ])`)
)

// readRequirements reads what requirements.txt says. Lines that are not names of
// packages may lead to files of the project.
func readRequirements(src fs.FS) (plan, error) {
	text, err := fs.ReadFile(src, "requirements.txt")
	if err != nil {
		return plan{}, lambent.Errorf(lambent.Broken, "build.pip", "there is no requirements.txt beside the source").
			WithHint("pip freeze > requirements.txt")
	}
	p := plan{sees: []string{"requirements.txt"}, locked: true}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.TrimSpace(pipComment.ReplaceAllString(strings.TrimRight(line, "\r\n"), ""))
		switch {
		case line == "":
		case !pipNamed.MatchString(line) || strings.Contains(line, "file:") || strings.HasSuffix(line, ".whl") && !strings.Contains(line, "https://"):
			p.sees, p.locked = nil, false
		case !pipExact.MatchString(line):
			p.locked = false
		}
	}
	return p, nil
}

// readCargo takes a package as it is: its build may read all of it.
func readCargo(src fs.FS) (plan, error) {
	if _, err := fs.Stat(src, "Cargo.toml"); err != nil {
		return plan{}, lambent.Errorf(lambent.Broken, "build.cargo", "there is no Cargo.toml beside the source").WithHint("cargo init")
	}
	_, err := fs.Stat(src, "Cargo.lock")
	return plan{all: true, locked: err == nil}, nil
}

// readMaven takes a project as it is. Its versions are said, but for snapshots.
func readMaven(src fs.FS) (plan, error) {
	text, err := fs.ReadFile(src, "pom.xml")
	if err != nil {
		return plan{}, lambent.Errorf(lambent.Broken, "build.maven", "there is no pom.xml beside the source").WithHint("mvn archetype:generate")
	}
	return plan{all: true, locked: !bytes.Contains(text, []byte("SNAPSHOT"))}, nil
}

// copySeen copies the files that a build has to see into an empty directory.
func copySeen(src, dst string, names []string) error {
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
	return nil
}
