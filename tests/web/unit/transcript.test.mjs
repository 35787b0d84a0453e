// How a session's events become items: in every order in which they may come.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Transcript } from "../../../src/web/transcript.js";

const said = (name, fields) => ({ name, data: fields });
const line = (seq, event) => said("claudeEvent", { seq, event });
const delta = (seq, part, event, parent = null) =>
  said("claudeEvent", { seq, part, event: { type: "stream_event", event, parent_tool_use_id: parent } });
const assistant = (seq, id, content, more = {}) =>
  line(seq, { type: "assistant", message: { id, content }, parent_tool_use_id: null, ...more });
const user = (seq, content, more = {}) => line(seq, { type: "user", message: { content }, parent_tool_use_id: null,
  ...more });
const prompt = (seq, text, more = {}) => said("prompt", { seq, text, promptId: `p${seq}`, ...more });
const use = (id, name = "Bash", input = { command: "ls" }) => ({ type: "tool_use", id, name, input });
const result = (id, content = "out", more = {}) => ({ type: "tool_result", tool_use_id: id, content, ...more });
const textBlock = (text) => ({ type: "text", text });
const start = (id) => ({ type: "message_start", message: { id } });
const open = (index, block) => ({ type: "content_block_start", index, content_block: block });
const grow = (index, text) => ({ type: "content_block_delta", index, delta: { type: "text_delta", text } });
const stop = (index) => ({ type: "content_block_stop", index });
const done = (seq, more = {}) => line(seq, { type: "result", subtype: "success", is_error: false, ...more });

/** An item in a few words. */
function show(item) {
  switch (item.kind) {
    case "text":
    case "thinking":
      return `${item.kind}${item.streaming ? "~" : ""}${item.partial ? "?" : ""}:${item.text}`;
    case "tool": {
      const inner = item.children.length ? `[${item.children.map(show).join(", ")}]` : "";
      const asked = item.asked ? `/${item.asked}` : "";
      return `tool:${item.name}:${item.state}${asked}:${item.result?.text ?? "-"}${inner}`;
    }
    case "result":
      return `result:${item.status}${item.reason ? `:${item.reason}` : ""}`;
    case "permission":
      return `permission:${item.behavior}:${item.toolName}:${item.by}`;
    case "notice":
      return `notice:${item.code}`;
    case "retry":
      return `retry:${item.attempt}/${item.attemptsMax}:${item.over}`;
    case "truncated":
      return `truncated:${item.bytes}`;
    default:
      return `${item.kind}:${item.text ?? item.name ?? ""}`;
  }
}

function fold(events) {
  const transcript = new Transcript();
  events.forEach((event) => transcript.apply(event));
  return transcript;
}

const shown = (transcript) => transcript.items.map(show);

const cases = {
  "a prompt and its answer": [
    [prompt(1, "hi"), assistant(2, "m", [textBlock("hello")]), done(3)],
    ["prompt:hi", "text:hello", "result:done"],
  ],
  "deltas and the whole are one item": [
    [delta(0, 1, start("m")), delta(0, 2, open(0, textBlock(""))), delta(0, 3, grow(0, "he")),
      delta(0, 4, grow(0, "llo")),
      assistant(1, "m", [textBlock("hello")]), delta(1, 1, stop(0))],
    ["text:hello"],
  ],
  "two blocks of one message, each whole when it is complete": [
    [delta(0, 1, start("m")), delta(0, 2, open(0, textBlock(""))), delta(0, 3, grow(0, "one")),
      assistant(1, "m", [textBlock("one")]),
      delta(1, 1, stop(0)), delta(1, 2, open(1, textBlock(""))), delta(1, 3, grow(1, "tw")),
        assistant(2, "m", [textBlock("two")])],
    ["text:one", "text:two"],
  ],
  "the stop before the whole": [
    [delta(0, 1, start("m")), delta(0, 2, open(0, textBlock(""))), delta(0, 3, grow(0, "one")), delta(0, 4, stop(0)),
      assistant(1, "m", [textBlock("one")])],
    ["text:one"],
  ],
  "all blocks in one line": [
    [delta(0, 1, start("m")), delta(0, 2, open(0, textBlock(""))), delta(0, 3, grow(0, "a")),
      assistant(1, "m", [textBlock("a"), textBlock("b"), use("t")])],
    ["text:a", "text:b", "tool:Bash:running:-"],
  ],
  "a running text": [
    [delta(0, 1, start("m")), delta(0, 2, open(0, textBlock(""))), delta(0, 3, grow(0, "he"))],
    ["text~:he"],
  ],
  "who joins late gets the rest, then the whole": [
    [line(5, { type: "system", subtype: "status" }), delta(5, 7, grow(0, "llo"))],
    ["text~?:llo"],
  ],
  "and it is one item": [
    [line(5, { type: "system", subtype: "status" }), delta(5, 7, grow(0, "llo")),
      assistant(6, "m", [textBlock("hello")])],
    ["text:hello"],
  ],
  "a hole in the deltas is known, and filled by the whole": [
    [delta(0, 1, start("m")), delta(0, 2, open(0, textBlock(""))), delta(0, 3, grow(0, "a")),
      delta(0, 5, grow(0, "c"))],
    ["text~?:ac"],
  ],
  "a delta twice": [
    [delta(0, 1, start("m")), delta(0, 2, open(0, textBlock(""))), delta(0, 3, grow(0, "a")),
      delta(0, 3, grow(0, "a"))],
    ["text~:a"],
  ],
  "an event twice": [[prompt(1, "hi"), prompt(1, "hi"), done(2), prompt(1, "hi")], ["prompt:hi", "result:done"]],
  "thoughts": [
    [delta(0, 1, start("m")), delta(0, 2, open(0, { type: "thinking", thinking: "" })),
      delta(0, 3, { type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: "hm" } }),
      assistant(1, "m", [{ type: "thinking", thinking: "hmm" }])],
    ["thinking:hmm"],
  ],
  "thoughts that are withheld are none": [
    [assistant(1, "m", [{ type: "thinking", thinking: "", signature: "x" },
      { type: "redacted_thinking", data: "x" }])], [],
  ],
  "a tool and its result": [
    [assistant(1, "m", [use("t")]), user(2, [result("t", [textBlock("a"), textBlock("b")])])], ["tool:Bash:done:a\nb"],
  ],
  "a tool's error": [[assistant(1, "m", [use("t")]), user(2, [result("t", "no", { is_error: true })])],
    ["tool:Bash:failed:no"]],
  "a tool without a result ends with its turn": [[assistant(1, "m", [use("t")]), done(2)],
    ["tool:Bash:ended:-", "result:done"]],
  "and with its process": [
    [assistant(1, "m", [use("t")]), said("notice", { seq: 2, level: "warning", code: "agent_exited", text: "x" })],
    ["tool:Bash:ended:-", "notice:agent_exited"],
  ],
  "a result that comes after all": [
    [assistant(1, "m", [use("t")]), done(2), user(3, [result("t")])], ["tool:Bash:done:out", "result:done"],
  ],
  "a sub-agent is within its tool": [
    [assistant(1, "m", [use("t", "Task")]), assistant(2, "s", [textBlock("look"), use("u", "Grep")],
      { parent_tool_use_id: "t" }),
      user(3, [result("u", "found")], { parent_tool_use_id: "t" }), user(4, [result("t", "it")])],
    ["tool:Task:done:it[text:look, tool:Grep:done:found]"],
  ],
  "deltas of a sub-agent and of Claude at the same time": [
    [assistant(1, "m", [use("t", "Task")]), delta(1, 1, start("s"), "t"), delta(1, 2, open(0, textBlock("")), "t"),
      delta(1, 3, start("n")),
      delta(1, 4, open(0, textBlock(""))), delta(1, 5, grow(0, "in"), "t"), delta(1, 6, grow(0, "out"))],
    ["tool:Task:running:-[text~:in]", "text~:out"],
  ],
  "sub-agents of each other go round in no circle": [
    [assistant(1, "m", [use("a", "Task")], { parent_tool_use_id: "b" }),
      assistant(2, "n", [use("b", "Task")], { parent_tool_use_id: "a" })],
    ["tool:Task:running:-[tool:Task:running:-]"],
  ],
  "an echo of the prompt is no second prompt": [
    [prompt(1, "hi", { userMessageId: "u" }), user(2, "hi", { isReplay: true, uuid: "u" })], ["prompt:hi"],
  ],
  "what a slash command prints": [
    [user(1, "<local-command-stdout>\ncost: 3\n</local-command-stdout>"),
      line(2, { type: "system", subtype: "local_command_output", content: "x" })],
    ["output:cost: 3", "output:x"],
  ],
  "stopped by the user": [
    [prompt(1, "hi"), user(2, [textBlock("[Request interrupted by user]")]),
      line(3, { type: "result", subtype: "error_during_execution", is_error: true, errors: ["[diagnostic]"] })],
    ["prompt:hi", "result:interrupted"],
  ],
  "stopped, says the demo agent": [[line(1, { type: "result", subtype: "error_during_execution", is_error: true })],
    ["result:interrupted"]],
  "too many turns": [[line(1, { type: "result", subtype: "error_max_turns", is_error: true })],
    ["result:failed:max turns"]],
  "a failed call is told once": [
    [assistant(1, "m", [textBlock("API Error: 529")], { error: "overloaded" }),
      line(2, { type: "result", subtype: "success", is_error: true, result: "API Error: 529" }),
      said("notice", { seq: 3, level: "error", code: "overloaded", text: "ask again. Claude says: API Error: 529" })],
    ["result:failed", "notice:overloaded"],
  ],
  "a tool that waits for an answer, and one that was refused": [
    [assistant(1, "m", [use("t1"), use("t2")]),
      said("permissionRequest", { seq: 2, requestId: "r1", toolName: "Bash", request: { tool_use_id: "t1" } }),
      said("permissionRequest", { seq: 3, requestId: "r2", toolName: "Bash", request: { tool_use_id: "t2" } }),
      said("permissionResolved", { seq: 4, requestId: "r2", behavior: "deny", by: "client-1" }),
      user(5, [result("t2", "no", { is_error: true })])],
    ["tool:Bash:running/open:-", "tool:Bash:failed/deny:no", "permission:deny:Bash:client-1"],
  ],
  "permissions": [
    [said("permissionRequest", { seq: 1, requestId: "r", toolName: "Bash" }),
      said("permissionResolved", { seq: 2, requestId: "r", behavior: "allow", by: "client-1" })],
    ["permission:allow:Bash:client-1"],
  ],
  "tries again, until it answers": [
    [line(1, { type: "system", subtype: "api_retry", attempt: 1, max_retries: 9 }),
      line(2, { type: "system", subtype: "api_retry", attempt: 2, max_retries: 9 }),
      assistant(3, "m", [textBlock("a")])],
    ["retry:2/9:true", "text:a"],
  ],
  "compacted": [
    [line(1, { type: "system", subtype: "compact_boundary", compact_metadata: { pre_tokens: 150_400 } })],
    ["boundary:Claude goes on with a summary of what is above, of 150k tokens"],
  ],
  "an unknown block, an unknown line": [
    [assistant(1, "m", [{ type: "hologram", x: 1 }]), line(2, { type: "never_heard_of" }), line(3, "no object"),
      said("unheard", { seq: 4 })],
    ["other:hologram"],
  ],
  "a shape that is not as expected costs itself only": [
    [assistant(1, "m", [null, 3, "x", { type: "tool_use", id: null, input: 5 }]),
      line(2, { type: "assistant", message: null }),
      line(3, { type: "user", message: { content: [{ type: "tool_result", content: { a: 1 } }] } }),
        said("notice", null), prompt(5, "on")],
    ["other:?", "other:?", "tool::ended:-", 'tool::done:{\n  "a": 1\n}', "prompt:on"],
  ],
  "too large, and damaged": [
    [said("claudeEvent", { seq: 1, truncated: true, bytes: 5e6 }), said("claudeEvent", { seq: 2, damaged: true })],
    ["truncated:5000000", "notice:damaged"],
  ],
  "a response where no line of Claude's told the end": [
    [prompt(1, "hi"), said("claudeResponse", { seq: 1, promptId: "p1", status: "failed", error: "gone" }),
      said("claudeResponse", { seq: 1, promptId: "p1", status: "failed", error: "gone" })],
    ["prompt:hi", "result:failed:gone"],
  ],
  "a response beside Claude's own line": [
    [prompt(1, "hi"), done(2), said("claudeResponse", { seq: 2, promptId: "p1", status: "done" })],
      ["prompt:hi", "result:done"],
  ],
};

for (const [name, [events, expected]] of Object.entries(cases)) {
  test(name, () => assert.deepEqual(shown(fold(events)), expected));
}

/** A conversation with everything in it whose parts may be on different pages. */
const long = [
  prompt(1, "one"), assistant(2, "a", [use("t1", "Task")]), assistant(3, "s", [use("t2", "Grep")],
    { parent_tool_use_id: "t1" }),
  user(4, [result("t2", "found")], { parent_tool_use_id: "t1" }),
    assistant(5, "s", [textBlock("in")], { parent_tool_use_id: "t1" }),
  said("permissionRequest", { seq: 6, requestId: "r", toolName: "Bash" }),
  said("permissionResolved", { seq: 7, requestId: "r", behavior: "deny", by: "me" }), user(8, [result("t1", "end")]),
  done(9, { total_cost_usd: 0.5 }), prompt(10, "two"), assistant(11, "b", [textBlock("x")]),
    assistant(12, "b", [use("t3")]),
  done(13, { total_cost_usd: 0.75 }), prompt(14, "three"), done(15, { total_cost_usd: 0.125 }),
];

test("older pages give what the whole gives, wherever they are cut", () => {
  const whole = fold(long);
  const costs = (transcript) => transcript.items.filter(({ kind }) => kind === "result").map(({ costUsd }) => costUsd);
  assert.deepEqual(costs(whole), [0.5, 0.25, 0.125]);
  for (let first = 1; first < long.length; first++) {
    for (let second = 0; second <= first; second++) {
      const transcript = new Transcript();
      transcript.prependPage(long.slice(first));
      transcript.prependPage(long.slice(second, first));
      transcript.prependPage(long.slice(0, second));
      const where = `cut at ${second} and ${first}`;
      assert.deepEqual(shown(transcript), shown(whole), where);
      assert.deepEqual(costs(transcript), costs(whole), where);
      assert.deepEqual([transcript.firstSeq, transcript.lastSeq], [1, 15]);
      assert.deepEqual(transcript.prompts(), ["one", "two", "three"]);
    }
  }
});

test("an item stays the same one when its beginning comes with an older page", () => {
  const transcript = new Transcript();
  transcript.prependPage(long.slice(7));
  const [tool] = transcript.items;
  assert.equal(show(tool), "tool::done:end");
  transcript.prependPage(long.slice(0, 7));
  assert.equal(transcript.items[1], tool);
  assert.equal(show(tool), "tool:Task:done:end[tool:Grep:done:found, text:in]");
});

test("a page that overlaps adds nothing twice", () => {
  const transcript = new Transcript();
  transcript.prependPage(long.slice(5));
  transcript.prependPage(long.slice(0, 9));
  assert.deepEqual(shown(transcript), shown(fold(long)));
});

test("what was too large comes into its place", () => {
  const events = [prompt(1, "a"), said("claudeEvent", { seq: 2, truncated: true, bytes: 1e6 }), done(3)];
  for (const whole of [{ sessionId: "s", seq: 2, event: assistant(2, "m", [textBlock("big")]).data.event },
    assistant(2, "m", [textBlock("big")]).data.event, { name: "claudeEvent",
      data: assistant(2, "m", [textBlock("big")]).data }]) {
    const transcript = fold(events);
    transcript.fill(2, whole);
    transcript.fill(2, whole);
    assert.deepEqual(shown(transcript), ["prompt:a", "text:big", "result:done"]);
  }
});

test("a large result comes to its tool", () => {
  const transcript = fold([assistant(1, "m", [use("t")]), said("claudeEvent", { seq: 2, truncated: true, bytes: 1e6 }),
    done(3)]);
  transcript.fill(2, user(2, [result("t", "all of it")]).data);
  assert.deepEqual(shown(transcript), ["tool:Bash:done:all of it", "result:done"]);
});

test("a picture that was sent is found in the echo", () => {
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "AAAA" } };
  const { items } = fold([prompt(1, "see", { userMessageId: "u" }),
    user(2, [image, textBlock("see")], { isReplay: true, uuid: "u" })]);
  assert.deepEqual(items[0].pictures, [{ mediaType: "image/png", data: "AAAA" }]);
});

test("a tool's input is seen while it is written", async () => {
  const { inputOf } = await import("../../../src/web/conversation/messages.js");
  const json = (partial_json) => ({ type: "content_block_delta", index: 0,
    delta: { type: "input_json_delta", partial_json } });
  const transcript = fold([delta(0, 1, start("m")), delta(0, 2, open(0, use("t", "Write", {}))),
    delta(0, 3, json('{"file_path":"/a')),
    delta(0, 4, json('.rs","content":"x'))]);
  assert.deepEqual(inputOf(transcript.items[0]), { file_path: "/a.rs", content: "x" });
});

test("numbers", () => {
  const transcript = fold([prompt(3, "x"), delta(3, 1, start("m")), delta(3, 2, open(0, textBlock("")))]);
  assert.deepEqual([transcript.firstSeq, transcript.lastSeq, transcript.part], [3, 3, 2]);
  transcript.apply(done(4));
  assert.deepEqual([transcript.lastSeq, transcript.part], [4, 0]);
});

test("a view is told what has changed, and whether it was only at the end", () => {
  const transcript = new Transcript();
  const told = [];
  transcript.onChange = ({ items, moved }) => told.push([...items].map(show).concat(moved ? ["moved"] : []));
  transcript.apply(assistant(5, "m", [use("t")]));
  transcript.apply(assistant(5, "m", [use("t")]));
  transcript.apply(user(6, [result("t")]));
  transcript.prependPage([prompt(4, "old")]);
  assert.deepEqual(told, [["tool:Bash:running:-"], ["tool:Bash:done:out"], ["prompt:old", "moved"]]);
});

test("ten thousand events take a moment only", () => {
  const events = Array.from({ length: 10_000 }, (_, at) => assistant(at + 1, `m${at}`, [use(`t${at}`)]));
  const begun = performance.now();
  const transcript = new Transcript();
  for (let at = 9_800; at >= 0; at -= 200) transcript.prependPage(events.slice(at, at + 200));
  assert.equal(transcript.items.length, 10_000);
  assert.ok(performance.now() - begun < 2000);
});
