package detect

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"lambent"
)

// Where the frameworks lie once they are installed beside the code.
const (
	nodeFramework   = "node_modules/@google-cloud/functions-framework/build/src/main.js"
	pythonFramework = "functions_framework/__init__.py"
)

var (
	// Google's own names have no dots.
	goRuntime  = regexp.MustCompile(`^(google-go|go1\d+)$`)
	googleName = regexp.MustCompile(`^(google-(nodejs|python|go|java)|nodejs\d+|python3\d+|go1\d+|java\d+)$`)

	nodeTarget     = regexp.MustCompile(`(?m)^[^/\n]*\b(?:http|cloudEvent|typed)\(\s*["']([A-Za-z_$][\w$.-]*)["']`)
	targetOption   = regexp.MustCompile(`--target[= ]\s*([\w$.-]+)`)
	pythonTarget   = regexp.MustCompile(`^@(?:functions_framework\.)?(?:http|cloud_event|typed)\b`)
	pythonRequired = regexp.MustCompile(`(?m)^functions[-_]framework\b`)
)

// hasFramework reports whether package.json asks for Google's framework, which then is
// what the start script starts.
func hasFramework(fsys fs.FS) bool {
	pkg, err := readPackage(fsys)
	return err == nil && pkg.needs("@google-cloud/functions-framework")
}

// findGoogle recognises functions of Google's by the framework that they depend on,
// which lies beside the code or is among what is installed.
func findGoogle(fsys fs.FS, target string) (*found, error) {
	pkg, err := readPackage(fsys)
	if err != nil {
		return nil, err
	}
	if pkg.needs("@google-cloud/functions-framework") {
		switch {
		case exists(fsys, nodeFramework):
		case hasModules(fsys):
			return nil, lambent.Errorf(lambent.Invalid, op, "package.json asks for Google's functions framework, and node_modules does not have it").
				WithHint("npm install && lambent deploy   (or: rm -r node_modules, and it is installed on the server)")
		case pkg.Dependencies["@google-cloud/functions-framework"] == "":
			return nil, lambent.Errorf(lambent.Invalid, op, "package.json has Google's functions framework among what only development needs").
				WithHint("npm install --save-prod @google-cloud/functions-framework && lambent deploy")
		}
		return googleNode(fsys, pkg, target)
	}
	for _, look := range []func(fs.FS, string) (*found, error){googleGo, googleJava} {
		if hit, err := look(fsys, target); hit != nil || err != nil {
			return hit, err
		}
	}
	why := ""
	switch {
	case pythonRequired.MatchString(strings.ToLower(source(fsys, "requirements.txt"))):
		why = "requirements.txt asks for Google's functions framework"
	case importsFramework(source(fsys, "main.py")):
		why = "main.py imports Google's functions framework"
	default:
		return nil, nil
	}
	asked := pythonRequired.MatchString(strings.ToLower(source(fsys, "requirements.txt")))
	if !exists(fsys, pythonFramework) && !(asked && !hasWheels(fsys)) {
		if asked {
			return nil, lambent.Errorf(lambent.Invalid, op, "%s, and it is not among the packages beside it", why).
				WithHint("pip install -t . -r requirements.txt && lambent deploy")
		}
		return nil, lambent.Errorf(lambent.Invalid, op, "%s, and nothing asks for it to be installed", why).
			WithHint("echo functions-framework >> requirements.txt && lambent deploy")
	}
	return googlePython(fsys, why, target)
}

func googleNode(fsys fs.FS, pkg nodePackage, target string) (*found, error) {
	hit := &found{runtime: GoogleNode, handler: target, why: "package.json asks for Google's functions framework"}
	if m := targetOption.FindStringSubmatch(pkg.Scripts["start"]); m != nil && target == "" {
		hit.handler = m[1]
	}
	if hit.handler != "" {
		return hit, nil
	}
	files := []string{"index.js", "function.js"} // in the order of the framework's
	if main := path.Clean(pkg.Main); pkg.Main != "" {
		files = append([]string{main, main + ".js", main + "/index.js"}, files...)
	}
	for _, file := range files {
		if !exists(fsys, file) {
			continue
		}
		text := nodeComment.ReplaceAllString(source(fsys, file), "")
		var names []string
		for _, m := range nodeTarget.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		return hit.choose(file, append(names, nodeExported(text)...))
	}
	return nil, lambent.Errorf(lambent.Invalid, op, "package.json asks for Google's functions framework, and its main, index.js or function.js is not there")
}

func googlePython(fsys fs.FS, why, target string) (*found, error) {
	hit := &found{runtime: GooglePython, handler: target, why: why}
	if target != "" {
		return hit, nil
	}
	if !exists(fsys, "main.py") {
		return nil, lambent.Errorf(lambent.Invalid, op, "%s, and main.py is not there", why)
	}
	var registered, defined []string
	next := false // the function below a decorator of the framework's
	for line := range pythonLines(source(fsys, "main.py")) {
		if pythonTarget.MatchString(line) {
			next = true
		} else if m := pythonDef.FindStringSubmatch(line); m != nil {
			if next {
				registered = append(registered, m[1])
			}
			defined, next = append(defined, m[1]), false
		}
	}
	if len(registered) > 0 {
		defined = registered
	}
	return hit.choose("main.py", defined)
}

func importsFramework(text string) bool {
	return strings.Contains(text, "import functions_framework") || strings.Contains(text, "from functions_framework")
}

// choose takes the only function of a file, or the one by the framework's default name.
func (h *found) choose(file string, names []string) (*found, error) {
	slices.Sort(names)
	names = slices.Compact(names)
	switch {
	case len(names) == 1:
		h.handler = names[0]
	case slices.Contains(names, "function"):
		h.handler = "function"
	case len(names) == 0:
		return nil, lambent.Errorf(lambent.Invalid, op, "%s has no function that can be recognised", file).WithHint("lambent deploy --entry-point FUNCTION")
	default:
		return nil, lambent.Errorf(lambent.Invalid, op, "%s has several functions: %s", file, strings.Join(names[:min(len(names), 8)], ", ")).
			WithHint("lambent deploy --entry-point %s", names[0])
	}
	h.why += ", and " + file + " has " + h.handler
	return h, nil
}
