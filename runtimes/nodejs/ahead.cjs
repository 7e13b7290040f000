'use strict';
// What of a functions framework is loaded while the sandbox is parked: all that its
// program requires, in that order, by the paths that it will have; and a rehearsal.

const fs = require('fs');
const path = require('path');
const Module = require('module');
const net = require('net');

let main; // the module of the program, which is loaded last, when there is a function

// load loads what the program requires, and has it load a function.
async function load(directory, program) {
  process.chdir(directory);
  const file = path.resolve(program);
  main = new Module(file, null);
  main.id = '.';
  main.filename = file;
  main.paths = Module._nodeModulePaths(path.dirname(file));
  process.mainModule = main;
  Module.prototype.require.main = main;
  Module._cache[file] = main;
  for (const [, request] of fs.readFileSync(file, 'utf8').matchAll(/\brequire\(["']([^"']+)["']\)/g)) main.require(request);
  await lookUp();
}

// lookUp has the framework load a function that is ours, and lets go of it.
async function lookUp() {
  const file = path.join(__dirname, 'echo.js');
  await main.require('./loader').getUserFunction(file, 'echo', 'http');
  for (const { children } of Object.values(Module._cache)) {
    const at = children.findIndex((child) => child.filename === file);
    if (at >= 0) children.splice(at, 1);
  }
}

// run runs the program.
function run() {
  main.load(main.filename);
}

// rehearse has the framework answer: what runs for the first time is slow. What that
// changes is put back.
async function rehearse() {
  const loaded = new Set(Object.keys(Module._cache));
  try {
    const options = main.require('./options').parseOptions(['', ''], {});
    const server = main.require('./server').getServer((req, res) => res.send(req.body), options);
    await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
    const { port } = server.address();
    for (let i = 0; i < 2; i++) {
      await ask(port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await ask(port, 'POST /a?b=c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}');
    }
    await new Promise((closed) => server.close(closed));
    main.require('./invoker').setLatestRes(null);
  } catch {
    // another framework than those that we know: it serves as well without
  }
  hide(Object.values(Module._cache).filter((m) => !loaded.has(m.filename)));
}

// hide has modules look as if they had not been loaded, until they are required.
function hide(modules) {
  const files = new Set(modules.map((m) => m.filename));
  const show = () => {
    for (const m of modules) {
      delete Module._cache[m.filename];
      Module._cache[m.filename] = m;
    }
  };
  for (const { filename } of modules) {
    const get = () => (show(), Module._cache[filename]);
    delete Module._cache[filename];
    Object.defineProperty(Module._cache, filename, { get, configurable: true, enumerable: false });
  }
  for (const { exports, children } of Object.values(Module._cache)) {
    children.splice(0, children.length, ...children.filter((child) => !files.has(child.filename)));
    if (exports?.encodings && exports.encodingExists) exports.encodings = null; // iconv-lite, which requires them when it has none
  }
}

// ask asks, and breaks the connection off: one that is closed stays in the network's
// tables for a minute, where the function would see it.
function ask(port, request) {
  return new Promise((done, failed) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write(request));
    socket.on('error', failed).on('close', done).once('data', () => socket.resetAndDestroy());
  });
}

module.exports = { load, rehearse, run };
