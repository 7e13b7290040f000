'use strict';
// The Node.js agent: boots parked, is assigned a function, serves its invocations.
//
// It is started before any user's code is known, with one end of a Unix stream
// socketpair as descriptor 3. ../DESIGN.md has the protocol. To a handler it is
// what AWS's own client is: contexts, errors, logs, streams and exits are the
// same; up to Node.js 22 those of AWS's client 3, from 24 on those of client 4,
// which has no callbacks.
//
// While a handler runs, the event loop runs. Between invocations the process
// sits in a blocking read, which is what the freeze of a Lambda environment
// looks like to the code in it.

const fs = require('fs');
const path = require('path');
const util = require('util');
const Module = require('module');

const FD = 3;
const MODERN = Number(process.versions.node.split('.')[0]) >= 24;
const API = '/2018-06-01/runtime/';
const NEXT = Buffer.from(`GET ${API}invocation/next HTTP/1.1\r\nHost: lambda\r\n\r\n`);

// --- The connection -----------------------------------------------------------

// again says whether a failed call is to be made again: a descriptor that
// somebody made non-blocking is polled, at 1 ms.
function again(err) {
  if (err.code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  return err.code === 'EAGAIN' || err.code === 'EINTR';
}

function writeAll(fd, data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += fs.writeSync(fd, data, at, data.length - at);
    } catch (err) {
      if (!again(err)) throw err;
    }
  }
}

// exitNow leaves without running anything of the user's: the server is gone,
// or is done with us.
function exitNow() {
  process.reallyExit(0);
}

const connection = {
  buffer: Buffer.alloc(0), // read, not yet used
  chunk: Buffer.allocUnsafeSlow(65536),
  owed: 0, // answers to POSTs that the server gives together with the next event
  held: null, // a POST that goes out with the next GET

  read(into, at) {
    for (;;) {
      try {
        const n = fs.readSync(FD, into, at, into.length - at, null);
        if (n === 0) exitNow();
        return n;
      } catch (err) {
        if (err.code === 'ECONNRESET') exitNow();
        if (!again(err)) throw err;
      }
    }
  },

  fill() {
    const n = this.read(this.chunk, 0);
    this.buffer = Buffer.concat([this.buffer, this.chunk.subarray(0, n)]);
  },

  take(n) {
    const have = Math.min(n, this.buffer.length);
    if (have === n) {
      const data = this.buffer.subarray(0, n);
      this.buffer = this.buffer.subarray(n);
      return data;
    }
    const data = Buffer.allocUnsafeSlow(n);
    this.buffer.copy(data);
    this.buffer = Buffer.alloc(0);
    for (let at = have; at < n; ) at += this.read(data, at);
    return data;
  },

  send(data) {
    try {
      writeAll(FD, data);
    } catch (err) {
      if (err.code === 'EPIPE' || err.code === 'ECONNRESET') exitNow();
      throw err;
    }
  },

  // receive returns one response; header names are in lower case.
  receive() {
    let end;
    while ((end = this.buffer.indexOf('\r\n\r\n')) < 0) this.fill();
    const lines = this.buffer.latin1Slice(0, end).split('\r\n');
    this.buffer = this.buffer.subarray(end + 4);
    const headers = {};
    for (let i = 1; i < lines.length; i++) {
      const colon = lines[i].indexOf(':');
      headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
    }
    return { status: Number(lines[0].slice(9, 12)), headers, body: this.take(Number(headers['content-length'] || 0)) };
  },

  // post sends a document, or holds it until the next GET goes out: one write,
  // one wake-up of the server. Hold it only when nothing of the user's is on the
  // stack, who may compute on for long after having called back.
  post(where, body, errorType, hold) {
    const bytes = Buffer.from(body);
    const type = errorType === undefined ? '' : `Lambda-Runtime-Function-Error-Type: ${headerSafe(errorType)}\r\n`;
    const head = `POST ${API}${where} HTTP/1.1\r\nHost: lambda\r\nContent-Type: application/json\r\n${type}Content-Length: ${bytes.length}\r\n\r\n`;
    const request = Buffer.concat([Buffer.from(head), bytes]);
    this.release();
    this.owed++;
    if (hold) this.held = request;
    else this.send(request);
  },

  release() {
    if (this.held === null) return;
    const request = this.held;
    this.held = null;
    this.send(request);
  },

  // next asks for an invocation and blocks until it is there.
  next() {
    this.send(this.held === null ? NEXT : Buffer.concat([this.held, NEXT]));
    this.held = null;
    for (; this.owed > 0; this.owed--) this.receive(); // 202; or 413, of which the server has told the caller
    const answer = this.receive();
    if (answer.status !== 200) {
      writeAll(2, Buffer.from(`lambda: the next invocation was refused with status ${answer.status}\n`));
      process.exit(1);
    }
    return answer;
  },
};

function headerSafe(text) {
  return String(text).replace(/[^\x20-\x7e]/g, '?');
}

// --- Errors -------------------------------------------------------------------

// named makes a class of errors of the platform. In client 4 the name is each
// error's own property, which the log shows.
function named(name) {
  const type = `Runtime.${name}`;
  class PlatformError extends Error {
    constructor(message) {
      super(message);
      if (MODERN) this.name = type;
    }
  }
  Object.defineProperty(PlatformError, 'name', { value: name });
  PlatformError.prototype.name = type;
  return PlatformError;
}

const ImportModuleError = named('ImportModuleError');
const UserCodeSyntaxError = named('UserCodeSyntaxError');
const HandlerNotFound = named('HandlerNotFound');
const MalformedHandlerName = named('MalformedHandlerName');
const MalformedStreamingHandler = named('MalformedStreamingHandler');
const InvalidStreamingOperation = named('InvalidStreamingOperation');
const CallbackHandlerDeprecated = named('CallbackHandlerDeprecated');
const JSONStringifyError = named('JSONStringifyError');
class UnhandledPromiseRejection extends named('UnhandledPromiseRejection') {
  constructor(reason, promise) {
    super(reason);
    this.reason = reason;
    this.promise = promise;
  }
}

const clean = (text) => text?.replaceAll('\x7f', '%7F');

// documentOf returns the error document that the caller of the function gets.
function documentOf(error) {
  try {
    if (MODERN && error instanceof Error) {
      return { errorType: clean(error.name), errorMessage: clean(error.message), trace: clean(error.stack)?.split('\n') ?? [] };
    }
    if (MODERN) return { errorType: typeof error, errorMessage: String(error), trace: [] };
    const looksIt = error && error.name && error.message && typeof error.stack === 'string';
    if (util.types.isNativeError(error) || looksIt) {
      return { errorType: clean(error.name), errorMessage: clean(error.message), trace: clean(error.stack).split('\n') };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch {
    return {
      errorType: 'handled',
      errorMessage: 'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack',
    };
  }
}

const intoError = (error) => (error instanceof Error ? error : new Error(error));

function enumerable(key, value) {
  if (!(value instanceof Error)) return value;
  const fields = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
  if (typeof value.stack === 'string') fields.stack = value.stack.split('\n');
  return fields;
}

function errorText(error) {
  try {
    return '\t' + JSON.stringify(error, enumerable);
  } catch {
    return '\t' + JSON.stringify(documentOf(error));
  }
}

// --- Logs ---------------------------------------------------------------------

const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId');
const TENANT_ID = Symbol.for('aws.lambda.runtime.tenantId');
const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];

function textLine(level, args) {
  return `${new Date().toISOString()}\t${globalThis[REQUEST_ID]}\t${level}\t${util.format(...args)}`;
}

function expandErrors(key, value) {
  if (!(value instanceof Error)) return value;
  const { message, stack } = value;
  return { errorType: value.constructor?.name ?? 'UnknownError', errorMessage: message, stackTrace: typeof stack === 'string' ? stack.split('\n') : stack, ...value };
}

function jsonLine(level, args) {
  const line = { timestamp: new Date().toISOString(), level, requestId: globalThis[REQUEST_ID] };
  if (globalThis[TENANT_ID] != null) line.tenantId = globalThis[TENANT_ID];
  if (args.length === 1) {
    line.message = args[0];
    try {
      return JSON.stringify(line, expandErrors);
    } catch {
      line.message = util.format(line.message); // circular, or a BigInt
      return JSON.stringify(line);
    }
  }
  line.message = util.format(...args);
  const error = args.find((a) => a instanceof Error);
  if (error) {
    const { errorType, errorMessage, stackTrace } = expandErrors('', error);
    Object.assign(line, { errorType, errorMessage, stackTrace: stackTrace ?? [] });
  }
  return JSON.stringify(line);
}

let logError; // (what, error): how the platform's own lines about errors are printed

function setUpLogging() {
  const json = process.env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON';
  const line = json ? jsonLine : textLine;
  const least = Math.max(0, LEVELS.indexOf(process.env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()));
  LEVELS.forEach((level, i) => {
    const method = level.toLowerCase();
    if (i < least && level !== 'FATAL') console[method] = () => {};
    // '\r' is a line break inside one line of the log.
    else console[method] = (message, ...rest) => writeAll(1, Buffer.from(line(level, [message, ...rest]).replaceAll('\n', '\r') + '\n'));
  });
  console.log = console.info;
  logError = json
    ? (what, error) => console.error(intoError(error))
    : (what, error) => console.error(what, errorText(intoError(error)));
  if (MODERN) globalThis[REQUEST_ID] = '-';
}

// keepBlocking makes process.stdout and process.stderr, should the handler touch
// them, finish each write before they return: what they queued would be stuck
// while the agent blocks in its read.
function keepBlocking(name) {
  const { get, ...rest } = Object.getOwnPropertyDescriptor(process, name);
  Object.defineProperty(process, name, {
    ...rest,
    get() {
      const stream = get.call(process);
      stream._handle?.setBlocking?.(true);
      Object.defineProperty(process, name, { ...rest, get });
      return stream;
    },
  });
}

// --- Streamed responses -------------------------------------------------------

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

// What is under way on the connection: chunks may be written, nothing else.
let openResponse = null;

// A ChunkedResponse is the wire side of a streamed response.
class ChunkedResponse {
  constructor(id, type) {
    openResponse = this;
    connection.send(Buffer.from(
      `POST ${API}invocation/${encodeURIComponent(id)}/response HTTP/1.1\r\nHost: lambda\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n` +
      'Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n' +
      `Content-Type: ${headerSafe(type)}\r\nTransfer-Encoding: chunked\r\n\r\n`));
  }

  write(chunk) {
    if (chunk.length === 0) return; // would be the end
    connection.send(Buffer.concat([Buffer.from(chunk.length.toString(16) + '\r\n'), chunk, Buffer.from('\r\n')]));
  }

  // end ends the response, as a failed one if there is an error.
  end(error) {
    openResponse = null;
    connection.owed++;
    let trailers = '';
    if (error !== undefined) {
      const document = documentOf(error);
      const body = Buffer.from(JSON.stringify(document)).toString('base64');
      trailers = `Lambda-Runtime-Function-Error-Type: ${headerSafe(document.errorType)}\r\nLambda-Runtime-Function-Error-Body: ${body}\r\n`;
    }
    connection.send(Buffer.from(`0\r\n${trailers}\r\n`));
  }
}

// newResponseStream returns what a streaming handler writes to, and how to end
// it with an error, however much of it is out.
function newResponseStream(id) {
  const { Writable } = require('stream'); // for streaming handlers only
  let type = 'application/octet-stream';
  let written = false;
  let response = null;
  let failure;
  const begin = () => (response ??= new ChunkedResponse(id, type));

  const stream = new Writable({
    write(chunk, encoding, callback) {
      begin().write(chunk);
      callback();
    },
    final(callback) {
      begin().end(failure);
      callback();
    },
  });
  const write = stream.write.bind(stream);
  stream.setContentType = (value) => {
    if (written) throw new InvalidStreamingOperation('Cannot set content-type, too late.');
    type = value;
  };
  stream.write = (chunk, encoding, callback) => {
    if (typeof chunk !== 'string' && !Buffer.isBuffer(chunk) && chunk?.constructor !== Uint8Array) chunk = JSON.stringify(chunk);
    if (!written) stream._onBeforeFirstWrite?.((first) => write(first));
    written = true;
    return write(chunk, encoding, callback);
  };
  const fail = (error, then) => {
    if (stream.writableEnded) return then();
    failure = error;
    stream.end(then);
  };
  return { stream, fail };
}

const HttpResponseStream = class HttpResponseStream {
  static from(stream, metadata) {
    stream.setContentType('application/vnd.awslambda.http-integration-response');
    const prelude = JSON.stringify(metadata);
    stream._onBeforeFirstWrite = (write) => {
      write(prelude);
      write(new Uint8Array(8));
    };
    return stream;
  }
};

function streamifyResponse(handler, options) {
  handler[STREAMING] = 'response';
  if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = parseInt(options.highWaterMark);
  return handler;
}

// --- Loading ------------------------------------------------------------------

const requireIfThere = (file) => (fs.existsSync(file) ? require(file) : undefined);
const importIfThere = async (file) => (fs.existsSync(file) ? import(file) : undefined);

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
    throw new MalformedHandlerName(`'${text}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const last = path.basename(text);
  const match = last.match(/^([^.]*)\.(.*)$/);
  if (!match) throw new MalformedHandlerName('Bad handler');
  let module;
  try {
    module = await loadModule(task, text.substring(0, text.indexOf(last)), match[1]);
  } catch (err) {
    if (err instanceof SyntaxError) throw MODERN ? Object.assign(new UserCodeSyntaxError(String(err)), { stack: err.stack }) : new UserCodeSyntaxError(err);
    if (err?.code === 'MODULE_NOT_FOUND') throw new ImportModuleError(err);
    throw err;
  }
  const handler = find(module, match[2]) || (MODERN && find(module.default, match[2]));
  if (!handler) throw new HandlerNotFound(`${text} is undefined or not exported`);
  if (typeof handler !== 'function') throw new HandlerNotFound(`${text} is not a function`);
  if (handler[STREAMING] && handler[STREAMING] !== 'response') {
    throw new MalformedStreamingHandler('Only response streaming is supported.');
  }
  if (MODERN && handler.length >= 3 && !handler[STREAMING]) {
    throw new CallbackHandlerDeprecated(
      'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this function to use a supported handler signature to use Node.js 24 or later. ' +
      'For more information see https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.');
  }
  return handler;
}

// --- Serving ------------------------------------------------------------------

let current = null; // the id of the invocation under way, or of the last one
let whenIdle = () => {}; // runs when the event loop is empty

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

function completeContext(context, headers) {
  const trace = headers['lambda-runtime-trace-id'];
  if (trace) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
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

function postResult(id, result, hold) {
  let body;
  try {
    body = JSON.stringify(result === undefined ? null : result);
  } catch {
    throw MODERN ? new JSONStringifyError('Unable to stringify response body') : new Error('Unable to stringify response body');
  }
  if (body === undefined) throw new TypeError('Wrong arguments'); // a function, a symbol
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

// --- Life ---------------------------------------------------------------------

// assign waits for the assignment and makes the process what it says.
function assign() {
  const task = JSON.parse(connection.take(connection.take(4).readUInt32BE(0)));
  for (const name of Object.keys(process.env)) delete process.env[name];
  Object.assign(process.env, task.env);
  process.chdir(task.task);
  const major = process.versions.node.split('.')[0];
  const libraries = task.opt ? [`${task.opt}/nodejs/node${major}/node_modules`, `${task.opt}/nodejs/node_modules`] : [];
  process.env.NODE_PATH ??= [...libraries, task.task].join(':');
  Module._initPaths(); // NODE_PATH is read at exec otherwise
  return task;
}

// reportDeath posts an error that no handler took, and ends the process.
function reportDeath(what, error, code) {
  connection.release();
  logError(what, error);
  if (openResponse !== null) {
    openResponse.end(error);
  } else if (current !== null) {
    postError(current, error);
  } else {
    const document = documentOf(error);
    connection.post('init/error', JSON.stringify(document), document.errorType);
  }
  process.exit(code);
}

async function main() {
  keepBlocking('stdout');
  keepBlocking('stderr');
  connection.send(Buffer.from('LAMBENT/1\n'));
  const task = assign();
  setUpLogging();
  process.on('exit', () => connection.release());
  process.on('beforeExit', () => whenIdle());
  if (!MODERN) { // client 4 leaves both to Node, which prints them and exits
    process.on('uncaughtException', (error) => reportDeath('Uncaught Exception', error, 129));
    process.on('unhandledRejection', (reason, promise) =>
      reportDeath('Unhandled Promise Rejection', new UnhandledPromiseRejection(reason, promise), 128));
  }
  const hidden = process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA;
  if (hidden !== '1' && hidden !== 'true') globalThis.awslambda = { streamifyResponse, HttpResponseStream };
  let handler;
  try {
    handler = await load(task.task, task.handler);
  } catch (error) {
    reportDeath(MODERN ? 'Init Error' : 'Uncaught Exception', error, MODERN ? 1 : 129);
  }
  const runtime = new Runtime(handler);
  setImmediate(() => {
    if (handler[STREAMING]) runtime.serveStreamOnce();
    else if (MODERN) runtime.serveModern();
    else runtime.serveOnce();
  });
}

main();
