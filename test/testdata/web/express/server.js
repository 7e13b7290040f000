const express = require('express');
const app = express();
app.use(express.json());
app.get('/hello/:name', (req, res) => res.json({ message: `Hello, ${req.params.name}!` }));
app.post('/', (req, res) => res.status(201).json(req.body));
app.get('/count', async (req, res) => {
  for (let i = 1; i <= 3; i++) {
    res.write(`${i}\n`);
    await new Promise((done) => setTimeout(done, 300));
  }
  res.end();
});
app.get('/env', (req, res) => res.json(process.env));
app.listen(process.env.PORT);
