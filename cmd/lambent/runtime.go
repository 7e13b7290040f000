package main

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lambent"
	"lambent/client"
)

const runtimeHelp = `Show and change what functions can run on: interpreters that the server found
on its machine, provided, which is any program named bootstrap, and what was
added.

  lambent runtime list
  lambent runtime add nodejs22.x
  lambent runtime remove nodejs22.x`

const runtimeAddHelp = `Bring a runtime to the server, or make one that is there of something else.
--from says what of:

  host           the interpreter of the server's machine
  npm            Node.js, as npm has it
  IMAGE          an image in a registry, such as docker.io/library/python:3.12-slim
  FILE, DIR      an image or a root file system as a tar file, compressed or not, or
                 an OCI layout directory, on this machine

Without it a runtime that is there stays what it is, Node.js comes from npm, and
Python from the slim image of Docker Hub. Whatever comes is verified, and run once
to see that it is the version that was asked for. --packages has pip or npm install
what functions import without bringing it, as on AWS; a function's own copy wins.
Google's functions framework among them is loaded before there is a call, for
functions on Google's runtime of the same version that bring the same.

  lambent runtime add python3.12
  lambent runtime add python3.11 --packages boto3,requests
  lambent runtime add nodejs20.x --packages @google-cloud/functions-framework
  lambent runtime add python3.12 --from public.ecr.aws/lambda/python:3.12
  lambent runtime add python3.12 --from python.tar.gz
  lambent runtime add python3.11 --packages ''      without packages again`

func runtimeCommand(p *program) *cobra.Command {
	return group(&cobra.Command{Use: "runtime", Short: "Show and change what functions can run on", Long: runtimeHelp},
		runtimeListCommand(p), runtimeAddCommand(p), runtimeRemoveCommand(p))
}

func runtimeListCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List runtimes", Long: runtimeHelp, Args: args(0), Aliases: []string{"ls"}}
	o := outputFlag(c, "table", "json", "yaml", "name")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		runtimes, err := cl.Runtimes(c.Context())
		if err != nil {
			return err
		}
		var names []string
		t := table{{"RUNTIME", "WHERE", "SIZE"}}
		for _, r := range runtimes {
			names = append(names, r.Name)
			size := ""
			if r.Bytes > 0 {
				size = bytesOf(r.Bytes)
			}
			t = append(t, []string{r.Name, r.Note, size})
		}
		return o.print(p.out, runtimes, names, t)
	}
	return c
}

func runtimeAddCommand(p *program) *cobra.Command {
	var from, packages string
	c := &cobra.Command{Use: "add RUNTIME", Short: "Bring a runtime, or packages for one", Long: runtimeAddHelp, Args: args(1, "RUNTIME")}
	c.Flags().StringVar(&from, "from", "", "host, npm, an image, or a file or directory of this machine")
	c.Flags().StringVar(&packages, "packages", "", "what functions can import without bringing it, divided by commas; '': nothing")
	o := outputFlag(c, "text", "json", "yaml", "name")
	c.RunE = func(c *cobra.Command, args []string) error {
		r := &client.RuntimeRequest{Name: args[0], From: from}
		if c.Flags().Changed("packages") {
			list := slices.DeleteFunc(strings.Split(packages, ","), func(s string) bool { return strings.TrimSpace(s) == "" })
			for i, s := range list {
				list[i] = strings.TrimSpace(s)
			}
			r.Packages = &list
		}
		file, err := openRoot(from)
		if err != nil {
			return err
		}
		var body io.Reader
		if file != nil {
			defer file.Close()
			body, r.From = file, ""
		}
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		out, err := cl.AddRuntime(c.Context(), r, body, func(line string) { p.note("  %s", line) })
		if err != nil {
			return err
		}
		if o.format == "text" {
			p.note("added %s: %s", out.Name, out.Note)
			return nil
		}
		return o.print(p.out, out, []string{out.Name}, nil)
	}
	return c
}

func runtimeRemoveCommand(p *program) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "remove RUNTIME", Short: "Remove a runtime that was added", Aliases: []string{"rm"}, Args: args(1, "RUNTIME"),
		Long: "Remove a runtime that was added, with its packages. If the server's machine has one\nof that name, functions run on that again.\n\n  lambent runtime remove python3.12",
	}
	c.Flags().BoolVar(&force, "force", false, "although functions run on it")
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := p.connect()
		if err != nil {
			return err
		}
		defer cl.Close()
		if err := cl.RemoveRuntime(c.Context(), args[0], force); err != nil {
			return err
		}
		p.note("removed %s", args[0])
		return nil
	}
	return c
}

// openRoot opens what --from names on this machine, a directory as a tar file; nil
// if it names nothing here.
func openRoot(from string) (io.ReadCloser, error) {
	if from == "" || from == "host" || from == "npm" {
		return nil, nil
	}
	info, err := os.Stat(from)
	isLayout := err == nil && info.IsDir() && exists(filepath.Join(from, "oci-layout"))
	switch {
	case isLayout:
		return tarOf(from), nil
	case err == nil && info.Mode().IsRegular():
		f, err := os.Open(from)
		if err != nil {
			return nil, lambent.Errorf(lambent.Invalid, "", "%w", err)
		}
		return f, nil
	case strings.HasPrefix(from, "/") || strings.HasPrefix(from, "."):
		if err == nil {
			err = errors.New("it is no tar file, and no OCI layout directory")
		}
		return nil, lambent.Errorf(lambent.Invalid, "", "--from %s: %w", from, err).WithHint("lambent runtime add --help")
	}
	return nil, nil // the reference of an image, even if a directory is named like it
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// tarOf reads a directory as a tar file.
func tarOf(dir string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.AddFS(os.DirFS(dir))
		if err == nil {
			err = t.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}
