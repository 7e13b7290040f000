// A web server of no framework.
const http = require('node:http');
let connections = 0;

// What no framework would say.
const raw = {
  '/garbage': 'this is not HTTP\r\n\r\n',
  '/bad-chunk': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n',
  '/two-lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
  '/short': 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort',
  '/long': 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlonger than it says',
  '/204': 'HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nhidden',
  '/304': 'HTTP/1.1 304 Not Modified\r\nEtag: "x"\r\n\r\nhidden',
  '/interim': 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nafter',
  '/only-interim': 'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n',
};

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://server');
  if (raw[url.pathname]) {
    console.log('raw ' + url.pathname);
    return req.socket.end(raw[url.pathname]);
  }
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
      console.log('raw /big-header');
      res.setHeader('X-Big', 'x'.repeat(1 << 20));
      return res.end('big');
    case '/endless':
      console.log('endless');
      return setInterval(() => res.write('and on '), 20);
    case '/less-and-waits': // than it has announced
      res.setHeader('Content-Length', '10');
      return res.write('less');
    case '/close-server': // from here on nobody is let in
      server.close();
      return res.end('closing');
  }
  res.end('hello of ' + process.argv[2]);
});
server.on('connection', () => connections++);
process.on('SIGTERM', () => {
  console.log('asked to end');
  if (!process.env.STAYS) setTimeout(() => process.exit(0), 100);
});
server.listen(process.env.PORT);
