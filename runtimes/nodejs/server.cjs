'use strict';
// The agent of Google's runtimes: boots parked, is assigned code, and becomes its
// functions framework.
//
// Its argument is the framework's program, as seen from the code's directory. Where
// LAMBENT_AHEAD names a directory that has it, what the program requires is loaded from
// there while nobody waits. Whoever parks the sandbox sees to it that the code which
// comes there later brings the very same files. ../DESIGN.md has the protocol.
//
// From then on the process is what `node PROGRAM` is: nothing of the agent is left in
// its arguments, its modules or its descriptors.

const fs = require('fs');
const path = require('path');
const Module = require('module');
const { FD, connection } = require('./connection.cjs');

const [program] = process.argv.splice(2);
const ahead = process.env.LAMBENT_AHEAD;

// wait waits for the assignment. Meanwhile it rehearses, if it is told to.
async function wait(rehearse) {
  for (;;) {
    const length = connection.take(4).readUInt32BE(0);
    if (length > 0) return JSON.parse(connection.take(length));
    await rehearse?.();
  }
}

// assign makes the process what the assignment says, and waits for the code.
function assign(task) {
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, task.env);
  connection.take(1); // it is in place
  fs.closeSync(FD);
  process.chdir(task.task);
  Module._initPaths(); // NODE_PATH is read at exec otherwise
  for (const file of Object.keys(Module._cache)) {
    if (path.dirname(file) === __dirname) delete Module._cache[file];
  }
  process.argv[1] = path.resolve(program);
}

async function main() {
  let loaded;
  if (ahead) {
    loaded = require('./ahead.cjs');
    await loaded.load(ahead, program);
    process.chdir('/');
  } else {
    require('http'); // nearly half of the framework's own time, and node's own
  }
  connection.send(Buffer.from('LAMBENT/1\n'));
  assign(await wait(loaded?.rehearse));
  // Not from here, where what is thrown would be a promise's.
  setImmediate(() => (loaded ? loaded.run() : Module.runMain(process.argv[1])));
}

main();
