// What Claude asks a person: permissions, questions, plans; and how one is told.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ask, atBothSizes, badAgent, conversation, isInState, link, openList, openPage, openWindow, shows } from "./support.mjs";

const cards = (page) => page.getByRole("region", { name: "Claude asks" }).getByRole("article");
const button = (page, name) => cards(page).getByRole("button", { name });

/** The stand-in asks what a control request asks, and answers with the reply. */
async function request(page, body) {
  await ask(page, `request ${JSON.stringify({ subtype: "can_use_tool", tool_use_id: "toolu_1", ...body })}`);
  await cards(page).first().waitFor();
}

/** An agent of Claude's asks for all these at once. Its questions stay when the turn is over. */
async function askAll(server, page, commands) {
  const questions = commands.map((command) => JSON.stringify({ type: "control_request", request_id: command,
    request: { subtype: "can_use_tool", agent_id: "agent", tool_name: "Bash", input: { command } } }));
  const file = join(server.root, "questions");
  writeFileSync(file, questions.map((question) => `${question}\n`).join(""));
  await ask(page, `raw ${file}`);
  await cards(page).nth(commands.length - 1).waitFor();
}

/** Just after cards have come or moved they take no answer. */
const settled = (page) => page.locator("#asking:not(.settling)").waitFor();

atBothSizes("a tool is allowed, with its input seen and changed", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await request(page, { tool_name: "Bash", input: { command: "rm -r target" }, description: "Cleans up" });
  await cards(page).getByText("rm -r target").waitFor();
  await cards(page).getByText("Cleans up").waitFor();
  assert.match(await page.title(), /^[^\w\s]/, "the tab says that Claude waits");
  await button(page, "Allow once").click();
  await shows(page, /"behavior":\s?"allow"/);
  await cards(page).first().waitFor({ state: "detached" });
  await request(page, { tool_name: "Bash", input: { command: "rm -r target" } });
  await button(page, "Edit…").click();
  const json = cards(page).getByRole("textbox", { name: "Input as JSON" });
  await json.fill("{ not json");
  await button(page, "Allow with this input").click();
  await cards(page).getByRole("alert").getByText("not a JSON object").waitFor();
  await json.fill('{"command": "ls"}');
  await button(page, "Allow with this input").click();
  await shows(page, /"updatedInput":\s?\{\s?"command":\s?"ls"/);
});

atBothSizes("a tool is denied with a reason, or for good allowed in Claude's words", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await request(page, { tool_name: "Bash", input: { command: "ls" } });
  await button(page, "Deny…").click();
  await cards(page).getByRole("textbox", { name: "Reason for Claude" }).fill("not today");
  await button(page, "Deny").and(page.locator("[type=submit]")).click();
  await shows(page, /not today/);
  const suggestion = { type: "addRules", rules: [{ toolName: "Bash", ruleContent: "ls:*" }], behavior: "allow", destination: "localSettings" };
  await request(page, { tool_name: "Bash", input: { command: "ls" }, permission_suggestions: [suggestion] });
  await button(page, "Always allow Bash(ls:*) in this project, for you").click();
  await shows(page, /"updatedPermissions"/);
});

atBothSizes("what would be changed is shown as such, and refusing is as near as allowing", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const file = join(server.root, "work", "src", "parser.rs");
  const input = { file_path: file, old_string: "let one = 1;", new_string: "let two = 2;", replace_all: false };
  const mode = { type: "setMode", mode: "acceptEdits", destination: "session" };
  const more = Array.from({ length: 6 }, (_, at) => ({ type: "addDirectories", directories: [`/tmp/${at}`], destination: "session" }));
  await request(page, { tool_name: "Edit", input, blocked_path: file, permission_suggestions: [mode, ...more] });
  await settled(page);
  await cards(page).locator("tr.removed").getByText("let one = 1;").waitFor();
  await cards(page).locator("tr.added").getByText("let two = 2;").waitFor();
  await cards(page).getByText("src/parser.rs", { exact: true }).waitFor();
  assert.equal(await cards(page).getByText(/replace_all|old_string|Outside/).count(), 0);
  await button(page, "Allow, and accept all edits in this session").waitFor();
  for (const name of ["Allow once", "Deny…", "Edit…"]) {
    const { y, height } = await button(page, name).boundingBox();
    const section = await page.locator("#asking").boundingBox();
    assert.ok(y >= section.y && y + height <= section.y + section.height, `${name} is in sight`);
  }
  // Esc closes what was opened, stops nothing, and loses no reason.
  await button(page, "Deny…").click();
  const why = cards(page).getByRole("textbox", { name: "Reason for Claude" });
  await why.fill("because");
  await why.press("Escape");
  await why.waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Deny…");
  await page.keyboard.press("Enter");
  assert.equal(await why.inputValue(), "because");
  await button(page, "Deny").and(page.locator("[type=submit]")).click();
  await shows(page, /because/);
  // The next is read from its beginning, and says where it goes outside.
  await request(page, { tool_name: "Write", input: { file_path: "/etc/motd", content: "line\n".repeat(200) }, blocked_path: "/etc/motd" });
  await cards(page).getByText("Outside of where it may work: /etc/motd").waitFor();
  assert.equal(await page.locator("#asking").evaluate((section) => section.scrollTop), 0);
});

atBothSizes("nothing that matters of an input is left out, whatever it looks like", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const work = join(server.root, "work");
  const cases = [
    [{ tool_name: "mcp__hub__create", input: { name: "mine", private: false } }, ["private", "false"]],
    [{ tool_name: "Edit", input: { file_path: "/a", old_string: "x", new_string: "y", content: "more" } }, ["content", "more"]],
    [{ tool_name: "Write", input: { file_path: "/a", content: { odd: 1 } } }, [/"odd": 1/]],
    [{ tool_name: "Edit", input: { file_path: "/a", old_string: "a", new_string: "a\n" } }, ["Only the end of the last line changes."]],
    [{ tool_name: "Bash", input: { command: "ls" }, blocked_path: `${work}/../../etc/passwd` }, [/^Outside of where it may work: \/(?!.*\.\.)/]],
    [{ tool_name: "mcp__x__set", input: { id: 1, description: { delete_all: true } } }, [/"delete_all": true/]],
    [{ tool_name: "MultiEdit", input: { file_path: "/a", edits: [{ old_string: "x", new_string: "y", replace_all: true }] } }, [/"replace_all": true/]],
    [{ tool_name: "Bash", input: { command: "ls" }, blocked_path: "" }, ["ls"]],
    [{ tool_name: "constructor", input: { a: "b" }, permission_suggestions: [{ type: "setMode", mode: "toString", destination: "valueOf" }] },
      ["constructor", "Allow, and mode “toString” in valueOf"]],
  ];
  for (const [body, texts] of cases) {
    await request(page, body);
    await settled(page);
    for (const text of texts) await cards(page).getByText(text).first().waitFor();
    await button(page, "Allow once").click();
    await cards(page).first().waitFor({ state: "detached" });
  }
  await request(page, { tool_name: "Bash", input: { command: "ls" }, blocked_path: work });
  assert.equal(await cards(page).getByText(/Outside/).count(), 0);
});

atBothSizes("a question that is too large for the socket is fetched, and takes no other down", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const input = { file_path: "/large.txt", content: `first line\n${"x".repeat(99)}\n`.repeat(5_000) };
  const questions = [{ request_id: "large", input, tool_name: "Write" }, { request_id: "small", input: { command: "ls" }, tool_name: "Bash" }];
  const lines = questions.map(({ request_id, ...asked }) => JSON.stringify({ type: "control_request", request_id,
    request: { subtype: "can_use_tool", agent_id: "agent", ...asked } }));
  const file = join(server.root, "questions");
  writeFileSync(file, lines.map((line) => `${line}\n`).join(""));
  // Held until somebody is about to refuse it.
  let fetched;
  await page.route("**/api/sessions/*/events/*", async (route) => {
    await new Promise((resolve) => (fetched = resolve));
    await route.continue();
  });
  await ask(page, `raw ${file}`);
  await cards(page).nth(1).waitFor();
  await settled(page);
  await cards(page).first().getByRole("button", { name: "Deny", exact: true }).focus();
  // From here on time passes only when it is told to.
  await page.clock.install();
  await page.clock.pauseAt(Date.now() + 1000);
  fetched();
  await cards(page).first().locator("tr.added").first().waitFor();
  assert.ok(await page.locator("#asking.settling").count(), "what is there now takes no answer yet");
  assert.equal(await page.evaluate(() => document.activeElement.id), "asking");
  await page.clock.runFor(1000);
  await settled(page);
  await page.clock.resume();
  await page.unroute("**/api/sessions/*/events/*");
  await isInState(page, "Waits for your answer");
  await cards(page).first().locator("tr.added").getByText("first line").first().waitFor();
  await page.reload();
  await cards(page).first().locator("tr.added").getByText("first line").first().waitFor();
  await settled(page);
  await button(page, "Allow once").first().click();
  await cards(page).nth(1).waitFor({ state: "detached" });
  await cards(page).getByText("ls", { exact: true }).waitFor();
});

atBothSizes("on a small screen a long plan can be read, and what has the focus is seen", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  const plan = Array.from({ length: 40 }, (_, at) => `${at + 1}. Step number ${at}`).join("\n");
  const modes = ["acceptEdits", "default"].map((mode) => ({ type: "setMode", mode, destination: "session" }));
  await page.setViewportSize({ width: size === "wide" ? 640 : 360, height: 420 });
  await request(page, { tool_name: "ExitPlanMode", input: { plan }, permission_suggestions: modes });
  const line = cards(page).getByText("Step number 20");
  await line.scrollIntoViewIfNeeded();
  const isSeen = (element) => {
    const { left, top, height, width } = element.getBoundingClientRect();
    const there = document.elementFromPoint(left + Math.min(width / 2, 20), top + height / 2);
    return element === there || element.contains(there) || there?.contains(element);
  };
  assert.ok(await line.evaluate(isSeen));
  await page.setViewportSize({ width: size === "wide" ? 640 : 360, height: 740 });
  await button(page, "Keep planning").click();
  await cards(page).first().waitFor({ state: "detached" });
  const options = Array.from({ length: 8 }, (_, at) => ({ label: `Option ${at}` }));
  await request(page, { tool_name: "AskUserQuestion", input: { questions: [
    { question: "Which?", multiSelect: true, options }, { question: "And which?", multiSelect: true, options }] } });
  const boxes = cards(page).getByRole("checkbox");
  await boxes.first().focus();
  for (let at = 1; at < 12; at++) {
    await page.keyboard.press("Tab");
    assert.ok(await page.evaluate(`(${isSeen})(document.activeElement)`), `what is ${at} tabs on`);
  }
});

atBothSizes("who asks in the background is found in the list", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await askAll(server, page, ["ls"]);
  await isInState(page, "Waits for your answer");
  await openList(page);
  await page.getByRole("list", { name: "Sessions" }).getByText("asks you").waitFor();
});

atBothSizes("questions are answered with choices and with a text", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  const questions = [
    { question: "Which colour?", header: "Colour", options: [{ label: "Red", description: "as a rose" }, { label: "Blue" }] },
    { question: "Which fruits?", multiSelect: true, options: [{ label: "Apple" }, { label: "Pear" }, { label: "Plum" }] },
    { question: "What else?", options: [{ label: "Nothing" }] },
  ];
  await request(page, { tool_name: "AskUserQuestion", input: { questions } });
  await cards(page).getByRole("radio", { name: /Red/ }).check();
  await button(page, "Answer").and(page.locator("[type=submit]")).click();
  await cards(page).getByRole("alert").getByText("Which fruits?").waitFor();
  await cards(page).getByRole("checkbox", { name: "Apple" }).check();
  await cards(page).getByRole("checkbox", { name: "Plum" }).check();
  await cards(page).getByRole("textbox", { name: "Another answer: What else?" }).fill("a text of my own");
  await button(page, "Answer").and(page.locator("[type=submit]")).click();
  await shows(page, /"Which colour\?":\s?"Red"/);
  await shows(page, /"Which fruits\?":\s?"Apple, Plum"/);
  await shows(page, /a text of my own/);
});

atBothSizes("a plan is read, sent back and approved", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  const plan = "# The plan\n\n1. Look\n2. Build\n\n**Then** test.";
  await request(page, { tool_name: "ExitPlanMode", input: { plan } });
  await cards(page).getByRole("heading", { name: "The plan" }).waitFor();
  await cards(page).getByRole("textbox", { name: "What should be different" }).fill("test first");
  await button(page, "Keep planning").click();
  await shows(page, /test first/);
  await request(page, { tool_name: "ExitPlanMode", input: { plan } });
  await button(page, "Approve the plan").click();
  await shows(page, /"behavior":\s?"allow"/);
});

atBothSizes("an answer from elsewhere shows as such", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await request(page, { tool_name: "Bash", input: { command: "ls" } });
  const other = await openWindow(t, server, size);
  await other.page.goto(`${link(server)}&${new URL(page.url()).hash.slice(1)}`);
  await button(other.page, "Allow once").click();
  await cards(page).getByText(/allowed elsewhere/).waitFor();
  await conversation(page).getByText(/"behavior":\s?"allow"/).first().waitFor();
});

atBothSizes("a question can be answered with the keyboard alone", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await request(page, { tool_name: "Bash", input: { command: "ls" } });
  // Back from the box, past what is behind the card's first button.
  for (let step = 0; step < 20; step++) {
    await page.keyboard.press("Shift+Tab");
    if (await button(page, "Allow once").evaluate((element) => element === document.activeElement)) break;
  }
  await settled(page);
  await page.keyboard.press("Enter");
  await shows(page, /"behavior":\s?"allow"/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "message");
});

atBothSizes("who presses twice answers once", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await askAll(server, page, ["one", "two"]);
  await settled(page);
  // From here on time passes only when it is told to.
  await page.clock.install();
  await page.clock.pauseAt(Date.now() + 1000);
  await button(page, "Allow once").first().focus();
  await page.keyboard.press("Enter");
  await cards(page).nth(1).waitFor({ state: "detached" });
  // The second card has come to where the first was, and has its focus.
  await page.waitForFunction(() => document.activeElement?.textContent === "Allow once");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Space");
  await button(page, "Allow once").click({ force: true });
  assert.equal(await cards(page).filter({ hasText: "two" }).count(), 1);
  assert.equal(await cards(page).locator("[inert]").count(), 0);
  await page.clock.runFor(1000);
  await settled(page);
  // The click went to what is behind.
  await button(page, "Allow once").focus();
  await page.keyboard.press("Enter");
  await cards(page).first().waitFor({ state: "detached" });
});

atBothSizes("who types while another answers goes on typing into nothing", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await askAll(server, page, ["one", "two"]);
  await settled(page);
  await button(page, "Deny…").first().click();
  await page.keyboard.type("because it");
  const other = await openWindow(t, server, size);
  await other.page.goto(`${link(server)}&${new URL(page.url()).hash.slice(1)}`);
  await cards(other.page).nth(1).waitFor();
  await button(other.page, "Allow once").first().click();
  await cards(page).getByText(/allowed elsewhere/).waitFor();
  await settled(page);
  await page.keyboard.type(" is wrong");
  await page.keyboard.press("Enter");
  assert.equal(await cards(page).filter({ hasText: "Claude wants to use" }).count(), 1);
  assert.equal(await cards(page).locator("[inert]").count(), 0);
  assert.equal(await page.getByRole("textbox", { name: "Message" }).inputValue(), "");
});

atBothSizes("the tab tells of a question in a session that is not shown", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await askAll(server, page, ["ls"]);
  await page.waitForFunction(() => document.title.startsWith("❓"));
  const asking = page.url();
  await openList(page);
  await page.getByRole("button", { name: "New", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
  await page.waitForFunction((before) => location.href !== before, asking);
  await ask(page, "hello");
  await shows(page, "you said: hello");
  assert.match(await page.title(), /^❓/);
  const other = await openWindow(t, server, size);
  await other.page.goto(`${link(server)}&${new URL(asking).hash.slice(1)}`);
  await button(other.page, "Allow once").click();
  await page.waitForFunction(() => !document.title.startsWith("❓"));
});

atBothSizes("a notification tells who looks elsewhere", async (t, size) => {
  const { page, context } = await openPage(t, size, { args: badAgent() });
  await context.grantPermissions(["notifications"]);
  await page.evaluate(() => {
    window.notices = [];
    window.Notification = class extends EventTarget {
      static permission = "granted";
      constructor(title, options) {
        super();
        window.notices.push([title, options.body]);
      }
      close() {}
    };
    // Nobody looks: another window has the focus.
    document.hasFocus = () => false;
  });
  await request(page, { tool_name: "Bash", input: { command: "ls" } });
  await page.waitForFunction(() => window.notices.some(([title]) => /waits/.test(title)));
  await button(page, "Allow once").click();
  await page.waitForFunction(() => window.notices.some(([title]) => /done/.test(title)));
});
