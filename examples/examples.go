// Package examples carries functions that `lambent demo` deploys: unmodified, as
// their clouds would take them. Each is a directory named CLOUD-LANGUAGE-WHAT, and
// each is run by a test. The ones called hello are what `lambent init` writes, where it has a
// template.
package examples

import (
	"embed"
	"os"
)

//go:embed aws-node-queue aws-node-stream aws-python-errors aws-python-rule aws-python-schedule aws-python-upload aws-shell-hello
var embedded embed.FS

// Write copies one example below dir, into a directory of its name. Programs are
// executable there, which an embedded file cannot be.
func Write(dir, name string) error {
	entries, err := embedded.ReadDir(name)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		b, err := embedded.ReadFile(name + "/" + e.Name())
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if e.Name() == "bootstrap" {
			mode = 0o755
		}
		if err := root.WriteFile(name+"/"+e.Name(), b, mode); err != nil {
			return err
		}
	}
	return nil
}
