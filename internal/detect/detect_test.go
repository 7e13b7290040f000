package detect_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"lambent"
	"lambent/internal/detect"
)

// project makes a directory of name, content, name, content...
func project(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1]), Mode: 0o644}
	}
	return m
}

const (
	python = "def lambda_handler(event, context):\n    return 1\n"
	node   = "export const handler = async () => 1;\n"
	golang = "package main\n\nfunc main() { lambda.Start(handle) }\n"
)

func TestDetect(t *testing.T) {
	for name, c := range map[string]struct {
		files                   []string
		runtime, handler, build string
	}{
		"python":                      {[]string{"lambda_function.py", python}, "python3", "lambda_function.lambda_handler", ""},
		"python, other file":          {[]string{"app.py", "async def handler(event, _context): pass"}, "python3", "app.handler", ""},
		"python, wrapped":             {[]string{"main.py", "from mangum import Mangum\nhandler = Mangum(app)\n"}, "python3", "main.handler", ""},
		"python, imported":            {[]string{"app.py", "from shop.api import run as lambda_handler\n"}, "python3", "app.lambda_handler", ""},
		"python, by parameters":       {[]string{"app.py", "def save(x): pass\ndef work(event: dict, context=None): pass\n"}, "python3", "app.work", ""},
		"python, a log handler":       {[]string{"app.py", "handler = logging.StreamHandler()\ndef work(event, context): pass\n"}, "python3", "app.work", ""},
		"python, main over lines":     {[]string{"main.py", "def main(\n    event, context\n): pass\n"}, "python3", "main.main", ""},
		"python, main of two":         {[]string{"main.py", "def main(event, context): pass\n"}, "python3", "main.main", ""},
		"python, over lines":          {[]string{"app.py", "def handler(\n    event,\n    context,\n):\n    pass\n"}, "python3", "app.handler", ""},
		"python, a script first":      {[]string{"app.py", "def main():\n    pass\n", "handler.py", "def handler(e, c): pass"}, "python3", "handler.handler", ""},
		"python, not in a docstring":  {[]string{"app.py", "\"\"\"\ndef lambda_handler(a, b)\n\"\"\"\ndef handler(a, b): pass"}, "python3", "app.handler", ""},
		"node, ESM":                   {[]string{"index.mjs", node}, "nodejs", "index.handler", ""},
		"node, function":              {[]string{"index.mjs", "export async function handler(event) {}"}, "nodejs", "index.handler", ""},
		"node, CommonJS":              {[]string{"index.js", "exports.handler = async (event) => {}"}, "nodejs", "index.handler", ""},
		"node, module.exports":        {[]string{"handler.js", "module.exports.hello = (e, c, cb) => {}"}, "nodejs", "handler.hello", ""},
		"node, list":                  {[]string{"index.js", "const x = 1;\nmodule.exports = {\n  handler, other: x\n};"}, "nodejs", "index.handler", ""},
		"node, export list":           {[]string{"index.mjs", "export { one as handler, two }"}, "nodejs", "index.handler", ""},
		"node, bundled":               {[]string{"index.js", "0 && (module.exports = {\n  handler\n});"}, "nodejs", "index.handler", ""},
		"node, compiled":              {[]string{"index.js", "Object.defineProperty(exports, \"__esModule\", { value: true });\nexports.handler = void 0;\nexports.handler = handler;"}, "nodejs", "index.handler", ""},
		"node, package's main":        {[]string{"package.json", `{"main":"./dist/api.js"}`, "dist/api.js", "exports.handler = 1;"}, "nodejs", "dist/api.handler", ""},
		"node, SAM":                   {[]string{"app.mjs", "export const lambdaHandler = async (event, context) => {}"}, "nodejs", "app.lambdaHandler", ""},
		"node before python":          {[]string{"index.mjs", node, "app.py", python}, "nodejs", "index.handler", ""},
		"package.json beside python":  {[]string{"package.json", `{"devDependencies":{"serverless":"3"}}`, "handler.py", python}, "python3", "handler.lambda_handler", ""},
		"go":                          {[]string{"go.mod", "module x", "main.go", golang}, "provided.al2023", "", "go"},
		"bootstrap":                   {[]string{"bootstrap", "#!/bin/sh"}, "provided.al2023", "", ""},
		"go, not by a comment":        {[]string{"go.mod", "module x", "main.go", "// lambda.Start(x)\n", "bootstrap", ""}, "provided.al2023", "", ""},
		"toml, runtime only":          {[]string{"lambent.toml", `runtime = "python3.11"`, "index.mjs", node, "app.py", python}, "python3.11", "app.lambda_handler", ""},
		"toml, handler only":          {[]string{"lambent.toml", `handler = "src/api.run"`, "src/api.mjs", "", "app.py", python}, "nodejs", "src/api.run", ""},
		"toml, provided from source":  {[]string{"lambent.toml", `runtime = "provided.al2023"`, "go.mod", "", "main.go", golang}, "provided.al2023", "", "go"},
		"toml, provided":              {[]string{"lambent.toml", `runtime = "provided.al2023"`, "bootstrap", ""}, "provided.al2023", "", ""},
		"toml, a runtime of its own":  {[]string{"lambent.toml", `runtime = "ruby3.3"`}, "ruby3.3", "", ""},
		"toml, nothing about runtime": {[]string{"lambent.toml", `memory = 256`, "app.py", python}, "python3", "app.lambda_handler", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := detect.Detect(project(c.files...))
			if err != nil {
				t.Fatal(err)
			}
			f := p.Functions[0]
			if f.Runtime != c.runtime || f.Handler != c.handler || f.Build != c.build || f.Why == "" || len(p.Functions) != 1 {
				t.Errorf("got runtime %q, handler %q, build %q, because %q; want %q, %q, %q", f.Runtime, f.Handler, f.Build, f.Why, c.runtime, c.handler, c.build)
			}
		})
	}
}

func TestDetectRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		kind  lambent.Kind
		words string
	}{
		"nothing":          {nil, lambent.Invalid, "no function here"},
		"azure":            {[]string{"host.json", "{}", "app.py", python}, lambent.Unsupported, "Azure"},
		"google, node":     {[]string{"package.json", `{"dependencies":{"@google-cloud/functions-framework":"^3"}}`, "index.js", node}, lambent.Unsupported, "Google"},
		"google, python":   {[]string{"requirements.txt", "# web\nfunctions_framework==3.*\n", "main.py", python}, lambent.Unsupported, "Google"},
		"google, imported": {[]string{"main.py", "import functions_framework\ndef handler(request): pass"}, lambent.Unsupported, "Google"},
		"package.json":     {[]string{"package.json", "{", "index.js", node}, lambent.Invalid, "package.json"},
		"no node handler":  {[]string{"index.js", "exports.a = 1; exports.b = 2;"}, lambent.Invalid, "index.js exports a, b, and no handler"},
		"no handler":       {[]string{"app.py", "x = 1\n"}, lambent.Invalid, "app.py has no handler"},
		"typescript":       {[]string{"index.ts", node}, lambent.Unsupported, "TypeScript"},
		"go, no lambda":    {[]string{"go.mod", "module x", "main.go", "package main"}, lambent.Invalid, "lambda.Start"},
		"no such file":     {[]string{"lambent.toml", `handler = "api.run"`, "app.py", python}, lambent.Invalid, "no such file: api.py, api/__init__.py, api.js"},
		"one level down":   {[]string{"hello/app.py", python}, lambent.Invalid, `the directory "hello"`},
		"no python file":   {[]string{"lambent.toml", `runtime = "python3.11"`, "index.mjs", node}, lambent.Invalid, "runtime python3.11"},
		"no bootstrap":     {[]string{"lambent.toml", `runtime = "provided"`}, lambent.Invalid, "bootstrap"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := detect.Detect(project(c.files...))
			if !lambent.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("Detect = %+v, %v; want %v with %q", p, err, c.kind, c.words)
			}
		})
	}
}

func TestCheckHandler(t *testing.T) {
	tree := project("app.py", "", "pkg/api.py", "", "web/__init__.py", "", "index.mjs", "", "src/main.cjs", "", "bootstrap", "", "fast.cpython-311-x86_64-linux-gnu.so", "")
	for _, c := range []struct{ runtime, handler, words string }{
		{"python3.11", "app.handler", ""},
		{"python3.11", "pkg/api.handler", ""},
		{"python3.11", "pkg.api.handler", ""},
		{"python3", "web.handler", ""},
		{"python3", "fast.handler", ""},
		{"nodejs20.x", "index.handler", ""},
		{"nodejs", "index.nested.handler", ""},
		{"nodejs", "src/main.handler", ""},
		{"ruby3.3", "whatever", ""},
		{"python3.11", "apq.handler", "there is no apq.py"},
		{"python3.11", "handler", "names a file and a function"},
		{"python3.11", "../app.handler", "there is no"},
		{"nodejs", "app.handler", "there is no app.js"},
		{"nodejs", "index.", "names a file and a function"},
		{"nodejs", "", "names a file and a function"},
		{"provided.al2023", "", "bootstrap is not executable"},
	} {
		err := detect.CheckHandler(tree, c.runtime, c.handler)
		if c.words == "" && err != nil || c.words != "" && (!lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("CheckHandler(%q, %q) = %v, want %q", c.runtime, c.handler, err, c.words)
		}
	}
	tree["bootstrap"].Mode = 0o755
	if err := detect.CheckHandler(tree, "provided", ""); err != nil {
		t.Error(err)
	}
	if err := detect.CheckHandler(project("x", ""), "provided", ""); !lambent.Is(err, lambent.Invalid) {
		t.Error(err)
	}
}

func TestNotes(t *testing.T) {
	p, err := detect.Detect(project("template.yaml", "", "serverless.yml", "", "app.py", python))
	if err != nil || len(p.Notes) != 2 || !strings.Contains(p.Notes[0], "template.yaml is not read") {
		t.Errorf("%+v, %v", p, err)
	}
}

// Every example is found as what it is.
func TestExamples(t *testing.T) {
	want := map[string]string{
		"aws-python-hello":  "python-hello python3 lambda_function.lambda_handler ",
		"aws-python-errors": "python-errors python3 app.handler ",
		"aws-node-hello":    "node-hello nodejs index.handler ",
		"aws-node-stream":   "node-stream nodejs index.handler ",
		"aws-go-hello":      "go-hello provided.al2023  go",
		"aws-shell-hello":   "shell-hello provided.al2023  ",
	}
	dirs, err := filepath.Glob("../../examples/aws-*")
	if err != nil || len(dirs) < len(want) {
		t.Fatalf("%d examples (%v)", len(dirs), err)
	}
	for _, dir := range dirs {
		p, err := detect.Detect(os.DirFS(dir))
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		f := p.Functions[0]
		got := strings.Join([]string{f.Name, f.Runtime, f.Handler, f.Build}, " ")
		if w := want[filepath.Base(dir)]; w != "" && got != w {
			t.Errorf("%s: %q, want %q", dir, got, w)
		}
	}
}
