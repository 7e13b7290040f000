package runtimes_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
)

var one = []event{{body: `{"key": "value"}`}}

// app is a Python module of one function h, given as the lines of its body.
func app(body ...string) map[string]string {
	return map[string]string{"app.py": "def h(event, context):\n    " + strings.Join(body, "\n    ") + "\n"}
}

// python returns a call of such a module.
func python(body ...string) call { return call{files: app(body...), handler: "app.h", events: one} }

func (c call) with(env ...string) call {
	c.env = map[string]string{}
	for i := 0; i < len(env); i += 2 {
		c.env[env[i]] = env[i+1]
	}
	return c
}

func (c call) sent(events ...event) call {
	c.events = events
	return c
}

// returns is a call of a module that returns an expression, after imports.
func returns(imports, expression string) call {
	return call{files: map[string]string{"app.py": imports + "\ndef h(event, context):\n    return " + expression + "\n"}, handler: "app.h", events: one}
}

var pythonCases = map[string]call{
	// Events and answers.
	"echo":                    python("return event").sent(event{body: `{"a": [1, 2.5, null, true, "é"]}`}, event{body: `"text"`}, event{body: `[]`}),
	"none":                    python("pass"),
	"empty event":             python("return event").sent(event{}, one[0]),
	"event of no JSON":        python("return event").sent(event{body: "\xff"}, event{body: "\ufeff1"}),
	"event is not JSON":       python("return event").sent(event{body: `{"a": `}, one[0]),
	"event with big number":   python("return event").sent(event{body: `{"n": 123456789012345678901234567890, "f": 1e400}`}),
	"event with repeated key": python("return event").sent(event{body: `{"a": 1, "a": 2}`}),
	"event of another type":   python("return [type(event).__name__, str(event)]").sent(event{body: "a=b", header: map[string]string{"Content-Type": "text/plain"}}),
	"bytes":                   python(`return b"raw \xff"`),
	"text beyond ASCII":       python(`return {"é": "日本 \U0001f600 \u2028 \x7f \x00 </"}`),
	"text beyond ASCII, 3.12": python(`return {"é": "日本 \U0001f600 \u2028 \x7f \x00 </"}`).with("AWS_EXECUTION_ENV", "AWS_Lambda_python3.12"),
	"lone surrogate":          python(`return "\ud800"`),
	"lone surrogate, 3.12":    python(`return "\ud800"`).with("AWS_EXECUTION_ENV", "AWS_Lambda_python3.12"),
	"float":                   returns("import math", "[0.1, 1e100, -0.0, math.inf, -math.inf, math.nan, 1e16, 5e-324]"),
	"decimal":                 returns("from decimal import Decimal as D", `[D("1.10"), D("1E+3"), {"x": D("-0")}, D("NaN"), D("123456789012345678901234567890.5"), "decimal"]`),
	"decimal infinity":        returns("from decimal import Decimal as D", `D("Infinity")`),
	"named tuple":             returns("from collections import namedtuple\nP = namedtuple('P', 'x y')", `{"p": P(1, P(2, "z")), "t": (1, 2)}`),
	"bytes inside":            python(`return {"a": b"caf\xc3\xa9", b"k": [b""]}`),
	"bytes inside, not UTF-8": python(`return {"a": b"\xff"}`),
	"keys":                    python(`return {1: "int", 1.5: "float", True: "bool", None: "none", "s": "str"}`),
	"keys of no JSON":         python(`return {(1, 2): 3}`),
	"set":                     python("return {1, 2}"),
	"set inside":              python(`return {"a": [1, {2}]}`),
	"datetime":                returns("import datetime", "datetime.datetime(2026, 1, 2)"),
	"object":                  returns("class Thing: pass", "Thing()"),
	"dataclass":               returns("import dataclasses\n@dataclasses.dataclass\nclass D:\n    x: int", "D(1)"),
	"enum":                    returns("import enum\nclass I(enum.IntEnum):\n    A = 7\nclass S(str, enum.Enum):\n    B = 'b'\nclass P(enum.Enum):\n    C = 1", "[I.A, S.B, {'k': I.A}]"),
	"plain enum":              returns("import enum\nclass P(enum.Enum):\n    C = 1", "P.C"),
	"dict subclass":           returns("import collections", "collections.OrderedDict(b=1, a=collections.Counter('xx'))"),
	"circular":                python("x = []", "x.append(x)", "return x"),
	"circular dict":           returns("from decimal import Decimal as D", `(lambda x: x.update(x=x, d=D(1)) or x)({})`),
	"generator":               python("return (i for i in range(3))"),
	"exception returned":      python("return ValueError('x')"),

	// Failures of the handler.
	"raise":              {files: map[string]string{"app.py": "def deep(x):\n    raise ValueError('no ' + x)\n\ndef h(event, context):\n    deep('luck')\n"}, handler: "app.h", events: append(one, one...)},
	"raise own class":    {files: map[string]string{"app.py": "class TeapotError(Exception):\n    pass\n\ndef h(event, context):\n    raise TeapotError({'code': 418})\n"}, handler: "app.h", events: one},
	"raise without text": python("raise KeyError"),
	"raise in lines":     python(`raise RuntimeError("first\n  second\n")`),
	"raise from":         python("try:", "    1 / 0", "except ZeroDivisionError as e:", "    raise RuntimeError('outer') from e"),
	"raise beyond ASCII": python(`raise ValueError("é 日本")`),
	"raise in library":   python("import json", "json.loads('{')"),
	"raise in lambda":    {files: map[string]string{"app.py": "h = lambda event, context: [][1]\n"}, handler: "app.h", events: one},
	"wrong arity":        {files: map[string]string{"app.py": "def h(event):\n    pass\n"}, handler: "app.h", events: one},
	"recursion":          {files: map[string]string{"app.py": "import sys\nsys.setrecursionlimit(60)\ndef f():\n    return f()\ndef h(event, context):\n    try:\n        f()\n    except RecursionError as e:\n        return str(e)\n"}, handler: "app.h", events: one},
	"sys.exit":           python("import sys", "print('bye')", "sys.exit(3)"),
	"sys.exit with text": python("import sys", "sys.exit('bye')"),
	"exit":               python("exit()"),
	"os._exit":           python("import os", "print('bye')", "os._exit(4)"),
	"interrupt":          python("raise KeyboardInterrupt('x')"),
	"killed":             python("import os, signal", "os.kill(os.getpid(), signal.SIGTERM)"),
	"no descriptor left": python("import os, resource", "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))", "while True:", "    os.dup(0)").sent(one[0], one[0]),
	"atexit":             python("import atexit, sys", "atexit.register(print, 'at exit')", "sys.exit(0)"),

	// Failures of loading.
	"no module":           {files: app("pass"), handler: "nope.h"},
	"no function":         {files: app("pass"), handler: "app.nope"},
	"no dot":              {files: app("pass"), handler: "app"},
	"empty handler":       {files: app("pass"), handler: ""},
	"built-in module":     {files: app("pass"), handler: "time.sleep"},
	"import of nothing":   {files: map[string]string{"app.py": "import numpie.linalg\n"}, handler: "app.h"},
	"import of no name":   {files: map[string]string{"app.py": "from json import nothing\n"}, handler: "app.h"},
	"syntax error":        {files: map[string]string{"app.py": "def h(event, context)\n    pass\n"}, handler: "app.h"},
	"indentation error":   {files: map[string]string{"app.py": "def h(event, context):\npass\n"}, handler: "app.h"},
	"syntax error inside": {files: map[string]string{"app.py": "import other\n", "other.py": "x = = 1\n"}, handler: "app.h"},
	"raise at load":       {files: map[string]string{"app.py": "print('loading')\n1 / 0\n"}, handler: "app.h"},
	"key error at load":   {files: map[string]string{"app.py": "import os\nos.environ['TABLE']\n"}, handler: "app.h"},
	"exit at load":        {files: map[string]string{"app.py": "import sys\nsys.exit(5)\n"}, handler: "app.h"},
	"not callable":        {files: map[string]string{"app.py": "h = 7\n"}, handler: "app.h"},

	// Where handlers are.
	"in a folder":          {files: map[string]string{"a/b/mod.py": "def h(event, context):\n    return __name__\n"}, handler: "a/b/mod.h", events: one},
	"in a package":         {files: map[string]string{"pkg/__init__.py": "", "pkg/mod.py": "from . import x\ndef h(event, context):\n    return [__name__, x.y]\n", "pkg/x.py": "y = 1\n"}, handler: "pkg.mod.h", events: one},
	"a package":            {files: map[string]string{"pkg/__init__.py": "def h(event, context):\n    return 1\n"}, handler: "pkg.h", events: one},
	"in a package, slash":  {files: map[string]string{"pkg/__init__.py": "", "pkg/mod.py": "def h(event, context):\n    return __name__\n"}, handler: "pkg/mod.h", events: one},
	"a class":              {files: map[string]string{"app.py": "class h(dict):\n    def __init__(self, event, context):\n        super().__init__(event)\n"}, handler: "app.h", events: one},
	"vendored":             {files: map[string]string{"app.py": "import lib\ndef h(event, context):\n    return lib.x\n", "lib/__init__.py": "x = 'vendored'\n"}, handler: "app.h", events: one},
	"nested name":          {files: map[string]string{"app.py": "class C:\n    def h(event, context):\n        return 1\n"}, handler: "app.C.h"},
	"named like the agent": {files: map[string]string{"agent.py": "def h(event, context):\n    return 1\n", "warm.py": "x = 2\n"}, handler: "agent.h", events: one},
	"reads its files":      {files: map[string]string{"app.py": "import os\ndef h(event, context):\n    return [open('data.txt').read(), os.path.basename(os.getcwd()), os.path.dirname(__file__) == os.getcwd()]\n", "data.txt": "é"}, handler: "app.h", events: one},

	// The context.
	"context": python("r = context.get_remaining_time_in_millis()",
		"names = [n for n in dir(context) if not n.startswith('_')]",
		"return [names, repr(context), type(r).__name__, 4 * 3600e3 < r <= 5 * 3600e3, context.memory_limit_in_mb, type(context).__name__]"),
	"client context": python("c = context.client_context", "context.identity.cognito_identity_id",
		"return [repr(context), c.custom, c.env, c.client.app_title, c.client.installation_id, context.identity.cognito_identity_id, context.w3c()]").sent(
		event{body: "{}", header: map[string]string{
			"Lambda-Runtime-Client-Context":   `{"custom": {"a": 1}, "env": {"locale": "de"}, "client": {"app_title": "T"}, "w3c": {"traceparent": "00-x", "other": "y", "baggage": 3}}`,
			"Lambda-Runtime-Cognito-Identity": `{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}`,
			"Lambda-Runtime-Aws-Tenant-Id":    "blue",
		}}),
	"client context, other": python("return [repr(context.client_context), context.client_context.custom]").sent(
		event{body: "{}", header: map[string]string{"Lambda-Runtime-Client-Context": `{"own": 1}`}}),
	"client context, broken": python("return 1").sent(event{body: "{}", header: map[string]string{"Lambda-Runtime-Client-Context": `{`}}, one[0]),
	"deadline passed":        python("return context.get_remaining_time_in_millis()").sent(event{body: "{}", header: map[string]string{"Lambda-Runtime-Deadline-Ms": "1000"}}),
	"context.log":            python("context.log('raw')", "context.log({'a': 1})", "print()"),

	// The environment.
	"trace": python("import os", "return os.environ.get('_X_AMZN_TRACE_ID')").sent(
		event{body: "{}", header: map[string]string{"Lambda-Runtime-Trace-Id": "Root=1-a"}}, one[0]),
	"environment": python("import os, subprocess, time",
		"keep = lambda names: sorted(n for n in names if n not in ('PYTHONPATH', 'AWS_LAMBDA_RUNTIME_API', '_', 'PWD', 'SHLVL', 'OLDPWD'))",
		"child = subprocess.run(['/usr/bin/env', '-0'], stdout=subprocess.PIPE).stdout.decode().split('\\0')",
		"return [keep(os.environ), os.environ['FOO'], keep(c.split('=', 1)[0] for c in child if c), time.tzname[0]]").with("FOO", "bär", "TZ", ":UTC"),
	"time zone": python("import time", "return time.strftime('%H:%M', time.localtime(0))").with("TZ", "XYZ-05:30"),

	// Logs.
	"print": python("import sys", "print('a', 'b', 3)", "print('é 日本')", "print('to stderr', file=sys.stderr)", "sys.stdout.write('no line end')"),
	"logging": {files: map[string]string{"app.py": "import logging\nlog = logging.getLogger()\nlog.setLevel('INFO')\nlogging.warning('at load')\n\ndef h(event, context):\n    log.debug('d')\n    log.info('i %s', 1)\n" +
		"    logging.getLogger('my').error('e')\n    try:\n        1 / 0\n    except Exception:\n        log.exception('x')\n    return [len(log.handlers), log.level]\n"}, handler: "app.h", events: one},
	"logging, default level":   python("import logging", "logging.info('i')", "logging.warning('w')", "return logging.getLogger().level"),
	"logging, basicConfig":     python("import logging", "logging.basicConfig(level=logging.INFO)", "logging.info('i')"),
	"logging, level":           python("import logging", "logging.debug('d')", "logging.info('i')", "return logging.getLogger().level").with("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
	"logging, no such level":   python("import logging", "logging.warning('w')", "return logging.getLogger().level").with("AWS_LAMBDA_LOG_LEVEL", "loud"),
	"logging, wrong arguments": python("import logging", "logging.raiseExceptions = False", "logging.warning('%d', 'x')"),
	"logging as JSON": python("import logging", "l = logging.getLogger('my')", "l.setLevel('INFO')", "l.info('i %s', 1)", "l.info({'a': 1})", "l.warning('w', extra={'order': 7, 'o': object})",
		"try:", "    1 / 0", "except ZeroDivisionError:", "    l.exception('x')", "raise ValueError('é')").with("AWS_LAMBDA_LOG_FORMAT", "json", "AWS_LAMBDA_LOG_LEVEL", "INFO"),
	"logging as JSON with tenant": python("import logging", "logging.warning('w')").with("AWS_LAMBDA_LOG_FORMAT", "JSON").sent(event{body: "1", header: map[string]string{"Lambda-Runtime-Aws-Tenant-Id": "blue"}}),

	// Layers.
	"layer": {files: map[string]string{"app.py": "import lib, site_lib\ndef h(event, context):\n    return [lib.x, site_lib.x]\n", "lib.py": "x = 'task'\n", "opt/python/lib.py": "x = 'layer'\n",
		"opt/python/lib/python3.11/site-packages/site_lib.py": "x = 'site'\n"}, handler: "app.h", events: one},
	"python path": {files: map[string]string{"app.py": "import lib\ndef h(event, context):\n    return lib.x\n", "opt/more/lib.py": "x = 'more'\n"}, handler: "app.h", events: one, env: map[string]string{"PYTHONPATH": "OPT/more"}},

	// State, children.
	"state":    {files: map[string]string{"app.py": "n = 0\ndef h(event, context):\n    global n\n    n += 1\n    return n\n"}, handler: "app.h", events: append(one, one...)},
	"asyncio":  returns("import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x", "asyncio.run(f(event))"),
	"async":    {files: map[string]string{"app.py": "async def h(event, context):\n    return 1\n"}, handler: "app.h", events: one},
	"threads":  returns("from concurrent.futures import ThreadPoolExecutor as P", "list(P(2).map(str, range(4)))"),
	"children": returns("import multiprocessing as m\ndef f(c):\n    c.send('child'); c.close()\ndef g():\n    a, b = m.Pipe()\n    p = m.get_context('fork').Process(target=f, args=(b,)); p.start(); x = a.recv(); p.join(); return x", "g()"),
}

// goldenPython is the version that AWS's client is compared on.
const goldenPython = "python3.11"

func pythonOf(t *testing.T, name string) lambent.Runtime {
	t.Helper()
	for _, rt := range family(t, "python3") {
		if rt.Name == name {
			return rt
		}
	}
	lacking(t, "%s is not on this machine", name)
	panic("unreachable")
}

func TestPython(t *testing.T) {
	rt := pythonOf(t, goldenPython)
	golden := readGolden(t, "python")
	got := map[string]transcript{}
	for _, name := range caseNames(pythonCases) {
		t.Run(name, func(t *testing.T) {
			got[name] = rehearsed(t, rt, pythonCases[name])
			if !*update {
				check(t, golden, name, got[name])
				check(t, golden, name, run(t, rt, pythonCases[name]))
			}
		})
	}
	if *update {
		writeGolden(t, "python", got)
	}
}

// TestPythonIsAWS runs the same cases through AWS's own client and expects the
// same transcripts.
func TestPythonIsAWS(t *testing.T) {
	rt := pythonOf(t, goldenPython)
	library := awsPython(t)
	transported := map[string]transcript{}
	for name, s := range readGolden(t, "python") {
		transported[name] = s.transportOnly()
	}
	differs := map[string]string{
		"no descriptor left": "AWS's cannot read the line of the source: ours has kept a descriptor",
		"not callable":       "AWS's fails each invocation: ours fails the load, as Node.js's does, so that such a deploy is refused",
	}
	for _, name := range caseNames(pythonCases) {
		t.Run(name, func(t *testing.T) {
			if why := differs[name]; why != "" {
				t.Log(why)
				return
			}
			check(t, transported, name, runAWSPython(t, rt.Boot[0], library, pythonCases[name]).transportOnly())
		})
	}
}

// awsPython installs AWS's client beside the module, once, and returns its directory.
func awsPython(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../.venv/awslambdaric-4.2.2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	out, err := exec.Command("python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:",
		"--python-version=3.11", "--implementation=cp", "--target="+dir+".part", "awslambdaric==4.2.2").CombinedOutput()
	if err != nil {
		os.RemoveAll(dir + ".part")
		lacking(t, "awslambdaric 4.2.2 cannot be installed: %v\n%s", err, out)
	}
	if err := os.Rename(dir+".part", dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func runAWSPython(t *testing.T, python, library string, c call) transcript {
	t.Helper()
	task, opt := layOut(t, c)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(c.events)
	a.listen(listener)
	t.Cleanup(func() { listener.Close() })
	env := functionEnv(c, task, opt)
	env["AWS_LAMBDA_RUNTIME_API"] = listener.Addr().String()
	env["PYTHONPATH"] = strings.Join(append(filepath.SplitList(env["PYTHONPATH"]), library,
		opt+"/python/lib/"+goldenPython+"/site-packages", opt+"/python"), ":")
	p := start(t, []string{python, "-s", "-B", "-m", "awslambdaric", c.handler}, env, task)
	waited := a.wait(t, p)
	p.Process.Kill()
	<-p.exited
	return a.transcript(p, waited, task, opt)
}
