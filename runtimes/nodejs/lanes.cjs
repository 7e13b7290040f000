'use strict';
// An agent that serves several invocations at a time: in one process, on one event
// loop, each with a connection of its own, a lane. Descriptor 3 then only says when
// one more is wanted, and when all is over. What belongs to an invocation is in an
// AsyncLocalStorage, which follows whatever its handler starts.

const net = require('net');
const { AsyncLocalStorage } = require('async_hooks');
const { FD, NEXT, exitNow, newPostAndNext, parseHead, postOf, refused } = require('./connection.cjs');
const { REQUEST_ID, documentOf, underWay } = require('./report.cjs');

class Lane {
  open = null; // a streamed response that is under way
  owed = 1; // answers that are to come: to POSTs, and to the GET behind them
  buffers = [];
  have = 0; // bytes in them
  need = 0; // bytes without which there is no answer
  id = null; // of the invocation that it has, or had last

  constructor(address, take) {
    const [, host, port] = address.match(/^(.*):(\d+)$/);
    this.take = take;
    this.socket = net.connect({ host, port: Number(port), noDelay: true });
    this.socket.on('error', () => {}); // the server is done with it; the others go on
    this.socket.on('data', (data) => this.receive(data));
    this.send(NEXT);
  }

  send(data, done) {
    this.socket.write(data, done && (() => done()));
  }

  receive(data) {
    this.buffers.push(data);
    this.have += data.length;
    if (this.have < this.need) return;
    let all = this.buffers.length === 1 ? this.buffers[0] : Buffer.concat(this.buffers);
    for (;;) {
      const end = all.indexOf('\r\n\r\n');
      const head = end < 0 ? null : parseHead(all.latin1Slice(0, end));
      this.need = head === null ? 0 : end + 4 + head.length;
      if (head === null || all.length < this.need) break;
      const body = all.subarray(end + 4, this.need);
      all = all.subarray(this.need);
      this.owed--;
      if (this.owed > 0) continue; // 202; or 413, of which the server has told the caller
      if (head.status !== 200) refused(head.status);
      this.id = head.headers['lambda-runtime-aws-request-id'];
      this.take(this, { id: this.id, headers: head.headers, body });
    }
    this.buffers = all.length > 0 ? [all] : [];
    this.have = all.length;
  }

  // post answers the invocation and asks for the next one.
  post(what, body, errorType) {
    this.owed += 2;
    this.send(newPostAndNext(this.where(what), body, errorType));
  }

  postError(error) {
    const document = documentOf(error);
    this.post('error', JSON.stringify(document), document.errorType);
  }

  // next asks for the next invocation after a streamed answer.
  next() {
    this.owed++;
    this.send(NEXT);
  }

  // break answers the invocation with an error before the process ends.
  break(error) {
    if (this.open !== null) return this.open.end(error);
    const document = documentOf(error);
    this.send(postOf(newPostAndNext(this.where('error'), JSON.stringify(document), document.errorType)));
  }

  where(what) {
    return `invocation/${encodeURIComponent(this.id)}/${what}`;
  }
}

// openLanes opens the first lane, and others as they are wanted. take is called with
// each invocation and its lane.
function openLanes(take) {
  const storage = new AsyncLocalStorage();
  underWay.id = () => storage.getStore()?.id ?? globalThis[REQUEST_ID];
  underWay.tenant = () => storage.getStore()?.tenant;
  const address = process.env.AWS_LAMBDA_RUNTIME_API;
  const open = () =>
    new Lane(address, (lane, invocation) =>
      storage.run({ id: invocation.id, tenant: invocation.headers['lambda-runtime-aws-tenant-id'], lane }, take, lane, invocation));

  const control = new net.Socket({ fd: FD });
  control.on('data', (asked) => {
    for (let i = 0; i < asked.length; i++) open();
  });
  control.on('error', exitNow);
  control.on('close', exitNow);
  open();
  return { current: () => storage.getStore()?.lane };
}

module.exports = { openLanes };
