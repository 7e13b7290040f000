package detect

import (
	"io/fs"
	"strings"
)

// findGo recognises a Go module whose package at the top starts a Lambda handler, or
// else one whose program asks for $PORT.
func findGo(fsys fs.FS) (*found, error) {
	if !exists(fsys, "go.mod") {
		return nil, nil
	}
	files, err := fs.Glob(fsys, "*.go")
	if err != nil {
		return nil, nil // the pattern is a constant
	}
	var server *found
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for line := range strings.Lines(source(fsys, file)) {
			code, _, _ := strings.Cut(line, "//")
			if strings.Contains(code, "lambda.Start") {
				return &found{runtime: Provided, build: "go", why: file + " of a Go module calls lambda.Start"}, nil
			}
			if strings.Contains(code, `env("PORT")`) || strings.Contains(code, `Env("PORT")`) {
				server = &found{runtime: Web, command: []string{"./bootstrap"}, build: "go", why: file + " of a Go module asks for $PORT"}
			}
		}
	}
	return server, nil
}
