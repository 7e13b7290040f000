'use strict';
// The connection: an HTTP/1.1 client on descriptor 3, with blocking calls. It
// loads neither node:http nor net, which would cost more than the rest of the boot.

const fs = require('fs');

const FD = 3;
const API = '/2018-06-01/runtime/';
const NEXT = Buffer.from(`GET ${API}invocation/next HTTP/1.1\r\nHost: lambda\r\n\r\n`);

// retriable says whether a failed call is to be made again: a descriptor that
// somebody made non-blocking is polled, at 1 ms.
function retriable(err) {
  if (err.code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  return err.code === 'EAGAIN' || err.code === 'EINTR';
}

function writeAll(fd, data) {
  for (let at = 0; at < data.length; ) {
    try {
      at += fs.writeSync(fd, data, at, data.length - at);
    } catch (err) {
      if (!retriable(err)) throw err;
    }
  }
}

// exitNow leaves without running anything of the user's: the server is gone,
// or is done with us.
function exitNow() {
  process.reallyExit(0);
}

const connection = {
  open: null, // a streamed response that is under way: chunks may be written, nothing else
  buffer: Buffer.alloc(0), // read, not yet used
  chunk: Buffer.allocUnsafeSlow(65536),
  owed: 0, // answers to POSTs that the server gives together with the next event
  held: null, // a POST and the GET that goes out with it

  read(into, at) {
    for (;;) {
      try {
        const n = fs.readSync(FD, into, at, into.length - at, null);
        if (n === 0) exitNow();
        return n;
      } catch (err) {
        if (err.code === 'ECONNRESET') exitNow();
        if (!retriable(err)) throw err;
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

  send(data, done) {
    try {
      writeAll(FD, data);
      done?.();
    } catch (err) {
      if (err.code === 'EPIPE' || err.code === 'ECONNRESET') exitNow();
      throw err;
    }
  },

  // rehearse runs f with what there is to be read, and nobody who hears what is said.
  async rehearse(script, f) {
    const { read, send } = this;
    this.buffer = script;
    this.read = () => { throw new Error('the end of the rehearsal'); };
    this.send = (data, done) => done?.();
    await f();
    Object.assign(this, { read, send, buffer: Buffer.alloc(0), owed: 0, held: null });
  },

  // receive returns one response; header names are in lower case.
  receive() {
    let end;
    while ((end = this.buffer.indexOf('\r\n\r\n')) < 0) this.fill();
    const { status, headers, length } = parseHead(this.buffer.latin1Slice(0, end));
    this.buffer = this.buffer.subarray(end + 4);
    return { status, headers, body: this.take(length) };
  },

  // post sends a document, or holds it until the next GET goes out: one write,
  // one wake-up of the server. Hold it only when nothing of the user's is on the
  // stack, who may compute on for long after having called back.
  post(where, body, errorType, hold) {
    const both = newPostAndNext(where, body, errorType);
    this.release();
    this.owed++;
    if (hold) this.held = both;
    else this.send(postOf(both));
  },

  release() {
    if (this.held === null) return;
    const both = this.held;
    this.held = null;
    this.send(postOf(both));
  },

  // next asks for an invocation and blocks until it is there.
  next() {
    this.send(this.held ?? NEXT);
    this.held = null;
    for (; this.owed > 0; this.owed--) this.receive(); // 202; or 413, of which the server has told the caller
    const answer = this.receive();
    if (answer.status !== 200) refused(answer.status);
    return answer;
  },
};

// parseHead returns what the head of an answer says.
function parseHead(text) {
  const lines = text.split('\r\n');
  const headers = {};
  for (let i = 1; i < lines.length; i++) {
    const colon = lines[i].indexOf(':');
    headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
  }
  return { status: Number(lines[0].slice(9, 12)), headers, length: Number(headers['content-length'] || 0) };
}

// newPostAndNext returns a POST with a GET behind it in one piece, so that a large
// body is there once more and not thrice.
function newPostAndNext(where, body, errorType) {
  const type = errorType === undefined ? '' : `Lambda-Runtime-Function-Error-Type: ${headerSafe(errorType)}\r\n`;
  const length = Buffer.byteLength(body);
  const head = `POST ${API}${where} HTTP/1.1\r\nHost: lambda\r\nContent-Type: application/json\r\n${type}Content-Length: ${length}\r\n\r\n`;
  const both = Buffer.allocUnsafe(head.length + length + NEXT.length);
  both.latin1Write(head);
  both.utf8Write(body, head.length);
  NEXT.copy(both, head.length + length);
  return both;
}

// postOf returns the POST without the GET.
function postOf(both) {
  return both.subarray(0, both.length - NEXT.length);
}

function refused(status) {
  writeAll(2, Buffer.from(`lambda: the next invocation was refused with status ${status}\n`));
  process.exit(1);
}

function headerSafe(text) {
  return String(text).replace(/[^\x20-\x7e]/g, '?');
}

module.exports = { API, FD, NEXT, connection, exitNow, headerSafe, newPostAndNext, parseHead, postOf, refused, writeAll };
