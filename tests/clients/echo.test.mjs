// The official JavaScript client, in three versions and over each transport, against the echo server.
//
//   cargo build --example echo_server && npm ci && node --test
//
// The server is target/debug/examples/echo_server, below CARGO_TARGET_DIR if that is set; CSM_ECHO_SERVER names another.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { io as latest } from "socket.io-client";
import early from "socket.io-client-4-0";
import three from "socket.io-client-3";

const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../target", import.meta.url));
const SERVER = process.env.CSM_ECHO_SERVER ?? `${target}/debug/examples/echo_server`;

// It only ever costs time when something is broken.
const DEADLINE_MS = 60_000;

const VERSIONS = [
  ["4.8.4", latest],
  ["4.0.2", early.io],
  ["3.1.3", three.io],
];
const TRANSPORTS = [
  ["default settings", {}],
  ["polling only", { transports: ["polling"] }],
  ["websocket only", { transports: ["websocket"] }],
];

// Pings of 300/200 ms would end a client that a busy machine holds up for a moment; the heartbeat has tests of its own.
async function startServer(port = 0) {
  const child = spawn(SERVER, ["--port", String(port), "--pings", "1000/20000"], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    }
  };
  return { port: Number(line), stop };
}

// The arguments of the next event of that name.
function next(emitter, name) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${name}`)), DEADLINE_MS);
    emitter.once(name, (...args) => {
      clearTimeout(late);
      resolve(args);
    });
  });
}

function acked(socket, ...event) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no acknowledgement of ${event[0]}`)), DEADLINE_MS);
    socket.emit(...event, (...args) => {
      clearTimeout(late);
      resolve(args);
    });
  });
}

// Binary comes as Buffer in Node; two of them are equal if their bytes are.
const plain = (value) => {
  if (value instanceof Uint8Array) return { bytes: [...value] };
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
};
const same = (got, sent) => assert.deepEqual(plain(got), plain(sent));

const ARGUMENTS = [
  ["nothing", []],
  ["text", ["wörld \u{1f600}", 1, null, { a: [true] }]],
  ["binary", [Uint8Array.of(0, 1, 254, 255)]],
  ["binary inside", [{ deep: [Uint8Array.of(1)] }, "between", Uint8Array.of(2, 3), new Uint8Array(0)]],
  ["much", ["x".repeat(200_000), new Uint8Array(200_000).fill(7)]],
];

async function talks(socket) {
  for (const [, args] of ARGUMENTS) {
    const back = next(socket, "message-back");
    socket.emit("message", ...args);
    same(await back, args);
    same(await acked(socket, "message-with-ack", ...args), args);
    const answered = next(socket, "ack-back");
    socket.once("with-ack", (...got) => got.pop()(...got));
    socket.emit("emit-with-ack", ...args);
    same(await answered, args);
  }
}

for (const [version, io] of VERSIONS) {
  for (const [transport, options] of TRANSPORTS) {
    test(`socket.io-client ${version}, ${transport}`, { timeout: 3 * DEADLINE_MS }, async (t) => {
      let server = await startServer();
      t.after(() => server.stop());
      const url = `http://127.0.0.1:${server.port}`;
      const socket = io(url, { ...options, auth: { token: "abc" }, forceNew: true });
      t.after(() => socket.close());
      const upgraded = new Promise((resolve) => {
        socket.io.once("open", () => socket.io.engine.once("upgrade", resolve));
      });

      // Connects, and is told the auth it gave.
      const auth = next(socket, "auth");
      await next(socket, "connect");
      same(await auth, [{ token: "abc" }]);
      await talks(socket);
      if (!options.transports) {
        await upgraded;
        assert.equal(socket.io.engine.transport.name, "websocket");
        await talks(socket);
      } else {
        assert.equal(socket.io.engine.transport.name, options.transports[0]);
      }

      // Many messages in both directions keep their order.
      const numbers = [];
      const all = new Promise((resolve) => {
        socket.on("message-back", (n) => numbers.push(n) === 500 && resolve());
      });
      for (let n = 0; n < 500; n++) socket.emit("message", n);
      await all;
      socket.off("message-back");
      assert.deepEqual(numbers, Array.from({ length: 500 }, (_, n) => n));

      // Another namespace on the same connection, and one that does not exist.
      const custom = socket.io.socket("/custom", { auth: { token: "def" } });
      const customAuth = next(custom, "auth");
      await next(custom, "connect");
      same(await customAuth, [{ token: "def" }]);
      assert.notEqual(custom.id, socket.id);
      await talks(custom);
      const nowhere = socket.io.socket("/nowhere");
      assert.equal((await next(nowhere, "connect_error"))[0].message, "Invalid namespace");
      nowhere.close();

      // The server ends the stay in one namespace; the other one goes on, and the client may come back.
      const left = next(custom, "disconnect");
      custom.emit("leave");
      assert.equal((await left)[0], "io server disconnect");
      assert.equal(socket.connected, true);
      await talks(socket);
      custom.connect();
      await next(custom, "connect");
      await talks(custom);
      custom.close();

      // The server goes and comes back: the client does, too, by itself.
      const gone = next(socket, "disconnect");
      await server.stop();
      await gone;
      server = await startServer(server.port);
      await next(socket, "connect");
      await talks(socket);
      socket.close();
    });
  }
}
