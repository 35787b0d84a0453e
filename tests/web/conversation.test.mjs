// How an answer looks: streaming, markdown, code, tools, images, errors, costs; and how one moves through a long one.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect, must, waitFor } from "../clients/support.mjs";
import { ask, atBothSizes, badAgent, conversation, openPage, shows, unfold } from "./support.mjs";
import { toolId, turn } from "./turns.mjs";

atBothSizes("coloured output is shown as what it says, and is no longer than that", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const result = "\x1b[31mred\x1b[0m\n\x1b[1;32mgreen\x1b[0m";
  await ask(page, turn(server, [{ tool: { name: "Bash", input: { command: "colours" } }, result }, { text: "seen" }]));
  await shows(page, "seen");
  await unfold(page);
  await conversation(page).getByText("red\ngreen", { exact: true }).first().waitFor();
  assert.equal(await conversation(page).getByText(/Show all/).count(), 0);
});

const MARKDOWN = `# A heading

Some **bold** text and \`code\`, and a [link](https://example.com/).

| left | right |
|---|---|
| one | two |

1. first
2. second

\`\`\`js
const answer = 42; // the answer
\`\`\`
`;

atBothSizes("markdown streams into headings, tables, lists and coloured code", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, turn(server, [{ text: MARKDOWN }], { chunk: 3 }));
  const log = conversation(page);
  await log.getByRole("heading", { name: "A heading" }).waitFor();
  await log.getByRole("cell", { name: "two" }).waitFor();
  await log.getByRole("listitem").filter({ hasText: "second" }).waitFor();
  const outward = log.getByRole("link", { name: "link" });
  assert.deepEqual([await outward.getAttribute("href"), await outward.getAttribute("target")], ["https://example.com/", "_blank"]);
  assert.match(await outward.getAttribute("rel"), /noopener/);
  await log.locator("pre code .hljs-keyword, pre code.hljs .hljs-keyword").filter({ hasText: "const" }).waitFor();
});

atBothSizes("code is copied by a button, without the clipboard of a secure page, too", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, turn(server, [{ text: MARKDOWN }]));
  await page.evaluate(() => {
    // As over plain http on another machine's address.
    Object.defineProperty(navigator, "clipboard", { value: undefined });
    document.addEventListener("copy", () => (window.copied = getSelection().toString() || document.activeElement.value));
  });
  await conversation(page).getByRole("button", { name: /copy/i }).first().click();
  await page.waitForFunction(() => window.copied?.includes("const answer = 42"));
});

atBothSizes("what Claude thinks is folded", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, turn(server, [{ thinking: "a secret thought" }, { text: "the answer" }]));
  await shows(page, "the answer");
  const thought = conversation(page).getByText("a secret thought");
  assert.equal(await thought.isVisible(), false);
  await conversation(page).locator("summary").filter({ hasText: /thought|thinking/i }).first().click();
  await thought.waitFor();
});

atBothSizes("tools are cards: command and output, file and changes, to-dos, sub-agents", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const task = toolId(4);
  await ask(page, turn(server, [
    { tool: { name: "Bash", input: { command: "ls -l", description: "Lists" } }, result: "total 42" },
    { tool: { name: "Bash", input: { command: "false" } }, result: "it went wrong", failed: true },
    { tool: { name: "Edit", input: { file_path: "/src/main.rs", old_string: "let a = 1;\nlet b = 2;", new_string: "let a = 1;\nlet b = 3;" } }, result: "ok" },
    { tool: { name: "TodoWrite", input: { todos: [{ content: "Look", status: "completed", activeForm: "Looking" }, { content: "Build", status: "in_progress", activeForm: "Building" }] } }, result: "ok" },
    { tool: { name: "Task", input: { description: "Explore", prompt: "look around", subagent_type: "general" } } },
    { parent: task, tool: { name: "Read", input: { file_path: "/deep/inside.txt" } }, result: "inner text" },
    { line: { type: "user", parent_tool_use_id: null, message: { role: "user", content: [{ type: "tool_result", tool_use_id: task, content: "explored" }] } } },
    { tool: { name: "mcp__other__thing", input: { some: "input" } }, result: [{ type: "text", text: "of an unknown tool" }] },
    { text: "all done" },
  ]));
  await shows(page, "all done");
  const log = conversation(page);
  await unfold(page);
  for (const text of ["ls -l", "total 42", "it went wrong", "main.rs", "let b = 2;", "let b = 3;", "Look", "Build", "inside.txt", "explored", "of an unknown tool"]) {
    await log.getByText(text).first().waitFor();
  }
});

atBothSizes("images are shown", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data } };
  await ask(page, turn(server, [{ tool: { name: "Read", input: { file_path: "/a.png" } }, result: [image] }, { text: "seen" }]));
  await shows(page, "seen");
  await unfold(page);
  const shown = conversation(page).getByRole("img").first();
  await shown.waitFor();
  await page.waitForFunction((element) => element.complete && element.naturalWidth === 1, await shown.elementHandle());
});

atBothSizes("a turn says what it took and cost, a failed one what was wrong", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, turn(server, [{ text: "cheap" }]));
  await shows(page, "cheap");
  await shows(page, /\$0\.01/);
  await ask(page, "fail");
  await shows(page, /failed as asked/);
});

/** Asks in the newest session from another client, and waits for the answer. */
async function askBeside(t, server, prompt) {
  const { socket } = await connect(t, server);
  const { sessions } = await must(socket, "listSessions", {});
  const { sessionId } = sessions[0];
  await must(socket, "resumeSession", { sessionId });
  const { promptId } = await must(socket, "askClaudeCode", { sessionId, prompt });
  await waitFor(socket, "claudeResponse", (data) => data.promptId === promptId);
}

/** Waits until the conversation is scrolled to its end. */
function atEnd(page) {
  return page.waitForFunction(() => {
    const { scrollHeight, clientHeight, scrollTop } = document.querySelector("#log");
    return scrollHeight - clientHeight - scrollTop < 3;
  });
}

atBothSizes("scrolling up stops following, and a button goes back to the end", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const text = Array.from({ length: 80 }, (_, line) => `line ${line}`).join("\n\n");
  await ask(page, turn(server, [{ text }]));
  await shows(page, "line 79");
  const log = page.locator("#log");
  await atEnd(page);
  await log.hover();
  await page.mouse.wheel(0, -600);
  await page.getByRole("button", { name: "To the end" }).waitFor();
  // More comes from another side: what one reads stays where it is.
  const place = () => log.evaluate((log) => log.scrollTop);
  const before = await place();
  await askBeside(t, server, turn(server, [{ text: "something new" }]));
  await log.getByText("something new").waitFor({ state: "attached" });
  assert.ok(Math.abs((await place()) - before) < 3, "what one reads has moved");
  await page.getByRole("button", { name: "To the end" }).click();
  await atEnd(page);
});

atBothSizes("who follows goes on following when a question is answered or the queue gets shorter", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const text = Array.from({ length: 80 }, (_, line) => `line ${line}`).join("\n\n");
  await ask(page, turn(server, [{ text }]));
  await shows(page, "line 79");
  await atEnd(page);
  const jump = page.locator("#jump");
  const follows = () => jump.evaluate((jump) => jump.hidden);
  for (let round = 0; round < 3; round++) {
    // The log gets taller in the frame in which something comes.
    await ask(page, "ask");
    const allow = page.getByRole("region", { name: "Claude asks" }).getByRole("button", { name: "Allow once" });
    await page.locator("#asking:not(.settling)").waitFor();
    await allow.click();
    await conversation(page).getByText(/allowed:/).nth(round).waitFor();
    assert.ok(await follows(), `after answer ${round}`);
  }
  const go = join(server.root, "go");
  await ask(page, `wait ${go}`);
  for (const prompt of ["one", "two", "three"]) await ask(page, prompt);
  await page.getByRole("list", { name: "Waiting prompts" }).getByText("three").waitFor();
  writeFileSync(go, "");
  await shows(page, "you said: three");
  assert.ok(await follows(), "after the queue");
  await atEnd(page);
});

atBothSizes("10,000 events come as one scrolls, and stay smooth", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  // Three events each: a text, a tool, its result.
  const steps = Array.from({ length: 3400 }, (_, number) => [
    { text: `text number ${number}` },
    { tool: { name: "Bash", input: { command: `echo ${number}` } }, result: `${number}\n` },
  ]).flat();
  await ask(page, turn(server, steps, { streamed: false }));
  await shows(page, "text number 3399");
  await page.reload();
  await shows(page, "text number 3399");
  await page.evaluate(() => {
    window.busy = [];
    new PerformanceObserver((list) => window.busy.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
  });
  // To the very beginning, as with a held key.
  await page.waitForFunction(() => {
    const log = document.querySelector("#log");
    log.scrollTop = 0;
    return log.textContent.includes("text number 0");
  }, undefined, { timeout: 120_000, polling: 50 });
  await conversation(page).getByText("text number 0", { exact: true }).waitFor();
  const nodes = await page.evaluate(() => document.querySelectorAll("#log *").length);
  assert.ok(nodes < 10_000, `only some of it is in the page at a time, not ${nodes} elements`);
  // And an answer streams into it as into an empty one.
  await ask(page, "words 200");
  await shows(page, "w200");
  const busy = (await page.evaluate(() => window.busy)).sort((a, b) => b - a);
  t.diagnostic(`${nodes} elements; busy for ${busy.slice(0, 3).map(Math.round)} ms at the longest`);
  // A busy machine doubles these, work that grows with the history would take seconds.
  assert.ok((busy[0] ?? 0) < 1000, `${busy.slice(0, 10)}`);
});
