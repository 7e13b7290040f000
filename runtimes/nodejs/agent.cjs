'use strict';
// The Node.js agent: boots parked, is assigned a function, serves its invocations.
//
// It is started before any user's code is known, with one end of a Unix stream
// socketpair as descriptor 3; or for one function, with its environment, where that
// only works at exec. ../DESIGN.md has the protocol. To a handler it is
// what AWS's own client is: contexts, errors, logs, streams and exits are the
// same; up to Node.js 22 those of AWS's client 3, from 24 on those of client 4,
// which has no callbacks.
//
// While a handler runs, the event loop runs. Between invocations the process
// sits in a blocking read, which is what the freeze of a Lambda environment
// looks like to the code in it.

const fs = require('fs');
const path = require('path');
const Module = require('module');
const { connection } = require('./connection.cjs');
const { MODERN, REQUEST_ID, TENANT_ID, documentOf, errors, keepBlocking, logError, setUpLogging } = require('./report.cjs');
const { STREAMING, HttpResponseStream, newResponseStream, streamifyResponse } = require('./stream.cjs');

// --- Loading --------------------------------------------------------------------

const requireIfThere = (file) => (fs.existsSync(file) ? require(file) : undefined);

// Whether the loader of ES modules asks fs.promises for a file, as that of Node.js 20 does:
// the rehearsal finds out.
let asks = false;

// importIfThere imports a file. To be read by fs.promises takes four turns of another thread,
// longer than all else of a small module. So where the loader asks for the file there, it is
// read at once. When anything of the function runs, fs.promises is as it was.
async function importIfThere(file) {
  if (!fs.existsSync(file)) return undefined;
  if (!asks) return import(file);
  const { readFile } = fs.promises;
  const once = async (...args) => {
    fs.promises.readFile = readFile;
    asks = true;
    return fs.readFileSync(...args);
  };
  asks = false; // unless it does
  fs.promises.readFile = once;
  try {
    return await import(file);
  } finally {
    if (fs.promises.readFile === once) fs.promises.readFile = readFile;
  }
}

// isModuleFolder says whether .js files in a folder are ES modules.
function isModuleFolder(folder) {
  for (; !folder.endsWith('/node_modules'); folder = path.dirname(folder)) {
    const file = path.join(folder, 'package.json');
    if (fs.existsSync(file)) {
      try {
        const json = JSON.parse(fs.readFileSync(file));
        if (json) return json.type === 'module';
      } catch (err) {
        console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, err);
        return false;
      }
    }
    if (folder === '/') break;
  }
  return false;
}

async function loadModule(task, folder, name) {
  const file = path.resolve(task, folder, name);
  const asIs = requireIfThere(file);
  if (asIs) return asIs;
  const isModule = fs.existsSync(file + '.js') && isModuleFolder(path.dirname(file));
  const loaded =
    (isModule ? await importIfThere(file + '.js') : requireIfThere(file + '.js')) ||
    (await importIfThere(file + '.mjs')) ||
    requireIfThere(file + '.cjs');
  return loaded || require(require.resolve(name, { paths: [task, path.resolve(task, folder)] }));
}

const find = (object, names) => names.split('.').reduce((nested, name) => nested && nested[name], object);

async function load(task, text) {
  if (text.includes('..')) {
    throw new errors.MalformedHandlerName(`'${text}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const last = path.basename(text);
  const match = last.match(/^([^.]*)\.(.*)$/);
  if (!match) throw new errors.MalformedHandlerName('Bad handler');
  let loaded;
  try {
    loaded = await loadModule(task, text.substring(0, text.indexOf(last)), match[1]);
  } catch (err) {
    if (err instanceof SyntaxError) {
      const fault = new errors.UserCodeSyntaxError(err);
      if (MODERN) fault.stack = err.stack;
      throw fault;
    }
    if (err?.code === 'MODULE_NOT_FOUND') throw new errors.ImportModuleError(err);
    throw err;
  }
  const handler = find(loaded, match[2]) || (MODERN && find(loaded.default, match[2]));
  if (!handler) throw new errors.HandlerNotFound(`${text} is undefined or not exported`);
  if (typeof handler !== 'function') throw new errors.HandlerNotFound(`${text} is not a function`);
  if (handler[STREAMING] && handler[STREAMING] !== 'response') {
    throw new errors.MalformedStreamingHandler('Only response streaming is supported.');
  }
  if (MODERN && handler.length >= 3 && !handler[STREAMING]) {
    throw new errors.CallbackHandlerDeprecated(
      'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this function to use a supported handler signature to use Node.js 24 or later. ' +
      'For more information see https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.');
  }
  return handler;
}

// --- Serving --------------------------------------------------------------------

let current = null; // the id of the invocation under way, or of the last one
let whenIdle = () => {}; // runs when the event loop is empty
let lanes = null; // of an agent that serves several invocations at a time

function parseHeader(text, name) {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (err) {
    throw new Error(`Cannot parse ${name} as json: ${err}`);
  }
}

function receiveInvocation() {
  const { headers, body } = connection.next();
  current = headers['lambda-runtime-aws-request-id'];
  globalThis[REQUEST_ID] = current;
  globalThis[TENANT_ID] = headers['lambda-runtime-aws-tenant-id'];
  return { id: current, headers, body };
}

function completeContext(context, headers, alone = true) {
  const trace = headers['lambda-runtime-trace-id'];
  if (alone && trace) process.env._X_AMZN_TRACE_ID = trace;
  else if (alone) delete process.env._X_AMZN_TRACE_ID; // else there is one environment, and several traces
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const { env } = process;
  const ofFunction = {
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
  };
  const ofInvocation = {
    clientContext: parseHeader(headers['lambda-runtime-client-context'], 'ClientContext'),
    identity: parseHeader(headers['lambda-runtime-cognito-identity'], 'CognitoIdentity'),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    ...(MODERN && { xRayTraceId: trace }),
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
  return Object.assign(context, ofFunction, ofInvocation);
}

function resultText(result) {
  let body;
  try {
    body = JSON.stringify(result === undefined ? null : result);
  } catch {
    throw MODERN ? new errors.JSONStringifyError('Unable to stringify response body') : new Error('Unable to stringify response body');
  }
  if (body === undefined) throw new TypeError('Wrong arguments'); // a function, a symbol
  return body;
}

function postResult(id, result, hold) {
  const body = resultText(result);
  connection.post(`invocation/${encodeURIComponent(id)}/response`, body, undefined, hold);
}

function postError(id, error, hold) {
  const document = documentOf(error);
  connection.post(`invocation/${encodeURIComponent(id)}/error`, JSON.stringify(document), document.errorType, hold);
}

// The context's switch, and what waits for it: `proceed` runs now, or once the
// event loop is empty.
function newSwitch() {
  let waits = true;
  const context = {
    get callbackWaitsForEmptyEventLoop() { return waits; },
    set callbackWaitsForEmptyEventLoop(value) { waits = value; },
  };
  const proceed = (f) => {
    if (waits) whenIdle = () => setImmediate(f);
    else f();
  };
  return { context, proceed };
}

// A Runtime serves one handler. It is a class, and calls the handler as its
// method, because a stack trace shows that: `at exports.h [as handler]`.
class Runtime {
  constructor(handler) {
    this.handler = handler;
  }

  // serveOnce runs one invocation of a handler that may answer by promise, by
  // callback or by context.done; it asks for the next one when that is due.
  serveOnce() {
    const { id, headers, body } = receiveInvocation();
    const { context, proceed } = newSwitch();
    const again = () => setImmediate(() => this.serveOnce());
    let completed = false;

    const succeed = (result, hold) => {
      if (completed) {
        console.error('Invocation has already been reported as done. Cannot call complete more than once per invocation.');
        return;
      }
      completed = true;
      postResult(id, result, hold);
      again();
    };
    const fail = (error, hold) => {
      logError('Invoke Error', error);
      postError(id, error, hold);
      again();
    };
    const settle = (error, result, hold) => {
      whenIdle = () => {};
      if (error !== undefined && error !== null) fail(error, hold);
      else succeed(result, hold);
    };
    let finished = false;
    const once = (f) => (...args) => {
      if (finished) return;
      f(...args);
      finished = true; // not before: a call that threw does not count
    };
    const callback = once((error, result) => {
      whenIdle = () => {};
      if (error !== undefined && error !== null) fail(error);
      else proceed(() => succeed(result));
    });
    const settleOnce = once(settle);
    const orHandled = (error) => error ?? 'handled';
    context.succeed = once((result) => settle(null, result));
    context.fail = once((error) => settle(orHandled(error), null));
    context.done = once((error, result) => settle(error, result));

    whenIdle = () => { // nothing is left to run, and nobody has answered
      completed = true;
      postResult(id, null, true);
      again();
    };
    try {
      const result = this.handler(JSON.parse(body), completeContext(context, headers), callback);
      if (typeof result?.then === 'function') {
        const failed = (error) => settleOnce(orHandled(error), null, true);
        result.then((value) => settleOnce(null, value, true), failed).catch(failed);
      }
    } catch (error) {
      callback(error);
    }
  }

  // serveStreamOnce runs one invocation of a handler that writes its response.
  async serveStreamOnce() {
    const { id, headers, body } = receiveInvocation();
    const { context, proceed } = newSwitch();
    const { stream, fail: failStream } = newResponseStream(id);
    const finished = new Promise((resolve) => stream.once('finish', resolve).once('close', resolve));
    const again = () => setImmediate(() => this.serveStreamOnce());
    let left = false;
    const leave = (go) => {
      if (left) return;
      left = true;
      whenIdle = () => {};
      go(again);
    };
    const atOnce = (f) => f();
    const next = () => leave(MODERN ? atOnce : proceed);
    const fail = (error, then = next) => {
      logError('Invoke Error', error);
      failStream(error, then);
    };
    whenIdle = () => { // nothing is left to run
      if (stream.writableFinished) leave(atOnce);
      else fail('Response stream is not finished.', () => leave(atOnce));
    };
    try {
      const result = this.handler(JSON.parse(body), stream, completeContext(MODERN ? {} : context, headers));
      if (typeof result?.then !== 'function') {
        const text = 'Streaming does not support non-async handlers.';
        return fail(MODERN ? new Error(text) : text);
      }
      if ((await result) !== undefined) console.warn('Streaming handlers ignore return values.');
      await finished;
      next();
    } catch (error) {
      fail(error);
    }
  }

  // serveModern runs invocations of a handler that answers by what it returns.
  async serveModern() {
    for (;;) {
      const { id, headers, body } = receiveInvocation();
      try {
        const result = await this.handler(JSON.parse(body), completeContext({}, headers));
        await new Promise(setImmediate);
        postResult(id, result, true);
      } catch (error) {
        await new Promise(setImmediate);
        logError('Invoke Error', error);
        postError(id, error, true);
      }
    }
  }
}

// One of several that are under way has a lane of its own. There is no waiting for an
// empty event loop, which is never empty: the others use it.
class ConcurrentRuntime extends Runtime {
  serve(lane, invocation) {
    if (this.handler[STREAMING]) this.serveStream(lane, invocation);
    else this.serveOne(lane, invocation);
  }

  async serveOne(lane, { headers, body }) {
    try {
      lane.post('response', resultText(await this.call(JSON.parse(body), headers)));
    } catch (error) {
      logError('Invoke Error', error);
      lane.postError(error);
    }
  }

  // call returns what the handler answers, by whichever way it does.
  call(event, headers) {
    if (MODERN) return this.handler(event, completeContext({}, headers, false));
    return new Promise((resolve, reject) => {
      const fail = (error) => reject(error ?? 'handled');
      const done = (error, result) => (error !== undefined && error !== null ? reject(error) : resolve(result));
      const context = { callbackWaitsForEmptyEventLoop: true, succeed: resolve, fail, done };
      const result = this.handler(event, completeContext(context, headers, false), done);
      if (typeof result?.then === 'function') result.then(resolve, fail);
    });
  }

  async serveStream(lane, { id, headers, body }) {
    const { stream, fail } = newResponseStream(id, lane);
    const finished = new Promise((resolve) => stream.once('finish', resolve).once('close', resolve));
    try {
      const result = this.handler(JSON.parse(body), stream, completeContext({}, headers, false));
      if (typeof result?.then !== 'function') {
        const text = 'Streaming does not support non-async handlers.';
        throw MODERN ? new Error(text) : text;
      }
      if ((await result) !== undefined) console.warn('Streaming handlers ignore return values.');
      await finished;
    } catch (error) {
      logError('Invoke Error', error);
      await new Promise((done) => fail(error, done));
    }
    lane.next();
  }
}

// --- Life -----------------------------------------------------------------------

const packages = process.argv.splice(2).map((dir) => `${dir}/node_modules`); // of the runtime

// wait waits for the assignment. Meanwhile it rehearses, if it is told to.
async function wait() {
  for (;;) {
    const length = connection.take(4).readUInt32BE(0);
    if (length > 0) return JSON.parse(connection.take(length));
    await rehearse();
  }
}

// assign makes the process what the assignment says, and waits for the code.
function assign(task) {
  if (task.env === null) { // booted with it; a wrapper may have changed it, the handler too
    task.handler = process.env._HANDLER ?? '';
    if (task.packages) packages.push(`${task.packages}/node_modules`);
  } else {
    for (const name of Object.keys(process.env)) delete process.env[name];
    Object.assign(process.env, task.env);
  }
  const major = process.versions.node.split('.')[0];
  const libraries = task.opt ? [`${task.opt}/nodejs/node${major}/node_modules`, `${task.opt}/nodejs/node_modules`] : [];
  process.env.NODE_PATH ??= [...libraries, ...packages, task.task].join(':');
  Module._initPaths(); // NODE_PATH is read at exec otherwise
  connection.take(1); // the code is in place
  process.chdir(task.task);
}

// reportDeath posts an error that no handler took, and ends the process.
function reportDeath(what, error, code) {
  connection.release();
  logError(what, error);
  const lane = lanes?.current();
  if (lanes !== null) {
    lane?.break(error);
  } else if (connection.open !== null) {
    connection.open.end(error);
  } else if (current !== null) {
    postError(current, error);
  } else {
    const document = documentOf(error);
    connection.post('init/error', JSON.stringify(document), document.errorType);
  }
  process.exit(code);
}

// A Rehearsal serves one invocation and says when it has.
class Rehearsal extends Runtime {
  constructor(handler, done) {
    super(handler);
    this.done = done;
  }

  serveOnce() {
    if (current === null) super.serveOnce();
    else this.done();
  }
}

// rehearse goes once through all that a function will use: what runs for the first
// time in a process is slow, the loader of ES modules above all. It is the real
// thing, with warm.mjs as the function, over a connection that is not there; what
// it changes is put back, so that a function finds a process in which none ever ran.
async function rehearse() {
  const before = { env: { ...process.env }, cwd: process.cwd() };
  const assignment = Buffer.from(JSON.stringify({ env: { PATH: before.env.PATH, TZ: ':UTC' }, handler: 'warm.handler', task: __dirname, opt: '/opt' }));
  const event = Buffer.from(JSON.stringify({ body: '\u00e9\n', list: [1, 2.5, null, true], nested: { a: {} } }));
  const head = Buffer.from(
    'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 0\r\nLambda-Runtime-Deadline-Ms: 1\r\n' +
    `Lambda-Runtime-Trace-Id: Root=1\r\nContent-Length: ${event.length}\r\n\r\n`);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(assignment.length);
  asks = true;
  await connection.rehearse(Buffer.concat([length, assignment, Buffer.from('\n'), head, event]), async () => {
    const task = await wait();
    assign(task);
    setUpLogging();
    const handler = await load(task.task, task.handler);
    await new Promise((done) => {
      const rehearsal = new Rehearsal(handler, done);
      setImmediate(() => (MODERN ? rehearsal.serveModern().catch(done) : rehearsal.serveOnce()));
    });
  });
  current = null;
  whenIdle = () => {};
  delete globalThis[REQUEST_ID];
  delete globalThis[TENANT_ID];
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, before.env);
  process.chdir(before.cwd);
}

async function main() {
  keepBlocking('stdout');
  keepBlocking('stderr');
  connection.send(Buffer.from('LAMBENT/1\n'));
  const task = await wait();
  assign(task);
  setUpLogging();
  process.on('exit', () => connection.release());
  process.on('beforeExit', () => whenIdle());
  if (!MODERN) { // client 4 leaves both to Node, which prints them and exits
    process.on('uncaughtException', (error) => reportDeath('Uncaught Exception', error, 129));
    process.on('unhandledRejection', (reason, promise) =>
      reportDeath('Unhandled Promise Rejection', new errors.UnhandledPromiseRejection(reason, promise), 128));
  }
  const hidden = process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA;
  if (hidden !== '1' && hidden !== 'true') globalThis.awslambda = { streamifyResponse, HttpResponseStream };
  let handler;
  try {
    handler = await load(task.task, task.handler);
  } catch (error) {
    reportDeath(MODERN ? 'Init Error' : 'Uncaught Exception', error, MODERN ? 1 : 129);
  }
  if (task.concurrency > 1) {
    const runtime = new ConcurrentRuntime(handler);
    lanes = require('./lanes.cjs').openLanes((lane, invocation) => runtime.serve(lane, invocation));
    return;
  }
  const runtime = new Runtime(handler);
  setImmediate(() => {
    if (handler[STREAMING]) runtime.serveStreamOnce();
    else if (MODERN) runtime.serveModern();
    else runtime.serveOnce();
  });
}

main();
