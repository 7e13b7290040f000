package detect

import (
	"cmp"
	"encoding/json"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"lambent"
)

// What Google's frameworks are told by their environment.
const (
	targetVariable    = "FUNCTION_TARGET"
	signatureVariable = "FUNCTION_SIGNATURE_TYPE"
	sourceVariable    = "FUNCTION_SOURCE"
)

var signatures = []string{"http", "event", "cloudevent", "typed"}

// frameworkOptions are the options of the frameworks' command lines, and the variables
// that say the same. Where they listen is not theirs to say.
var frameworkOptions = map[string]string{
	"--target": targetVariable, "--signature-type": signatureVariable, "--source": sourceVariable, "--port": "", "--host": "",
	"--timeout": "CLOUD_RUN_TIMEOUT_SECONDS", "--ignored-routes": "IGNORED_ROUTES", "--log-execution-id": "LOG_EXECUTION_ID", // of Node.js
	"--asgi": "FUNCTION_USE_ASGI", "--debug": "DEBUG", // of Python
}

var (
	frameworkVariables = slices.Collect(maps.Values(frameworkOptions))

	frameworkProgram = regexp.MustCompile(`(^|/)functions[-_]framework([-_]python)?$`)

	// What runs a program that comes after it.
	frameworkRunner = regexp.MustCompile(`^(npx|python[\d.]*|-m)$`)
)

// frameworkLine reads a command line that starts Google's framework, wherever in the
// line that is: what it says to the framework, by variables; nil if it does not start it.
// alone says that it does and says nothing else.
func frameworkLine(line string) (options map[string]string, alone bool) {
	options, alone = map[string]string{}, true
	set := func(variable, value string) {
		value = strings.Trim(value, `"'`)
		options[variable], alone = value, alone && plainWords.MatchString(value)
	}
	words := strings.Fields(strings.ReplaceAll(line, ";", " ; "))
	for ; len(words) > 0 && !frameworkProgram.MatchString(words[0]); words = words[1:] {
		if name, value, ok := strings.Cut(words[0], "="); ok && name != "" && slices.Contains(frameworkVariables, name) {
			set(name, value)
		} else {
			alone = alone && frameworkRunner.MatchString(words[0])
		}
	}
	if len(words) == 0 {
		return nil, false
	}
	for words = words[1:]; len(words) > 0; words = words[1:] {
		name, value, given := strings.Cut(words[0], "=")
		variable, known := frameworkOptions[name]
		switch {
		case strings.IndexAny(name, "&|;<>") == 0: // another command's
			return options, false
		case !known:
			alone = false
			continue
		case !given && len(words) > 1 && !strings.HasPrefix(words[1], "-"):
			words = words[1:]
			value = words[0]
		case !given:
			value = "true"
		}
		if variable != "" {
			set(variable, value)
		}
	}
	return options, alone
}

// start takes what the line that starts the framework says, of what is not said
// otherwise. A function that is not the one which it starts has no signature by it.
func (h *found) start(fsys fs.FS, pkg nodePackage, s Settings) {
	options, _ := frameworkLine(webLine(fsys))
	if options == nil {
		options, _ = frameworkLine(pkg.Scripts["start"])
	}
	h.handler = cmp.Or(s.Handler, options[targetVariable])
	h.env = maps.Clone(options)
	maps.DeleteFunc(h.env, func(name, value string) bool {
		_, said := s.Env[name]
		return said || name == targetVariable || name == signatureVariable && options[targetVariable] != "" && options[targetVariable] != h.handler
	})
}

// agree holds what is said of the function's signature against what it registers itself
// as: kind, or "" if it does not. That has the last word in the framework. What is no
// signature at all is for the server to refuse.
func (h *found) agree(kind, file string, s Settings) error {
	if kind == "" {
		return nil
	}
	if said := s.Env[signatureVariable]; said != kind && slices.Contains(signatures, said) {
		return lambent.Errorf(lambent.Invalid, op, "%s registers %s as %s, and the signature type is said to be %s: what is registered counts", file, h.handler, kind, said).
			WithHint("lambent deploy --signature-type %s", kind)
	}
	if started := h.env[signatureVariable]; started != "" && started != kind {
		h.why += ", " + file + " registers " + h.handler + " as " + kind + ", and --signature-type " + started + " does not count"
		delete(h.env, signatureVariable)
	}
	return nil
}

// registered returns the kinds of the functions that register themselves, by their names.
func registered(how *regexp.Regexp, text string) map[string]string {
	kinds := map[string]string{}
	for _, m := range how.FindAllStringSubmatch(text, -1) {
		kinds[m[2]] = strings.ToLower(m[1])
	}
	return kinds
}

// checkTyped refuses a typed function that the framework beside the code knows nothing
// of: Node.js's had them in its versions 3.3 to 3.5. One that is yet to be installed says
// so itself, when the code is started on trial.
func checkTyped(fsys fs.FS) error {
	types := source(fsys, nodeFramework+"/build/src/types.js")
	if types == "" || strings.Contains(types, "typed") {
		return nil
	}
	var pkg struct{ Version string }
	_ = json.Unmarshal([]byte(source(fsys, nodeFramework+"/package.json")), &pkg) // without it, it has no version
	return lambent.Errorf(lambent.Invalid, op, "Google's functions framework in node_modules, version %s, has no typed functions, which only 3.3 to 3.5 have", pkg.Version).
		WithHint("npm install --save-prod @google-cloud/functions-framework@3.5.1 && lambent deploy")
}
