// A TCP proxy that treats connections badly: it cuts, ends by halves, freezes, delays and slices them.

import { once } from "node:events";
import net from "node:net";

/** Random numbers that a seed repeats. */
export class Random {
  constructor(seed) {
    this.state = seed >>> 0;
  }

  /** In [0, 1). */
  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from `low` to `high`. */
  between(low, high) {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  /** From 1 to `high`, small ones as likely as large ones. */
  magnitude(high) {
    return Math.ceil(Math.exp(this.next() * Math.log(high)));
  }

  chance(probability) {
    return this.next() < probability;
  }

  pick(from) {
    return from[Math.floor(this.next() * from.length)];
  }
}

/** So many bytes of a direction at most go one by one. */
const SLICED_BYTES_MAX = 1500;

/** One direction of a connection. */
class Direction {
  constructor(from, to, { delay = 0, slice = false, limit = Infinity } = {}, onLimit) {
    Object.assign(this, { from, to, delay, slice, limit, onLimit, frozen: false, sliced: 0 });
    this.queue = Promise.resolve();
    from.on("data", (data) => this.later(() => this.pass(data)));
    from.on("end", () => this.later(() => this.end()));
  }

  /** Everything in the order in which it came, and nothing once it is frozen. */
  later(what) {
    const due = Date.now() + this.delay;
    this.queue = this.queue.then(async () => {
      const rest = due - Date.now();
      if (this.delay > 0 && rest > 0) await new Promise((resolve) => setTimeout(resolve, rest));
      if (!this.frozen) await what();
    });
  }

  async pass(data) {
    let passed = data.subarray(0, Math.min(data.length, this.limit));
    this.limit -= passed.length;
    while (this.slice && passed.length > 0 && this.sliced < SLICED_BYTES_MAX && this.to.writable && !this.frozen) {
      this.to.write(passed.subarray(0, 1));
      passed = passed.subarray(1);
      if (++this.sliced % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    if (passed.length > 0 && this.to.writable && !this.frozen) this.to.write(passed);
    if (this.limit <= 0) this.onLimit();
  }

  end() {
    this.to.end();
  }
}

/** Ends it with a reset. */
function reset(socket) {
  // A socket that is connecting, or that has an end of its own under way, cannot be reset: Node would never exit.
  if (socket.connecting || socket.writableEnded || socket.destroyed) socket.destroy();
  else socket.resetAndDestroy();
}

class Link {
  constructor(client, server, shape, onGone) {
    Object.assign(this, { client, server });
    const cut = () => this.cut();
    this.up = new Direction(client, server, shape.up, cut);
    this.down = new Direction(server, client, shape.down, cut);
    for (const [socket, other] of [[client, server], [server, client]]) {
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        // Of a frozen connection nobody learns anything.
        if (!this.up.frozen || socket === client) other.destroy();
        if (client.destroyed && server.destroyed) onGone(this);
      });
    }
  }

  cut() {
    reset(this.client);
    reset(this.server);
  }

  fault(kind) {
    switch (kind) {
      case "cut":
        return this.cut();
      case "end":
        this.client.end();
        return this.server.end();
      // The server sees an end, the client does not; and the other way round.
      case "half-up":
        this.up.frozen = true;
        return this.server.end();
      case "half-down":
        this.down.frozen = true;
        return this.client.end();
      // Nothing arrives any more, in either direction, and nobody is told.
      case "black-hole":
        this.up.frozen = this.down.frozen = true;
        return undefined;
      default:
        throw new Error(`no such fault: ${kind}`);
    }
  }
}

/** `shape()` says how the next connection is treated: `{up?, down?: {delay?, slice?, limit?}}`. */
export class Proxy {
  static async open(t, port, shape = () => ({})) {
    const proxy = new Proxy();
    Object.assign(proxy, { links: new Set(), refusing: false });
    proxy.listener = net.createServer({ allowHalfOpen: true }, (client) => {
      if (proxy.refusing) return reset(client);
      const server = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      proxy.links.add(new Link(client, server, shape(), (link) => proxy.links.delete(link)));
      return undefined;
    });
    proxy.listener.listen(0, "127.0.0.1");
    await once(proxy.listener, "listening");
    proxy.url = `http://127.0.0.1:${proxy.listener.address().port}`;
    t.after(() => proxy.close());
    return proxy;
  }

  /** To all connections that there are; new ones are not concerned. */
  fault(kind) {
    for (const link of [...this.links]) link.fault(kind);
  }

  close() {
    this.listener.close();
    this.fault("cut");
  }
}
