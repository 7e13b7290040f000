package detect

import (
	"cmp"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"lambent"
)

// Where the frameworks lie once they are installed beside the code.
const (
	nodeFramework   = "node_modules/@google-cloud/functions-framework"
	pythonFramework = "functions_framework/__init__.py"
)

var (
	// Google's own names have no dots.
	goRuntime  = regexp.MustCompile(`^(google-go|go1\d+)$`)
	googleName = regexp.MustCompile(`^(google-(nodejs|python|go|java)|nodejs\d+|python3\d+|go1\d+|java\d+)$`)

	nodeRegistered = regexp.MustCompile(`(?m)^[^/\n]*\b(http|cloudEvent|typed)\(\s*["']([A-Za-z_$][\w$.-]*)["']`)
	nodeLeads      = regexp.MustCompile(`\b(?:exports?|require|import)\b`)
	pythonTarget   = regexp.MustCompile(`^@(?:functions_framework\.)?(http|cloud_event|typed)\b`)
	pythonRequired = regexp.MustCompile(`(?m)^functions[-_]framework\b`)
)

// hasFramework reports whether package.json asks for Google's framework, which then is
// what the start script starts.
func hasFramework(fsys fs.FS) bool {
	pkg, err := readPackage(fsys)
	return err == nil && pkg.needs("@google-cloud/functions-framework")
}

// findGoogle recognises functions of Google's by the framework that they depend on,
// which lies beside the code or is among what is installed: those of the runtime that is
// said, if one is.
func findGoogle(fsys fs.FS, s Settings) (*found, error) {
	pkg, err := readPackage(fsys)
	if err != nil {
		return nil, err
	}
	if pkg.needs("@google-cloud/functions-framework") && s.allows(GoogleNode) {
		switch {
		case exists(fsys, nodeFramework+"/build/src/main.js"):
		case hasModules(fsys):
			return nil, lambent.Errorf(lambent.Invalid, op, "package.json asks for Google's functions framework, and node_modules does not have it").
				WithHint("npm install && lambent deploy   (or: rm -r node_modules, and it is installed on the server)")
		case pkg.Dependencies["@google-cloud/functions-framework"] == "":
			return nil, lambent.Errorf(lambent.Invalid, op, "package.json has Google's functions framework among what only development needs").
				WithHint("npm install --save-prod @google-cloud/functions-framework && lambent deploy")
		}
		return googleNode(fsys, pkg, s)
	}
	for _, look := range []func(fs.FS, Settings) (*found, error){googleGo, googleJava} {
		if hit, err := look(fsys, s); hit != nil || err != nil {
			return hit, err
		}
	}
	why := pythonAsks(fsys)
	switch {
	case why == "" || !s.allows(GooglePython):
		return nil, nil
	case exists(fsys, pythonFramework):
	case !pythonRequires(fsys):
		return nil, lambent.Errorf(lambent.Invalid, op, "%s, and nothing asks for it to be installed", why).
			WithHint("echo functions-framework >> requirements.txt && lambent deploy")
	case hasWheels(fsys):
		return nil, lambent.Errorf(lambent.Invalid, op, "%s, and it is not among the packages beside it", why).
			WithHint("pip install -t . -r requirements.txt && lambent deploy")
	}
	return googlePython(fsys, pkg, why, s)
}

// allows reports whether a runtime of Google's family of them may be meant.
func (s *Settings) allows(family string) bool {
	return s.Runtime == "" || strings.HasPrefix("google-"+strings.TrimPrefix(s.Runtime, "google-"), family)
}

func googleNode(fsys fs.FS, pkg nodePackage, s Settings) (*found, error) {
	hit := &found{runtime: GoogleNode, why: "package.json asks for Google's functions framework"}
	hit.start(fsys, pkg, s)
	files := nodeSources(fsys, cmp.Or(s.Env[sourceVariable], hit.env[sourceVariable]))
	if len(files) == 0 && hit.handler == "" {
		return nil, lambent.Errorf(lambent.Invalid, op, "package.json asks for Google's functions framework, and its main, index.js or function.js is not there")
	}
	var kinds map[string]string
	if len(files) > 0 { // or a build makes them
		var names []string
		text := ""
		kinds, names, text = nodeFunctions(fsys, files[0])
		if len(names) == 0 && len(files) > 1 && (hit.handler == "" || !nodeLeads.MatchString(text)) {
			if _, others, _ := nodeFunctions(fsys, files[1]); len(others) > 0 {
				return nil, lambent.Errorf(lambent.Invalid, op, "%s has no function that can be recognised, and the framework takes it rather than %s, which has %s", files[0], files[1], some(others)).
					WithHint(`lambent deploy --env %s=%s   (or, for Google, too, "main" of package.json says which)`, sourceVariable, files[1])
			}
		}
		if hit.handler == "" {
			if err := hit.choose(files[0], names); err != nil {
				return nil, err
			}
		}
		if err := hit.agree(kinds[hit.handler], files[0], s); err != nil {
			return nil, err
		}
	}
	if cmp.Or(kinds[hit.handler], s.Env[signatureVariable], hit.env[signatureVariable]) == "typed" {
		return hit, checkTyped(fsys)
	}
	return hit, nil
}

// nodeSources returns the files that are there of those which the framework takes, in its
// order: those of a directory, or what else is said to be the source.
func nodeSources(fsys fs.FS, source string) []string {
	dir := path.Clean(source)
	files := []string{dir, dir + ".js"}
	if sub, err := fs.Sub(fsys, dir); err == nil {
		if pkg, err := readPackage(sub); err == nil && pkg.Main != "" {
			files = append(files, path.Join(dir, pkg.Main), path.Join(dir, pkg.Main)+".js", path.Join(dir, pkg.Main, "index.js"))
		}
	}
	files = append(files, path.Join(dir, "index.js"), path.Join(dir, "function.js"))
	return slices.DeleteFunc(files, func(file string) bool { return !exists(fsys, file) })
}

// nodeFunctions returns what a file registers and, with that, exports.
func nodeFunctions(fsys fs.FS, file string) (kinds map[string]string, names []string, text string) {
	text = nodeComment.ReplaceAllString(source(fsys, file), "")
	kinds = registered(nodeRegistered, text)
	return kinds, append(nodeExported(text), slices.Collect(maps.Keys(kinds))...), text
}

func googlePython(fsys fs.FS, pkg nodePackage, why string, s Settings) (*found, error) {
	hit := &found{runtime: GooglePython, why: why}
	hit.start(fsys, pkg, s)
	file := path.Clean(cmp.Or(s.Env[sourceVariable], hit.env[sourceVariable], "main.py"))
	if !exists(fsys, file) && hit.handler == "" {
		return nil, lambent.Errorf(lambent.Invalid, op, "%s, and %s is not there", why, file)
	}
	kinds := map[string]string{}
	var defined []string
	kind := "" // by a decorator of the framework's, of the function below it
	for line := range pythonLines(source(fsys, file)) {
		if m := pythonTarget.FindStringSubmatch(line); m != nil {
			kind = strings.ReplaceAll(m[1], "_", "")
		} else if m := pythonDef.FindStringSubmatch(line); m != nil {
			if kind != "" {
				kinds[m[1]] = kind
			}
			defined, kind = append(defined, m[1]), ""
		}
	}
	if len(kinds) > 0 {
		defined = slices.Collect(maps.Keys(kinds))
	}
	if hit.handler == "" {
		if err := hit.choose(file, defined); err != nil {
			return nil, err
		}
	}
	return hit, hit.agree(kinds[hit.handler], file, s)
}

func pythonRequires(fsys fs.FS) bool {
	return pythonRequired.MatchString(strings.ToLower(source(fsys, "requirements.txt")))
}

// pythonAsks says by what code in Python asks for Google's framework; "" if it does not.
func pythonAsks(fsys fs.FS) (why string) {
	switch {
	case pythonRequires(fsys):
		return "requirements.txt asks for Google's functions framework"
	case importsFramework(source(fsys, "main.py")):
		return "main.py imports Google's functions framework"
	}
	return ""
}

func importsFramework(text string) bool {
	return strings.Contains(text, "import functions_framework") || strings.Contains(text, "from functions_framework")
}

// choose takes the only function of a file, or the one by the framework's default name.
func (h *found) choose(file string, names []string) error {
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 1:
		h.handler = names[0]
	case slices.Contains(names, "function"):
		h.handler = "function"
	case len(names) == 0:
		return lambent.Errorf(lambent.Invalid, op, "%s has no function that can be recognised", file).WithHint("lambent deploy --entry-point FUNCTION")
	default:
		return lambent.Errorf(lambent.Invalid, op, "%s has several functions: %s", file, some(names)).
			WithHint("lambent deploy --entry-point %s", names[0])
	}
	h.why += ", and " + file + " has " + h.handler
	return nil
}

// some names the first of many.
func some(names []string) string { return strings.Join(names[:min(len(names), 8)], ", ") }
