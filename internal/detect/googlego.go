package detect

import (
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const goFramework = "github.com/GoogleCloudPlatform/functions-framework-go"

var (
	goPackage    = regexp.MustCompile(`(?m)^package\s+(\w+)`)
	goComment    = regexp.MustCompile(`(?m:^\s*//.*$)|(?s:/\*.*?\*/)`)
	goRegistered = regexp.MustCompile(`\b(HTTP|CloudEvent|Typed)\(\s*"([^"\s]+)"\s*,`)

	// Functions of before they registered themselves: of a request, of an event.
	goExported = regexp.MustCompile(`(?m)^func\s+([A-Z]\w*)\(\s*(?:\w+\s+http\.ResponseWriter,\s*\w+\s+\*http\.Request\s*\)|\w+\s+context\.Context,\s*\w+\s+\*?[\w.]+\s*\)\s*error\b)`)
)

// googleGo recognises a Go module whose package at the top has functions of Google's,
// and no main, which a build adds. A program that serves them itself is one, too.
func googleGo(fsys fs.FS, s Settings) (*found, error) {
	if !exists(fsys, "go.mod") || !s.allows(GoogleGo) {
		return nil, nil
	}
	name, text := goSource(fsys)
	hit := &found{runtime: GoogleGo, handler: s.Handler, build: "go", why: "functions of Google's are registered"}
	if name == "main" {
		if hit.why = "package main starts Google's functions framework"; strings.Contains(text, goFramework+"/funcframework") {
			return hit, nil
		}
		return nil, nil
	}
	asked := strings.Contains(text+source(fsys, "go.mod"), goFramework)
	kinds := registered(goRegistered, text)
	names := slices.Collect(maps.Keys(kinds))
	if len(names) == 0 || !asked {
		kinds, names, hit.why = nil, nil, "functions of Google's are exported"
		for _, m := range goExported.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		if len(names) == 0 && !asked {
			return nil, nil
		}
	}
	if hit.handler == "" {
		if err := hit.choose("package "+name, names); err != nil {
			return nil, err
		}
	}
	return hit, hit.agree(kinds[hit.handler], "package "+name, s)
}

// goSource returns the name of the package at the top, and what is in its files but
// comments.
func goSource(fsys fs.FS) (name, text string) {
	files, err := fs.Glob(fsys, "*.go")
	if err != nil {
		return "", "" // the pattern is a constant
	}
	var all strings.Builder
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			all.WriteString(source(fsys, file))
			all.WriteString("\n")
		}
	}
	text = goComment.ReplaceAllString(all.String(), "")
	if m := goPackage.FindStringSubmatch(text); m != nil {
		name = m[1]
	}
	return name, text
}
