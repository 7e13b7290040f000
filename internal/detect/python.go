package detect

import (
	"io/fs"
	"regexp"
	"strings"

	"lambent"
)

var (
	pythonFiles = []string{"lambda_function.py", "app.py", "main.py", "handler.py"}
	pythonNames = []string{"lambda_handler", "handler", "main"}

	pythonDef    = regexp.MustCompile(`^(?:async\s+)?def\s+([A-Za-z_]\w*)\s*\(([^)]*)`)
	pythonAssign = regexp.MustCompile(`^([A-Za-z_]\w*)\s*(?::[^=]+)?=[^=]`)
	pythonImport = regexp.MustCompile(`^from\s+\S+\s+import\s+(.+)`)
)

func findPython(fsys fs.FS) (*found, error) {
	var seen string
	for _, file := range pythonFiles {
		if !exists(fsys, file) {
			continue
		}
		text := source(fsys, file)
		if strings.Contains(text, "import functions_framework") || strings.Contains(text, "from functions_framework") {
			return nil, lambent.Errorf(lambent.Unsupported, op, "%s uses Google's functions framework: this release runs AWS Lambda's functions only", file)
		}
		if name := pythonHandler(text); name != "" {
			return &found{runtime: Python, handler: module(file) + "." + name, why: file + " has " + name}, nil
		}
		if seen == "" {
			seen = file
		}
	}
	if seen == "" {
		return nil, nil
	}
	return nil, lambent.Errorf(lambent.Invalid, op, "%s has no handler that can be recognised: a function lambda_handler, handler or main with two parameters, event and context", seen).
		WithHint("lambent deploy --handler %s.FUNCTION", module(seen))
}

// pythonHandler returns the handler's name by looking at the lines that start at
// the margin, outside of strings in triple quotes.
func pythonHandler(text string) string {
	named := map[string]bool{}
	var twoParams []string // functions of (event, context) under other names
	quote := ""
	for line := range strings.Lines(text) {
		if quote != "" {
			if strings.Contains(line, quote) {
				quote = ""
			}
			continue
		}
		for _, q := range []string{`"""`, `'''`} {
			if strings.Count(line, q)%2 == 1 {
				quote = q
			}
		}
		if m := pythonDef.FindStringSubmatch(line); m != nil {
			first, rest, two := strings.Cut(m[2], ",")
			// A main without parameters is a script's. A list that goes on in the
			// next lines is taken to be long enough.
			if m[1] != "main" || two || m[2] == "" && !strings.Contains(line, ")") {
				named[m[1]] = true
			}
			if two && parameter(first) == "event" && parameter(rest) == "context" {
				twoParams = append(twoParams, m[1])
			}
		} else if m := pythonAssign.FindStringSubmatch(line); m != nil && m[1] != "main" {
			named[m[1]] = true // handler = Mangum(app)
		} else if m := pythonImport.FindStringSubmatch(line); m != nil {
			for item := range strings.SplitSeq(strings.Trim(strings.TrimSpace(m[1]), "()"), ",") {
				if fields := strings.Fields(item); len(fields) > 0 && fields[len(fields)-1] != "main" {
					named[fields[len(fields)-1]] = true
				}
			}
		}
	}
	for _, name := range pythonNames {
		if named[name] {
			return name
		}
	}
	if len(twoParams) == 1 {
		return twoParams[0]
	}
	return ""
}

// parameter returns the name of the first parameter in a list: "event: dict" is
// event.
func parameter(list string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(list, " \t_"), ",")
	name, _, _ = strings.Cut(name, ":")
	name, _, _ = strings.Cut(name, "=")
	return strings.TrimSpace(name)
}
