package lambent

import (
	"maps"
	"slices"
	"strings"
)

// A Runtime is data: how code of one kind is booted, and which guest speaks to
// it.
type Runtime struct {
	Name  string `json:"name"`  // such as "python3.11"; what Config.Runtime names
	Guest string `json:"guest"` // such as "lambda"
	// Family is what names the newest of a kind, such as "python3"; empty: there is one.
	Family string            `json:"family,omitempty"`
	Boot   []string          `json:"boot,omitempty"` // argv of the agent, booted while parked; empty: the code's own program is the runtime
	Env    map[string]string `json:"env,omitempty"`  // what the agent is booted with; the function's own environment replaces it
	// Defaults is environment that code finds where its function says nothing else.
	Defaults map[string]string `json:"defaults,omitempty"`
	// Compile is a program, with arguments, whose output a driver may keep and show
	// as CompiledInside/NAME: the agent then boots faster.
	Compile []string `json:"compile,omitempty"`

	Root string `json:"root,omitempty"` // root file system; empty: the host's
	Note string `json:"note,omitempty"` // for `runtime list`: where it was found

	// Packages is a directory of the host with what handlers may import without
	// bringing it; empty: nothing. A driver that shows code a file system of its own
	// shows it at [PackagesInside].
	Packages   string `json:"packages,omitempty"`
	PackagesAt string `json:"packages_at,omitempty"` // where code sees it

	// Preloads is what of the packages is loaded while a sandbox is parked, for code that
	// brings the same, with its version; empty: nothing. PackagesAt is [TaskInside] then,
	// until the code is there.
	Preloads string `json:"preloads,omitempty"`

	// FixedEnv names the variables that only work at exec, because the interpreter or
	// the system's loader reads them at its start and never again; "LD_*" is all that
	// begin so. A function that sets one is not served by a sandbox in which the
	// runtime is booted already: see [Runtime.Late].
	FixedEnv []string `json:"fixed_env,omitempty"`
	LateBoot []string `json:"late_boot,omitempty"` // argv for such functions, or for all where Boot is empty; empty: Boot
	BootLate bool     `json:"boot_late,omitempty"` // Park leaves the boot to Start, which knows the code and its environment

	// Ahead says that nobody waits for the sandbox that is being made: its boot gives
	// way to functions that are being served.
	Ahead bool `json:"ahead,omitempty"`
}

// Fixed returns the variables of a configuration that only work at exec, sorted.
func (r *Runtime) Fixed(c *Config) []string {
	var fixed []string
	for _, name := range slices.Concat(slices.Collect(maps.Keys(c.Env)), c.Secrets) {
		if slices.ContainsFunc(r.FixedEnv, func(pattern string) bool {
			prefix, all := strings.CutSuffix(pattern, "*")
			return name == pattern || all && strings.HasPrefix(name, prefix)
		}) {
			fixed = append(fixed, name)
		}
	}
	slices.Sort(fixed)
	return slices.Compact(fixed)
}

// Late returns the runtime as it is for a function whose environment has to be
// there when it boots: Boot is what Start is to be given.
func (r Runtime) Late() Runtime {
	if len(r.LateBoot) > 0 {
		r.Boot = r.LateBoot
	}
	r.BootLate, r.LateBoot, r.FixedEnv = true, nil, nil
	return r.Plain()
}

// Plain returns the runtime with nothing of its packages loaded ahead.
func (r Runtime) Plain() Runtime {
	if r.PackagesAt == TaskInside {
		r.Packages, r.PackagesAt, r.Preloads = "", "", ""
	}
	return r
}

// TaskInside is where a sandbox with a file system of its own has the code.
const TaskInside = "/var/task"

// CompiledInside is where a sandbox with a file system of its own has what the
// Compile programs of runtimes have made.
const CompiledInside = "/var/compiled"

// PackagesInside is where a sandbox with a file system of its own has the packages
// of its runtime. Where they have a node_modules, /var/node_modules leads to it:
// that is how ES modules find it.
const PackagesInside = "/var/packages"
