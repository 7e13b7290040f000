package detect

import (
	"io/fs"
	"iter"
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
// the margin, outside of strings in triple quotes. A function by one of the usual
// names comes first, then one of (event, context) by any name, then a usual name
// for something else: `handler = Mangum(app)` is a handler, but
// `handler = logging.StreamHandler()` beside a function is not.
func pythonHandler(text string) string {
	defined, bound := map[string]bool{}, map[string]bool{}
	var ofEvent []string // functions of (event, context)
	for line := range pythonLines(text) {
		if m := pythonDef.FindStringSubmatch(line); m != nil {
			name, list := m[1], strings.TrimSpace(m[2])
			first, rest, two := strings.Cut(list, ",")
			// A main without parameters is a script's; a list may go on in the next
			// lines.
			if name != "main" || two || !strings.Contains(line, ")") {
				defined[name] = true
			}
			if two && parameter(first) == "event" && parameter(rest) == "context" {
				ofEvent = append(ofEvent, name)
			}
		} else if m := pythonAssign.FindStringSubmatch(line); m != nil {
			bound[m[1]] = true
		} else if m := pythonImport.FindStringSubmatch(line); m != nil {
			for item := range strings.SplitSeq(strings.Trim(strings.TrimSpace(m[1]), "()"), ",") {
				if words := strings.Fields(item); len(words) > 0 { // "name" or "other as name"
					bound[words[len(words)-1]] = true
				}
			}
		}
	}
	delete(bound, "main")
	for _, name := range pythonNames {
		if defined[name] {
			return name
		}
	}
	if len(ofEvent) == 1 {
		return ofEvent[0]
	}
	for _, name := range pythonNames {
		if bound[name] {
			return name
		}
	}
	return ""
}

// pythonLines yields the lines that are not inside strings in triple quotes.
func pythonLines(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		quote := ""
		for line := range strings.Lines(text) {
			if quote != "" {
				if strings.Contains(line, quote) {
					quote = ""
				}
				continue
			}
			for _, q := range []string{`"""`, "'''"} {
				if strings.Count(line, q)%2 == 1 {
					quote = q
				}
			}
			if !yield(line) {
				return
			}
		}
	}
}

// parameter returns the name of the first parameter in a list: "event: dict" is
// event.
func parameter(list string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(list, " \t_"), ",")
	name, _, _ = strings.Cut(name, ":")
	name, _, _ = strings.Cut(name, "=")
	return strings.TrimSpace(name)
}
