package runtimes

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lambent"
)

// Web is the runtime of programs of the code that are web servers.
const Web = "web"

// A framework is Google's functions framework for a language, which is run by the
// interpreter, out of the code's own dependencies.
type framework struct {
	family string
	late   []string          // what the interpreter is told without an agent
	agent  string            // the program that it is told with one, before the framework's; "": the same
	site   string            // directory of the agent, where it comes in by PYTHONPATH
	list   []string          // program that tells what of it can be loaded ahead, with arguments
	among  string            // it is one of the packages, if this is there
	env    map[string]string // as Google's build sets it, mostly
	fixed  []string          // environment that only works at exec
}

var frameworks = map[string]framework{
	"python": {
		family: "google-python", late: []string{"-m", "functions_framework"}, site: "python/site",
		list: []string{"python/list.py"}, among: "functions_framework",
		// The framework tells gunicorn that its worker has failed if it says nothing for
		// as long as a request may take. It says nothing while it is frozen, and would be
		// killed when it wakes. 0 is no such limit; that of requests is the platform's.
		env: map[string]string{"PYTHONUNBUFFERED": "TRUE", "CLOUD_RUN_TIMEOUT_SECONDS": "0"},
		// All that the interpreter reads. Of PYTHONPATH only what the platform sets is known.
		fixed: []string{"LD_*", "GLIBC_TUNABLES", "MALLOC_*", "PYTHON*", "LANG", "LC_*"},
	},
	"nodejs": {
		family: "google-nodejs", late: []string{nodeFramework + "/build/src/main.js"}, agent: "nodejs/server.cjs",
		list: []string{"nodejs/list.cjs", nodeFramework + "/build/src/main.js"}, among: nodeFramework,
		env:   map[string]string{"NODE_ENV": "production"},
		fixed: slices.Concat([]string{"LD_*", "GLIBC_TUNABLES", "MALLOC_*"}, fixedEnv["nodejs"]),
	},
}

const nodeFramework = "node_modules/@google-cloud/functions-framework"

// Servers returns the runtimes of web servers that come with others: for each
// interpreter one by Google's name, such as nodejs20 and python311, which runs the
// functions framework that the code brings, and one for programs of the code. agents
// is where their sandboxes see the agents.
func Servers(list []lambent.Runtime, agents string) []lambent.Runtime {
	servers := []lambent.Runtime{{Name: Web, Guest: "gcf", Note: "a program of the code that listens on $PORT"}}
	for _, r := range list {
		family, err := Family(r.Name)
		f, ok := frameworks[family]
		if err != nil || !ok || len(r.Boot) == 0 {
			continue
		}
		s := lambent.Runtime{
			Name: googleName(r.Name), Guest: "gcf", Family: f.family, Root: r.Root, Note: r.Note, Defaults: f.environment(r.Env),
			Boot: []string{r.Boot[0]}, LateBoot: append([]string{r.Boot[0]}, f.late...), FixedEnv: f.fixed,
		}
		s.Env = maps.Clone(s.Defaults)
		if f.site != "" {
			s.Env["PYTHONPATH"] = filepath.Join(agents, f.site)
		}
		if f.agent != "" {
			s.Boot = append(s.Boot, filepath.Join(agents, f.agent))
		}
		s.Boot = append(s.Boot, f.late...)
		if r.Preloads != "" {
			s.Packages, s.PackagesAt, s.Preloads = r.Packages, lambent.TaskInside, r.Preloads
			s.Note += ", loaded ahead"
		}
		servers = append(servers, s)
	}
	return servers
}

// environment is what the framework finds, of an interpreter that is booted with env.
// Where programs are is for each function to be told.
func (f *framework) environment(env map[string]string) map[string]string {
	env = maps.Clone(env)
	if env == nil {
		env = map[string]string{}
	}
	delete(env, "PATH")
	maps.Copy(env, f.env)
	return env
}

// Lister returns the arguments of an interpreter of a family by which it tells what of
// the functions framework in a directory of packages can be loaded ahead
// (internal/preload), where that is seen at [lambent.TaskInside], and the environment
// of that. Without a framework there are none.
func Lister(family, packages, agents string) (args []string, env map[string]string) {
	f, ok := frameworks[family]
	if !ok {
		return nil, nil
	}
	if _, err := os.Stat(filepath.Join(packages, f.among)); err != nil {
		return nil, nil
	}
	env = f.environment(map[string]string{"LANG": "C.UTF-8", "PWD": lambent.TaskInside, "HOME": "/tmp", "TMPDIR": "/tmp", "PORT": "8080"})
	return append(append([]string{filepath.Join(agents, f.list[0])}, f.list[1:]...), lambent.TaskInside), env
}

// googleName is what Google calls a runtime of AWS's name: without dots, and without
// the x that stands for any.
func googleName(aws string) string {
	return strings.ReplaceAll(strings.TrimSuffix(aws, ".x"), ".", "")
}
