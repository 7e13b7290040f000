// Functions as the conformance suite of Google's frameworks has them: each writes down
// what it was given.
const fs = require('node:fs');
const os = require('node:os');
const functions = require('@google-cloud/functions-framework');

const file = os.tmpdir() + '/function_output.json';
const write = (text) => {
  fs.writeFileSync(file, text);
  console.log('function_output.json ' + text);
};

functions.http('http', (req, res) => {
  if (req.path === '/output') return res.send(fs.readFileSync(file));
  write(JSON.stringify(req.body));
  res.sendStatus(200);
});

functions.http('concurrent', (req, res) => setTimeout(() => res.send('ok'), 1000));

const sleep = () => new Promise((done) => setTimeout(done, 1000));
functions.cloudEvent('concurrentevent', sleep);
exports.concurrentlegacyevent = sleep;

functions.cloudEvent('cloudevent', (e) => write(JSON.stringify(e)));

exports.legacyevent = (data, context) => write(JSON.stringify({data, context}));
