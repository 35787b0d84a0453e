// The official Socket.IO client against the running server.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { badAgent, chunksOf, connect, must, mustFail, next, openClient, startServer, waitFor } from "./support.mjs";

test("a client connects and gets a session", async (t) => {
  const server = await startServer(t);
  const { socket, registered } = await connect(t, server);
  assert.ok(socket.connected);
  assert.match(registered.sessionId, /^session_\d+_[a-z0-9]{9}$/);
  assert.equal(registered.mode, "isolated");
  assert.equal(registered.resumed, false);
  assert.equal(registered.session.agent, "demo");
});

test("a wrong token is refused, and none as well", async (t) => {
  const server = await startServer(t);
  for (const auth of [{ token: "wrong" }, {}]) {
    const socket = openClient(t, server, { auth });
    const [error] = await next(socket, "connect_error");
    assert.equal(error.message, "unauthorized");
    assert.equal(error.data.code, "unauthorized");
    assert.equal(socket.connected, false);
    socket.close();
  }
  await connect(t, server);
});

test("an answer streams in chunks", async (t) => {
  const server = await startServer(t);
  const { socket, sessionId } = await connect(t, server);
  const ack = await must(socket, "askClaudeCode", { sessionId, prompt: "hello, 漢字 🎉" });
  assert.equal(ack.position, 0);
  const response = await waitFor(socket, "claudeResponse", (data) => data.promptId === ack.promptId);
  const chunks = chunksOf(socket, ack.promptId);
  assert.ok(chunks.length > 5, `${chunks.length} chunks`);
  assert.equal(response.fullResponse, chunks.join(""));
  assert.ok(response.fullResponse.startsWith("You said: hello, 漢字 🎉"), response.fullResponse);
  assert.deepEqual([response.status, response.done, response.sessionId], ["done", true, sessionId]);
  const names = socket.seen.map(([name]) => name).filter((name) => name.startsWith("claude"));
  assert.deepEqual(
    [...new Set(names)],
    ["claudeStreamStart", "claudeStreamChunk", "claudeStreamEnd", "claudeResponse"],
  );
});

test("every event is acknowledged", async (t) => {
  const server = await startServer(t);
  const { socket, sessionId } = await connect(t, server);
  const ask = await must(socket, "askClaudeCode", { sessionId, prompt: "one", promptId: "mine", unknown: true });
  assert.deepEqual(ask, { ok: true, promptId: "mine", position: 0 });
  assert.deepEqual(await must(socket, "askClaudeCode", { sessionId, prompt: "one", promptId: "mine" }), ask);
  assert.equal((await mustFail(socket, "askClaudeCode", { sessionId, prompt: "two", promptId: "mine" })).code, "conflict");
  const queued = await must(socket, "askClaudeCode", { sessionId, prompt: "two" });
  assert.equal(queued.position, 1);
  await must(socket, "cancelPrompt", { sessionId, promptId: queued.promptId });
  const cancelled = await waitFor(socket, "claudeResponse", (data) => data.promptId === queued.promptId);
  assert.equal(cancelled.status, "interrupted");

  assert.deepEqual((await must(socket, "interruptClaude", { sessionId })).stillQueued, []);
  const stopped = await waitFor(socket, "claudeResponse", (data) => data.promptId === "mine");
  assert.equal(stopped.status, "interrupted");

  const asking = await must(socket, "askClaudeCode", { sessionId, prompt: "/ask" });
  const question = await waitFor(socket, "permissionRequest");
  const details = await must(socket, "getSession", { sessionId });
  assert.equal(details.session.state, "waiting");
  assert.equal(details.questions[0].requestId, question.requestId);
  await must(socket, "answerPermission", { sessionId, requestId: question.requestId, behavior: "deny" });
  await waitFor(socket, "claudeResponse", (data) => data.promptId === asking.promptId);

  const made = await must(socket, "createSession", { title: "another" });
  assert.notEqual(made.session.sessionId, sessionId);
  assert.equal(made.session.title, "another");
  const listed = await must(socket, "listSessions");
  assert.deepEqual(
    listed.sessions.map((session) => session.sessionId).sort(),
    [sessionId, made.session.sessionId].sort(),
  );

  const closed = await must(socket, "closeSession", { sessionId });
  assert.equal(closed.session.state, "stopped");
  assert.equal((await mustFail(socket, "askClaudeCode", { sessionId, prompt: "three" })).code, "session_ended");
  const resumed = await must(socket, "resumeSession", { sessionId });
  assert.equal(resumed.session.sessionId, sessionId);
  assert.ok(resumed.events.some((event) => event.name === "prompt" && event.data.text === "one"));
  assert.equal(resumed.events.at(-1).seq, resumed.seq);
  const back = await must(socket, "askClaudeCode", { sessionId, prompt: "back" });
  await waitFor(socket, "claudeResponse", (data) => data.promptId === back.promptId && data.status === "done");

  const invalid = await mustFail(socket, "askClaudeCode", { sessionId: "session_0_none", prompt: "x" });
  assert.deepEqual([invalid.code, invalid.message], ["invalid_session", "Invalid session ID"]);
  const bad = await mustFail(socket, "askClaudeCode", { sessionId });
  assert.deepEqual([bad.code, bad.field], ["bad_request", "prompt"]);
  assert.equal((await mustFail(socket, "noSuchEvent", {})).code, "unknown_event");
});

const PNG = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mP4z8CAFTEMLQkAKP8/wc53yE8AAAAASUVORK5CYII=", "base64");

for (const transport of ["websocket", "polling"]) {
  test(`files come with a prompt through ${transport}`, async (t) => {
    const server = await startServer(t, { args: badAgent() });
    const socket = openClient(t, server, { transports: [transport] });
    const { sessionId } = await waitFor(socket, "sessionRegistered");
    const bytes = Buffer.from(Array.from({ length: 1024 }, (_, at) => at % 256));
    const attachments = [
      { name: "dot.png", mediaType: "image/png", data: PNG },
      { name: "notes.txt", mediaType: "text/plain", data: new TextEncoder().encode("漢字 🎉").buffer },
      { name: "bytes.bin", mediaType: "application/octet-stream", data: bytes },
    ];
    const { promptId } = await must(socket, "askClaudeCode", { sessionId, prompt: "content", attachments });
    const response = await waitFor(socket, "claudeResponse", (data) => data.promptId === promptId);
    const [image, text] = JSON.parse(response.fullResponse);
    assert.deepEqual(image.source, { type: "base64", media_type: "image/png", data: PNG.toString("base64") });
    const path = join(server.root, "data", "sessions", sessionId, "files", "bytes.bin");
    assert.ok(text.text.includes('<file name="notes.txt" type="text/plain">\n漢字 🎉\n</file>'), text.text);
    assert.ok(text.text.includes(`path="${path}"`), text.text);
    assert.ok(readFileSync(path).equals(bytes));
    const shown = await waitFor(socket, "prompt");
    assert.deepEqual(shown.attachments.map(({ name, bytes }) => [name, bytes]), [
      ["dot.png", PNG.length],
      ["notes.txt", 11],
      ["bytes.bin", 1024],
    ]);
  });
}

test("an error without an acknowledgement comes as an event", async (t) => {
  const server = await startServer(t);
  const { socket } = await connect(t, server);
  socket.emit("askClaudeCode", { sessionId: "session_0_none", prompt: "x" });
  const error = await waitFor(socket, "serverError");
  assert.deepEqual([error.code, error.event], ["invalid_session", "askClaudeCode"]);
  const response = await waitFor(socket, "claudeResponse");
  assert.deepEqual(response, { sessionId: "session_0_none", error: "Invalid session ID", done: true });
});

test("a permission question is answered", async (t) => {
  const server = await startServer(t);
  const { socket, sessionId } = await connect(t, server);
  const { promptId } = await must(socket, "askClaudeCode", { sessionId, prompt: "/ask" });
  const question = await waitFor(socket, "permissionRequest");
  assert.equal(question.toolName, "Demo");
  assert.ok(Array.isArray(question.suggestions));
  const updatedInput = { ...question.input, command: "echo changed" };
  const answer = { sessionId, requestId: question.requestId, behavior: "allow", updatedInput };
  await must(socket, "answerPermission", answer);
  const resolved = await waitFor(socket, "permissionResolved");
  assert.deepEqual([resolved.requestId, resolved.behavior], [question.requestId, "allow"]);
  const late = await mustFail(socket, "answerPermission", { ...answer, behavior: "deny" });
  assert.deepEqual([late.code, late.behavior, late.by], ["stale_request", "allow", resolved.by]);
  const response = await waitFor(socket, "claudeResponse", (data) => data.promptId === promptId);
  assert.ok(response.fullResponse.includes("echo changed"), response.fullResponse);
});

test("two clients on one session see the same", async (t) => {
  const server = await startServer(t);
  const one = await connect(t, server);
  const { sessionId } = one;
  const two = await connect(t, server, { sessionId });
  assert.equal(two.sessionId, sessionId);
  assert.equal(two.registered.resumed, true);
  const events = await connect(t, server, { sessionId, stream: "events" });
  const { promptId } = await must(one.socket, "askClaudeCode", { sessionId, prompt: "hello /ask" });
  const question = await waitFor(two.socket, "permissionRequest");
  await must(two.socket, "answerPermission", { sessionId, requestId: question.requestId, behavior: "allow" });
  await Promise.all([one, two].map(({ socket }) => waitFor(socket, "claudeResponse")));
  const seen = ({ socket }) =>
    socket.seen.filter(([name]) => !["sessionRegistered", "sessionUpdated"].includes(name));
  assert.deepEqual(seen(one), seen(two));
  assert.ok(chunksOf(one.socket, promptId).length > 5);
  await waitFor(events.socket, "claudeEvent", (data) => data.event.type === "result");
  assert.equal(chunksOf(events.socket, promptId).length, 0);
});

test("a client whose connection was cut comes back to its session", async (t) => {
  const server = await startServer(t);
  let sessionId;
  const socket = openClient(t, server, { auth: (answer) => answer({ token: server.token, sessionId }) });
  ({ sessionId } = await waitFor(socket, "sessionRegistered"));
  const { promptId } = await must(socket, "askClaudeCode", { sessionId, prompt: "a long answer" });
  await waitFor(socket, "claudeStreamChunk", (data) => data.promptId === promptId);
  const from = socket.seen.length;
  const [gone, back] = [next(socket, "disconnect"), next(socket, "connect")];
  socket.io.engine.close();
  await gone;
  await back;
  const registered = await waitFor(socket, "sessionRegistered", () => true, from);
  assert.deepEqual([registered.sessionId, registered.resumed], [sessionId, true]);
  const response = await waitFor(socket, "claudeResponse", (data) => data.promptId === promptId, from);
  assert.equal(response.status, "done");
  // What was missed comes in front, so that nothing is missing and nothing is there twice.
  const since = socket.seen.slice(from);
  const start = since.find(([name]) => name === "claudeStreamStart");
  const chunks = since.filter(([name]) => name === "claudeStreamChunk").map(([, data]) => data.text);
  assert.equal(start[1].soFar + chunks.join(""), response.fullResponse);
});

test("a server that stops says so, and clients come back to the next one", async (t) => {
  const server = await startServer(t);
  let sessionId;
  const socket = openClient(t, server, { auth: (answer) => answer({ token: server.token, sessionId }) });
  ({ sessionId } = await waitFor(socket, "sessionRegistered"));
  const { promptId } = await must(socket, "askClaudeCode", { sessionId, prompt: "hello" });
  await waitFor(socket, "claudeStreamChunk");
  const [gone, failed] = [next(socket, "disconnect"), next(socket.io, "reconnect_error")];
  const stopping = server.stop("SIGTERM");
  assert.equal((await waitFor(socket, "serverShutdown")).reason, "shutdown");
  const response = await waitFor(socket, "claudeResponse", (data) => data.promptId === promptId);
  assert.equal(response.status, "interrupted");
  assert.equal((await gone)[0], "transport close", "the reason after which the client reconnects by itself");
  assert.equal(await stopping, 0);
  await failed;
  const from = socket.seen.length;
  const back = next(socket, "connect");
  const again = await startServer(t, { root: server.root, port: server.port });
  assert.deepEqual([again.port, again.token], [server.port, server.token]);
  await back;
  const registered = await waitFor(socket, "sessionRegistered", () => true, from);
  const asked = await must(socket, "askClaudeCode", { sessionId: registered.sessionId, prompt: "hello again" });
  const answer = await waitFor(socket, "claudeResponse", (data) => data.promptId === asked.promptId);
  assert.equal(answer.status, "done");
});

test("shared mode gives everyone the one session", async (t) => {
  const server = await startServer(t, { args: ["--mode=shared"] });
  const [one, two] = [await connect(t, server), await connect(t, server)];
  assert.deepEqual([one.sessionId, two.sessionId], ["global-session", "global-session"]);
  await must(one.socket, "askClaudeCode", { sessionId: "global-session", prompt: "hello" });
  const answers = await Promise.all([one, two].map(({ socket }) => waitFor(socket, "claudeResponse")));
  assert.deepEqual(answers[0], answers[1]);
  const error = await mustFail(two.socket, "closeSession", { sessionId: "global-session" });
  assert.equal(error.code, "not_in_shared_mode");
});
