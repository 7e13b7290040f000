// A function that tells all that it can find out about the process that it is in: the
// same in each, however that was started.
const fs = require('fs');
const path = require('path');
const {createRequire} = require('module');

// The modules in the order in which they were loaded. Node.js reads side by side what ES
// modules import: of such that stand together, which have no parent, the order is chance.
const loaded = () => {
  const files = [];
  const together = [];
  for (const [file, m] of Object.entries(require.cache)) {
    if (m.parent) files.push(...together.splice(0).sort(), file);
    else together.push(file);
  }
  return [...files, ...together.sort()];
};

const atLoad = {stack: new Error('here').stack.split('\n').slice(0, 6), cache: loaded(), handles: process.getActiveResourcesInfo().sort()};

const descriptors = () => fs.readdirSync('/proc/self/fd').map((fd) => {
  try {
    const to = fs.readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N');
    return to.startsWith('socket:') ? '' : to; // what is executed may have been given one more
  } catch {
    return '';
  }
}).filter(Boolean).sort();

const tree = (m, seen = new Set()) => seen.has(m) ? m.filename : (seen.add(m), {id: m.id, file: m.filename, parent: m.parent?.filename, children: m.children.map((c) => tree(c, seen))});

exports.identity = async (req, res) => {
  if (req.path === '/crash') return process.kill(process.pid, 'SIGKILL');
  const theirs = createRequire(path.resolve('node_modules/@google-cloud/functions-framework/build/src/server.js'));
  const names = ['express', 'body-parser', 'cloudevents', 'on-finished', '@google-cloud/functions-framework', 'read-package-up'];
  const found = {};
  for (const name of names) {
    try {
      found[name] = [require.resolve(name), theirs.resolve(name), require(name) === theirs(name), typeof (await import(name)).default];
    } catch (e) {
      found[name] = e.code;
    }
  }
  const express = require('express');
  process.report.excludeNetwork = true; // it would look up names of addresses, for 20 s
  res.json({
    process: {
      argv: process.argv, argv0: process.argv0, execArgv: process.execArgv, execPath: process.execPath, title: process.title, cwd: process.cwd(), umask: process.umask(),
      env: Object.keys(process.env).filter((name) => name !== 'MARK' && name !== 'NODE_REDIRECT_WARNINGS').sort(), exitCode: process.exitCode, connected: process.connected, uid: process.getuid(),
      events: Object.fromEntries(process.eventNames().map((name) => [String(name), process.listenerCount(name)])),
      limits: process.report.getReport().userLimits,
    },
    module: {
      paths: module.paths, filename: module.filename, parent: module.parent.filename, main: tree(require.main), isMain: require.main === process.mainModule,
      mainOfExpress: Object.values(require.cache).find((m) => m.filename.endsWith('express/index.js')).constructor === module.constructor,
      cache: loaded(), cached: Object.entries(require.cache).every(([file, m]) => m.filename === file && m.loaded === true),
    },
    found, atLoad, globals: Reflect.ownKeys(globalThis).map(String).sort(), descriptors: descriptors(),
    request: [req instanceof express.request.constructor, Object.getPrototypeOf(req.app.request) === express.request, Object.getPrototypeOf(req.app.response) === express.response, req.rawBody?.toString()],
    locals: Object.keys(res.locals), settings: {...req.app.settings, view: undefined}, stack: req.app.router.stack.map((l) => l.name),
    http: [require('http').globalAgent.totalSocketCount ?? 0, require('http').maxHeaderSize], trace: Error.stackTraceLimit,
    files: ['/proc/self/cwd'].map((l) => fs.readlinkSync(l)), task: fs.readdirSync('/var/task').sort(),
  });
};
