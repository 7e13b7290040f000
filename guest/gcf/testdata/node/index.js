// Functions of the guest's tests, as users of Google's framework write them.
const functions = require('@google-cloud/functions-framework');

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let running = 0, most = 0;

functions.http('web', async (req, res) => {
  switch (req.path) {
    case '/echo':
      res.status(201).set('X-Method', req.method).append('Set-Cookie', 'a=1').append('Set-Cookie', 'b=2');
      return res.json({url: req.originalUrl, headers: req.headers, raw: req.rawHeaders, body: req.rawBody ? req.rawBody.toString('base64') : ''});
    case '/env':
      return res.json(process.env);
    case '/sleep':
      most = Math.max(most, ++running);
      await sleep(Number(req.query.ms));
      running--;
      return res.json({most});
    case '/stream':
      res.set('Content-Type', 'text/plain');
      for (let i = 0; i < 3; i++) {
        res.write(`part ${i}\n`);
        if (i < 2) await sleep(Number(req.query.ms || 300));
      }
      return res.end();
    case '/headers-first':
      res.set('Content-Type', 'text/event-stream').flushHeaders();
      await sleep(Number(req.query.ms));
      return res.end('data: late\n\n');
    case '/crash': // the framework answers for a mere exit
      console.error('about to crash');
      return process.kill(process.pid, 'SIGKILL');
    case '/crash-midway':
      res.write('some of it\n');
      await sleep(200);
      return process.kill(process.pid, 'SIGKILL');
    case '/hang-up':
      return req.socket.destroy();
    case '/hang-up-midway':
      res.write('some of it\n');
      await sleep(100);
      return req.socket.destroy();
    case '/throw':
      throw new Error('out of cheese');
    case '/size':
      return res.json({bytes: req.rawBody.length});
    case '/port':
      return res.json({port: req.socket.remotePort});
    case '/large':
      return res.send(Buffer.alloc(Number(req.query.bytes), 'y'));
    case '/none':
      return res.status(204).end();
  }
  res.status(404).send('no such page');
});

functions.cloudEvent('event', async (e) => {
  console.log('event ' + JSON.stringify(e));
  if (e.data && e.data.fail) throw new Error('out of cheese');
});

exports.background = (data, context) => {
  console.log('background ' + JSON.stringify({data, context}));
};
