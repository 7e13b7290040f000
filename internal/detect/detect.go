// Package detect reads a project's directory and says which functions are in it:
// runtime, handler, how to build it, and the settings of lambent.toml. It prints
// nothing, but every answer comes with the reason, which its caller shows.
//
// It guarantees that an unknown key, a value of the wrong type or a project that
// this release cannot run is an error that names the file, the line and the way
// out, never a guess. It does not run or parse code: handlers are found by looking
// at lines, and what is found is checked when the function is first started.
package detect

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"strings"

	"lambent"
)

// A Project is what a directory holds.
type Project struct {
	Functions []Function // none only if none of several has the name that is said
	Notes     []string   // for the user: what was seen and not used
}

// A Function is one function of a project. Runtime is filled, and Handler too
// for runtimes that have one, or Command.
type Function struct {
	Settings
	Build   string            // "go", "cargo", "maven" and "gradle": it is built from source first; "npm" and "pip": what it depends on is installed; empty: it runs as it is
	Started map[string]string // environment, besides Settings.Env, by what the project's own line that starts Google's framework says
	Why     string            // how runtime and handler were found, in one line
}

// The runtimes that detection answers with. Those of interpreters name no version: the
// server takes the newest that it has.
const (
	Python   = "python3"
	Node     = "nodejs"
	Provided = "provided.al2023"

	// Of Google's functions, and of web servers by what interprets them.
	GooglePython = "google-python"
	GoogleNode   = "google-nodejs"
	GoogleGo     = "google-go"
	GoogleJava   = "google-java"
	Web          = "web" // nothing does
)

const op = "detect"

// Detect looks at a project's directory. The first of these that is there
// decides: what is said of runtime, handler and command, by its caller or by
// lambent.toml; host.json (Azure); a Procfile; the functions framework (Google);
// Node's files; Python's; a Go module that starts a Lambda handler or asks for $PORT; a
// Rust package that needs lambda_runtime; bootstrap; the start script of package.json.
// The caller says, too, which of several functions is meant, what is in the environment
// beside that of lambent.toml, which is not in the answer, and whether anything is built.
// The errors are Invalid, or Unsupported for what a later release will run.
func Detect(fsys fs.FS, said Settings) (*Project, error) {
	p := &Project{}
	for _, f := range []string{"template.yaml", "template.yml", "serverless.yml", "serverless.yaml"} {
		if exists(fsys, f) {
			p.Notes = append(p.Notes, f+" is not read yet: settings come from lambent.toml and the command line")
		}
	}
	var settings []Settings
	switch b, err := fs.ReadFile(fsys, File); {
	case err == nil:
		if settings, err = ParseFile(b); err != nil {
			return nil, err
		}
	case errors.Is(err, fs.ErrNotExist):
		settings = []Settings{{}}
	default:
		return nil, lambent.Errorf(lambent.Invalid, op, "%s cannot be read: %w", File, err)
	}
	for _, s := range settings {
		if len(settings) > 1 && said.Name != "" && s.Name != said.Name {
			continue
		}
		s.Runtime, s.Handler = cmp.Or(said.Runtime, s.Runtime), cmp.Or(said.Handler, s.Handler)
		if len(said.Command) > 0 {
			s.Command = said.Command
		}
		if said.Builds != nil {
			s.Builds = said.Builds
		}
		env := s.Env // of lambent.toml
		s.Env = maps.Clone(env)
		if s.Env == nil {
			s.Env = map[string]string{}
		}
		maps.Copy(s.Env, said.Env)
		f, err := complete(fsys, s)
		if err != nil {
			return nil, err
		}
		f.Env = env
		switch {
		case f.Builds != nil && !*f.Builds:
			f.Build = ""
		case f.Build == "":
			if err := f.compile(fsys); err != nil {
				return nil, err
			}
			f.Build = cmp.Or(f.Build, installs(fsys, f.Runtime))
		}
		if note := watchdog(f.Command); note != "" {
			p.Notes = append(p.Notes, note)
		}
		p.Functions = append(p.Functions, f)
	}
	return p, nil
}

// complete finds what the settings leave open.
func complete(fsys fs.FS, s Settings) (Function, error) {
	f := Function{Settings: s}
	switch {
	case s.Runtime != "" && (s.Handler != "" || strings.HasPrefix(s.Runtime, "provided") && exists(fsys, "bootstrap")):
		if f.Why = "runtime and handler as given"; goRuntime.MatchString(s.Runtime) && exists(fsys, "go.mod") {
			f.Build = "go"
		}
		if googleName.MatchString(s.Runtime) {
			if hit, err := findGoogle(fsys, s); err != nil {
				return f, err
			} else if hit != nil {
				return hit.fill(f), nil
			}
		}
		return f, nil
	case len(s.Command) > 0:
		f.Runtime, f.Why = cmp.Or(s.Runtime, commandRuntime(fsys, s.Command)), "command as given"
		return f, nil
	case s.Runtime != "":
		return forRuntime(fsys, f)
	case s.Handler != "":
		return forHandler(fsys, f)
	}
	if exists(fsys, "host.json") {
		return f, lambent.Errorf(lambent.Unsupported, op, "host.json says that this is an Azure Functions app: this release does not run those")
	}
	google := func(fsys fs.FS) (*found, error) { return findGoogle(fsys, s) }
	for _, look := range []func(fs.FS) (*found, error){findProcfile, google, findNode, findPython, findGo, findRust, findBootstrap, findStart} {
		hit, err := look(fsys)
		if err != nil { // a web server has files of its language, and no handler
			if start, _ := findStart(fsys); start != nil && !hasFramework(fsys) {
				return start.fill(f), nil
			}
			return f, err
		}
		if hit != nil {
			return hit.fill(f), nil
		}
	}
	return f, nothing(fsys)
}

// found is what looking for one language gave.
type found struct {
	runtime, handler, build, why string
	command                      []string
	env                          map[string]string
}

func (h *found) fill(f Function) Function {
	if f.Runtime == "" {
		f.Runtime = h.runtime
	}
	if f.Handler == "" {
		f.Handler = h.handler
	}
	if len(h.command) > 0 {
		f.Command = h.command
	}
	f.Build, f.Started, f.Why = h.build, h.env, h.why
	return f
}

// forRuntime finds the handler for a runtime that is given.
func forRuntime(fsys fs.FS, f Function) (Function, error) {
	var look func(fs.FS) (*found, error)
	switch {
	case googleName.MatchString(f.Runtime), f.Runtime == Web:
		return forServer(fsys, f)
	case strings.HasPrefix(f.Runtime, "python"):
		look = findPython
	case strings.HasPrefix(f.Runtime, "nodejs"):
		look = findNode
	case strings.HasPrefix(f.Runtime, "provided"):
		look = func(fsys fs.FS) (*found, error) {
			if hit, err := findGo(fsys); hit != nil || err != nil {
				return hit, err
			}
			return findRust(fsys)
		}
	default:
		f.Why = "runtime as given"
		return f, nil // the server knows whether there is such a runtime, and whether it wants a handler
	}
	hit, err := look(fsys)
	if err != nil {
		return f, err
	}
	if hit == nil {
		if strings.HasPrefix(f.Runtime, "provided") {
			return f, lambent.Errorf(lambent.Invalid, op, "runtime %s runs an executable file called bootstrap, and there is none", f.Runtime)
		}
		return f, lambent.Errorf(lambent.Invalid, op, "there is no file in which a handler of runtime %s would be looked for", f.Runtime).
			WithHint("lambent deploy --handler FILE.FUNCTION")
	}
	return hit.fill(f), nil
}

// forServer finds what is to be run by a runtime of web servers that is given.
func forServer(fsys fs.FS, f Function) (Function, error) {
	google := func(fsys fs.FS) (*found, error) { return findGoogle(fsys, f.Settings) }
	for _, look := range []func(fs.FS) (*found, error){findProcfile, google, findStart} {
		if hit, err := look(fsys); err != nil {
			return f, err
		} else if hit != nil {
			return hit.fill(f), nil
		}
	}
	return f, lambent.Errorf(lambent.Invalid, op, "runtime %s runs Google's functions framework or a web server: nothing here asks for the one, and nothing says how to start the other", f.Runtime).
		WithHint("lambent deploy --command 'PROGRAM ARGUMENTS'")
}

// forHandler finds the runtime for a handler that is given: the file that it
// names says which.
func forHandler(fsys fs.FS, f Function) (Function, error) {
	if hit, err := findGoogle(fsys, f.Settings); err != nil {
		return f, err
	} else if hit != nil {
		return hit.fill(f), nil
	}
	for _, family := range []string{Python, Node} {
		if file := handlerFile(fsys, family, f.Handler); file != "" {
			f.Runtime, f.Why = family, "handler as given, in "+file
			return f, nil
		}
	}
	for _, look := range []func(fs.FS) (*found, error){findGo, findRust, findBootstrap} {
		if hit, err := look(fsys); err != nil {
			return f, err
		} else if hit != nil {
			return hit.fill(f), nil
		}
	}
	return f, lambent.Errorf(lambent.Invalid, op, "handler %q: there is no such file: %s", f.Handler,
		strings.Join(append(handlerFiles(Python, f.Handler), handlerFiles(Node, f.Handler)...), ", "))
}

func findBootstrap(fsys fs.FS) (*found, error) {
	if !exists(fsys, "bootstrap") {
		return nil, nil
	}
	return &found{runtime: Provided, why: "bootstrap is there"}, nil
}

// nothing is the error for a directory that holds no function.
func nothing(fsys fs.FS) error {
	for _, f := range []string{"index.ts", "handler.ts", "app.ts", "src/index.ts"} {
		if exists(fsys, f) {
			return lambent.Errorf(lambent.Unsupported, op, "%s is TypeScript, which has to be compiled first", f).
				WithHint("npx tsc --outDir dist && lambent deploy dist")
		}
	}
	if exists(fsys, "go.mod") {
		return lambent.Errorf(lambent.Invalid, op, "go.mod is there, but no file of the package beside it calls lambda.Start, asks for $PORT, or registers or exports functions of Google's")
	}
	if es, err := fs.ReadDir(fsys, "."); err == nil && len(es) == 1 && es[0].IsDir() {
		return lambent.Errorf(lambent.Invalid, op, "all there is is the directory %q: the function's files have to be at the top", es[0].Name()).
			WithHint("lambent deploy %s", es[0].Name())
	}
	return lambent.Errorf(lambent.Invalid, op, "there is no function here: looked for lambent.toml, index.* and handler.* of Node, "+
		"lambda_function.py, app.py, main.py, handler.py, go.mod, Cargo.toml, bootstrap, Procfile and a start script of package.json").
		WithHint("lambent init")
}

// exists reports whether name is a file. Links count as what they lead to.
func exists(fsys fs.FS, name string) bool {
	if !fs.ValidPath(name) {
		return false
	}
	info, err := fs.Stat(fsys, name)
	return err == nil && info.Mode().IsRegular()
}

// maxSource is as much of a source file as is looked at; bundlers put the
// exports at the very end, so it is generous.
const maxSource = 16 << 20

// source returns the text of a file, empty if there is none.
func source(fsys fs.FS, name string) string {
	if !exists(fsys, name) {
		return ""
	}
	f, err := fsys.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSource))
	if err != nil {
		return ""
	}
	return string(b)
}

// module returns a file's name without its last suffix, as handlers spell it.
func module(file string) string { return strings.TrimSuffix(file, path.Ext(file)) }
