// The application for Node: node node.js PORT. Beside it, an upgrade to a protocol "again" on any path.
const fs = require("fs");
const http = require("http");

const LARGE = Buffer.alloc(256 * 32768, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));

const server = http.createServer((request, response) => {
  const whole = (status, body, fields) => {
    response.writeHead(status, { "Content-Type": "text/plain", "Content-Length": body.length, ...fields });
    response.end(body);
  };
  switch (request.url) {
    case "/hello":
      return whole(200, Buffer.from("hello\n"), { "Set-Cookie": ["a=1", "b=2"], "X-Host": request.headers.host });
    case "/echo": {
      const pieces = [];
      request.on("data", (piece) => pieces.push(piece));
      request.on("end", () =>
        whole(200, Buffer.concat(pieces), { "X-Length": request.headers["content-length"] || "-" })
      );
      return;
    }
    case "/cached":
      if (request.headers["if-none-match"] === '"1"') {
        response.writeHead(304, { ETag: '"1"' });
        return response.end();
      }
      return whole(200, Buffer.from("hello\n"), { ETag: '"1"' });
    case "/large":
      return whole(200, LARGE, {});
    case "/events": {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.write("data: first\n\n");
      const look = setInterval(() => {
        if (fs.existsSync(process.env.GO)) {
          clearInterval(look);
          response.end("data: last\n\n");
        }
      }, 10);
      return;
    }
  }
  whole(404, Buffer.alloc(0), {});
});

server.on("upgrade", (request, socket, head) => {
  socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: again\r\n\r\n");
  socket.write(head);
  socket.pipe(socket);
});

server.listen(Number(process.argv[2]), "127.0.0.1");
