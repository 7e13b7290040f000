const functions = require('@google-cloud/functions-framework');

functions.http('hello', (req, res) => {
  const name = req.query.name || req.body.name || 'world';
  console.log(`saying hello to ${name} in request ${req.get('Function-Execution-Id')}`);
  res.json({message: `Hello, ${name}!`, runtime: `nodejs ${process.versions.node}`});
});
