'use strict';
// What is told of errors, and how lines are logged: AWS's documents and formats.

const util = require('util');
const { writeAll } = require('./connection.cjs');

// Whether AWS's client 4 is the model; client 3 is for older versions.
const MODERN = Number(process.versions.node.split('.')[0]) >= 24;

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

// underWay tells whose lines are written.
const underWay = { id: () => globalThis[REQUEST_ID], tenant: () => globalThis[TENANT_ID] };

function textLine(level, args) {
  return `${new Date().toISOString()}\t${underWay.id()}\t${level}\t${util.format(...args)}`;
}

function expandErrors(key, value) {
  if (!(value instanceof Error)) return value;
  const { message, stack } = value;
  return { errorType: value.constructor?.name ?? 'UnknownError', errorMessage: message, stackTrace: typeof stack === 'string' ? stack.split('\n') : stack, ...value };
}

function jsonLine(level, args) {
  const line = { timestamp: new Date().toISOString(), level, requestId: underWay.id() };
  const tenant = underWay.tenant();
  if (tenant != null) line.tenantId = tenant;
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

// printError prints the platform's own lines about errors.
let printError;
const logError = (what, error) => printError(what, error);

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
  printError = json
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

module.exports = {
  MODERN, REQUEST_ID, TENANT_ID, documentOf, keepBlocking, logError, setUpLogging, underWay,
  errors: { ImportModuleError, UserCodeSyntaxError, HandlerNotFound, MalformedHandlerName, MalformedStreamingHandler, InvalidStreamingOperation, CallbackHandlerDeprecated, JSONStringifyError, UnhandledPromiseRejection },
};
