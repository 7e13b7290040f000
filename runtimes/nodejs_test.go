package runtimes_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lambent"
)

// node returns a call of a CommonJS module of the given lines.
func node(lines ...string) call {
	return call{files: map[string]string{"app.js": strings.Join(lines, "\n") + "\n"}, handler: "app.h", events: one}
}

// async is an async handler of the given body, called twice.
func async(lines ...string) call {
	return node("exports.h = async (event, context) => {", strings.Join(lines, "\n"), "}").sent(one[0], one[0])
}

// streaming is a handler that writes its response, called twice.
func streaming(lines ...string) call {
	return node("exports.h = awslambda.streamifyResponse(async (event, stream, context) => {", strings.Join(lines, "\n"), "})").sent(one[0], one[0])
}

var nodeCases = map[string]call{
	// Answers by promise.
	"echo":                  async("return event").sent(event{body: `{"a": [1, 2.5, null, true, "é 日本"]}`}, event{body: `"text"`}, event{body: `null`}),
	"undefined":             async(""),
	"thenable":              node("exports.h = () => ({then: (yes) => { yes('then') }})"),
	"later":                 async("await new Promise((yes) => setTimeout(yes, 5)); return 'later'"),
	"values":                async("return {d: new Date(0), u: undefined, n: NaN, m: new Map([[1, 2]]), f() {}, b: Buffer.from('x'), t: {toJSON: () => 't'}}"),
	"lone surrogate":        async(`return '\ud800'`),
	"line separators":       async(`return '\u2028\x00\x7f'`),
	"function":              async("return () => 1"),
	"circular":              async("const x = {}; x.x = x; return x"),
	"big integer":           async("return 1n"),
	"event is not JSON":     async("return event").sent(event{body: `{"a": `}, one[0]),
	"empty event":           async("return event").sent(event{}, one[0]),
	"never settles":         node("exports.h = () => new Promise(() => {})").sent(one[0], one[0]),
	"work after the answer": async("setTimeout(() => console.log('never reached'), 10000); setImmediate(() => console.log('immediate')); return 1"),
	"state":                 node("let n = 0; exports.h = async () => ++n").sent(one[0], one[0]),

	// Answers by callback and by context.
	"sync return":                   node("exports.h = () => 'ignored'"),
	"callback":                      node("exports.h = (event, context, callback) => { callback(null, event) }").sent(one[0], one[0]),
	"callback, later":               node("exports.h = (event, context, callback) => { setTimeout(() => callback(null, 'later'), 5) }"),
	"callback, waits":               node("exports.h = (event, context, callback) => { setTimeout(() => console.log('waited'), 20); callback(null, 1) }").sent(one[0], one[0]),
	"callback, does not wait":       node("exports.h = (event, context, callback) => { context.callbackWaitsForEmptyEventLoop = false; setTimeout(() => console.log('not reached'), 500); callback(null, 1) }").sent(one[0], one[0]),
	"callback, error":               node("exports.h = (event, context, callback) => { callback(new TypeError('bad')) }").sent(one[0], one[0]),
	"callback, text as error":       node("exports.h = (event, context, callback) => { callback('bad') }"),
	"callback, object as error":     node("exports.h = (event, context, callback) => { callback({code: 1}) }"),
	"callback, bare error":          node("exports.h = (event, context, callback) => { callback(Object.create(null)) }"),
	"callback, twice":               node("exports.h = (event, context, callback) => { callback(null, 1); callback(null, 2); context.done(null, 3) }"),
	"callback, nothing":             node("exports.h = (event, context, callback) => { callback() }"),
	"callback and exit":             node("exports.h = (event, context, callback) => { context.callbackWaitsForEmptyEventLoop = false; callback(null, 1); process.exit(0) }"),
	"callback, circular":            node("exports.h = (event, context, callback) => { const x = {}; x.x = x; context.callbackWaitsForEmptyEventLoop = false; callback(null, x) }"),
	"callback never called":         node("exports.h = (event, context, callback) => { setTimeout(() => console.log('idle'), 5) }").sent(one[0], one[0]),
	"promise and callback":          node("exports.h = async (event, context, callback) => { callback(null, 'callback'); return 'promise' }").sent(one[0], one[0]),
	"promise after waiting":         node("exports.h = async (event, context, callback) => { context.callbackWaitsForEmptyEventLoop = false; callback(null, 'callback'); return 'promise' }").sent(one[0], one[0]),
	"succeed":                       node("exports.h = (event, context) => { context.succeed({a: 1}) }").sent(one[0], one[0]),
	"done":                          node("exports.h = (event, context) => { setTimeout(() => {}, 50); context.done(null, 'd') }"),
	"done with error":               node("exports.h = (event, context) => { context.done(new Error('d')) }"),
	"fail":                          node("exports.h = (event, context) => { context.fail(new Error('f')) }").sent(one[0], one[0]),
	"fail with nothing":             node("exports.h = (event, context) => { context.fail() }"),
	"succeed after callback failed": node("exports.h = (event, context, callback) => { try { context.succeed(1n) } catch (e) { callback(e) } }"),

	// Failures of the handler.
	"throw":                 node("function deep() { throw new RangeError('no luck') }", "exports.h = async () => { deep() }").sent(one[0], one[0]),
	"throw, sync":           node("exports.h = () => { throw new Error('sync') }"),
	"throw own class":       node("class TeapotError extends Error { constructor(m) { super(m); this.name = 'TeapotError'; this.code = 418; this.more = {a: 1} } }", "exports.h = async () => { throw new TeapotError('short\\nand stout') }"),
	"throw text":            async("throw 'text'"),
	"throw number":          async("throw 42"),
	"throw null":            async("throw null"),
	"throw object":          async("throw {message: 'm', name: 'N'}"),
	"throw error-like":      async("throw {message: 'm', name: 'N', stack: 'S\\n    at x'}"),
	"throw with cause":      async("throw new Error('outer', {cause: new Error('inner')})"),
	"throw with DEL":        async("throw new Error('a\\x7fb')"),
	"throw without stack":   async("const e = new Error('x'); e.stack = undefined; throw e"),
	"aggregate error":       async("throw new AggregateError([new Error('a')], 'all')"),
	"uncaught":              node("exports.h = (event, context, callback) => { setTimeout(() => { throw new Error('later') }, 1) }").sent(one[0], one[0]),
	"unhandled":             node("exports.h = (event, context, callback) => { Promise.reject(new Error('nobody')); setTimeout(() => {}, 100) }").sent(one[0], one[0]),
	"unhandled text":        node("exports.h = (event, context, callback) => { Promise.reject('nobody'); setTimeout(() => {}, 100) }"),
	"uncaught, after":       node("exports.h = async () => { setImmediate(() => { throw new Error('after') }); return 1 }").sent(one[0], one[0]),
	"process.exit":          async("console.log('bye'); process.exit(3)"),
	"process.exit in sync":  node("exports.h = () => { process.exit(0) }"),
	"killed":                async("process.kill(process.pid, 'SIGKILL'); await new Promise(() => setTimeout(() => {}, 1000))"),
	"exit code":             async("process.exitCode = 5; return 1"),
	"abort":                 node("exports.h = async () => { process.on('exit', (code) => console.log('exit', code)); process.exit(2) }"),
	"handler on uncaught":   node("process.on('uncaughtException', () => console.log('mine too'))", "exports.h = () => { setTimeout(() => { throw new Error('x') }, 100) }"), // later than the next question
	"rejected but handled":  node("exports.h = async () => { const p = Promise.reject(new Error('x')); p.catch(() => {}); return 'fine' }"),
	"error with json cycle": async("const e = new Error('c'); e.self = e; throw e"),

	// Failures of loading.
	"no module":              {files: map[string]string{"app.js": ""}, handler: "nope.h"},
	"no function":            node("exports.other = 1").sent(),
	"not a function":         node("exports.h = 7").sent(),
	"no dot":                 {files: map[string]string{"app.js": ""}, handler: "app"},
	"empty handler":          {files: map[string]string{"app.js": ""}, handler: ""},
	"dots":                   {files: map[string]string{"app.js": ""}, handler: "../app.h"},
	"require of nothing":     node("require('numpie')").sent(),
	"import of nothing":      {files: map[string]string{"app.mjs": "import 'numpie'\nexport const h = 1\n"}, handler: "app.h"},
	"syntax error":           node("exports.h = async ( => 1").sent(),
	"syntax error in module": {files: map[string]string{"app.mjs": "export const h = async ( => 1\n"}, handler: "app.h"},
	"ES module unmarked":     node("export const h = async () => 1").sent(),
	"throw at load":          node("console.log('loading')", "null.x").sent(),
	"throw text at load":     node("throw 'text'").sent(),
	"throw at module load":   {files: map[string]string{"app.mjs": "throw new Error('module')\n"}, handler: "app.h"},
	"reject at load":         node("Promise.reject(new Error('r'))", "exports.h = async () => 1"),
	"exit at load":           node("process.exit(6)").sent(),
	"stream of a kind":       node("exports.h = async () => {}", "exports.h[Symbol.for('aws.lambda.runtime.handler.streaming')] = 'request'").sent(),

	// Where handlers are.
	"in a folder":         {files: map[string]string{"a/b/mod.js": "exports.h = async () => require('path').basename(__filename)"}, handler: "a/b/mod.h", events: one},
	"nested export":       {files: map[string]string{"app.js": "exports.a = {b: async () => 'nested'}"}, handler: "app.a.b", events: one},
	"method":              {files: map[string]string{"app.js": "exports.a = {x: 1, async b() { return String(this && this.x) }}"}, handler: "app.a.b", events: one},
	"module":              {files: map[string]string{"app.mjs": "import fs from 'fs'\nexport const h = async (e) => [import.meta.url.split('/').pop(), fs.existsSync('app.mjs')]"}, handler: "app.h", events: one},
	"module, top await":   {files: map[string]string{"app.mjs": "const x = await Promise.resolve('awaited')\nexport const h = async () => x"}, handler: "app.h", events: one},
	"module by type":      {files: map[string]string{"package.json": `{"type": "module"}`, "app.js": "export const h = async () => 'esm'"}, handler: "app.h", events: one},
	"module by type, far": {files: map[string]string{"package.json": `{"type": "module"}`, "src/app.js": "export const h = async () => 'esm'"}, handler: "src/app.h", events: one},
	"module, default":     {files: map[string]string{"app.mjs": "export default {h: async () => 'default'}"}, handler: "app.default.h", events: one},
	"cjs":                 {files: map[string]string{"package.json": `{"type": "module"}`, "app.cjs": "exports.h = async () => 'cjs'"}, handler: "app.h", events: one},
	"a package":           {files: map[string]string{"node_modules/pkg/index.js": "exports.h = async () => 'pkg'"}, handler: "pkg.h", events: one},
	"a directory":         {files: map[string]string{"app/index.js": "exports.h = async () => 'index'"}, handler: "app.h", events: one},
	"vendored":            {files: map[string]string{"app.js": "exports.h = async () => require('lib')", "node_modules/lib/index.js": "module.exports = 'vendored'"}, handler: "app.h", events: one},
	"layer": {files: map[string]string{"app.js": "exports.h = async () => require('lib') + require('lib20')", "opt/nodejs/node_modules/lib/index.js": "module.exports = 'layer'",
		"opt/nodejs/node20/node_modules/lib20/index.js": "module.exports = ' of 20'"}, handler: "app.h", events: one, env: map[string]string{"NODE_PATH": "OPT/nodejs/node20/node_modules:OPT/nodejs/node_modules"}},
	"broken package.json": {files: map[string]string{"package.json": `{`, "app.js": "exports.h = async () => 1"}, handler: "app.h", events: one},

	// The context.
	"context": async("const r = context.getRemainingTimeInMillis(); return [Object.entries({...context, xRayTraceId: null}).sort(), typeof r, r > 4 * 3600e3 && r <= 5 * 3600e3]").sent(one[0]),
	"client context": async("return [context.clientContext, context.identity, context.tenantId]").sent(event{body: "{}", header: map[string]string{
		"Lambda-Runtime-Client-Context": `{"custom": {"a": 1}}`, "Lambda-Runtime-Cognito-Identity": `{"cognitoIdentityId": "i"}`, "Lambda-Runtime-Aws-Tenant-Id": "blue",
	}}, one[0]),
	"client context, broken": async("return 1").sent(event{body: "{}", header: map[string]string{"Lambda-Runtime-Client-Context": `{`}}, one[0]),
	"deadline passed":        async("return context.getRemainingTimeInMillis() < 0").sent(event{body: "{}", header: map[string]string{"Lambda-Runtime-Deadline-Ms": "1000"}}),
	"globals":                async("return [Object.keys(awslambda), typeof awslambda.streamifyResponse, awslambda.HttpResponseStream.name]").sent(one[0]),
	"no globals":             async("return typeof awslambda").with("AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA", "true"),

	// The environment.
	"trace": async("return process.env._X_AMZN_TRACE_ID ?? null").sent(event{body: "{}", header: map[string]string{"Lambda-Runtime-Trace-Id": "Root=1-a"}}, one[0]),
	"environment": async("const keep = (names) => names.filter((n) => !['NODE_PATH', 'AWS_LAMBDA_RUNTIME_API', '_', 'PWD', 'SHLVL', 'OLDPWD'].includes(n)).sort()",
		"const child = require('child_process').execFileSync('/usr/bin/env', ['-0']).toString().split('\\0').filter(Boolean)",
		"return [keep(Object.keys(process.env)), process.env.FOO, keep(child.map((c) => c.split('=')[0])), new Date(0).getHours(), require('path').basename(process.cwd())]").with("FOO", "bär", "TZ", ":UTC"),
	"time zone": async("return new Date(0).getHours()").with("TZ", "Asia/Tokyo").sent(one[0]),

	// Logs.
	"console": async("console.log('a', 1, {b: [2]}); console.info('i %s %d', 'x', 3); console.warn('w'); console.error('two\\nlines'); console.debug('d'); console.trace('t'); console.fatal?.('f')",
		"console.log(); console.log(new Map([[1, 2]])); console.log(undefined, null); console.log('é 日本')"),
	"console at load":  node("console.log('loading')", "exports.h = async () => 1"),
	"console, error":   async("console.error(new Error('logged').message); console.log(Object.assign(new Error('x'), {stack: 'Error: x'}))"),
	"console, level":   async("console.debug('d'); console.log('l'); console.warn('w'); console.error('e'); console.fatal('f')").with("AWS_LAMBDA_LOG_LEVEL", "error"),
	"console as JSON":  async("console.log('a'); console.log({a: 1}); console.log('a %d', 1, {b: 2}); console.log(1n); const x = {}; x.x = x; console.log(x); console.warn(undefined)", "console.error(Object.assign(new TypeError('e'), {stack: 'TypeError: e', code: 7})); console.error('with', Object.assign(new Error('f'), {stack: 'Error: f'})); console.log()").with("AWS_LAMBDA_LOG_FORMAT", "json"),
	"failure as JSON":  async("const e = new TypeError('e'); e.stack = 'TypeError: e'; throw e").with("AWS_LAMBDA_LOG_FORMAT", "JSON"),
	"tenant as JSON":   async("console.log('a')").with("AWS_LAMBDA_LOG_FORMAT", "JSON").sent(event{body: "1", header: map[string]string{"Lambda-Runtime-Aws-Tenant-Id": "blue"}}),
	"stdout":           async("process.stdout.write('no line end'); process.stderr.write('err\\n'); console.log('x'); process.stdout.write('end\\n')"),
	"a lot of stdout":  async("process.stdout.write('x'.repeat(300000) + '\\n'); console.log('y'.repeat(100000))"),
	"stdout and exit":  async("process.stdout.write('x'.repeat(300000) + '\\n'); process.exit(0)"),
	"console.table":    async("console.table([[1]]); console.dir({a: 1}); console.group('g'); console.log('in'); console.groupEnd(); console.assert(false, 'no')"),
	"two console args": async("console.log('%s', 'a', 'b'); console.log('%j', {a: 1}); console.log('100%')"),

	// Streams.
	"stream":                streaming("stream.write('a'); stream.write(Buffer.from('b')); stream.write(new Uint8Array([99])); stream.write({d: 1}); stream.end('e')"),
	"stream, only end":      streaming("stream.end('all')"),
	"stream, no end":        streaming("stream.write('part')"),
	"stream, never settles": streaming("stream.write('a'); stream.end(); await new Promise(() => {})"),
	"stream, empty":         streaming("stream.end()"),
	"stream, type":          streaming("stream.setContentType('text/plain'); stream.write('a'); stream.end()"),
	"stream, type too late": streaming("stream.write('a'); try { stream.setContentType('text/plain') } catch (e) { stream.write(`${e.name}: ${e.message}`) } stream.end()"),
	"stream, HTTP":          streaming("stream = awslambda.HttpResponseStream.from(stream, {statusCode: 201, headers: {'x-a': 'é'}, cookies: ['c=1']}); stream.write('body'); stream.end()"),
	"stream, HTTP, end":     streaming("stream = awslambda.HttpResponseStream.from(stream, {statusCode: 201}); stream.end('body')"),
	"stream, pipeline":      streaming("await require('stream/promises').pipeline(require('stream').Readable.from(['a', 'b', Buffer.alloc(70000, 'c')]), stream)"),
	"stream, pipe":          streaming("require('stream').Readable.from(['a', 'b']).pipe(stream)"),
	"stream, later":         streaming("stream.write('a'); await new Promise((yes) => setTimeout(yes, 5)); stream.write('b'); stream.end()"),
	"stream, end later":     streaming("stream.write('a'); setTimeout(() => stream.end('late'), 5)"),
	"stream, returns":       streaming("stream.end('a'); return 'ignored'"),
	"stream, throws":        streaming("throw new Error('before')"),
	"stream, throws midway": streaming("stream.write('part'); throw new RangeError('midway é')"),
	"stream, throws after":  streaming("stream.end('all'); await new Promise((yes) => setTimeout(yes, 20)); throw new RangeError('after')"),
	"stream, throws text":   streaming("stream.write('part'); throw 'text'"),
	"stream, sync":          node("exports.h = awslambda.streamifyResponse((event, stream) => { stream.end('x') })"),
	"stream, sync throws":   node("exports.h = awslambda.streamifyResponse((event, stream) => { throw new Error('x') })"),
	"stream, context":       streaming("stream.end(JSON.stringify([Object.keys(context).sort(), context.awsRequestId]))").sent(one[0]),
	"stream, waits":         streaming("setTimeout(() => console.log('waited'), 500); stream.end('a')"),
	"stream, does not wait": streaming("context.callbackWaitsForEmptyEventLoop = false; setTimeout(() => console.log('not reached'), 500); stream.end('a')"),
	"stream, bad event":     streaming("stream.end('a')").sent(event{body: `{`}, one[0]),
	"stream, callback":      streaming("stream.write('a', () => console.log('written')); stream.end(() => console.log('ended')); stream.on('finish', () => console.log('finish'))"),
	"stream, encoding":      streaming("stream.write('YWI=', 'base64'); stream.end()"),
	"stream, uncaught":      streaming("stream.write('a'); setTimeout(() => { throw new Error('u') }, 1); await new Promise((yes) => setTimeout(yes, 100))"),
	"stream, high water":    node("exports.h = awslambda.streamifyResponse(async (event, stream) => { stream.end(String(stream.writableHighWaterMark)) }, {highWaterMark: 100})"),
	"stream of module":      {files: map[string]string{"app.mjs": "export const h = awslambda.streamifyResponse(async (e, s) => { s.write('m'); s.end() })"}, handler: "app.h", events: one},
}

// A nodeClient is one of the two clients that AWS has for Node.js.
type nodeClient struct {
	runtime string // that our agent is compared on
	version string // of the package aws-lambda-ric
	main    string
	golden  string
	differs map[string]string // where AWS's client does otherwise, and ours is not to follow
}

var nodeClients = []nodeClient{{
	runtime: "nodejs20.x", version: "3.3.0", main: "package/dist/index.mjs", golden: "nodejs",
	differs: map[string]string{
		"a lot of stdout":  "the stand-in blocks where AWS's native part does not, and loses what is queued",
		"stdout and exit":  "AWS's client loses what a full pipe did not take",
		"reject at load":   "AWS's client exits only once its report is answered, and may serve an invocation before",
		"stream of a kind": "AWS's client 3 has a slip there: MalformedStreamingHandler is not defined",
		"stream, no end":   "AWS's client waits until the function's timeout",
		"stream, uncaught": "AWS's client reports on a second connection; ours ends the response with the error",
	},
}, {
	runtime: "nodejs24.x", version: "4.0.2", main: "package/index.mjs", golden: "nodejs24",
	differs: map[string]string{
		"a lot of stdout":        "the stand-in blocks where AWS's native part does not, and loses what is queued",
		"a directory":            "AWS's client 4 imports what it finds, and a directory cannot be",
		"client context, broken": "AWS's client 4 dies of it; no server sends it",
		"empty event":            "AWS's client 4 dies of it; no server sends it",
		"event is not JSON":      "AWS's client 4 dies of it; no server sends it",
		"stream, bad event":      "AWS's client 4 dies of it; no server sends it",
		"empty handler":          "AWS's client 4 wants it from the environment, and dies without a report",
		"globals":                "InvokeStore is not offered: packages that look for it bring their own",
		"require of nothing":     "the client's own entry in the require stack",
		"stdout and exit":        "AWS's client loses what a full pipe did not take",
		"stream, never settles":  "AWS's client 4 ends with its event loop; ours asks for the next",
		"stream, no end":         "AWS's client waits until the function's timeout",
		"tenant as JSON":         "AWS's client 4 hands its store no tenant: a slip",
	},
}}

// nodeOf returns the runtime of that name, or skips the test.
func nodeOf(t *testing.T, name string) lambent.Runtime {
	t.Helper()
	for _, rt := range family(t, "nodejs") {
		if rt.Name == name {
			return rt
		}
	}
	lacking(t, "%s is not on this machine", name)
	panic("unreachable")
}

func TestNode(t *testing.T) {
	for _, client := range nodeClients {
		t.Run(client.runtime, func(t *testing.T) {
			rt := nodeOf(t, client.runtime)
			golden := readGolden(t, client.golden)
			got := map[string]transcript{}
			for _, name := range caseNames(nodeCases) {
				t.Run(name, func(t *testing.T) {
					got[name] = rehearsed(t, rt, nodeCases[name])
					if !*update {
						check(t, golden, name, got[name])
						check(t, golden, name, run(t, rt, nodeCases[name]))
					}
				})
			}
			if *update {
				writeGolden(t, client.golden, got)
			}
		})
	}
}

// TestNodeIsAWS runs the same cases through the JavaScript of AWS's own clients
// and expects the same transcripts.
func TestNodeIsAWS(t *testing.T) {
	for _, client := range nodeClients {
		t.Run(client.runtime, func(t *testing.T) {
			rt := nodeOf(t, client.runtime)
			main := awsNode(t, client)
			transported := map[string]transcript{}
			for name, s := range readGolden(t, client.golden) {
				transported[name] = s.transportOnly()
			}
			for _, name := range caseNames(nodeCases) {
				t.Run(name, func(t *testing.T) {
					if why, ok := client.differs[name]; ok {
						t.Skip(why)
					}
					got := runAWSNode(t, rt, main, nodeCases[name]).transportOnly()
					if want := transported[name]; got.Exit != "" && got.Exit == want.Exit && client.version[0] == '4' {
						got.Output = want.Output // client 4 dies by what Node.js prints, client and all
					}
					check(t, transported, name, got)
				})
			}
		})
	}
}

// awsNode fetches AWS's client beside the module, once, and returns its main
// file. It is unpacked, not installed: its native part takes minutes to build,
// and testdata/nodejs/aws-client.mjs stands in for it.
func awsNode(t *testing.T, client nodeClient) string {
	t.Helper()
	dir, err := filepath.Abs("../.venv/aws-lambda-ric/" + client.version)
	if err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(dir, client.main)
	if _, err := os.Stat(main); err == nil {
		return main
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"npm", "pack", "--silent", "--pack-destination", dir, "aws-lambda-ric@" + client.version},
		{"tar", "-xzf", filepath.Join(dir, "aws-lambda-ric-"+client.version+".tgz"), "-C", dir},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			lacking(t, "aws-lambda-ric %s cannot be fetched: %s: %v\n%s", client.version, argv[0], err, out)
		}
	}
	// For require to find; what it loads is the stand-in's.
	if err := os.WriteFile(filepath.Join(filepath.Dir(main), "rapid-client.node"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return main
}

func runAWSNode(t *testing.T, rt lambent.Runtime, main string, c call) transcript {
	t.Helper()
	task, opt := layOut(t, c)
	runner, err := filepath.Abs("testdata/nodejs/aws-client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	conn, theirs := socketpair(t)
	a := newAPI(c.events)
	a.listen(listener) // init errors and streams go there
	a.conns.Go(func() { a.serve(conn, false) })
	env := functionEnv(c, task, opt)
	env["AWS_LAMBDA_RUNTIME_API"] = listener.Addr().String()
	argv := append(slices.Clone(rt.Boot[:len(rt.Boot)-1]), runner, main, c.handler) // the same flags
	p := start(t, argv, env, task, theirs)
	theirs.Close()
	waited := a.wait(t, p)
	for end := time.Now().Add(10 * time.Second); waited && !a.answered() && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // it asks for more before the last stream is sent, which is another connection's
	}
	p.Process.Kill()
	<-p.exited
	conn.Close()
	a.conns.Wait()
	return a.transcript(p, waited, task, opt)
}

// socketpair returns our end and the one to hand to a process.
func socketpair(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	syscall.ForkLock.RLock() // so that no process started meanwhile inherits them; not every system has SOCK_CLOEXEC
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, theirs
}
