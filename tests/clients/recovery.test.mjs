// Connection state recovery: the official client, and a network that treats it badly.
//
// CSM_TEST_SEED repeats a run's faults (their place in the stream still depends on the machine's speed).

import assert from "node:assert/strict";
import { test } from "node:test";
import { Proxy, Random } from "./proxy.mjs";
import {
  badAgent, chunksOf, connect, must, next, openClient, startServer, waitFor, within,
} from "./support.mjs";

const RECONNECTS = Number(process.env.CSM_TEST_RECONNECTS ?? 1000);
const SEED = Number(process.env.CSM_TEST_SEED ?? Date.now() % 2 ** 32);

/** The run with all its faults may take this long, on a machine that does other things as well. */
const CHAOS_DEADLINE_MS = 110_000;

/** A prompt that nobody answers for so long is lost. */
const PROMPT_DEADLINE_MS = 30_000;

const PINGS = ["--ping-interval-ms=300", "--ping-timeout-ms=300"];

const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], default: undefined };

function startWithAgent(t, args = []) {
  return startServer(t, { args: [...badAgent(), ...PINGS, ...args] });
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function until(what, holds) {
  const deadline = Date.now() + PROMPT_DEADLINE_MS;
  while (!holds()) {
    assert.ok(Date.now() < deadline, `waited ${PROMPT_DEADLINE_MS} ms for ${what}`);
    await sleep(5);
  }
}

/** What the agent says to `words N` and `slow N MS`. */
function counted(count) {
  return Array.from({ length: count }, (_, index) => `w${index + 1}`).join(" ");
}

/** Where a text leaves the other, with what surrounds it. */
function firstDifference(said, whole) {
  let at = 0;
  while (at < whole.length && said[at] === whole[at]) at += 1;
  return `${at} of ${whole.length}: ${JSON.stringify([said, whole].map((text) => text.slice(Math.max(at - 20, 0), at + 30)))}`;
}

// --- One thing at a time ---

/** A client that recovers, behind a proxy, with its session registered. */
async function recovering(t, server, { transport = "websocket", url, ...auth } = {}) {
  const proxy = await Proxy.open(t, server.port);
  const asked = { token: server.token, recover: true, ...auth };
  const client = { proxy };
  client.socket = openClient(t, { url: url ?? proxy.url }, {
    transports: TRANSPORTS[transport],
    reconnectionDelay: 5,
    reconnectionDelayMax: 20,
    auth: (answer) => answer({ ...asked, sessionId: client.sessionId, ...client.offer }),
  });
  ({ sessionId: client.sessionId } = await waitFor(client.socket, "sessionRegistered"));
  return client;
}

/** Cuts it off for so long, and waits until it is here again. */
async function cutAndBack({ socket, proxy }, kind = "cut", ms = 0) {
  const [gone, back] = [next(socket, "disconnect"), next(socket, "connect")];
  // One that polls may have no connection at this moment.
  proxy.refusing = true;
  proxy.fault(kind);
  await gone;
  await sleep(ms);
  proxy.refusing = false;
  await back;
}

for (const transport of Object.keys(TRANSPORTS)) {
  test(`a client that was cut off gets what it missed (${transport})`, async (t) => {
    const server = await startWithAgent(t);
    const client = await recovering(t, server, { transport });
    const { socket, sessionId } = client;
    const { promptId } = await must(socket, "askClaudeCode", { sessionId, prompt: "slow 400 3" });
    for (const kind of ["cut", "end", "half-up", "black-hole"]) {
      await waitFor(socket, "claudeStreamChunk", (data) => data.promptId === promptId, socket.seen.length);
      const { id } = socket;
      await cutAndBack(client, kind);
      assert.equal(socket.recovered, true, kind);
      assert.equal(socket.id, id, "it is the same client");
    }
    // Until the answer is over.
    await cutAndBack(client, "cut", 400);
    assert.equal(socket.recovered, true);
    const response = await waitFor(socket, "claudeResponse", (data) => data.promptId === promptId);
    assert.equal(response.fullResponse, counted(400));
    assert.equal(chunksOf(socket, promptId).join(""), counted(400));
    const count = (name) => socket.seen.filter(([seen]) => seen === name).length;
    assert.deepEqual(["sessionRegistered", "claudeStreamStart", "claudeResponse"].map(count), [1, 1, 1]);
  });
}

test("an idle client comes back, whatever it was told last", async (t) => {
  const server = await startWithAgent(t);
  for (const transport of Object.keys(TRANSPORTS)) {
    const client = await recovering(t, server, { transport });
    const { socket, sessionId } = client;
    // An acknowledgement has no offset. Some heartbeats later everything before it is forgotten, but not the last offset.
    await must(socket, "getSession", { sessionId });
    for (let pings = 0; pings < 3; pings++) await next(socket.io, "ping");
    await must(socket, "getSession", { sessionId });
    await cutAndBack(client);
    assert.equal(socket.recovered, true, transport);
    await must(socket, "getSession", { sessionId });
    await cutAndBack(client);
    assert.equal(socket.recovered, true, transport);
  }
});

test("who cannot be recovered gets a fresh state", async (t) => {
  const server = await startWithAgent(t);
  const cases = [
    ["an unknown pid", () => ({ pid: "AAAAAAAAAAAAAAAAAAAA" })],
    ["an unknown offset", () => ({ offset: "0000000000000000.1" })],
    ["an offset that is none", () => ({ offset: "" })],
    ["an offset of another's", (other) => ({ offset: other._lastOffset })],
    ["no offset", () => ({ offset: null })],
    ["a pid that is none", () => ({ pid: 17 })],
  ];
  const other = await recovering(t, server);
  for (const [what, offer] of cases) {
    const client = await recovering(t, server);
    const { socket, sessionId } = client;
    await must(socket, "askClaudeCode", { sessionId, prompt: "words 3" });
    await waitFor(socket, "claudeResponse");
    const [{ id }, pid, from] = [socket, socket._pid, socket.seen.length];
    client.offer = offer(other.socket);
    await cutAndBack(client);
    assert.equal(socket.recovered, false, what);
    assert.notEqual(socket._pid, pid, what);
    assert.notEqual(socket.id, id, what);
    const registered = await waitFor(socket, "sessionRegistered", () => true, from);
    assert.deepEqual([registered.sessionId, registered.resumed], [sessionId, true], what);
    const { events } = await must(socket, "getHistory", { sessionId });
    assert.equal(events.at(-1).seq, registered.seq, what);
    // And from there on it recovers again.
    client.offer = {};
    await cutAndBack(client);
    assert.equal(socket.recovered, true, what);
    socket.close();
  }
});

test("a wrong token is refused, with a valid pid as well", async (t) => {
  const server = await startWithAgent(t);
  const client = await recovering(t, server);
  const { socket } = client;
  for (const token of ["wrong", null]) {
    const pid = socket._pid;
    client.offer = { token };
    const refused = next(socket, "connect_error");
    client.proxy.fault("cut");
    const [error] = await refused;
    assert.equal(error.data.code, "unauthorized");
    assert.equal(socket.connected, false);
    // It has lost nothing by that.
    client.offer = {};
    const back = next(socket, "connect");
    socket.connect();
    await back;
    assert.deepEqual([socket.recovered, socket._pid], [true, pid]);
  }
});

test("who has left by itself is not recovered", async (t) => {
  const server = await startWithAgent(t);
  for (const transport of Object.keys(TRANSPORTS)) {
    const { socket } = await recovering(t, server, { transport });
    const pid = socket._pid;
    const back = next(socket, "connect");
    socket.disconnect();
    socket.connect();
    await back;
    assert.equal(socket.recovered, false, transport);
    assert.notEqual(socket._pid, pid, transport);
  }
});

test("a new connection recovers while the old one looks alive", async (t) => {
  // No ping comes in time to notice that the old connection is dead.
  const server = await startServer(t, { args: badAgent() });
  for (const transport of Object.keys(TRANSPORTS)) {
    const client = await recovering(t, server, { transport });
    const { socket, sessionId } = client;
    const { promptId } = await must(socket, "askClaudeCode", { sessionId, prompt: "slow 60 5" });
    await waitFor(socket, "claudeStreamChunk", (data) => data.promptId === promptId);
    client.proxy.fault("black-hole");
    await sleep(50);
    const back = next(socket, "connect");
    // The client finds out, and what it says to the server is swallowed.
    socket.io.engine.close();
    await back;
    assert.equal(socket.recovered, true, transport);
    const response = await waitFor(socket, "claudeResponse", (data) => data.promptId === promptId);
    assert.equal(chunksOf(socket, promptId).join(""), response.fullResponse, transport);
    assert.equal((await must(socket, "getSession", { sessionId })).session.viewers, 1, transport);
  }
});

test("whoever comes back is not left waiting for one who does not read", async (t) => {
  // No heartbeat ends the one that does not read.
  const server = await startServer(t, { args: [...badAgent(), "--outbox-bytes-max=256k"] });
  const client = await recovering(t, server);
  const { socket, sessionId } = client;
  await must(socket, "askClaudeCode", { sessionId, prompt: "words 3" });
  await waitFor(socket, "claudeResponse");
  const { socket: stuck } = await connect(t, server, { sessionId, stream: "events" });
  // Away: Claude waits for the other one alone.
  client.proxy.refusing = true;
  const gone = next(socket, "disconnect");
  client.proxy.fault("cut");
  await gone;
  // Of these lines the one that comes back has missed nothing: it says nothing by coming.
  const { promptId } = await must(stuck, "askClaudeCode", { sessionId, prompt: "lines 1000 20000" });
  stuck.io.engine.transport.ws._socket.pause();
  await sleep(1_000);
  const back = next(socket, "connect");
  client.proxy.refusing = false;
  await back;
  assert.equal(socket.recovered, true);
  await within(waitFor(socket, "claudeResponse", (data) => data.promptId === promptId), "the answer");
});

test("who is away for too long is not recovered", async (t) => {
  const server = await startWithAgent(t, ["--recovery-window=200ms"]);
  const client = await recovering(t, server);
  const { socket, sessionId } = client;
  await must(socket, "askClaudeCode", { sessionId, prompt: "words 3" });
  await waitFor(socket, "claudeResponse");
  await cutAndBack(client);
  assert.equal(socket.recovered, true);
  const from = socket.seen.length;
  await cutAndBack(client, "cut", 600);
  assert.equal(socket.recovered, false);
  const registered = await waitFor(socket, "sessionRegistered", () => true, from);
  assert.deepEqual([registered.sessionId, registered.resumed], [sessionId, true]);
});

test("who does not ask for recovery gets neither pid nor offsets", async (t) => {
  const server = await startWithAgent(t);
  for (const recover of [undefined, false, "true", 1]) {
    const client = await recovering(t, server, { recover });
    const { socket, sessionId } = client;
    const counts = new Set();
    socket.onAny((_, ...args) => counts.add(args.length));
    await must(socket, "askClaudeCode", { sessionId, prompt: "words 3" });
    await waitFor(socket, "claudeResponse");
    assert.deepEqual([socket._pid, [...counts]], [undefined, [1]], String(recover));
    await cutAndBack(client);
    assert.ok(!socket.recovered, String(recover));
    socket.close();
  }
  const { socket, sessionId } = await recovering(t, server);
  const offsets = [];
  socket.onAny((_, ...args) => offsets.push(args.length === 2 && typeof args[1]));
  await must(socket, "askClaudeCode", { sessionId, prompt: "words 3" });
  await waitFor(socket, "claudeResponse");
  assert.deepEqual([...new Set(offsets)], ["string"]);
});

// --- Everything at once ---

const FAULTS = ["cut", "cut", "end", "half-up", "half-down", "black-hole"];

/** How a connection is treated from the start. */
function shape(random) {
  const direction = (bytes) => ({
    delay: random.chance(0.25) ? random.between(1, 25) : 0,
    slice: random.chance(0.2),
    limit: random.chance(0.3) ? random.magnitude(bytes) : Infinity,
  });
  return { up: direction(4000), down: direction(60_000) };
}

/** One client that asks one prompt after another, and checks every event that it gets. */
class Tester {
  constructor(name, stream, random) {
    Object.assign(this, { name, stream, random, counts: { reconnects: 0, recovered: 0, lost: 0, neverKnown: 0 } });
    Object.assign(this, { prompts: 0, judged: 0, faults: [], current: undefined, fresh: 0, events: [] });
  }

  fail(what) {
    this.faults.push(`${this.name}: ${what}`);
  }

  async start(t, server, transports) {
    this.storm = true;
    this.proxy = await Proxy.open(t, server.port, () => (this.storm ? shape(this.random) : {}));
    this.socket = openClient(t, { url: this.proxy.url }, {
      transports,
      reconnectionDelay: 5,
      reconnectionDelayMax: 30,
      timeout: 1500,
      auth: (answer) => {
        const { token } = server;
        answer({ token, recover: true, stream: this.stream, sessionId: this.sessionId });
      },
    });
    this.socket.offAny();
    this.socket.onAny((name, data) => this.see(name, data));
    this.socket.on("connect", () => this.connected());
  }

  connected() {
    const { socket, counts } = this;
    if (this.pid !== undefined) {
      counts.reconnects += 1;
      if (socket.recovered) counts.recovered += 1;
      // A client that has not seen a single event under its pid has nothing to name.
      else if (this.offsetOf !== this.pid) counts.neverKnown += 1;
      else {
        counts.lost += 1;
        this.fail(`not recovered at reconnect ${counts.reconnects}`);
      }
      if (!socket.recovered) this.fresh += 1;
    }
    this.pid = socket._pid;
  }

  see(name, data) {
    // While missed events are handed out at CONNECT, `_pid` is set already.
    this.offsetOf = this.socket._pid;
    if (name === "sessionRegistered") return this.registered(data);
    if (data.sessionId !== this.sessionId) return this.fail(`${name} of session ${data.sessionId}`);
    if (this.stream === "events") this.number(name, data);
    if (name === "serverError" || name === "notice") this.fail(JSON.stringify([name, data]));
    if (name === "prompt" && data.promptId === this.current?.promptId) {
      if (this.current.prompt) this.fail(`a second prompt ${data.promptId}`);
      this.current.prompt = true;
    }
    if (this.stream === "events") this.claudeEvent(name, data);
    else if (name.startsWith("claude")) this.text(name, data);
    return undefined;
  }

  registered({ sessionId, seq, part }) {
    if (this.sessionId !== undefined && this.sessionId !== sessionId && this.prompts > 0) {
      this.fail(`session ${this.sessionId} has become ${sessionId}`);
    }
    this.sessionId = sessionId;
    Object.assign(this, { seq, part: part ?? 0 });
  }

  /** `seq` has no holes, `part` counts the deltas since. */
  number(name, { seq, part, event }) {
    if (seq === undefined) return;
    const expected = part === undefined ? [this.seq + 1, undefined] : [this.seq, this.part + 1];
    if (seq !== expected[0] || part !== expected[1]) {
      const at = `at reconnect ${this.counts.reconnects}`;
      this.fail(`${name} ${seq}/${part} (${event?.type}) behind ${this.seq}/${this.part}, ${at}`);
    }
    Object.assign(this, { seq, part: part ?? 0 });
    if (part === undefined) this.events.push([seq, name]);
  }

  text(name, data) {
    const { current } = this;
    if (data.promptId !== current?.promptId) return this.fail(`${name} of prompt ${data.promptId}`);
    const order = ["claudeStreamStart", "claudeStreamChunk", "claudeStreamEnd", "claudeResponse"];
    const last = order.indexOf(current.last);
    const now = order.indexOf(name);
    const follows = now === last + 1 || (name === "claudeStreamChunk" && now === last);
    if (!follows && current.fresh === this.fresh) this.fail(`${name} behind ${current.last}`);
    current.last = name;
    if (name === "claudeStreamChunk") current.chunks.push(data.text);
    if (name === "claudeResponse") {
      current.response = data.fullResponse;
      current.over = true;
    }
    return undefined;
  }

  claudeEvent(name, { event }) {
    const { current } = this;
    if (name !== "claudeEvent" || !current?.prompt) return;
    if (event.type === "stream_event" && event.event?.delta?.type === "text_delta") {
      current.chunks.push(event.event.delta.text);
    }
    if (event.type === "result") {
      current.response = event.result;
      current.over = true;
    }
  }

  /** Until it is acknowledged; the same promptId asks only once. */
  async ask(data) {
    const deadline = Date.now() + PROMPT_DEADLINE_MS;
    while (Date.now() < deadline) {
      try {
        const ack = await this.socket.timeout(1500).emitWithAck("askClaudeCode", data);
        if (ack.ok) return true;
        return this.fail(`${data.prompt} was refused: ${JSON.stringify(ack.error)}`);
      } catch {
        // The connection was cut.
      }
    }
    return this.fail(`${data.promptId} was not acknowledged`);
  }

  async run(over) {
    await until(`${this.name}'s session`, () => this.sessionId !== undefined);
    while (!over() && this.faults.length === 0) {
      const count = this.random.pick([3, 40, 150, 400]);
      const promptId = `${this.name}-${++this.prompts}`;
      const current = { promptId, chunks: [], fresh: this.fresh };
      this.current = current;
      const prompt = count > 200 ? `words ${count}` : `slow ${count} ${this.random.between(1, 6)}`;
      if (!(await this.ask({ sessionId: this.sessionId, prompt, promptId }))) return;
      const deadline = Date.now() + PROMPT_DEADLINE_MS;
      while (!current.over && current.fresh === this.fresh && Date.now() < deadline) await sleep(3);
      if (current.fresh !== this.fresh) {
        await this.catchUp(current);
        continue;
      }
      if (!current.over) return this.fail(`${promptId} was not answered: ${await this.situation(current)}`);
      const [said, whole] = [current.chunks.join(""), counted(count)];
      if (current.response !== whole) this.fail(`${promptId} was answered ${JSON.stringify(current.response)}`);
      if (said !== whole) this.fail(`${promptId} came otherwise, from ${firstDifference(said, whole)}`);
      this.judged += 1;
    }
  }

  /** The server has made no promise: the session's history has what was missed. */
  async catchUp(current) {
    const deadline = Date.now() + PROMPT_DEADLINE_MS;
    let state;
    while (state !== "idle" && Date.now() < deadline) {
      try {
        const ack = await this.socket.timeout(1500).emitWithAck("getSession", { sessionId: this.sessionId });
        state = ack.session?.state;
      } catch {
        // The connection was cut.
      }
      await sleep(20);
    }
    if (state !== "idle") this.fail(`${current.promptId} was not answered`);
  }

  /** What there is to say of a prompt that has got no answer. */
  async situation({ promptId, prompt, last, chunks }) {
    const { connected, recovered, _lastOffset: offset } = this.socket;
    const seen = JSON.stringify({ connected, recovered, offset, prompt, last, chunks: chunks.length });
    try {
      const { session } = await must(this.socket, "getSession", { sessionId: this.sessionId });
      const { events } = await must(this.socket, "getHistory", { sessionId: this.sessionId });
      const asked = events.findIndex(({ name, data }) => name === "prompt" && data.promptId === promptId);
      const kinds = events.slice(asked).map(({ name, data }) => data.event?.type ?? name);
      return `${seen} ${JSON.stringify(session)} ${asked >= 0 ? kinds : "never begun"}`;
    } catch (error) {
      return `${seen} ${error.message}`;
    }
  }

  /** Bad weather until it is over. */
  async weather(over) {
    const random = new Random(this.random.between(1, 2 ** 31));
    while (!over()) {
      await sleep(random.between(30, 450));
      this.proxy.fault(random.pick(FAULTS));
      if (random.chance(0.2)) {
        this.proxy.refusing = true;
        await sleep(random.between(1, 60));
        this.proxy.refusing = false;
      }
    }
    this.storm = false;
    this.proxy.fault("cut");
  }

  close() {
    this.socket.close();
    this.proxy.close();
  }

  async wholeHistory() {
    const events = [];
    for (let more = true; more; ) {
      const afterSeq = events.at(-1)?.seq ?? 0;
      const page = await must(this.socket, "getHistory", { sessionId: this.sessionId, afterSeq });
      events.push(...page.events);
      more = page.more;
    }
    return events;
  }
}

test(`${RECONNECTS} reconnects of parallel clients: nothing is lost, doubled or reordered`, async (t) => {
  t.diagnostic(`CSM_TEST_SEED=${SEED}`);
  const testers = [];
  try {
    await chaos(t, testers);
  } finally {
    // Before the server: that it is gone would be one more reason to try again.
    testers.forEach((tester) => tester.close());
  }
});

async function chaos(t, testers) {
  const server = await startWithAgent(t);
  const random = new Random(SEED);
  for (let round = 1; round <= 3; round++) {
    for (const [transport, transports] of Object.entries(TRANSPORTS)) {
      for (const stream of ["text", "events"]) {
        const tester = new Tester(`${transport}-${stream}-${round}`, stream, new Random(random.between(1, 2 ** 31)));
        testers.push(tester);
        await tester.start(t, server, transports);
      }
    }
  }
  const sum = (what) => testers.reduce((total, tester) => total + what(tester), 0);
  const faults = () => testers.flatMap((tester) => tester.faults);
  const begun = Date.now();
  const reconnects = () => sum(({ counts }) => counts.reconnects);
  const over = () => reconnects() >= RECONNECTS || faults().length > 0 || Date.now() - begun > CHAOS_DEADLINE_MS;
  await Promise.all(testers.flatMap((tester) => [tester.weather(over), tester.run(over)]));
  const counts = {};
  for (const name of Object.keys(testers[0].counts)) counts[name] = sum((tester) => tester.counts[name]);
  const [prompts, judged] = [sum((tester) => tester.prompts), sum((tester) => tester.judged)];
  const seconds = (Date.now() - begun) / 1000;
  t.diagnostic(`${JSON.stringify({ ...counts, prompts, judged, seconds })}`);
  assert.deepEqual(faults(), [], `CSM_TEST_SEED=${SEED}`);
  assert.ok(counts.reconnects >= RECONNECTS, `only ${counts.reconnects} reconnects in ${seconds} s`);
  assert.ok(judged > prompts / 2, `${judged} of ${prompts} prompts could be judged`);
  // In quiet weather: what the clients of events saw is what the server has kept.
  for (const tester of testers) {
    const { session } = await must(tester.socket, "getSession", { sessionId: tester.sessionId });
    assert.equal(session.state, "idle", tester.name);
    assert.equal(session.turns, tester.prompts, `${tester.name}: every prompt was asked once`);
    if (tester.stream !== "events" || tester.fresh > 0) continue;
    const history = (await tester.wholeHistory()).map(({ seq, name }) => [seq, name]);
    assert.deepEqual(tester.events, history.slice(history.length - tester.events.length), tester.name);
    assert.equal(history.length, tester.seq, tester.name);
  }
}
