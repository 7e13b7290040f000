package gcf

import (
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// environment returns what the contract says that code finds, with the user's own
// variables and the secrets. What the contract names is the platform's: a $PORT of
// the user's would be one that nobody connects to.
func (in *instance) environment() map[string]string {
	u := in.unit
	c, name := u.Revision.Config, u.Revision.Name.Function
	env := map[string]string{
		"PATH": strings.Join(in.path(), ":"), "LANG": "C.UTF-8",
		"PWD": u.Paths.Task, "HOME": u.Paths.Tmp, "TMPDIR": u.Paths.Tmp,
		timeoutVariable: strconv.Itoa(int(math.Ceil(c.Timeout.Seconds()))), // unless the runtime's framework is better off without
	}
	if in.family() == "python" {
		env["PYTHONPATH"] = u.Paths.Task // of programs that the code brings, which lie deeper
	}
	maps.Copy(env, in.runtime.Defaults)
	if len(c.Command) > 0 {
		delete(env, timeoutVariable) // which functions have, and containers have not
	}
	maps.Copy(env, c.Env)
	maps.Copy(env, u.Secrets)
	maps.Copy(env, map[string]string{
		"PORT":      strconv.Itoa(in.port),
		"K_SERVICE": name, "K_CONFIGURATION": name, "K_REVISION": name + "-" + u.Revision.Version,
	})
	if c.Handler != "" {
		env["FUNCTION_TARGET"] = c.Handler
	}
	if len(c.Command) > 0 && in.family() == "python" {
		env["GUNICORN_CMD_ARGS"] = strings.TrimSpace(noWatchdog + " " + env["GUNICORN_CMD_ARGS"])
	}
	return env
}

const (
	timeoutVariable = "CLOUD_RUN_TIMEOUT_SECONDS"

	// noWatchdog keeps gunicorn from killing workers that have said nothing for a while:
	// they were frozen. Its command line and the user's own arguments have the last word.
	noWatchdog = "--timeout=0"
)

// path is where programs are looked for: the interpreter's, what the code brings, and
// the system's.
func (in *instance) path() []string {
	var dirs []string
	if len(in.runtime.Boot) > 0 {
		dirs = append(dirs, path.Dir(in.runtime.Boot[0]))
	}
	task := in.unit.Paths.Task
	return append(dirs, task+"/node_modules/.bin", task+"/bin", "/usr/local/bin", "/usr/bin", "/bin")
}

// interpreters are the names by which commands call the interpreter of a runtime.
var interpreters = map[string][]string{
	"node":   {"node", "nodejs"},
	"python": {"python", "python3"},
	"java":   {"java"},
}

// family is what the interpreter is called without its version, or "".
func (in *instance) family() string {
	if len(in.runtime.Boot) == 0 {
		return ""
	}
	return strings.TrimRight(path.Base(in.runtime.Boot[0]), "0123456789.")
}

// command is what is run: the runtime's own program, or what the configuration says,
// found as a shell finds it. An interpreter is the runtime's, whatever else is found
// by its name.
func (in *instance) command() []string {
	argv, boot := in.unit.Revision.Config.Command, in.runtime.Boot
	switch {
	case len(argv) == 0 && len(boot) == 0:
		return in.runtime.LateBoot
	case len(argv) == 0:
		argv = boot
	case strings.Contains(argv[0], "/"):
		return argv
	case len(boot) > 0 && (argv[0] == path.Base(boot[0]) || slices.Contains(interpreters[in.family()], argv[0])):
		argv = append([]string{boot[0]}, argv[1:]...)
	default:
		return append([]string{"/bin/sh", "-c", `exec "$0" "$@"`}, argv...)
	}
	if in.family() == "java" {
		argv = slices.Insert(slices.Clone(argv), 1, in.javaMemory()...)
	}
	return argv
}

// javaMemory is what a virtual machine has to be told that cannot see the limit of its
// memory: that, and how much of it the heap may take. The rest is for code, threads
// and buffers.
func (in *instance) javaMemory() []string {
	return []string{"-XX:MaxRAM=" + strconv.Itoa(in.unit.Revision.Config.MemoryMB) + "m", "-XX:MaxRAMPercentage=60"}
}

// environ turns an environment into what exec takes.
func environ(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	return list
}
