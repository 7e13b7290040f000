import { setTimeout as sleep } from "node:timers/promises";

// awslambda is a global of the runtime; the answer is written to the stream
// instead of being returned.
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  const param = (key, fallback) =>
    Number(event?.[key] ?? event?.queryStringParameters?.[key] ?? fallback);
  const count = param("count", 3);
  const delay = param("delay", 100); // milliseconds
  const fail = param("fail", Infinity);

  const out = awslambda.HttpResponseStream.from(stream, {
    statusCode: 200,
    headers: { "content-type": "text/plain; charset=utf-8", "x-request-id": context.awsRequestId },
  });
  for (let i = 1; i <= count; i++) {
    if (i > fail) throw new Error(`gave up after ${fail} lines`);
    out.write(`${i} of ${count}\n`);
    await sleep(delay);
  }
  out.end();
});
