package runtimes_test

import (
	"testing"

	"lambent"
)

// TestRehearsal: what the agent did once before it was parked is no part of the
// world that the function finds, while it is loaded and later.
func TestRehearsal(t *testing.T) {
	traces := map[string]string{ // the traces that an agent finds in itself, by language
		"app.py": `import sys, os, gc, logging

def traces():
    here = os.path.dirname(os.path.abspath(sys.modules["__main__"].__file__))
    found = [m for m in ("warm", "random", "tempfile", "threading") if m in sys.modules and m not in before]
    found += [p for p in list(sys.path) + list(sys.path_importer_cache) if p == here]
    found += [v for v in os.environ.values() if here in v]
    found += ["trace"] * (not now and "_X_AMZN_TRACE_ID" in os.environ)
    found += ["handlers: %r" % logging.root.handlers] * (len(logging.root.handlers) != 1)
    found += ["all handlers: %r" % logging._handlerList] * (len([h for h in logging._handlerList if h() is not logging.lastResort]) != 1)
    found += [os.getcwd()] * (os.getcwd() != os.environ["LAMBDA_TASK_ROOT"])
    found += ["request %s" % sys.modules["__main__"].under_way.request_id] * (not now and sys.modules["__main__"].under_way.request_id != "")
    found += ["collector off"] * (not gc.isenabled())
    found += [repr(o) for o in gc.get_objects() if type(o).__name__ in ("Rehearsal", "Rehearsed")]
    return found

before, now = {"threading"}, []
loading = traces()

def h(event, context):
    now.append(event)
    return loading + traces()
`,
		"app.js": `const path = require('path');
const here = path.dirname(process.argv[1]);
function traces(known) {
  const found = Object.keys(require.cache).filter((f) => /warm/.test(f));
  found.push(...module.paths.concat(require('module').globalPaths).filter((p) => p.startsWith(here)));
  found.push(...Object.values(process.env).filter((v) => v.includes(here)));
  if (process.cwd() !== process.env.LAMBDA_TASK_ROOT) found.push(process.cwd());
  for (const name of ['requestId', 'tenantId']) {
    const value = globalThis[Symbol.for('aws.lambda.runtime.' + name)];
    if (!known && value !== undefined && value !== '-') found.push(name + value);
  }
  if (!known && '_X_AMZN_TRACE_ID' in process.env) found.push('trace');
  for (const name of ['exit', 'beforeExit']) if (process.listenerCount(name) > 1) found.push(name);
  return found;
}
const loading = traces(false);
exports.h = async () => loading.concat(traces(true));
`,
	}
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		c.files, c.events = traces, one
		if got := rehearsed(t, rt, c); len(got.Answers) != 1 || got.Answers[0].Body != "[]" || got.Output != "" {
			t.Errorf("found %+v", got)
		}
	})
}

// TestImported: an ES module finds fs.promises as Node.js has it, while it is loaded and
// later, and so do the modules that it imports.
func TestImported(t *testing.T) {
	for _, rt := range family(t, "nodejs") {
		t.Run(rt.Name, func(t *testing.T) {
			c := nodeFunctions["echo"]
			c.events, c.files = one, map[string]string{
				"other.mjs": "import fs from 'node:fs';\nexport const name = fs.promises.readFile.name;\n",
				"app.mjs": `import fs from 'node:fs';
import { readFile } from 'node:fs/promises';
import { name } from './other.mjs';
const loading = fs.promises.readFile;
export const h = async () => {
  const found = [name, readFile.name, loading.name, fs.promises.readFile.name].filter((n) => n !== 'readFile');
  if (loading !== readFile) found.push('another');
  await import('./other.mjs?again');
  return found.concat(fs.promises.readFile === loading ? [] : ['changed']);
};
`,
			}
			if got := rehearsed(t, rt, c); len(got.Answers) != 1 || got.Answers[0].Body != "[]" || got.Output != "" {
				t.Errorf("found %+v", got)
			}
		})
	}
}
