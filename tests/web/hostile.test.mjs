// What Claude prints is not to be trusted: files, web pages and tools speak through it. None of it may become more than
// text in the page.

import assert from "node:assert/strict";
import { ask, atBothSizes, badAgent, composer, openPage, shows, unfold } from "./support.mjs";
import { turn } from "./turns.mjs";

/** Each sets `window.hacked`, or asks another host, if it gets through. */
const ATTACKS = [
  "<script>window.hacked = 1</script>",
  '<img src=x onerror="window.hacked = 1">',
  '<svg onload="window.hacked = 1"><script>window.hacked = 1</script></svg>',
  '<iframe srcdoc="<script>parent.hacked = 1</script>"></iframe>',
  '<a href="javascript:window.hacked = 1">plain link</a>',
  "[markdown link](javascript:window.hacked=1)",
  "[entities](&#106;avascript:window.hacked=1) [tabs](java\tscript:window.hacked=1) [data](data:text/html,x)",
  "![picture](https://elsewhere.example/picture.png) ![other](//elsewhere.example/other.png)",
  '<img src="https://elsewhere.example/tag.png"> <video src="https://elsewhere.example/v.mp4" autoplay></video>',
  '<div style="position:fixed;inset:0;background:url(https://elsewhere.example/style.png)">over all</div>',
  "<style>@import url(https://elsewhere.example/style.css); body { display: none }</style>",
  '<link rel="stylesheet" href="https://elsewhere.example/link.css"><base href="https://elsewhere.example/">',
  '<meta http-equiv="refresh" content="0;url=https://elsewhere.example/">',
  '<form action="https://elsewhere.example/"><input name="token"><button>Log in again</button></form>',
  '<object data="https://elsewhere.example/o"></object><embed src="https://elsewhere.example/e">',
  '<math><mi//xlink:href="data:x,<script>window.hacked=1</script>"></math>',
  '<noscript><p title="</noscript><img src=x onerror=window.hacked=1>"></noscript>',
  "```html\n<script>window.hacked = 1</script>\n```",
  '<details open ontoggle="window.hacked = 1"><summary>more</summary>text</details>',
  '<input autofocus onfocus="window.hacked = 1">',
  "<div id=message class=dialog>clobbered</div><a id=location href=x name=cookie>clobbered</a>",
];

async function isUnharmed(page) {
  const found = await page.evaluate(() => {
    const log = document.querySelector('[role="log"]');
    const forbidden = "script, iframe, object, embed, form, style, link, base, meta, video, audio, svg script, math";
    return {
      hacked: "hacked" in window,
      elements: [...log.querySelectorAll(forbidden)].map((element) => element.outerHTML.slice(0, 200)),
      handlers: [...log.querySelectorAll("*")].flatMap((element) =>
        [...element.attributes].filter(({ name }) => /^on|^style$|^srcdoc$/.test(name)).map(({ name }) => name)),
      links: [...log.querySelectorAll("a[href]")].map((link) => link.protocol),
      images: [...log.querySelectorAll("img")].map((image) => new URL(image.src).protocol),
      elsewhere: performance.getEntriesByType("resource").filter(({ name }) => !name.startsWith(location.origin)).length,
    };
  });
  assert.deepEqual([found.hacked, found.elements, found.handlers, found.elsewhere], [false, [], [], 0]);
  for (const protocol of found.links) assert.match(protocol, /^(https?|mailto):$/);
  for (const protocol of found.images) assert.match(protocol, /^(blob|data):$/);
}

atBothSizes("nothing that Claude prints is more than text", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  page.on("dialog", (dialog) => assert.fail(`a dialog: ${dialog.message()}`));
  const result = ATTACKS.join("\n\n");
  await ask(page, turn(server, [
    { thinking: ATTACKS.join("\n\n") },
    ...ATTACKS.map((text) => ({ text })),
    { tool: { name: "Bash", input: { command: ATTACKS[0], description: ATTACKS[1] } }, result },
    { tool: { name: ATTACKS[1], input: { [ATTACKS[1]]: ATTACKS } }, result, failed: true },
    { tool: { name: "Write", input: { file_path: ATTACKS[1], content: result } }, result },
    { tool: { name: "Edit", input: { file_path: ATTACKS[0], old_string: ATTACKS[1], new_string: ATTACKS[2] } }, result },
    { tool: { name: "TodoWrite", input: { todos: [{ content: ATTACKS[1], status: "pending", activeForm: ATTACKS[1] }] } }, result },
    { line: { type: "system", subtype: "status", status: ATTACKS[1] } },
    { line: { type: "system", subtype: ATTACKS[1], content: ATTACKS[1] } },
    { text: "this is the end" },
  ]));
  await shows(page, "this is the end");
  // What is folded counts, too.
  await unfold(page);
  await isUnharmed(page);
  // The same from the history, as another device gets it.
  await page.reload();
  await shows(page, "this is the end");
  await isUnharmed(page);
  assert.equal(new URL(page.url()).origin, server.url);
});

atBothSizes("a session's name, a question and its rule are text", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, `title ${ATTACKS[1]}`);
  await shows(page, "said");
  const question = { subtype: "can_use_tool", tool_name: ATTACKS[1], input: { command: ATTACKS[0], [ATTACKS[1]]: 1 },
    description: ATTACKS[1], tool_use_id: "toolu_1",
    permission_suggestions: [{ type: "addRules", rules: [{ toolName: ATTACKS[1], ruleContent: ATTACKS[0] }], behavior: "allow", destination: "session" }] };
  await ask(page, `request ${JSON.stringify(question)}`);
  await page.getByRole("button", { name: /^Deny/ }).first().waitFor();
  assert.deepEqual(await page.evaluate(() => ["hacked" in window, document.querySelectorAll("img[onerror]").length]), [false, 0]);
  assert.equal(new URL(page.url()).origin, server.url);
});

atBothSizes("huge lines and deep nesting leave the page usable", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const deep = `${"> ".repeat(5000)}deep\n\n${"- ".repeat(5000)}list\n\n${"[".repeat(20_000)}\n\n${"<div>".repeat(5000)}`;
  await ask(page, turn(server, [
    { text: `${"x".repeat(400_000)} ${"long words ".repeat(20_000)}` },
    { text: deep },
    { text: `${"*_`".repeat(30_000)}` },
    { text: `|${"a|".repeat(2000)}\n|${"-|".repeat(2000)}\n|${"b|".repeat(2000)}` },
    { tool: { name: "Bash", input: { command: "y".repeat(100_000) } }, result: `${"z".repeat(300_000)}\n`.repeat(2) },
    { text: "this is the end" },
  ], { streamed: false }));
  await shows(page, "this is the end");
  // Nothing sticks out at the side, and one can go on.
  const width = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.equal(width[0], width[1]);
  await ask(page, "still here?");
  await shows(page, "you said: still here?");
  await composer(page).fill("and writing");
});
