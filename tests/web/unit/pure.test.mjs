// The small pure parts of the conversation, each with its table of cases.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fromPatch, hunks, lineDiff, tally } from "../../../src/web/conversation/diff.js";
import { mend } from "../../../src/web/conversation/mend.js";
import { partialJson } from "../../../src/web/conversation/partial_json.js";
import {
  aboutOf, adviceFor, count, cut, duration, money, nameOf, sentence, size, titleOf,
} from "../../../src/web/conversation/words.js";

const table = (name, run, cases) => test(name, () => {
  for (const [given, expected] of cases) assert.deepEqual(run(given), expected, JSON.stringify(given));
});

const rows = (some) => some.map(({ sign, text }) => sign + text).join("|");

table("differences", ([before, after]) => rows(lineDiff(before, after)), [
  [["", ""], ""],
  [["a\n", "a\n"], " a"],
  [["a\nb\nc", "a\nx\nc"], " a|-b|+x| c"],
  [["", "a\nb\n"], "+a|+b"],
  [["a\nb", ""], "-a|-b"],
  [["a\nb\nc\nd", "b\nd\ne"], "-a| b|-c| d|+e"],
  [["a", "a\na"], " a|+a"],
  [["a\n\n", "a\n"], " a|-"],
]);

test("a difference names the lines' numbers in both texts", () => {
  assert.deepEqual(lineDiff("a\nb\nc", "a\nc\nd").map((row) => [row.sign, row.old, row.new]),
    [[" ", 1, 1], ["-", 2, undefined], [" ", 3, 2], ["+", undefined, 3]]);
});

test("a difference turns one text into the other, whatever they are", () => {
  let seed = 7;
  const random = (most) => (seed = (seed * 1103515245 + 12345) % 2147483648) % most;
  for (let round = 0; round < 200; round++) {
    const text = () => Array.from({ length: random(12) }, () => "abc"[random(3)]).join("\n");
    const [before, after] = [text(), text()];
    const made = lineDiff(before, after);
    const side = (other) => made.filter(({ sign }) => sign !== other).map((row) => row.text).join("\n");
    assert.deepEqual([side("+"), side("-")], [before, after]);
  }
});

test("very long texts are not compared line by line", () => {
  const text = (mark) => Array.from({ length: 5000 }, (_, at) => `${mark}${at}`).join("\n");
  const begun = performance.now();
  assert.deepEqual(tally(lineDiff(text("a"), text("b"))), { added: 5000, removed: 5000 });
  assert.ok(performance.now() - begun < 500);
});

test("only what is near a change is shown", () => {
  const before = Array.from({ length: 30 }, (_, at) => String(at));
  const after = before.with(10, "x").with(25, "y");
  assert.equal(rows(hunks(lineDiff(before.join("\n"), after.join("\n")))),
    " 7| 8| 9|-10|+x| 11| 12| 13|…| 22| 23| 24|-25|+y| 26| 27| 28");
  assert.deepEqual(hunks(lineDiff("a", "a")), []);
});

table("Claude Code's own patches", (patch) => fromPatch(patch)?.map((row) => [row.sign + row.text, row.old,
  row.new]) ?? null, [
  [undefined, null], [[], null], [[{ lines: 3 }], null], ["x", null],
  [[{ oldStart: 5, newStart: 6, lines: [" a", "-b", "+c", "\\ No newline at end of file"] }],
    [[" a", 5, 6], ["-b", 6, undefined], ["+c", undefined, 7]]],
  [[{ oldStart: 1, newStart: 1, lines: ["+a"] }, { oldStart: 9, newStart: 10, lines: ["-b"] }],
    [["+a", undefined, 1], ["…", undefined, undefined], ["-b", 9, undefined]]],
]);

table("JSON of which only the beginning is there", partialJson, [
  ["", undefined], ["{", {}], ["[", []], ['{"a', {}], ['{"a"', {}], ['{"a":', {}], ['{"a":1', { a: 1 }],
    ['{"a":tr', {}],
  ['{"a":"x', { a: "x" }], ['{"a":"x\\', { a: "x" }], ['{"a":"x\\n', { a: "x\n" }], ['{"a":"x\\u00', { a: "x" }],
    ['{"a":"x\\\\', { a: "x\\" }],
  ['{"a":"x\\u0041', { a: "xA" }], ['{"a":"x","b', { a: "x" }], ['{"a":[{"b":"c', { a: [{ b: "c" }] }],
    ['{"a":[1,2,', { a: [1, 2] }],
  ['{"a":"}]"', { a: "}]" }], ['{"a":1}', { a: 1 }], ["nonsense", undefined], ['"half', "half"],
]);

table("a text that is being written reads as it will", ([block, type = "paragraph"]) => mend(block, type), [
  [["plain"], "plain"], [["a **bold"], "a **bold**"], [["a **bold*"], "a **bold**"], [["a **bold**"], "a **bold**"],
  [["a **"], "a "], [["a *"], "a "],
  [["a *em"], "a *em*"], [["a *em*"], "a *em*"], [["2 * 3"], "2 * 3"], [["a `co"], "a `co`"], [["a `"], "a "],
  [["a `co`"], "a `co`"],
  [["a ``co`x"], "a ``co`x``"], [["`a ** b` c"], "`a ** b` c"], [["see [here](http://e"], "see here"],
  [["see [here](http://e)"], "see [here](http://e)"],
  [["![pic](http://e"], "pic"], [["~~gone"], "~~gone~~"], [["title\n-"], "title"], [["title\n=="], "title"],
  [["text\n``"], "text"], [["text\n1."], "text"],
  [["| a | b |"], ""], [["| a | b |\n| -"], ""], [["text\n| a"], "text"], [["- a\n- **b", "list"], "- a\n- **b**"],
  [["- a\n-", "list"], "- a"],
  [["- 2 ** 3\n- b", "list"], "- 2 ** 3\n- b"], [["|a|\n|-|\n|**b", "table"], "|a|\n|-|\n|**b**"],
  [["snake_case_name"], "snake_case_name"],
]);

test("mending takes no time worth mentioning", () => {
  const begun = performance.now();
  for (const part of ["[", "*", "**a ", "`", "` a``", "[a](", "_a_b", "|", "\n- ", "\n|",
    "> "]) mend(part.repeat(1000), "paragraph");
  assert.ok(performance.now() - begun < 1500, `${performance.now() - begun} ms`);
});

table("durations", duration, [[0, "0 ms"], [949, "949 ms"], [9900, "9.9 s"], [12_345, "12 s"], [59_600, "1 min 0 s"],
  [61_000, "1 min 1 s"], [119_700, "2 min 0 s"], [3_600_000, "1 h 0 min"], [754_000, "13 min"]]);
table("money", money, [[0.00123, "$0.0012"], [0.5, "$0.50"], [12.3, "$12.30"]]);
table("counts", count, [[0, "0"], [999, "999"], [1234, "1.2k"], [9999, "10k"], [31_200, "31k"], [1_500_000, "1.5M"]]);
table("sizes", size, [[5, "5 bytes"], [1500, "2 kB"], [2_345_678, "2.3 MB"]]);

table("the beginning of a long text", ([text, lines, chars]) => cut(text, lines, chars), [
  [["a\nb\nc", 2, 100], "a\nb"], [["a\nb", 2, 100], "a\nb"], [["abcdef", 2, 3], "abc"], [["", 2, 3], ""],
  [["ab\ncdefgh", 9, 4], "ab\nc"],
]);

table("tools by name", nameOf, [["Bash", "Bash"], ["TodoWrite", "To-do list"],
  ["mcp__git_hub__create_issue", "git_hub: create issue"], ["", "Tool"],
  ["constructor", "constructor"]]);
table("what tools are about", ([name, input]) => aboutOf(name, input, "/home/me"), [
  [["Bash", { command: "ls\nrm", description: "List" }], "ls"], [["Read", { file_path: "/home/me/a.rs" }], "a.rs"],
  [["Read", { file_path: "/etc/x" }], "/etc/x"],
  [["Task", { description: "Look", prompt: "long" }], "Look"],
  [["TodoWrite", { todos: [{ status: "completed" }, null] }], "1 of 2 done"],
  [["MultiEdit", { file_path: "/b", edits: [1, 2] }], "/b (2 changes)"],
  [["AskUserQuestion", { questions: [{ question: "A?" }, {}] }], "A? (and 1 more)"],
  [["X", null], ""], [["X", "text"], ""], [["X", { n: 1 }], ""],
  [["TaskUpdate", { taskId: "3", status: "in_progress" }], "3 in progress"],
  [["AskUserQuestion", { questions: [] }], ""],
]);

test("every trouble has a name and says what to do", () => {
  for (const code of ["not_logged_in", "bad_key", "account_refused", "billing", "api_rate_limited", "no_network",
    "model_refused", "overloaded",
    "prompt_too_long", "api_error"]) {
    assert.ok(titleOf(code));
    assert.ok(adviceFor(code));
  }
  assert.equal(titleOf("toString"), undefined);
});
table("sentences", sentence, [["", ""], ["ask again", "Ask again."], ["Done.", "Done."], ["`x` is", "`x` is."],
  [" why? ", "Why?"]]);
