'use strict';
// Streamed responses: what awslambda.streamifyResponse and HttpResponseStream
// are to a handler, and how they go over the connection.

const { API, connection, headerSafe } = require('./connection.cjs');
const { documentOf, errors } = require('./report.cjs');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

// A ChunkedResponse is the wire side of a streamed response: over the connection, or
// over a lane.
class ChunkedResponse {
  constructor(over, id, type) {
    this.over = over;
    over.open = this;
    over.send(Buffer.from(
      `POST ${API}invocation/${encodeURIComponent(id)}/response HTTP/1.1\r\nHost: lambda\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n` +
      'Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n' +
      `Content-Type: ${headerSafe(type)}\r\nTransfer-Encoding: chunked\r\n\r\n`));
  }

  write(chunk, done) {
    if (chunk.length === 0) return done(); // would be the end
    this.over.send(Buffer.concat([Buffer.from(chunk.length.toString(16) + '\r\n'), chunk, Buffer.from('\r\n')]), done);
  }

  // end ends the response, as a failed one if there is an error.
  end(error) {
    this.over.open = null;
    this.over.owed++;
    let trailers = '';
    if (error !== undefined) {
      const document = documentOf(error);
      const body = Buffer.from(JSON.stringify(document)).toString('base64');
      trailers = `Lambda-Runtime-Function-Error-Type: ${headerSafe(document.errorType)}\r\nLambda-Runtime-Function-Error-Body: ${body}\r\n`;
    }
    this.over.send(Buffer.from(`0\r\n${trailers}\r\n`));
  }
}

// newResponseStream returns what a streaming handler writes to, and how to end
// it with an error, however much of it is out.
function newResponseStream(id, over = connection) {
  const { Writable } = require('stream'); // for streaming handlers only
  let type = 'application/octet-stream';
  let written = false;
  let response = null;
  let failure;
  const begin = () => (response ??= new ChunkedResponse(over, id, type));

  const stream = new Writable({
    write(chunk, encoding, callback) {
      begin().write(chunk, callback);
    },
    final(callback) {
      begin().end(failure);
      callback();
    },
  });
  const write = stream.write.bind(stream);
  stream.setContentType = (value) => {
    if (written) throw new errors.InvalidStreamingOperation('Cannot set content-type, too late.');
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

module.exports = { STREAMING, HttpResponseStream, newResponseStream, streamifyResponse };
