// How what the server says gets into a conversation, whole and in order, whenever its answers come.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Conversations } from "../../../src/web/conversations.js";
import { Signal } from "../../../src/web/signal.js";

const prompt = (seq) => ({ name: "prompt", data: { seq, promptId: `p${seq}`, text: `prompt ${seq}` }, time: 0 });
const summary = (sessionId, more = {}) => ({ sessionId, state: "idle", queue: [], openQuestions: 0, ...more });

/** A server whose every answer the test gives. */
class Server {
  connected = true;
  onEvent = new Signal();
  asked = [];
  #waiting = [];
  #arrived = null;

  request(name, data) {
    return new Promise((resolve, reject) => {
      this.asked.push([name, data]);
      this.#waiting.push({ name, data, resolve, reject });
      this.#arrived?.();
    });
  }

  /** The next request, which must have this name. */
  async next(name) {
    while (this.#waiting.length === 0) await new Promise((resolve) => (this.#arrived = resolve));
    const request = this.#waiting.shift();
    assert.equal(request.name, name, JSON.stringify(request.data));
    return request;
  }

  /** What has been asked by the time at which nothing is left to do. */
  async left() {
    await new Promise(setImmediate);
    return this.#waiting.length;
  }

  /** Answers the next request to watch a session, and the one for its details. */
  async resumes(events, more = {}) {
    const { data, resolve } = await this.next("resumeSession");
    resolve({ logId: "log", events, session: summary(data.sessionId), more: false, ...more });
    (await this.next("getSession")).resolve({ session: summary(data.sessionId), questions: [], ...more.details });
    return data;
  }
}

const prompts = (conversation) => conversation.transcript.items.filter(({ kind }) => kind === "prompt")
  .map(({ text }) => text);

test("what comes while the history is on its way is put behind it", async () => {
  const server = new Server();
  const conversations = new Conversations(server);
  const shown = conversations.show("a");
  const { resolve } = await server.next("resumeSession");
  server.onEvent.tell("prompt", { sessionId: "a", ...prompt(3).data });
  assert.deepEqual(prompts(conversations.current), []);
  resolve({ logId: "log", events: [prompt(1), prompt(2)], session: summary("a"), more: false });
  (await server.next("getSession")).resolve({ session: summary("a"), questions: [] });
  await shown;
  assert.deepEqual(prompts(conversations.current), ["prompt 1", "prompt 2", "prompt 3"]);
});

test("sessions are watched one after the other, and the last one chosen stays watched", async () => {
  const server = new Server();
  const conversations = new Conversations(server);
  const shown = [conversations.show("a"), conversations.show("b"), conversations.show("c")];
  const watched = [];
  for (let at = 0; at < 3; at++) {
    assert.equal(await server.left(), 1, "the next waits for the one before");
    watched.push(await server.resumes([]));
  }
  await Promise.all(shown);
  assert.deepEqual(watched.map(({ sessionId, leaveOthers }) => [sessionId, leaveOthers]),
    [["a", true], ["b", true], ["c", true]]);
  assert.deepEqual(["a", "b", "c"].map((id) => conversations.get(id).watched), [false, false, true]);
});

/** A session in which Claude works, and one that is shown. */
async function oneAtWork() {
  const server = new Server();
  const conversations = new Conversations(server);
  const working = () => server.resumes([], { session: summary("a", { state: "busy" }),
    details: { session: summary("a", { state: "busy" }) } });
  const first = conversations.show("a");
  await working();
  await first;
  const second = conversations.show("b");
  assert.equal((await server.resumes([])).leaveOthers, false, "Claude works in the other");
  await second;
  return { server, conversations, working };
}

test("after the connection was lost, the session that is shown and those at work are watched", async () => {
  const { server, conversations, working } = await oneAtWork();
  conversations.place();
  server.onEvent.tell("sessionRegistered", { sessionId: "b", logId: "log", session: summary("b") });
  (await server.next("getHistory")).resolve({ events: [], more: false });
  (await server.next("getSession")).resolve({ session: summary("b"), questions: [] });
  const again = await working();
  assert.deepEqual([again.sessionId, again.leaveOthers], ["a", false]);
  assert.equal(await server.left(), 0);
  assert.deepEqual(["a", "b"].map((id) => conversations.get(id).watched), [true, true]);
});

test("so they are where another one was chosen while the connection came back", async () => {
  const { server, conversations, working } = await oneAtWork();
  conversations.place();
  server.connected = false;
  await conversations.show("c");
  server.connected = true;
  server.onEvent.tell("sessionRegistered", { sessionId: "b", logId: "log", session: summary("b") });
  assert.equal((await server.resumes([])).sessionId, "c");
  const again = await working();
  assert.deepEqual([again.sessionId, again.leaveOthers], ["a", false]);
  assert.equal(await server.left(), 0);
  assert.deepEqual(["a", "b", "c"].map((id) => conversations.get(id).watched), [true, false, true]);
  assert.equal(conversations.current.id, "c");
});

/** A session of which one prompt was seen, and another that is shown now. */
async function oneSeenBefore() {
  const server = new Server();
  const conversations = new Conversations(server);
  const first = conversations.show("a");
  await server.resumes([prompt(1)]);
  await first;
  const other = conversations.show("b");
  await server.resumes([]);
  await other;
  return { server, conversations };
}

test("where what was missed is not to be had, all is asked for anew the next time", async () => {
  const { server, conversations } = await oneSeenBefore();
  // Back to the first: the answer does not come, but something newer does.
  const failing = conversations.show("a");
  const { data, reject } = await server.next("resumeSession");
  assert.deepEqual([data.afterSeq, data.logId], [1, "log"]);
  server.onEvent.tell("prompt", { sessionId: "a", ...prompt(3).data });
  reject(Object.assign(new Error("no answer"), { code: "timeout" }));
  await assert.rejects(failing, /no answer/);
  assert.deepEqual(prompts(conversations.current), ["prompt 1"], "there is a gap before the third");
  // The other one is still watched.
  await conversations.show("b");
  const back = conversations.show("a");
  const asked = await server.resumes([prompt(1), prompt(2), prompt(3)]);
  await back;
  assert.equal(asked.afterSeq, undefined);
  assert.deepEqual(prompts(conversations.current), ["prompt 1", "prompt 2", "prompt 3"]);
});

test("where the numbers are no longer good, or too much was missed, the end is shown", async () => {
  for (const refusal of [true, false]) {
    const { server, conversations } = await oneSeenBefore();
    const back = conversations.show("a");
    const { resolve, reject } = await server.next("resumeSession");
    if (refusal) {
      reject(Object.assign(new Error("gap"), { code: "seq_gap" }));
      assert.equal((await server.resumes([prompt(8), prompt(9)], { more: true })).afterSeq, undefined);
    } else {
      resolve({ logId: "log", events: [prompt(2)], session: summary("a"), more: true });
      (await server.next("getHistory")).resolve({ events: [prompt(8), prompt(9)], more: true });
      (await server.next("getSession")).resolve({ session: summary("a"), questions: [] });
    }
    await back;
    assert.deepEqual(prompts(conversations.current), ["prompt 8", "prompt 9"]);
    assert.equal(conversations.current.complete, false, "older ones are there to be asked for");
  }
});

test("the commands are the last that Claude told, whatever is read from the history", async () => {
  const server = new Server();
  const conversations = new Conversations(server);
  const told = (...names) => ({ type: "system", subtype: "commands_changed", commands: names.map((name) => ({ name })) });
  const shown = conversations.show("a");
  await server.resumes([{ name: "claudeEvent", data: { seq: 1, event: told("old") }, time: 0 }],
    { details: { commands: [{ name: "new" }, {}, null] } });
  await shown;
  const names = () => conversations.current.commands.map(({ name }) => name);
  assert.deepEqual(names(), ["new"]);
  server.onEvent.tell("claudeEvent", { sessionId: "a", seq: 2, event: told("newer", 5) });
  assert.deepEqual(names(), ["newer"]);
  server.onEvent.tell("claudeEvent", { sessionId: "a", seq: 3, event: { ...told(), commands: "none" } });
  assert.deepEqual(names(), ["newer"]);
});
