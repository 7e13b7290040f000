// The function of the guest suite: does what the event says.
import { setTimeout as sleep } from "node:timers/promises";

if (process.env.FAIL_INIT) throw new RangeError("no start today");

class OutOfCheese extends Error {
  constructor(message) {
    super(message);
    this.name = "OutOfCheese";
  }
}

export const handler = async (event, context) => {
  switch (event.do ?? "http") {
    case "echo":
      return event.value;
    case "context":
      return {
        requestId: context.awsRequestId,
        name: context.functionName,
        version: context.functionVersion,
        arn: context.invokedFunctionArn,
        memoryMB: Number(context.memoryLimitInMB),
        logGroup: context.logGroupName,
        remainingMS: context.getRemainingTimeInMillis(),
      };
    case "env":
      return Object.fromEntries(event.names.map((k) => [k, process.env[k] ?? null]));
    case "error":
      throw new TypeError("that went wrong");
    case "custom":
      throw new OutOfCheese("redo from start");
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
        console.log(`told ${i}`);
        await sleep(event.ms);
      }
      return "told";
    case "http":
      return {
        statusCode: 201,
        headers: { "x-method": event.requestContext.http.method, "content-type": "application/octet-stream" },
        cookies: ["a=1", "b=2"],
        body: event.body,
        isBase64Encoded: true,
      };
    default:
      throw new Error(`do what? ${JSON.stringify(event)}`);
  }
};

export const stream = awslambda.streamifyResponse(async (event, out) => {
  if (event.requestContext) {
    out = awslambda.HttpResponseStream.from(out, { statusCode: 203, headers: { "x-stream": "yes" }, cookies: ["a=1"] });
  }
  for (let i = 0; i < 3; i++) {
    out.write(`part ${i}\n`);
    await sleep(20);
  }
  if (event.fail) throw new OutOfCheese("in the middle");
  out.end();
  await out.finished?.();
});
