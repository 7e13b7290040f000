// The function of the guest suite as a web server: does what the event says.
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

if (process.env.FAIL_INIT) throw new RangeError("no start today");

async function read(req) {
  const parts = [];
  for await (const part of req) parts.push(part);
  return Buffer.concat(parts);
}

async function stream(res, fail) {
  for (let i = 0; i < 3; i++) {
    res.write(`part ${i}\n`);
    await sleep(20);
  }
  if (fail) res.destroy();
  else res.end();
}

async function answer(event, id, res) {
  switch (event.do) {
    case "echo":
      return event.value;
    case "error":
      throw new TypeError("that went wrong");
    case "sleep":
      process.stdout.write("sleeping\n");
      await sleep(event.ms);
      return "slept";
    case "exit":
      process.exit(event.code);
      break;
    case "signal":
      process.kill(process.pid, "SIGKILL");
      await sleep(10_000);
      break;
    case "hog":
      for (const keep = []; ; ) {
        keep.push(Buffer.alloc(8 << 20, 1));
        await sleep(10);
      }
    case "grow":
      return "x".repeat(event.bytes);
    case "size":
      return { bytes: event.value.length };
    case "log":
      process.stdout.write("to stdout: grüße\n");
      process.stderr.write("to stderr\n");
      return "logged";
    case "tell":
      for (let i = 0; i < event.n; i++) {
        console.log(`${id} told ${i}`);
        await sleep(event.ms);
      }
      return "told";
  }
  throw new Error(`do what? ${JSON.stringify(event)}`);
}

createServer(async (req, res) => {
  const body = await read(req);
  if (req.method === "PUT") {
    res.writeHead(201, { "X-Method": req.method, "Content-Type": "application/octet-stream", "Set-Cookie": ["a=1", "b=2"] });
    return res.end(body);
  }
  if (req.method === "GET") {
    res.writeHead(203, { "X-Stream": "yes", "Set-Cookie": ["a=1"] });
    return stream(res);
  }
  const event = JSON.parse(body);
  if (event.do === "stream") return stream(res, event.fail);
  try {
    res.end(JSON.stringify(await answer(event, req.headers["function-execution-id"])));
  } catch (err) {
    res.writeHead(500);
    res.end(String(err));
  }
}).listen(process.env.PORT);
