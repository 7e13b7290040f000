package detect

import (
	"io/fs"
	"strings"
)

// findGo recognises a Go module whose package at the top starts a Lambda handler.
func findGo(fsys fs.FS) (*found, error) {
	if !exists(fsys, "go.mod") {
		return nil, nil
	}
	files, err := fs.Glob(fsys, "*.go")
	if err != nil {
		return nil, nil // the pattern is a constant
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for line := range strings.Lines(source(fsys, file)) {
			code, _, _ := strings.Cut(line, "//")
			if strings.Contains(code, "lambda.Start") {
				return &found{runtime: Provided, build: "go", why: file + " of a Go module calls lambda.Start"}, nil
			}
		}
	}
	return nil, nil
}
