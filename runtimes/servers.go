package runtimes

import (
	"strings"

	"lambent"
)

// Web is the runtime of programs of the code that are web servers.
const Web = "web"

// A framework is how Google's functions framework for a language is run: by the
// interpreter, out of the code's own dependencies.
type framework struct {
	family string
	argv   []string
	env    map[string]string // as Google's build sets it, mostly
}

var frameworks = map[string]framework{
	"python": {
		family: "google-python", argv: []string{"-m", "functions_framework"},
		// The framework tells gunicorn that its worker has failed if it says nothing for
		// as long as a request may take. It says nothing while it is frozen, and would be
		// killed when it wakes. 0 is no such limit; that of requests is the platform's.
		env: map[string]string{"PYTHONUNBUFFERED": "TRUE", "CLOUD_RUN_TIMEOUT_SECONDS": "0"},
	},
	"nodejs": {
		family: "google-nodejs", argv: []string{"node_modules/@google-cloud/functions-framework/build/src/main.js"},
		env: map[string]string{"NODE_ENV": "production"},
	},
}

// Servers returns the runtimes of web servers that come with others: for each
// interpreter one by Google's name, such as nodejs20 and python311, which runs the
// functions framework that the code brings, and one for programs of the code.
func Servers(list []lambent.Runtime) []lambent.Runtime {
	servers := []lambent.Runtime{{Name: Web, Guest: "gcf", Note: "a program of the code that listens on $PORT"}}
	for _, r := range list {
		family, err := Family(r.Name)
		f, ok := frameworks[family]
		if err != nil || !ok || len(r.Boot) == 0 {
			continue
		}
		servers = append(servers, lambent.Runtime{
			Name: googleName(r.Name), Guest: "gcf", Family: f.family, Root: r.Root, Note: r.Note,
			Boot: append([]string{r.Boot[0]}, f.argv...), BootLate: true, Env: f.env,
		})
	}
	return servers
}

// googleName is what Google calls a runtime of AWS's name: without dots, and without
// the x that stands for any.
func googleName(aws string) string {
	return strings.ReplaceAll(strings.TrimSuffix(aws, ".x"), ".", "")
}
