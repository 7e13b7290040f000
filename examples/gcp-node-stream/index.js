const { setTimeout: sleep } = require('node:timers/promises');
const functions = require('@google-cloud/functions-framework');

let running = 0;

functions.http('count', async (req, res) => {
  running++;
  const { count = 3, delay = 100 } = { ...req.body, ...req.query };
  res.set('Content-Type', 'text/plain; charset=utf-8');
  res.set('X-Running', String(running)); // how many requests this instance has, with this one
  for (let i = 1; i <= count; i++) {
    res.write(`${i} of ${count}\n`);
    await sleep(Number(delay)); // milliseconds
  }
  res.end();
  running--;
});
