package lambda_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/guest/platformtest"
	"lambent/runtimes"
)

// The function of the tests below says what it was booted with.
const (
	lateNode = `const v8 = require('v8');
exports.handler = async (event) => ({
  hooked: globalThis.hooked ?? '', heap: Math.round(v8.getHeapStatistics().heap_size_limit / 1048576), options: process.env.NODE_OPTIONS ?? '',
  wrapped: process.env.WRAPPED ?? '', handler: process.env._HANDLER, maps: require('fs').readFileSync('/proc/self/maps', 'latin1').includes(event.library),
  argv: process.argv.length, packages: process.env.NODE_PATH, cwd: process.cwd(), runs: globalThis.runs = (globalThis.runs ?? 0) + 1,
});
exports.other = async () => 'the other one';
`
	latePython = `import os, sys
def handler(event, context):
    return {
        "hash": hash("lambent"), "optimize": sys.flags.optimize, "unbuffered": not sys.stdout.line_buffering or sys.stdout.write_through,
        "wrapped": os.environ.get("WRAPPED", ""), "maps": event.get("library", "?") in open("/proc/self/maps").read(),
        "path": sys.path, "argv": len(sys.argv), "cwd": os.getcwd(), "site": getattr(sys, "customized", ""), "builtins": callable(exit) and callable(help),
        "isolated": sys.flags.isolated, "children": os.popen("echo $WRAPPED").read().strip(),
    }
def other(event, context):
    return "the other one"
`
)

// lateCode is a tree with both languages and everything that their environment
// may name.
func lateCode(t *testing.T) string {
	t.Helper()
	code := filepath.Join(platformtest.PublicDir(t), "code")
	for name, text := range map[string]string{
		"app.cjs":                     lateNode,
		"app.py":                      latePython,
		"hook.cjs":                    "globalThis.hooked = (globalThis.hooked ?? '') + 'yes'\n",
		"extra/sitecustomize.py":      "import sys\nsys.customized = 'yes'\n",
		"extra/json_of_the_user.py":   "",
		"wrapper":                     "#!/bin/sh\nexport WRAPPED=\"by $(basename \"$0\"), $# arguments\"\nexec \"$@\"\n",
		"parent":                      "#!/bin/sh\nexport WRAPPED=\"by wrapper, as its child\"\n\"$@\"\n",
		"other":                       "#!/bin/sh\nexport _HANDLER=app.other\nexec \"$@\"\n",
		"importtime":                  "#!/bin/bash\nargs=(\"$@\")\nexec \"${args[@]:0:$#-1}\" -X importtime \"${args[@]: -1}\"\n",
		"three":                       "#!/bin/sh\necho going\nexit 3\n",
		"mute":                        "#!/bin/sh\nexec 3>&-\n\"$@\"\n",
		"idle":                        "#!/bin/sh\nexec sleep 1000\n",
		"idle-mute":                   "#!/bin/sh\nexec 3>&-\nexec sleep 1000\n",
		"babbler":                     "#!/bin/sh\necho hello, hello, hello >&3\nexec sleep 1000\n",
		"plain":                       "not a program\n",
		"node_modules/.keep/index.js": "",
	} {
		file := filepath.Join(code, name)
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return code
}

// TestLateBoot: what only works at exec works.
func TestLateBoot(t *testing.T) {
	for driver := range platformtest.Drivers {
		t.Run(driver, func(t *testing.T) {
			p := platformtest.New(t, driver)
			p.Parked = 2
			lateBoots(t, p, lateCode(t))
			t.Run("packages", func(t *testing.T) { latePackages(t, p, driver) })
		})
	}
}

func lateBoots(t *testing.T, p *platformtest.Platform, code string) {
	// call starts a function and returns what it answers to the second call.
	call := func(t *testing.T, family, event string, env map[string]string) map[string]any {
		t.Helper()
		c := lambent.Config{Runtime: p.Newest(t, family), Handler: "app.handler", Code: code, MemoryMB: 256, Timeout: 20 * time.Second, Env: env}
		f := p.Deploy(t, c.WithDefaults())
		var got map[string]any
		for range 2 {
			a := f.Call(t, event)
			if a.Err != nil || a.Result.Fault != nil {
				t.Fatalf("error %v, fault %+v, log %s", a.Err, a.Result.Fault, f.Log())
			}
			if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(f.Log(), "INIT Runtime: "+c.Runtime+" booted at this start, for what it reads only then: "); n != min(1, len(env)) {
			t.Errorf("the log tells %d times of the boot: %s", n, f.Log())
		}
		return got
	}
	want := func(t *testing.T, got map[string]any, fields map[string]any) {
		t.Helper()
		for k, v := range fields {
			if got[k] != v {
				t.Errorf("%s is %v, want %v (of %v)", k, got[k], v, got)
			}
		}
	}

	t.Run("nodejs", func(t *testing.T) {
		parked := call(t, "nodejs", `{"library":"libresolv"}`, nil)
		want(t, parked, map[string]any{"hooked": "", "wrapped": "", "maps": false})
		got := call(t, "nodejs", `{}`, map[string]string{"NODE_OPTIONS": "--require ./hook.cjs --max-old-space-size=77"})
		want(t, got, map[string]any{"hooked": "yes", "options": "--require ./hook.cjs --max-old-space-size=77",
			"argv": parked["argv"], "cwd": parked["cwd"], "packages": parked["packages"], "runs": 2.0})
		if heap := got["heap"].(float64); heap < 77 || heap > 200 {
			t.Errorf("the heap may grow to %v MB, want 77 and a bit", heap)
		}
	})
	t.Run("python", func(t *testing.T) {
		parked := call(t, "python", `{"library":"libresolv"}`, nil)
		want(t, parked, map[string]any{"optimize": 0.0, "wrapped": "", "maps": false, "site": "", "builtins": true})
		env := map[string]string{"PYTHONHASHSEED": "0", "PYTHONOPTIMIZE": "1", "PYTHONUNBUFFERED": "1"}
		got := call(t, "python", `{}`, env)
		cmd := exec.Command(p.Runtimes[p.Newest(t, "python")].Boot[0], "-S", "-c", "print(hash('lambent'))")
		cmd.Env = []string{"PYTHONHASHSEED=0"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var hash float64
		if err := json.Unmarshal(out, &hash); err != nil {
			t.Fatal(err)
		}
		want(t, got, map[string]any{"hash": hash, "optimize": 1.0, "unbuffered": true, "builtins": true, "isolated": 0.0, "argv": parked["argv"], "cwd": parked["cwd"]})
		// Nothing that only an isolated interpreter is without: its own directory, the host's packages.
		if got, parked := join(got["path"]), join(parked["path"]); got != parked {
			t.Errorf("the path of imports is %s, and parked %s", got, parked)
		}
		extra := filepath.Join(got["cwd"].(string), "extra")
		env["PYTHONPATH"] = extra
		got = call(t, "python", `{}`, env)
		want(t, got, map[string]any{"site": "yes"})
		if path := join(got["path"]); strings.Count(path, extra) != 1 {
			t.Errorf("PYTHONPATH is not once on the path of imports: %s", path)
		}
	})
	for _, family := range []string{"nodejs", "python"} {
		t.Run(family+" wrapped", func(t *testing.T) {
			for _, wrapper := range []string{"/var/task/wrapper", "./wrapper", "./parent"} {
				got := call(t, family, `{}`, map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": wrapper})
				if s, _ := got["wrapped"].(string); !strings.HasPrefix(s, "by wrapper, ") {
					t.Errorf("%s: got %v", wrapper, got)
				}
				if c, ok := got["children"]; ok && c != got["wrapped"] {
					t.Errorf("children have %v", c)
				}
			}
		})
		t.Run(family+" with a library before all others", func(t *testing.T) {
			if runtime.GOOS != "linux" {
				t.Skip("LD_PRELOAD is Linux's")
			}
			got := call(t, family, `{"library":"libresolv"}`, map[string]string{"LD_PRELOAD": "libresolv.so.2"})
			want(t, got, map[string]any{"maps": true})
		})
		t.Run(family+" that cannot start", func(t *testing.T) {
			for name, c := range map[string]struct {
				env                map[string]string
				typ, message, logs string
			}{
				"no wrapper":     {map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/absent"}, "Runtime.ExitError", "exit status 127 (AWS_LAMBDA_EXEC_WRAPPER: /var/task/absent does not exist", ""},
				"not executable": {map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/plain"}, "Runtime.ExitError", "exit status 126 (AWS_LAMBDA_EXEC_WRAPPER: /var/task/plain is not an executable)", ""},
				"it ends":        {map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/three"}, "Runtime.ExitError", "exit status 3", "going"},
				"no connection":  {map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/mute"}, "Runtime.ExitError", "exit status", ""},
				"bad options":    {map[string]string{"NODE_OPTIONS": "--nonsense", "PYTHONHASHSEED": "nonsense"}, "Runtime.ExitError", "exit status", "nonsense"},
			} {
				config := lambent.Config{Runtime: p.Newest(t, family), Handler: "app.handler", Code: code, MemoryMB: 256, Timeout: 20 * time.Second, Env: c.env}
				f := p.Deploy(t, config.WithDefaults())
				a := f.Call(t, `{}`)
				if fault := a.Result.Fault; a.Err != nil || fault == nil || fault.Type != c.typ || !strings.Contains(fault.Message, c.message) {
					t.Errorf("%s: error %v, fault %+v", name, a.Err, fault)
				}
				if c.logs != "" && !strings.Contains(f.Log(), c.logs) && !strings.Contains(f.Log(), "PYTHONHASHSEED") {
					t.Errorf("%s: the log has %s", name, f.Log())
				}
			}
		})
		t.Run(family+" with a wrapper that says what the handler is", func(t *testing.T) {
			config := lambent.Config{Runtime: p.Newest(t, family), Handler: "app.handler", Code: code, MemoryMB: 256, Timeout: 20 * time.Second,
				Env: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "./other"}}
			if a := p.Deploy(t, config.WithDefaults()).Call(t, `{}`); a.Err != nil || a.Body.String() != `"the other one"` {
				t.Errorf("got %s, %+v, %v", a.Body.String(), a.Result.Fault, a.Err)
			}
		})
	}
	t.Run("a wrapper that starts nothing", func(t *testing.T) { // neither in an init's time nor, repeated, in the function's
		was := p.Limits
		defer func() { p.Limits = was }()
		p.Limits.InitTimeout = 500 * time.Millisecond
		for _, wrapper := range []string{"./idle", "./idle-mute", "./babbler"} {
			config := lambent.Config{Runtime: p.Newest(t, "python"), Handler: "app.handler", Code: code, MemoryMB: 256, Timeout: 500 * time.Millisecond,
				Env: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": wrapper}}
			want := "Sandbox.Timedout: RequestId: "
			if wrapper == "./babbler" {
				want = "Runtime.InvalidEntrypoint: Something has written to descriptor 3"
			}
			if a := p.Deploy(t, config.WithDefaults()).Call(t, `{}`); a.Err != nil || a.Result.Fault == nil || !strings.HasPrefix(a.Result.Fault.Error(), want) {
				t.Errorf("%s: got %+v, %v, want %s", wrapper, a.Result.Fault, a.Err, want)
			}
		}
	})
	t.Run("python with the wrapper of AWS's documentation", func(t *testing.T) {
		config := lambent.Config{Runtime: p.Newest(t, "python"), Handler: "app.handler", Code: code, MemoryMB: 256, Timeout: 20 * time.Second,
			Env: map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/importtime"}}
		f := p.Deploy(t, config.WithDefaults())
		if a := f.Call(t, `{}`); a.Err != nil || a.Result.Fault != nil || !strings.Contains(f.Log(), "import time:") {
			t.Errorf("error %v, fault %+v, log %.300s", a.Err, a.Result.Fault, f.Log())
		}
	})
}

// latePackages: what the runtime brings is found, and no argument of its program.
func latePackages(t *testing.T, p *platformtest.Platform, driver string) {
	code, packages := filepath.Join(platformtest.PublicDir(t), "code"), filepath.Join(platformtest.PublicDir(t), "packages")
	for file, text := range map[string]string{
		code + "/app.py":                            "import brought\ndef handler(event, context):\n    return brought.what\n",
		code + "/app.cjs":                           "exports.handler = async () => require('brought')\n",
		code + "/last":                              "#!/bin/sh\nfor last; do :; done\ncase $last in */agent.*|*/boot.py) exec \"$@\";; esac\necho \"$last\"\n",
		packages + "/brought.py":                    "what = 'along'\n",
		packages + "/node_modules/brought/index.js": "module.exports = 'along'\n",
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	seen := packages
	if driver == "namespace" {
		seen = lambent.PackagesInside
	}
	for _, family := range []string{"nodejs", "python"} {
		name := p.Newest(t, family)
		plain := p.Runtimes[name]
		defer func() { p.Runtimes[name] = plain }()
		p.Runtimes[name] = runtimes.WithPackages(plain, packages, seen)
		for _, env := range []map[string]string{nil, {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/last"}} {
			c := lambent.Config{Runtime: name, Handler: "app.handler", Code: code, MemoryMB: 256, Timeout: 20 * time.Second, Env: env}
			f := p.Deploy(t, c.WithDefaults())
			if a := f.Call(t, `{}`); a.Err != nil || a.Body.String() != `"along"` {
				t.Errorf("%s with %v: got %s, %+v, %v, log %s", family, env, a.Body.String(), a.Result.Fault, a.Err, f.Log())
			}
		}
	}
}

func join(list any) string {
	var all []string
	for _, s := range list.([]any) {
		all = append(all, s.(string))
	}
	return strings.Join(all, ":")
}
