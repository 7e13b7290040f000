// A web server of no framework.
const http = require('node:http');
let connections = 0;

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://server');
  switch (url.pathname) {
    case '/connections':
      return res.end(JSON.stringify({connections, port: req.socket.remotePort}));
    case '/close':
      res.setHeader('Connection', 'close');
      return res.end('the last');
    case '/early': // answers before it has read the request
      res.writeHead(413, {'Connection': 'close'});
      return res.end('too much');
    case '/pipe': // answers while it reads
      return req.pipe(res);
    case '/hop':
      res.setHeader('Connection', 'X-Private');
      res.setHeader('X-Private', 'of the hop');
      res.setHeader('Keep-Alive', 'timeout=9');
      res.setHeader('X-Public', 'of the answer');
      return res.end('hop');
    case '/early-hints':
      res.writeEarlyHints({link: '</style.css>; rel=preload; as=style'});
      return res.end('hinted');
    case '/head':
      res.setHeader('Content-Length', '5');
      return res.end('hello');
    case '/big-header':
      res.setHeader('X-Big', 'x'.repeat(1 << 20));
      return res.end('big');
    case '/garbage':
      return req.socket.end('this is not HTTP\r\n\r\n');
    case '/endless':
      return setInterval(() => res.write('and on '), 20);
    case '/close-server': // from here on nobody is let in
      server.close();
      return res.end('closing');
  }
  res.end('hello of ' + process.argv[2]);
});
server.on('connection', () => connections++);
process.on('SIGTERM', () => {
  console.log('asked to end');
  setTimeout(() => process.exit(0), 100);
});
server.listen(process.env.PORT);
