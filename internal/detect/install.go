package detect

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// installs returns the build that brings what a project of a runtime depends on: none
// if that is little or lies beside the code already.
func installs(fsys fs.FS, runtime string) string {
	switch {
	case strings.HasPrefix(strings.TrimPrefix(runtime, "google-"), "nodejs"):
		pkg, err := readPackage(fsys)
		if err != nil { // which the build says
			return "npm"
		}
		if !hasModules(fsys) && (len(pkg.Dependencies) > 0 || len(pkg.OptionalDependencies) > 0 || pkg.Scripts["gcp-build"] != "") {
			return "npm"
		}
	case strings.HasPrefix(strings.TrimPrefix(runtime, "google-"), "python"):
		if requirement.MatchString(source(fsys, "requirements.txt")) && !hasWheels(fsys) && !exists(fsys, pythonFramework) {
			return "pip"
		}
	}
	return ""
}

// requirement is a line that asks for something.
var requirement = regexp.MustCompile(`(?m)^[ \t]*[^\s#]`)

// hasWheels reports whether packages of Python lie beside the code, as pip leaves them.
func hasWheels(fsys fs.FS) bool {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasSuffix(e.Name(), ".dist-info") {
			return true
		}
	}
	return false
}

// hasModules reports whether packages of Node.js lie beside the code. What tools keep
// there is none.
func hasModules(fsys fs.FS) bool {
	entries, err := fs.ReadDir(fsys, "node_modules")
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), ".") })
}

func isDir(fsys fs.FS, name string) bool {
	info, err := fs.Stat(fsys, name)
	return err == nil && info.IsDir()
}

// lambdaCrate is the line of Cargo.toml, or the head of a section, by which a package
// asks for the client of Lambda's Runtime API.
var lambdaCrate = regexp.MustCompile(`(?m)^\s*(\[dependencies\.)?"?lambda[_-](runtime|http)"?\s*(=|\.|\])`)

func findRust(fsys fs.FS) (*found, error) {
	if !lambdaCrate.MatchString(source(fsys, "Cargo.toml")) {
		return nil, nil
	}
	return &found{runtime: Provided, build: "cargo", why: "Cargo.toml asks for Lambda's runtime"}, nil
}
