// Runs AWS's own client with a stand-in for its native part, which would take
// minutes to build: the same three calls over descriptor 3, blocking. All that a
// handler sees is decided in the JavaScript, which is AWS's.
import fs from 'node:fs';
import Module from 'node:module';

const [client, handler] = process.argv.slice(2);
let buffer = Buffer.alloc(0);

function call(method, path, body, type) {
  const bytes = Buffer.from(body);
  const head = `${method} /2018-06-01/runtime/invocation/${path} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n${type}\r\n`;
  const request = Buffer.concat([Buffer.from(head), bytes]);
  for (let at = 0; at < request.length; ) at += fs.writeSync(3, request, at);
  let end;
  const more = () => {
    const chunk = Buffer.alloc(65536);
    const n = fs.readSync(3, chunk);
    if (n === 0) process.reallyExit(0);
    buffer = Buffer.concat([buffer, chunk.subarray(0, n)]);
  };
  while ((end = buffer.indexOf('\r\n\r\n')) < 0) more();
  const headers = Object.fromEntries(buffer.toString('latin1', 0, end).split('\r\n').slice(1).map((line) => line.split(/: (.*)/s).slice(0, 2)));
  buffer = buffer.subarray(end + 4);
  const length = Number(headers['Content-Length']);
  while (buffer.length < length) more();
  const text = buffer.toString('utf8', 0, length);
  buffer = buffer.subarray(length);
  return { bodyJson: text, headers };
}

const json = 'Content-Type: application/json\r\n';
const native = {
  next: async () => {
    const { bodyJson, headers } = call('GET', 'next', '', '');
    return { bodyJson, headers: { 'lambda-runtime-trace-id': '', ...headers } };
  },
  done: (id, body) => {
    if (typeof body !== 'string') throw new TypeError('Wrong arguments');
    call('POST', `${id}/response`, body, json);
  },
  error: (id, body) => call('POST', `${id}/error`, body, json),
};
Module._extensions['.node'] = (module) => { module.exports = native; };

const { run } = await import(client); // client 4 has no run: it starts by itself
await run?.(process.env.LAMBDA_TASK_ROOT, handler);
