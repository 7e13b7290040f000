// Package scaffold writes the first files of a new function: what `lambent init`
// leaves in a directory, and what the examples called hello consist of.
//
// It never overwrites: a file that is there already is a refusal, and then
// nothing is written. It does not know what a server can run.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"lambent"
)

// The files of each template. Go's own end in ".tmpl", because a go.mod in here
// would cut them off from this module, and a main.go would be built with it.
//
//go:embed templates
var embedded embed.FS

// Templates returns the names that Write takes, sorted.
func Templates() []string {
	dirs, err := embedded.ReadDir("templates")
	if err != nil {
		panic("scaffold: the templates are embedded: " + err.Error())
	}
	var names []string
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	return names
}

// Write writes a template into dir, which is made where it is missing, for a
// function of that name, and returns the names of the files, sorted.
func Write(dir, tmpl, name string) ([]string, error) {
	const op = "scaffold.Write"
	if !slices.Contains(Templates(), tmpl) {
		return nil, lambent.Errorf(lambent.Invalid, op, "there is no template %q: one of %s", tmpl, strings.Join(Templates(), ", "))
	}
	if err := (lambent.Name{Project: lambent.DefaultProject, Function: name}).Validate(); err != nil {
		return nil, err
	}
	files, err := render(path.Join("templates", tmpl), name)
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "%w", err)
	}
	var written []string
	for file := range files {
		switch _, err := os.Lstat(filepath.Join(dir, file)); {
		case err == nil:
			return nil, lambent.Errorf(lambent.Exists, op, "%s is there already: nothing was written", filepath.Join(dir, file)).
				WithHint("lambent init %s", filepath.Join(dir, name))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, lambent.Errorf(lambent.Invalid, op, "%w", err)
		}
		written = append(written, file)
	}
	slices.Sort(written)
	for _, file := range written {
		if err := create(filepath.Join(dir, file), files[file]); err != nil {
			return nil, lambent.Errorf(lambent.Invalid, op, "%w", err)
		}
	}
	return written, nil
}

// create writes a file, with the directories that it lacks.
func create(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// render returns the contents of a template by file name.
func render(dir, name string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(embedded, dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		t, err := template.ParseFS(embedded, file)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, struct{ Name string }{name}); err != nil {
			return err
		}
		files[filepath.FromSlash(strings.TrimSuffix(strings.TrimPrefix(file, dir+"/"), ".tmpl"))] = b.Bytes()
		return nil
	})
	return files, err
}
