// Writing a message: the box, its history, completion, files, what waits, and stopping.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ask, atBothSizes, badAgent, composer, conversation, isInState, openList, openPage, shows, test } from "./support.mjs";

atBothSizes("Enter sends, Shift+Enter is a line, and arrow-up brings back what was asked", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  const box = composer(page);
  await box.pressSequentially("one");
  await box.press("Shift+Enter");
  await box.pressSequentially("two");
  assert.equal(await box.inputValue(), "one\ntwo");
  await box.press("Enter");
  await shows(page, "you said: one");
  assert.equal(await box.inputValue(), "");
  await ask(page, "the second");
  await shows(page, "you said: the second");
  await box.fill("unsent");
  await box.press("Home");
  await box.press("ArrowUp");
  assert.equal(await box.inputValue(), "the second");
  await box.press("ArrowUp");
  assert.equal(await box.inputValue(), "one\ntwo");
  for (const _ of "ab") await box.press("ArrowDown");
  assert.equal(await box.inputValue(), "unsent");
});

test("on a phone a button makes a line, and the keyboard stays", async (t) => {
  const { page } = await openPage(t, "narrow", { args: badAgent() });
  const box = composer(page);
  await box.tap();
  await box.pressSequentially("onetwo");
  for (const _ of "two") await box.press("ArrowLeft");
  await page.getByRole("button", { name: "New line" }).tap();
  assert.equal(await box.inputValue(), "one\ntwo");
  assert.equal(await page.evaluate(() => document.activeElement.id), "message");
  const { page: desk } = await openPage(t, "wide", { args: badAgent() });
  assert.equal(await desk.getByRole("button", { name: "New line" }).count(), 0);
});

atBothSizes("nothing moves when a message is sent", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "words 5");
  await shows(page, "w1 w2 w3 w4 w5");
  await page.evaluate(() => {
    window.shifts = 0;
    new PerformanceObserver((list) => {
      // What the reader scrolls or types moves nothing that was looked at.
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
    }).observe({ type: "layout-shift", buffered: false });
  });
  const before = await composer(page).boundingBox();
  await ask(page, "words 50");
  await shows(page, "w50");
  assert.deepEqual(await composer(page).boundingBox(), before);
  assert.ok((await page.evaluate(() => window.shifts)) < 0.02);
});

atBothSizes("a draft is there again after a reload", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "first");
  await shows(page, "you said: first");
  await composer(page).fill("not sent yet");
  await page.reload();
  await shows(page, "you said: first");
  assert.equal(await composer(page).inputValue(), "not sent yet");
});

atBothSizes("what waits is seen and can be cancelled, and the rest goes on", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const go = join(server.root, "go");
  await ask(page, `wait ${go}`);
  await isInState(page, "Working");
  await ask(page, "cancel this");
  await ask(page, "keep this");
  const queue = page.getByRole("list", { name: "Waiting prompts" });
  await queue.getByText("keep this").waitFor();
  await queue.getByRole("button", { name: "Cancel: cancel this" }).click();
  await queue.getByText("cancel this").waitFor({ state: "detached" });
  await composer(page).fill("");
  writeFileSync(go, "");
  await shows(page, "you said: keep this");
  assert.equal(await conversation(page).getByText("you said: cancel this").count(), 0);
});

for (const way of ["button", "Escape"]) {
  atBothSizes(`an answer is stopped with ${way}`, async (t, size) => {
    const { page } = await openPage(t, size, { args: badAgent() });
    await ask(page, "slow 2000 20");
    await shows(page, "w3");
    if (way === "button") await page.getByRole("button", { name: "Stop", exact: true }).click();
    else await page.keyboard.press("Escape");
    await isInState(page, "Ready");
    await shows(page, /interrupted|stopped/i);
    await ask(page, "and on");
    await shows(page, "you said: and on");
  });
}

atBothSizes("files are pasted, dropped and picked", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  const attached = page.getByRole("list", { name: "Attachments" });
  await page.locator("#files").setInputFiles({ name: "picked.txt", mimeType: "text/plain", buffer: Buffer.from("picked text") });
  await attached.getByText("picked.txt").waitFor();
  const give = (kind) => page.evaluate((kind) => {
    const files = new DataTransfer();
    // The smallest PNG there is.
    const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    const bytes = Uint8Array.from(atob(png), (char) => char.charCodeAt(0));
    files.items.add(new File([bytes], `${kind}.png`, { type: "image/png" }));
    const event = kind === "paste"
      ? new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true })
      : new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true });
    document.querySelector("#message").dispatchEvent(event);
  }, kind);
  await give("paste");
  await attached.getByText("paste.png").waitFor();
  await give("drop");
  await attached.getByText("drop.png").waitFor();
  await attached.getByRole("button", { name: /drop\.png/ }).click();
  await attached.getByText("drop.png").waitFor({ state: "detached" });
  await ask(page, "blocks");
  await shows(page, /"image"/);
  await conversation(page).getByText("picked.txt").first().waitFor();
  assert.equal(await attached.isVisible(), false);
});

atBothSizes("slash commands are completed", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "warm up");
  await shows(page, "you said: warm up");
  const box = composer(page);
  await box.pressSequentially("/");
  const choice = page.getByRole("listbox", { name: "Completions" }).getByRole("option").first();
  await choice.waitFor();
  const name = (await choice.textContent()).match(/\/[\w-]+/)[0];
  await box.press("Enter");
  assert.equal((await box.inputValue()).trim(), name);
  await page.getByRole("listbox", { name: "Completions" }).waitFor({ state: "hidden" });
});

atBothSizes("a command that came later is completed", async (t, size) => {
  const { page, server } = await openPage(t, size, { args: badAgent() });
  await ask(page, "warm up");
  await shows(page, "you said: warm up");
  const file = join(server.root, "told");
  const commands = [null, {}, { name: 5 }, { name: "knit", description: "Knits", argumentHint: "" }];
  writeFileSync(file, `${JSON.stringify({ type: "system", subtype: "commands_changed", commands })}\n`);
  await ask(page, `raw ${file}`);
  await conversation(page).getByText("done", { exact: true }).waitFor();
  const option = page.getByRole("listbox", { name: "Completions" }).getByRole("option", { name: /knit/ });
  await composer(page).pressSequentially("/kn");
  await option.waitFor();
  // It is known to a page that comes later, too.
  await page.reload();
  await conversation(page).getByText("done", { exact: true }).waitFor();
  await composer(page).fill("");
  await composer(page).pressSequentially("/kn");
  await option.waitFor();
});

atBothSizes("model and mode are chosen, and shown as Claude has them", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "warm up");
  await shows(page, "you said: warm up");
  if (size === "narrow") await page.getByRole("button", { name: "Model, permissions, effort" }).click();
  await page.getByRole("combobox", { name: "Permission mode" }).selectOption("acceptEdits");
  // The choice is made when the keys are at rest, and the focus stays where it is.
  await page.getByRole("combobox", { name: "Permission mode" }).focus();
  await page.getByRole("combobox", { name: "Effort" }).focus();
  await page.keyboard.press("ArrowDown");
  await page.waitForFunction(() => document.activeElement.id === "effort" && document.activeElement.value !== "");
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.evaluate(() => document.activeElement.id), "effort");
  const effort = await page.locator("#effort").inputValue();
  await composer(page).focus();
  await page.waitForFunction((effort) => document.querySelector("#effort").value === effort, effort);
  await ask(page, "settled");
  await shows(page, "you said: settled");
  await page.reload();
  await shows(page, "you said: warm up");
  await page.waitForFunction((effort) =>
    document.querySelector("#permission-mode").value === "acceptEdits" && document.querySelector("#effort").value === effort, effort);
});

atBothSizes("what the server does not allow is not offered", async (t, size) => {
  for (const allowed of [false, true]) {
    const args = [...badAgent(), ...(allowed ? ["--allow-bypass-permissions"] : [])];
    const { page } = await openPage(t, size, { args, env: { IS_SANDBOX: "1" } });
    await ask(page, "warm up");
    await shows(page, "you said: warm up");
    const option = page.locator("#permission-mode option[value=bypassPermissions]");
    await option.waitFor({ state: allowed ? "attached" : "detached" });
    await openList(page);
    await page.getByRole("button", { name: "New", exact: true }).click();
    const modes = page.getByRole("dialog").getByRole("combobox", { name: "Permission mode" });
    await modes.locator("option[value=plan]").waitFor({ state: "attached" });
    assert.equal(await modes.locator("option[value=bypassPermissions]").count(), allowed ? 1 : 0);
  }
});

atBothSizes("a long message is shown as far as it is looked at", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await ask(page, Array.from({ length: 60 }, (_, at) => `line ${at} of mine`).join("\n"));
  const mine = page.locator(".prompt");
  await mine.getByText("line 0 of mine").waitFor();
  assert.equal(await mine.getByText("line 59 of mine").count(), 0);
  await shows(page, "you said: line 0");
  const first = mine.getByText("line 0 of mine");
  const place = () => mine.evaluate((mine) => mine.getBoundingClientRect().top);
  const all = mine.getByRole("button", { name: "Show all" });
  await all.scrollIntoViewIfNeeded();
  const before = await place();
  await all.click();
  await mine.getByText("line 59 of mine").waitFor();
  await first.waitFor();
  assert.ok(Math.abs((await place()) - before) < 3, "what one reads has moved");
  assert.equal(await page.evaluate(() => document.activeElement.className), "words");
});

atBothSizes("a file that cannot be read any more stays, and so does the message", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "warm up");
  await shows(page, "you said: warm up");
  const attached = page.getByRole("list", { name: "Attachments" });
  const file = join(server.root, "gone.txt");
  writeFileSync(file, "here for a moment");
  await page.locator("#files").setInputFiles(file);
  await attached.getByText("gone.txt").waitFor();
  rmSync(file);
  await ask(page, "look at this");
  await page.getByText("gone.txt cannot be read").waitFor();
  await page.waitForFunction(() => document.querySelector("#message").value === "look at this");
  await attached.getByRole("button", { name: /gone\.txt/ }).click();
  await composer(page).press("Enter");
  await shows(page, "you said: look at this");
});

atBothSizes("Esc in the search stops nothing, and the skip link leaves the session where it is", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  const go = join(server.root, "go");
  await ask(page, `wait ${go}`);
  await isInState(page, "Working");
  await openList(page);
  await page.getByRole("searchbox", { name: "Search sessions" }).fill("something");
  await page.keyboard.press("Escape");
  const { hash } = new URL(page.url());
  await page.locator("#skip").focus();
  await page.keyboard.press("Enter");
  assert.deepEqual(await page.evaluate(() => [document.activeElement.id, location.hash]), ["message", hash]);
  writeFileSync(go, "");
  await shows(page, "waiting no more");
});

atBothSizes("two clicks start one session", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "warm up");
  await shows(page, "you said: warm up");
  const sessions = async () => (await (await fetch(`${server.url}/health`)).json()).sessions;
  const [before, old] = [await sessions(), page.url()];
  await openList(page);
  await page.getByRole("button", { name: "New", exact: true }).click();
  const start = page.getByRole("dialog").getByRole("button", { name: "Start" });
  await start.waitFor();
  await start.evaluate((button) => [button.click(), button.click()]);
  await page.waitForFunction((old) => location.href !== old, old);
  await ask(page, "in the new one");
  await shows(page, "you said: in the new one");
  assert.equal(await sessions(), before + 1);
});
