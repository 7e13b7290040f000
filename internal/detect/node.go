package detect

import (
	"encoding/json"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"lambent"
)

var (
	nodeFiles = []string{
		"index.mjs", "index.js", "index.cjs", "handler.mjs", "handler.js", "handler.cjs", "app.mjs", "app.js", "app.cjs",
	}
	nodeNames = []string{"handler", "lambdaHandler", "main"}

	// What a module exports, in the ways that people and bundlers write it.
	nodeComment = regexp.MustCompile(`(?m:^\s*//.*$)|(?ms:^\s*/\*.*?\*/)`)
	nodeExports = []*regexp.Regexp{
		regexp.MustCompile(`(?m)\bexports\.([A-Za-z_$][\w$]*)\s*=[^=]`),
		regexp.MustCompile(`(?m)\bexports\[["']([A-Za-z_$][\w$]*)["']\]\s*=[^=]`),
		regexp.MustCompile(`(?m)\bObject\.defineProperty\(\s*exports\s*,\s*["']([A-Za-z_$][\w$]*)["']`),
		regexp.MustCompile(`(?m)\bexport\s+(?:async\s+)?function\s*\*?\s*([A-Za-z_$][\w$]*)`),
		regexp.MustCompile(`(?m)\bexport\s+(?:const|let|var)\s+([A-Za-z_$][\w$]*)`),
	}
	nodeLists = regexp.MustCompile(`(?s)(?:\bmodule\.exports\s*=\s*|\bexport\s*)\{([^{}]*)\}`)
	nodeItem  = regexp.MustCompile(`^(?:async\s+)?(?:[A-Za-z_$][\w$]*\s+as\s+)?([A-Za-z_$][\w$]*)`)
)

// A nodePackage is what is read of package.json.
type nodePackage struct {
	Main                 string `json:"main"`
	Dependencies         named  `json:"dependencies"`
	OptionalDependencies named  `json:"optionalDependencies"`
	DevDependencies      named  `json:"devDependencies"`
	Scripts              named  `json:"scripts"`
}

// named are the texts of an object by their names. npm lets pass what is none, and so
// does this.
type named map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (n *named) UnmarshalJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		return nil
	}
	*n = named{}
	for name, value := range fields {
		var text string
		if json.Unmarshal(value, &text) == nil {
			(*n)[name] = text
		}
	}
	return nil
}

func (p nodePackage) needs(name string) bool {
	return p.Dependencies[name] != "" || p.DevDependencies[name] != ""
}

func readPackage(fsys fs.FS) (p nodePackage, err error) {
	text := strings.TrimPrefix(source(fsys, "package.json"), "\ufeff")
	if text == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, lambent.Errorf(lambent.Invalid, op, "package.json: %w", err)
	}
	return p, nil
}

func findNode(fsys fs.FS) (*found, error) {
	pkg, err := readPackage(fsys)
	if err != nil {
		return nil, err
	}
	files := nodeFiles
	if main := path.Clean(pkg.Main); pkg.Main != "" {
		files = append([]string{main, main + ".js", main + "/index.js"}, files...)
	}
	var seen string
	var others []string
	for _, file := range files {
		if !slices.Contains([]string{".js", ".mjs", ".cjs"}, path.Ext(file)) || !exists(fsys, file) {
			continue
		}
		names := nodeExported(source(fsys, file))
		for _, name := range nodeNames {
			if slices.Contains(names, name) {
				return &found{runtime: Node, handler: module(file) + "." + name, why: file + " exports " + name}, nil
			}
		}
		if len(names) == 1 {
			return &found{runtime: Node, handler: module(file) + "." + names[0], why: file + " exports " + names[0] + " alone"}, nil
		}
		if seen == "" {
			seen, others = file, names
		}
	}
	if seen == "" {
		return nil, nil
	}
	what := "nothing that can be recognised"
	if len(others) > 0 {
		what = some(others)
	}
	return nil, lambent.Errorf(lambent.Invalid, op, "%s exports %s, and no handler", seen, what).
		WithHint("lambent deploy --handler %s.FUNCTION", module(seen))
}

// nodeExported returns the names that a module exports, sorted.
func nodeExported(text string) []string {
	text = nodeComment.ReplaceAllString(text, "")
	var names []string
	for _, re := range nodeExports {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
	}
	for _, list := range nodeLists.FindAllStringSubmatch(text, -1) {
		for item := range strings.SplitSeq(list[1], ",") {
			if m := nodeItem.FindStringSubmatch(strings.TrimSpace(item)); m != nil {
				names = append(names, m[1])
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(n string) bool { return n == "__esModule" || n == "default" })
}
