// A web server with uploads, trailers and WebSockets.
const http = require('node:http');
const crypto = require('node:crypto');
const {WebSocketServer} = require('ws');

const server = http.createServer(async (req, res) => {
  const url = new URL(req.url, 'http://site');
  switch (url.pathname) {
    case '/sum': { // of the body
      const hash = crypto.createHash('sha256');
      let bytes = 0;
      try {
        for await (const part of req) {
          hash.update(part);
          bytes += part.length;
        }
      } catch (e) {
        return console.log(`broken off after ${bytes}: ${e.code}`);
      }
      return res.end(JSON.stringify({sum: hash.digest('hex'), bytes, headers: req.headers, trailers: req.trailers}));
    }
    case '/pipe': // answers while it reads
      return req.pipe(res);
    case '/slowly': { // thinks about the first piece, and some time about each other one
      let bytes = 0;
      for await (const part of req) {
        await new Promise((ok) => setTimeout(ok, bytes === 0 ? 1500 : 1));
        bytes += part.length;
      }
      return res.end(String(bytes));
    }
    case '/trailers':
      res.write('body');
      res.addTrailers([['X-Sum', '42'], ['X-Sum', '43'], ['Set-Cookie', 'a=b']]);
      return res.end();
    case '/only-trailers':
      res.writeHead(200, {'Transfer-Encoding': 'chunked'});
      res.addTrailers({'X-Sum': '44'});
      return res.end();
    case '/early': // answers, and reads nothing
      res.writeHead(413);
      return res.end('too much');
    case '/hang': // once it has read all
      for await (const _ of req);
      return console.log('hangs');
    case '/deaf':
      return console.log('deaf');
    case '/sleep':
      return setTimeout(() => res.end('slept'), Number(url.searchParams.get('ms')));
    case '/unasked':
      return req.socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  }
  res.end(JSON.stringify({pid: process.pid, headers: req.headers}));
});

const sockets = new WebSocketServer({noServer: true});
server.on('upgrade', (req, socket, head) => {
  switch (new URL(req.url, 'http://site').pathname) {
    case '/refuse':
      return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nX-Why: because\r\nConnection: close\r\n\r\nno\n');
    case '/other': // than was asked for
      return socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n');
    case '/half': { // says something once its client has ended
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSet-Cookie: lambent_session=stolen\r\nClear-Site-Data: "*"\r\n\r\n');
      let bytes = head.length;
      socket.on('data', (part) => (bytes += part.length));
      return socket.on('end', () => socket.end(`you said ${bytes} bytes`));
    }
    case '/end': // at once
      return socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    case '/gush': // says more than anybody takes
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      socket.on('error', () => {});
      return socket.write(Buffer.alloc(64 << 20));
  }
  sockets.handleUpgrade(req, socket, head, (ws) => {
    console.log('opened');
    ws.on('close', (code) => console.log(`closed with ${code}`));
    ws.on('message', (text, isBinary) => {
      switch (String(text)) {
        case 'headers':
          return ws.send(JSON.stringify(req.headers));
        case 'crash':
          console.log('about to crash');
          return process.kill(process.pid, 'SIGKILL');
        case 'exit':
          return process.exit(3);
        case 'bye':
          return ws.close(4000, 'bye');
      }
      ws.send(text, {binary: isBinary});
    });
  });
});
process.on('SIGTERM', () => {
  for (const ws of sockets.clients) ws.close(1001, 'going away');
  server.close(() => process.exit(0));
});
server.listen(process.env.PORT);
