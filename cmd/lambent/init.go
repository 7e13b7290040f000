package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lambent/internal/scaffold"
)

const initHelp = `Write the first files of a function into a directory, which is made if it is not
there. Nothing is overwritten.

  lambent init hello                     a Python function in ./hello
  lambent init hello --template node
  lambent init hello --template gcp-node   one of Google's
  lambent init --template go             into this directory`

func initCommand(p *program) *cobra.Command {
	var template, name string
	templates := scaffold.Templates()
	c := &cobra.Command{
		Use: "init [DIR]", Short: "Write the first files of a function", Long: initHelp,
		Args: args(0, "DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(templates, template) {
				return usagef(c, "there is no template %q: one of %s", template, strings.Join(templates, ", "))
			}
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			if name == "" {
				abs, err := filepath.Abs(dir)
				if err != nil {
					return err
				}
				name = filepath.Base(abs)
			}
			files, err := scaffold.Write(dir, template, name)
			if err != nil {
				return err
			}
			for _, f := range files {
				p.note("wrote %s", filepath.Join(dir, f))
			}
			deploy := "lambent deploy"
			if dir != "." {
				deploy += " " + dir
			}
			p.note("  try: %s && lambent invoke %s -d '{\"name\":\"you\"}'", deploy, name)
			return nil
		},
	}
	c.Flags().StringVar(&template, "template", "python", "one of "+strings.Join(templates, ", "))
	c.Flags().StringVar(&name, "name", "", "the function's name (default: the directory's)")
	return c
}
