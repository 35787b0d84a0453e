// A proxy that gives a server a path of another site: what is asked beside that path is noted, and is not there.

import { once } from "node:events";
import { createServer, request } from "node:http";
import { connect } from "node:net";

export async function prefixProxy(t, prefix) {
  let port = 0;
  const outside = [];
  const within = (url) => url.startsWith(prefix) ? url.slice(prefix.length - 1) : (outside.push(url), null);
  const proxy = createServer((incoming, response) => {
    const path = within(incoming.url);
    if (path === null) return response.writeHead(404).end();
    const { method, headers } = incoming;
    const onward = request({ host: "127.0.0.1", port, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    incoming.pipe(onward);
  });
  proxy.on("upgrade", (incoming, socket, head) => {
    const path = within(incoming.url);
    if (path === null) return socket.destroy();
    const lines = [`GET ${path} HTTP/1.1`];
    for (let at = 0; at < incoming.rawHeaders.length; at += 2) lines.push(`${incoming.rawHeaders[at]}: ${incoming.rawHeaders[at + 1]}`);
    const onward = connect(port, "127.0.0.1", () => onward.write(`${lines.join("\r\n")}\r\n\r\n`) && onward.write(head));
    for (const [one, other] of [[socket, onward], [onward, socket]]) {
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  t.after(() => {
    proxy.closeAllConnections();
    proxy.close();
  });
  const origin = `http://127.0.0.1:${proxy.address().port}`;
  return { origin, url: `${origin}${prefix}`, outside, to: (server) => (port = server) };
}
