// The floor: the same echo on node:http, on the port that it prints.
import { createServer } from "node:http";

createServer((req, res) => {
  const chunks = [];
  req.on("data", (c) => chunks.push(c));
  req.on("end", () => {
    const body = Buffer.concat(chunks);
    res.writeHead(200, { "content-type": "text/plain", "content-length": body.length });
    res.end(body);
  });
}).listen(0, "127.0.0.1", function () {
  console.log(this.address().port);
});
