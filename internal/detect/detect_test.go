package detect_test

import (
	"os"
	"path/filepath"
	"slices"
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

const (
	goFramework = "github.com/GoogleCloudPlatform/functions-framework-go"
	goModule    = "module example.com/hello\n\ngo 1.21\n\nrequire " + goFramework + " v1.9.2\n"
	goRegisters = "package hello\n\nimport \"" + goFramework + "/functions\"\n\nfunc init() { functions.HTTP(\"Hello\", hello) }\n"

	javaPom   = "<dependency><groupId>com.google.cloud.functions</groupId><artifactId>functions-framework-api</artifactId>"
	javaHello = "package com.example;\n\n// class Not implements HttpFunction\npublic class Hello implements HttpFunction {\n  private static class Helper {}\n}\n"

	googlePackage   = `{"dependencies":{"@google-cloud/functions-framework":"^5"}}`
	nodeFramework   = nodeFrameworkDir + "/build/src/main.js"
	pythonFramework = "functions_framework/__init__.py"

	nodeFrameworkDir = "node_modules/@google-cloud/functions-framework"
)

// TestDetectServer: what is found of web servers, and of what is said of them.
func TestDetectServer(t *testing.T) {
	const start = `{"scripts":{"start":"node server.js --port 1"}}`
	for name, c := range map[string]struct {
		files   []string
		said    detect.Settings
		runtime string
		command []string
		build   string
	}{
		"Procfile":           {[]string{"Procfile", "worker: x\nweb: gunicorn -b :$PORT main:app\n", "lambda_function.py", python}, detect.Settings{}, "google-python", []string{"/bin/sh", "-c", "gunicorn -b :$PORT main:app"}, ""},
		"Procfile, a binary": {[]string{"Procfile", "web: ./server --fast", "package.json", "{}"}, detect.Settings{}, "web", []string{"./server", "--fast"}, ""},
		"go":                 {[]string{"go.mod", "module x", "main.go", "package main\n\nfunc main() { http.ListenAndServe(\":\"+os.Getenv(\"PORT\"), nil) }"}, detect.Settings{}, "web", []string{"./bootstrap"}, "go"},
		"start script":       {[]string{"package.json", start, "server.js", ""}, detect.Settings{}, "google-nodejs", []string{"node", "server.js", "--port", "1"}, ""},
		"no handler":         {[]string{"package.json", start, "index.js", "app.listen(process.env.PORT)"}, detect.Settings{}, "google-nodejs", []string{"node", "server.js", "--port", "1"}, ""},
		"toml, a line":       {[]string{"lambent.toml", `command = "node server.js"`, "app.py", python}, detect.Settings{}, "google-nodejs", []string{"node", "server.js"}, ""},
		"toml, a list":       {[]string{"lambent.toml", `command = ["./serve", "a b"]`}, detect.Settings{}, "web", []string{"./serve", "a b"}, ""},
		"toml, and runtime":  {[]string{"lambent.toml", "runtime = \"nodejs20\"\ncommand = \"server\""}, detect.Settings{}, "nodejs20", []string{"server"}, ""},
		"said":               {[]string{"lambent.toml", `command = "one"`, "app.py", ""}, detect.Settings{Command: detect.ParseCommand("uvicorn main:app")}, "google-python", []string{"uvicorn", "main:app"}, ""},
		"by the files":       {[]string{"package.json", "{}"}, detect.Settings{Command: []string{"next", "start"}}, "google-nodejs", []string{"next", "start"}, ""},
		"java":               {[]string{"x", ""}, detect.Settings{Command: detect.ParseCommand("java -jar target/app.jar")}, "google-java", []string{"java", "-jar", "target/app.jar"}, ""},
		"go, its program":    {[]string{"Procfile", "web: ./server --fast ./server.toml", "go.mod", "module x", "main.go", "package main"}, detect.Settings{}, "web", []string{"./bootstrap", "--fast", "./server.toml"}, "go"},
		"go, in a line":      {[]string{"go.mod", "module x", "main.go", "package main"}, detect.Settings{Command: detect.ParseCommand("MODE=a exec bin/server -addr :$PORT")}, "web", []string{"/bin/sh", "-c", "MODE=a exec ./bootstrap -addr :$PORT"}, "go"},
		"go, ready":          {[]string{"Procfile", "web: ./server", "go.mod", "module x", "main.go", "package main", "server", ""}, detect.Settings{}, "web", []string{"./server"}, ""},
		"go, another's":      {[]string{"Procfile", "web: serve", "go.mod", "module x", "main.go", "package main"}, detect.Settings{}, "web", []string{"serve"}, ""},
		"go, not built":      {[]string{"Procfile", "web: ./server", "go.mod", "module x", "main.go", "package main"}, detect.Settings{Builds: new(false)}, "web", []string{"./server"}, ""},
		"rust, its program":  {[]string{"Procfile", "web: ./target/release/app", "Cargo.toml", "[package]", "src/main.rs", ""}, detect.Settings{}, "web", []string{"./bootstrap"}, "cargo"},
		"java, its jar":      {[]string{"Procfile", "web: java -Xss1m -jar target/app.jar", "pom.xml", "<project/>", "src/main/java/A.java", ""}, detect.Settings{}, "google-java", []string{"java", "-Xss1m", "-jar", "target/app.jar"}, "maven"},
		"java, any jar":      {[]string{"Procfile", "web: java -jar target/*.jar", "pom.xml", "<project/>"}, detect.Settings{}, "google-java", []string{"/bin/sh", "-c", "java -jar target/*.jar"}, "maven"},
		"java, ready":        {[]string{"Procfile", "web: java -jar target/*.jar", "pom.xml", "<project/>", "target/app-1.jar", ""}, detect.Settings{}, "google-java", []string{"/bin/sh", "-c", "java -jar target/*.jar"}, ""},
		"gradle, its jar":    {[]string{"Procfile", "web: java -jar build/libs/app.jar", "build.gradle.kts", ""}, detect.Settings{}, "google-java", []string{"java", "-jar", "build/libs/app.jar"}, "gradle"},
		"by what is brought": {[]string{"Procfile", "web: bin/gunicorn main:app", "requirements.txt", "gunicorn", "go.mod", "module x"}, detect.Settings{}, "google-python", []string{"bin/gunicorn", "main:app"}, "pip"},
		"a variable first":   {[]string{"x", ""}, detect.Settings{Command: detect.ParseCommand("MODE=a ./server")}, "web", []string{"/bin/sh", "-c", "MODE=a ./server"}, ""},
	} {
		p, err := detect.Detect(project(c.files...), c.said)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f := p.Functions[0]; f.Runtime != c.runtime || !slices.Equal(f.Command, c.command) || f.Handler != "" || f.Why == "" || f.Build != c.build {
			t.Errorf("%s: runtime %q, command %q, handler %q, build %q", name, f.Runtime, f.Command, f.Handler, f.Build)
		}
	}
	if p, err := detect.Detect(project("package.json", googlePackage, "index.js", "require('./function')", "function.js", "exports.hello = f", "lambent.toml", `handler = "hello"`), detect.Settings{}); err != nil {
		t.Errorf("an index.js that leads elsewhere: %+v, %v", p, err)
	}
	if p, err := detect.Detect(project("package.json", start, "index.mjs", node), detect.Settings{}); err != nil || p.Functions[0].Runtime != "nodejs" {
		t.Errorf("a handler beside a start script: %+v, %v", p, err)
	}
}

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
		"google, node":                {[]string{"package.json", googlePackage, nodeFramework, "", "index.js", "// functions.http('not', f)\nfunctions.http('hello', (req, res) => {})"}, "google-nodejs", "hello", ""},
		"google, by exports":          {[]string{"package.json", googlePackage, nodeFramework, "", "function.js", "exports.hello = (data, context) => {}"}, "google-nodejs", "hello", ""},
		"google, by the start script": {[]string{"package.json", `{"dependencies":{"@google-cloud/functions-framework":"1"},"scripts":{"start":"functions-framework --target=b"}}`, nodeFramework, "", "index.js", "exports.a = exports.b = 1"}, "google-nodejs", "b", ""},
		"google, the usual name":      {[]string{"package.json", googlePackage, nodeFramework, "", "index.js", "exports.function = 1;\nexports.other = 2;"}, "google-nodejs", "function", ""},
		"google, python":              {[]string{"requirements.txt", "flask\nFunctions_Framework~=3.5\n", pythonFramework, "", "main.py", "import functions_framework\ndef helper(): pass\n@functions_framework.cloud_event\ndef on_file(e): pass"}, "google-python", "on_file", ""},
		"google, python, background":  {[]string{"requirements.txt", "functions-framework", pythonFramework, "", "main.py", "def hello(data, context): pass"}, "google-python", "hello", ""},
		"google, handler only":        {[]string{"lambent.toml", `handler = "b"`, "package.json", googlePackage, nodeFramework, "", "index.js", "exports.a = 1; exports.b = 1"}, "google-nodejs", "b", ""},
		"google, to be installed":     {[]string{"package.json", googlePackage, "index.js", "exports.a = 1"}, "google-nodejs", "a", "npm"},
		"google, python, to be":       {[]string{"requirements.txt", "functions-framework", "main.py", "def hello(data, context): pass"}, "google-python", "hello", "pip"},
		"node, with dependencies":     {[]string{"package.json", `{"dependencies":{"a":"1"}}`, "index.mjs", node}, "nodejs", "index.handler", "npm"},
		"node, optional ones":         {[]string{"package.json", `{"optionalDependencies":{"a":"1"}}`, "index.mjs", node}, "nodejs", "index.handler", "npm"},
		"node, installed":             {[]string{"package.json", `{"dependencies":{"a":"1"}}`, "node_modules/a/index.js", "", "index.mjs", node}, "nodejs", "index.handler", ""},
		"node, none for production":   {[]string{"package.json", `{"devDependencies":{"a":"1"}}`, "index.mjs", node}, "nodejs", "index.handler", ""},
		"python, with requirements":   {[]string{"requirements.txt", "# pinned\n\nsix==1.17.0\n", "app.py", python}, "python3", "app.lambda_handler", "pip"},
		"python, empty ones":          {[]string{"requirements.txt", "# none\n\n", "app.py", python}, "python3", "app.lambda_handler", ""},
		"python, installed":           {[]string{"requirements.txt", "six", "six-1.17.0.dist-info/RECORD", "", "app.py", python}, "python3", "app.lambda_handler", ""},
		"python, of another":          {[]string{"requirements.txt", "six", "index.mjs", node}, "nodejs", "index.handler", ""},
		"all given, and to be":        {[]string{"lambent.toml", "runtime = \"python3.11\"\nhandler = \"a.b\"", "requirements.txt", "six", "a.py", ""}, "python3.11", "a.b", "pip"},
		"not to be installed":         {[]string{"lambent.toml", "build = false", "requirements.txt", "six", "app.py", python}, "python3", "app.lambda_handler", ""},
		"tools left something":        {[]string{"package.json", `{"dependencies":{"a":"1"}}`, "node_modules/.cache/x", "", "index.mjs", node}, "nodejs", "index.handler", "npm"},
		"with a mark of byte order":   {[]string{"package.json", "\ufeff" + `{"dependencies":{"a":"1"},"scripts":{"x":1}}`, "index.mjs", node}, "nodejs", "index.handler", "npm"},
		"rust, runtime only":          {[]string{"lambent.toml", `runtime = "provided.al2023"`, "Cargo.toml", "[dependencies]\nlambda_runtime = \"0.13\"\n"}, "provided.al2023", "", "cargo"},
		"rust":                        {[]string{"Cargo.toml", "[dependencies]\nlambda_runtime = \"0.13\"\n", "src/main.rs", ""}, "provided.al2023", "", "cargo"},
		"rust, a section":             {[]string{"Cargo.toml", "[dependencies.lambda_http]\nversion = \"1\"\n"}, "provided.al2023", "", "cargo"},
		"google, runtime only":        {[]string{"lambent.toml", `runtime = "nodejs20"`, "package.json", googlePackage, nodeFramework, "", "index.js", "exports.a = 1"}, "nodejs20", "a", ""},
		"google, go":                  {[]string{"go.mod", goModule, "a.go", goRegisters, "a_test.go", "package hello\nfunc init() { functions.HTTP(\"other\", f) }", "cmd/main.go", "package main"}, "google-go", "Hello", "go"},
		"google, go, over lines":      {[]string{"go.mod", goModule, "a.go", "package hello\nimport f \"" + goFramework + "/functions\"\nfunc init() {\n\tf.CloudEvent(\n\t\t\"on-file\", onFile)\n}\n// functions.HTTP(\"not\", f)"}, "google-go", "on-file", "go"},
		"google, go, exported":        {[]string{"go.mod", "module x", "a.go", "package hello\n\nfunc Hello(w http.ResponseWriter, r *http.Request) {}\n\nfunc Helper(a, b string) error {}\n"}, "google-go", "Hello", "go"},
		"google, go, elsewhere":       {[]string{"lambent.toml", "handler = \"Other\"", "go.mod", goModule, "a.go", "package hello\n\nimport _ \"example.com/hello/all\"\n"}, "google-go", "Other", "go"},
		"google, go, an event":        {[]string{"go.mod", "module x", "a.go", "package hello\n\nfunc Heard(ctx context.Context, m PubSubMessage) error {}\n"}, "google-go", "Heard", "go"},
		"google, go, a main":          {[]string{"go.mod", goModule, "a.go", "package main\nimport \"" + goFramework + "/funcframework\"\n"}, "google-go", "", "go"},
		"google, go, both given":      {[]string{"lambent.toml", "runtime = \"go122\"\nhandler = \"Other\"", "go.mod", goModule, "a.go", goRegisters}, "go122", "Other", "go"},
		"google, go, handler given":   {[]string{"lambent.toml", "handler = \"Other\"", "go.mod", goModule, "a.go", goRegisters}, "google-go", "Other", "go"},
		"google, one of two":          {[]string{"lambent.toml", "runtime = \"python311\"\nhandler = \"b\"", "package.json", `{"devDependencies":{"@google-cloud/functions-framework":"5"}}`, "requirements.txt", "functions-framework", "main.py", "def a(r): pass"}, "python311", "b", "pip"},
		"google, java":                {[]string{"pom.xml", javaPom, "src/main/java/com/example/Hello.java", javaHello, "target/hello-1.0.jar", "", "invoker/java-function-invoker-1.4.1.jar", ""}, "google-java", "com.example.Hello", ""},
		"google, java, source":        {[]string{"pom.xml", javaPom, "src/main/java/com/example/Hello.java", javaHello}, "google-java", "com.example.Hello", "maven"},
		"google, gradle, source":      {[]string{"build.gradle", javaPom, "src/main/java/Hello.java", javaHello}, "google-java", "com.example.Hello", "gradle"},
		"google, gradle, no invoker":  {[]string{"build.gradle.kts", javaPom, "src/main/java/Hello.java", javaHello, "build/libs/x.jar", ""}, "google-java", "com.example.Hello", "gradle"},
		"google, java, no invoker":    {[]string{"pom.xml", javaPom, "src/main/java/com/example/Hello.java", javaHello, "target/hello.jar", ""}, "google-java", "com.example.Hello", "maven"},
		"google, java, by the pom":    {[]string{"pom.xml", javaPom + "<functionTarget>a.B</functionTarget>", "target/hello-1.0.jar", "", "java-function-invoker-1.4.1.jar", ""}, "google-java", "a.B", ""},
		"google, java, jars alone":    {[]string{"lambent.toml", `handler = "a.B"`, "lib/java-function-invoker-1.4.1.jar", "", "hello.jar", ""}, "google-java", "a.B", ""},
		"google, kotlin":              {[]string{"build.gradle.kts", javaPom, "src/main/kotlin/App.kt", "package com.example\n\nclass App : HttpFunction {\n}", "build/libs/app.jar", "", "lib/java-function-invoker-1.4.1.jar", ""}, "google-java", "com.example.App", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := detect.Detect(project(c.files...), detect.Settings{})
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
		"nothing": {nil, lambent.Invalid, "no function here"},
		"azure":   {[]string{"host.json", "{}", "app.py", python}, lambent.Unsupported, "Azure"},
		"google, node": {[]string{"package.json", `{"dependencies":{"@google-cloud/functions-framework":"^3"}, "scripts":{"start":"functions-framework --target=a"}}`, "index.js", node, "node_modules/x/index.js", ""},
			lambent.Invalid, "node_modules does not have it"},
		"google, dev":        {[]string{"package.json", `{"devDependencies":{"@google-cloud/functions-framework":"^3"}}`, "index.js", node}, lambent.Invalid, "only development needs"},
		"google, python":     {[]string{"requirements.txt", "# web\nfunctions_framework==3.*\n", "main.py", python, "flask.dist-info/RECORD", ""}, lambent.Invalid, "requirements.txt asks for Google's functions framework, and it is not among"},
		"google, imported":   {[]string{"main.py", "import functions_framework\ndef handler(request): pass"}, lambent.Invalid, "main.py imports Google's functions framework, and nothing asks"},
		"google, of two":     {[]string{"package.json", googlePackage, nodeFramework, "", "index.js", "functions.http('a', f);\nfunctions.http('b', f)"}, lambent.Invalid, "index.js has several functions: a, b"},
		"google, no main":    {[]string{"package.json", googlePackage, nodeFramework, ""}, lambent.Invalid, "index.js or function.js is not there"},
		"google, no main.py": {[]string{"requirements.txt", "functions-framework", pythonFramework, ""}, lambent.Invalid, "main.py is not there"},
		"google, go, of two": {[]string{"go.mod", goModule, "a.go", goRegisters + "\nfunc init() { functions.Typed(\"Greet\", greet) }"}, lambent.Invalid, "package hello has several functions: Greet, Hello"},
		"google, go, by a constant": {[]string{"go.mod", goModule, "a.go", "package hello\nimport \"" + goFramework + "/functions\"\nfunc init() { functions.HTTP(name, f) }"},
			lambent.Invalid, "package hello has no function that can be recognised"},
		"google, gradle, deeper": {[]string{"build.gradle", javaPom, "web/src/main/java/Hello.java", javaHello}, lambent.Invalid, "build.gradle asks for Google's functions framework, and nothing is compiled"},
		"google, java, no invoker": {[]string{"pom.xml", javaPom, "target/hello.jar", ""},
			lambent.Invalid, "there is no java-function-invoker*.jar in invoker, ., lib, target/dependency"},
		"google, java, of two": {[]string{"pom.xml", javaPom, "src/main/java/Hello.java", javaHello, "src/main/java/b/Heard.java", "package b;\npublic final class Heard\n    implements Closeable, BackgroundFunction<Message> {",
			"target/hello.jar", "", "java-function-invoker-1.4.1.jar", ""}, lambent.Invalid, "src/main has several functions: b.Heard, com.example.Hello"},
		"google, a source": {[]string{"requirements.txt", "functions-framework", "Procfile", "web: functions-framework --source x.py\n"}, lambent.Invalid, "x.py is not there"},
		"google, an empty index.js": {[]string{"package.json", googlePackage, "index.js", "// later\n", "function.js", "exports.hello = f"},
			lambent.Invalid, "index.js has no function that can be recognised, and the framework takes it rather than function.js, which has hello"},
		"google, one without functions": {[]string{"package.json", googlePackage, "index.js", "const x = require('x')", "function.js", "functions.http('hello', f)"}, lambent.Invalid, "rather than function.js, which has hello"},
		"google, a handler beside it": {[]string{"package.json", googlePackage, "index.js", "", "function.js", "exports.hello = f", "lambent.toml", `handler = "hello"`},
			lambent.Invalid, "rather than function.js, which has hello"},
		"go, deeper":       {[]string{"Procfile", "web: bin/server", "go.mod", "module x", "cmd/server/main.go", "package main"}, lambent.Invalid, "the command runs bin/server, which is not there, and is not built here"},
		"go, a script":     {[]string{"Procfile", "web: ./start.sh", "go.mod", "module x", "main.go", "package main"}, lambent.Invalid, "the command runs ./start.sh, which is not there"},
		"maven, deeper":    {[]string{"Procfile", "web: java -jar web/target/web.jar", "pom.xml", "<project/>"}, lambent.Invalid, "runs web/target/web.jar, which is not there"},
		"gradle, a server": {[]string{"lambent.toml", `command = "java -jar web/build/libs/app.jar"`, "build.gradle.kts", ""}, lambent.Invalid, "runs web/build/libs/app.jar, which is not there"},
		"google, nothing":  {[]string{"lambent.toml", `runtime = "nodejs20"`, "index.js", node}, lambent.Invalid, "nothing says how to start"},
		"no command":       {[]string{"lambent.toml", `runtime = "web"`}, lambent.Invalid, "nothing says how to start"},
		"empty command":    {[]string{"lambent.toml", `command = []`}, lambent.Invalid, "must be a command line in quotes"},
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
			p, err := detect.Detect(project(c.files...), detect.Settings{})
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
	p, err := detect.Detect(project("template.yaml", "", "serverless.yml", "", "app.py", python), detect.Settings{})
	if err != nil || len(p.Notes) != 2 || !strings.Contains(p.Notes[0], "template.yaml is not read") {
		t.Errorf("%+v, %v", p, err)
	}
	for command, want := range map[string]string{
		"gunicorn --bind :$PORT --timeout 30 main:app": "gunicorn's --timeout 30", "gunicorn -t 30 main:app": "gunicorn's --timeout 30", "exec gunicorn --timeout=5 main:app": "gunicorn's --timeout 5",
		"gunicorn --timeout 0 main:app": "", "gunicorn --threads 8 main:app": "", "uvicorn main:app --timeout 30": "",
	} {
		p, err := detect.Detect(project("Procfile", "web: "+command+"\n"), detect.Settings{})
		if err != nil || (len(p.Notes) > 0) != (want != "") || want != "" && !strings.HasPrefix(p.Notes[0], want) {
			t.Errorf("%s: %+v, %v", command, p, err)
		}
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
		"gcp-go-hello":      "gcp-go-hello google-go Hello go",
		"gcp-go-stream":     "gcp-go-stream google-go Count go",
	}
	for name, w := range want {
		p, err := detect.Detect(os.DirFS(filepath.Join("../../examples", name)), detect.Settings{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f := p.Functions[0]
		if got := strings.Join([]string{f.Name, f.Runtime, f.Handler, f.Build}, " "); got != w {
			t.Errorf("%s: %q, want %q", name, got, w)
		}
	}
}
