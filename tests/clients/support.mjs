// The server as a child process with the demo agent, and what the tests wait for on the official client.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

/** A wait may take this long before the test has failed. It only ever costs time when something is broken. */
export const DEADLINE_MS = 30_000;

const LISTENING = "listening on http://127.0.0.1:";

/** By workspace: ends the servers that were started there. */
const servers = new Map();

/** The directories of one test: they are removed when it ends, and the servers that write there with them. */
export function makeWorkspace(t) {
  const root = realpathSync(mkdtempSync(join(tmpdir(), "csm-test-")));
  for (const name of ["home", "tmp", "work"]) mkdirSync(join(root, name));
  servers.set(root, []);
  t.after(async () => {
    await Promise.all(servers.get(root).map((stop) => stop()));
    rmSync(root, { recursive: true, force: true });
  });
  return root;
}

/** The flags for the stand-in agent that is built beside the server: it answers `words N` and `slow N MS`. */
export function badAgent() {
  const path = join(dirname(process.env.CSM_TEST_SERVER ?? ""), "examples", "bad_agent");
  if (!existsSync(path)) throw new Error("the example bad_agent is not built: run scripts/test");
  return [`--agent=${path}`, "--agent-arg=proper"];
}

/** Starts the server that CSM_TEST_SERVER names, with an emptied environment, and waits until it listens. */
export async function startServer(t, { root = makeWorkspace(t), port = 0, args = [], env: more = {} } = {}) {
  const program = process.env.CSM_TEST_SERVER;
  if (!program) throw new Error("CSM_TEST_SERVER must name the server's binary: run scripts/test");
  const all = ["--agent=demo", `--port=${port}`, `--data-dir=${join(root, "data")}`, `--cwd=${join(root, "work")}`];
  const env = { PATH: process.env.PATH, HOME: join(root, "home"), TMPDIR: join(root, "tmp"), ...more };
  const child = spawn(program, [...all, ...args], { env, stdio: ["ignore", "ignore", "pipe"] });
  const exited = once(child, "exit");
  const stop = async (signal = "SIGTERM") => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    const [code] = await within(exited, "the server's end");
    return code;
  };
  servers.get(root).push(stop);
  const log = [];
  const listens = new Promise((resolve, reject) => {
    createInterface(child.stderr).on("line", (line) => {
      log.push(line);
      const at = line.indexOf(LISTENING);
      if (at >= 0) resolve(parseInt(line.slice(at + LISTENING.length), 10));
    });
    exited.then(() => reject(new Error(`the server ended instead of listening:\n${log.join("\n")}`)), reject);
  });
  const listening = await within(listens, "the server to listen");
  const token = readFileSync(join(root, "data", "token"), "utf8").trim();
  return { root, port: listening, url: `http://127.0.0.1:${listening}`, token, log, stop };
}

/** A client that keeps every event in `socket.seen`, as `[name, data]`. It is closed when the test ends. */
export function openClient(t, server, { auth = { token: server.token }, ...options } = {}) {
  const socket = io(server.url, {
    transports: ["websocket"],
    forceNew: true,
    reconnectionDelay: 50,
    reconnectionDelayMax: 100,
    auth,
    ...options,
  });
  socket.seen = [];
  socket.onAny((name, data) => socket.seen.push([name, data]));
  t.after(() => socket.close());
  return socket;
}

/** As `openClient`, and waits for its session; `auth` adds to the token. */
export async function connect(t, server, auth = {}) {
  const socket = openClient(t, server, { auth: { token: server.token, ...auth } });
  const registered = await waitFor(socket, "sessionRegistered");
  return { socket, registered, sessionId: registered.sessionId };
}

/** The first event of that name from the `from`th on for which `wanted` is true, whether it came already or comes. */
export function waitFor(socket, name, wanted = () => true, from = 0) {
  const found = socket.seen.slice(from).find((event) => event[0] === name && wanted(event[1]));
  if (found) return Promise.resolve(found[1]);
  let look;
  const comes = new Promise((resolve) => {
    look = (event, data) => event === name && wanted(data) && resolve(data);
    socket.onAny(look);
  });
  return within(comes, `event ${name}`).finally(() => socket.offAny(look));
}

/** What the client itself tells (`connect`, `disconnect`, `connect_error`): its arguments, the next time. */
export function next(emitter, name) {
  // Node's own `once` would take an "error" for a failure of the wait.
  return within(new Promise((resolve) => emitter.once(name, (...args) => resolve(args))), name);
}

/** The acknowledgement of an event, which must be `ok`. */
export async function must(socket, name, data) {
  const ack = await within(socket.emitWithAck(name, data), `the acknowledgement of ${name}`);
  if (ack.ok !== true) throw new Error(`${name} was refused: ${JSON.stringify(ack)}`);
  return ack;
}

/** The error of an event, which must be refused. */
export async function mustFail(socket, name, data) {
  const ack = await within(socket.emitWithAck(name, data), `the acknowledgement of ${name}`);
  if (ack.ok !== false) throw new Error(`${name} went through: ${JSON.stringify(ack)}`);
  return ack.error;
}

export function chunksOf(socket, promptId) {
  const chunks = socket.seen.filter(([name, data]) => name === "claudeStreamChunk" && data.promptId === promptId);
  return chunks.map(([, data]) => data.text);
}

export async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${DEADLINE_MS} ms for ${what}`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
