'use strict';
// Prints what ahead.cjs loads, as internal/preload reads it. It does the same, and
// watches. Its arguments are the
// program and the directory with it.

const fs = require('fs');
const path = require('path');
const { fileURLToPath } = require('url');
const Module = require('module');
const { MessageChannel, receiveMessageOnPort } = require('worker_threads');
const { load, rehearse } = require('./ahead.cjs');

const [program, directory] = process.argv.splice(2);
const below = directory + '/';
const files = new Set();
const absent = new Set();
const env = {};

// --- What is asked of the environment -------------------------------------------

const given = process.env;
const ask = (name) => {
  if (typeof name === 'string') env[name] = given[name] ?? null;
};
process.env = new Proxy(given, {
  get: (_, name) => (ask(name), given[name]),
  has: (_, name) => (ask(name), name in given),
  ownKeys: () => { // one module looks through all of it, for these
    env['DEBUG_*'] = null;
    return Reflect.ownKeys(given);
  },
});

// --- What is found, and what is not ---------------------------------------------

// note notes the directories that a package was looked for in before it was found.
function note(request, directories, found) {
  if (found?.startsWith(below)) files.add(found);
  const name = /^(?:@[^/]+\/)?[^./@][^/]*/.exec(request)?.[0];
  if (!name || Module.isBuiltin(request)) return;
  for (const dir of directories) {
    if (found?.startsWith(`${dir}/${name}/`)) return;
    if (dir.startsWith(below)) absent.add(`${dir}/${name}`);
  }
}

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, parent, ...rest) {
  let found;
  try {
    return (found = resolve.call(this, request, parent, ...rest));
  } finally {
    note(request, Module._resolveLookupPaths(request, parent) ?? [], found);
  }
};

function noteImport([specifier, from, found]) {
  if (!from?.startsWith('file:') || !found.startsWith('file:')) return;
  note(specifier, Module._nodeModulePaths(path.dirname(fileURLToPath(from))), fileURLToPath(found));
}

let imports = () => {};
if (Module.registerHooks) {
  Module.registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      noteImport([specifier, context.parentURL, found.url]);
      return found;
    },
  });
} else {
  const { port1, port2 } = new MessageChannel();
  const hooks = `
    let port;
    export function initialize(data) { port = data; }
    export async function resolve(specifier, context, next) {
      const found = await next(specifier, context);
      port.postMessage([specifier, context.parentURL, found.url]);
      return found;
    }`;
  Module.register('data:text/javascript,' + encodeURIComponent(hooks), { data: port2, transferList: [port2] });
  imports = () => {
    for (let m; (m = receiveMessageOnPort(port1)); ) noteImport(m.message);
  };
}

// --- The list -------------------------------------------------------------------

const inside = (file) => file.slice(below.length);

async function main() {
  await load(directory, program);
  const asked = { ...env }; // what is asked for later is asked for again
  await rehearse();
  imports();
  const shared = new Set(['node_modules']);
  const manifests = new Set();
  for (const file of Object.keys(require.cache)) if (file.startsWith(below)) files.add(file);
  for (const file of files) {
    const scope = /^node_modules\/@[^/]+/.exec(inside(file))?.[0];
    if (scope) shared.add(scope);
    for (let dir = path.dirname(file); dir !== directory; dir = path.dirname(dir)) { // they say what files mean
      if (fs.existsSync(`${dir}/package.json`)) manifests.add(`${dir}/package.json`);
    }
  }
  const { name, version } = JSON.parse(fs.readFileSync(path.join(directory, program, '../../../package.json')));
  const list = {
    name: `${name} ${version}`, env: asked,
    files: [...new Set([...files, ...manifests])].map(inside).sort(),
    shared: [...shared].sort(),
    absent: [...absent].map(inside).sort(),
  };
  fs.writeSync(1, JSON.stringify(list));
  process.exit(0);
}

main();
