package detect_test

import (
	"maps"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/detect"
)

// TestFrameworkLine: what the line that starts Google's framework says to it is said to
// the function, and what is said otherwise counts for more.
func TestFrameworkLine(t *testing.T) {
	const index = "exports.a = exports.b = 1"
	node := func(start string, files ...string) []string {
		start = strings.ReplaceAll(start, `"`, `\"`)
		return append([]string{"package.json", `{"dependencies":{"@google-cloud/functions-framework":"5.0.5"},"scripts":{"start":"` + start + `"}}`}, files...)
	}
	python := func(line string, files ...string) []string {
		return append([]string{"requirements.txt", "functions-framework", "Procfile", "web: " + line + "\n"}, files...)
	}
	event := map[string]string{"FUNCTION_SIGNATURE_TYPE": "event"}
	for name, c := range map[string]struct {
		files   []string
		said    detect.Settings
		handler string
		started map[string]string
	}{
		"all":                   {node("functions-framework --target=b --signature-type=event --source=dist --port=8080"), detect.Settings{}, "b", map[string]string{"FUNCTION_SIGNATURE_TYPE": "event", "FUNCTION_SOURCE": "dist"}},
		"apart":                 {node("functions-framework --signature-type event --port 8080 --target b", "index.js", index), detect.Settings{}, "b", event},
		"in quotes":             {node(`functions-framework --target="b" --signature-type 'event'`, "index.js", index), detect.Settings{}, "b", event},
		"by variables":          {node("FUNCTION_TARGET=a FUNCTION_SIGNATURE_TYPE=event npx functions-framework --target=b", "index.js", index), detect.Settings{}, "b", event},
		"after another command": {node("webpack --target=node && node_modules/.bin/functions-framework --target=b --signature-type=event; echo --target=c", "index.js", index), detect.Settings{}, "b", event},
		"the rest": {node("functions-framework --target=b --log-execution-id --timeout 30 --ignored-routes=/x --verbose", "index.js", index), detect.Settings{},
			"b", map[string]string{"LOG_EXECUTION_ID": "true", "CLOUD_RUN_TIMEOUT_SECONDS": "30", "IGNORED_ROUTES": "/x"}},
		"of another function": {node("functions-framework --target=b --signature-type=event --source=."), detect.Settings{Handler: "a"}, "a", map[string]string{"FUNCTION_SOURCE": "."}},
		"of any":              {node("functions-framework --signature-type=event"), detect.Settings{Handler: "a"}, "a", event},
		"runtime as given":    {node("functions-framework --target=b --signature-type=event"), detect.Settings{Runtime: "nodejs20", Handler: "b"}, "b", event},
		"said by the caller":  {node("functions-framework --target=b --signature-type=event", "index.js", index), detect.Settings{Env: map[string]string{"FUNCTION_SIGNATURE_TYPE": "cloudevent"}}, "b", nil},
		"said by the file":    {node("functions-framework --target=b --signature-type=event", "lambent.toml", `env = { FUNCTION_SIGNATURE_TYPE = "http" }`), detect.Settings{}, "b", nil},
		"another program":     {node("node functions-framework.js --target=b", "index.js", "exports.a = 1"), detect.Settings{}, "a", nil},
		"a source, a directory": {node("functions-framework --source dist", "index.js", "exports.a = 1", "dist/package.json", `{"main":"main.js"}`, "dist/index.js", "", "dist/main.js", "exports.c = 1"),
			detect.Settings{}, "c", map[string]string{"FUNCTION_SOURCE": "dist"}},
		"a source, a file":    {node("functions-framework", "index.js", "exports.a = 1", "lib/x.js", "exports.c = 1"), detect.Settings{Env: map[string]string{"FUNCTION_SOURCE": "./lib/x.js"}}, "c", nil},
		"what counts instead": {node("functions-framework --target=b --signature-type=event", "index.js", "functions.cloudEvent('b', f)"), detect.Settings{}, "b", nil},

		"python": {python("functions-framework --target hello --signature-type cloudevent --source src/x.py --port $PORT --host=0.0.0.0"), detect.Settings{},
			"hello", map[string]string{"FUNCTION_SIGNATURE_TYPE": "cloudevent", "FUNCTION_SOURCE": "src/x.py"}},
		"python, a module":     {python("python3 -m functions_framework --source=x.py --asgi", "x.py", "def hello(r): pass"), detect.Settings{}, "hello", map[string]string{"FUNCTION_SOURCE": "x.py", "FUNCTION_USE_ASGI": "true"}},
		"python, another name": {python("bin/functions-framework-python --target=hello --signature-type=event", "main.py", "def hello(d, c): pass"), detect.Settings{}, "hello", event},
	} {
		p, err := detect.Detect(project(c.files...), c.said)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f := p.Functions[0]
		if f.Handler != c.handler || len(f.Command) > 0 || !maps.Equal(f.Started, c.started) {
			t.Errorf("%s: handler %q, command %q, started with %q", name, f.Handler, f.Command, f.Started)
		}
		if len(c.said.Env) > 0 && f.Env != nil {
			t.Errorf("%s: what the caller says of the environment is taken for the file's: %q", name, f.Env)
		}
	}

	// A line that does more than to start it, or says more than is known, is run as it is.
	for _, line := range []string{
		"functions-framework --target hello --unknown", "functions-framework --target $TARGET", "python migrate.py && functions-framework --target hello",
		"MODE=a functions-framework --target hello", "functions-framework --target hello | tee log", "ff --target hello",
	} {
		p, err := detect.Detect(project(python(line, "main.py", "def hello(r): pass")...), detect.Settings{})
		if err != nil || len(p.Functions[0].Command) == 0 || p.Functions[0].Handler != "" {
			t.Errorf("%q: %+v, %v", line, p, err)
		}
	}
	p, err := detect.Detect(project("Procfile", "web: functions-framework --target hello\n", "main.py", "def hello(r): pass"), detect.Settings{})
	if err != nil || len(p.Functions[0].Command) == 0 {
		t.Errorf("a program called as the framework is: %+v, %v", p, err)
	}
}

// TestSignatures: what is said of a function that registers itself must be what it
// registers itself as.
func TestSignatures(t *testing.T) {
	types := nodeFrameworkDir + "/build/src/types.js"
	signature := func(s string) map[string]string { return map[string]string{"FUNCTION_SIGNATURE_TYPE": s} }
	for name, c := range map[string]struct {
		files []string
		env   map[string]string
		words string // of the error; "": none
	}{
		"node":            {[]string{"package.json", googlePackage, "index.js", "functions.http('a', f)"}, signature("cloudevent"), "index.js registers a as http, and the signature type is said to be cloudevent"},
		"node, the same":  {[]string{"package.json", googlePackage, "index.js", "functions.cloudEvent('a', f)"}, signature("cloudevent"), ""},
		"node, the file":  {[]string{"package.json", googlePackage, "index.js", "functions.http('a', f)", "lambent.toml", "handler = \"a\"\nenv = { FUNCTION_SIGNATURE_TYPE = \"event\" }"}, nil, "registers a as http"},
		"node, another":   {[]string{"package.json", googlePackage, "index.js", "functions.http('a', f); exports.b = f", "lambent.toml", "handler = \"b\""}, signature("event"), ""},
		"node, no kind":   {[]string{"package.json", googlePackage, "index.js", "exports.a = f"}, signature("event"), ""},
		"node, all given": {[]string{"package.json", googlePackage, "index.js", "functions.http('a', f)", "lambent.toml", "runtime = \"nodejs20\"\nhandler = \"a\""}, signature("event"), "registers a as http"},
		"python":          {[]string{"requirements.txt", "functions-framework", "main.py", "@functions_framework.cloud_event\ndef a(e): pass"}, signature("http"), "main.py registers a as cloudevent, and the signature type is said to be http"},
		"python, same":    {[]string{"requirements.txt", "functions-framework", "main.py", "@functions_framework.cloud_event\ndef a(e): pass"}, signature("cloudevent"), ""},
		"python, none":    {[]string{"requirements.txt", "functions-framework", "main.py", "def a(e): pass"}, signature("http"), ""},
		"go":              {[]string{"go.mod", goModule, "a.go", goRegisters}, signature("event"), "package hello registers Hello as http"},
		"go, same":        {[]string{"go.mod", goModule, "a.go", goRegisters}, signature("http"), ""},

		"typed, registered": {[]string{"package.json", googlePackage, "index.js", "functions.typed('a', f)", nodeFramework, "", types, "['http', 'event', 'cloudevent']", nodeFrameworkDir + "/package.json", `{"version":"5.0.5"}`},
			nil, "framework in node_modules, version 5.0.5, has no typed functions"},
		"typed, said":              {[]string{"package.json", googlePackage, "index.js", "exports.a = f", nodeFramework, "", types, "['http']"}, signature("typed"), "has no typed functions"},
		"typed, all given":         {[]string{"package.json", googlePackage, "lambent.toml", `handler = "a"`, nodeFramework, "", types, "['http']"}, signature("typed"), "has no typed functions"},
		"typed, where it has them": {[]string{"package.json", googlePackage, "index.js", "functions.typed('a', f)", nodeFramework, "", types, "['http', 'typed']"}, nil, ""},
		"typed, to be installed":   {[]string{"package.json", googlePackage, "index.js", "functions.typed('a', f)"}, nil, ""},
		"http, where it has none":  {[]string{"package.json", googlePackage, "index.js", "functions.typed('a', f); functions.http('b', f)", "lambent.toml", `handler = "b"`, nodeFramework, "", types, "['http']"}, nil, ""},
	} {
		p, err := detect.Detect(project(c.files...), detect.Settings{Env: c.env})
		if c.words == "" && err != nil || c.words != "" && (!lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %+v, %v; want %q", name, p, err, c.words)
		}
	}
	const two = "[functions.one]\nhandler = \"a\"\n[functions.two]\nhandler = \"b\""
	files := project("package.json", googlePackage, "index.js", "functions.http('a', f); exports.b = f", "lambent.toml", two)
	if p, err := detect.Detect(files, detect.Settings{Name: "two", Env: signature("event")}); err != nil || len(p.Functions) != 1 || p.Functions[0].Handler != "b" {
		t.Errorf("one of two: %+v, %v", p, err)
	}
	if p, err := detect.Detect(files, detect.Settings{Env: signature("event")}); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("both of two: %+v, %v", p, err)
	}
}
