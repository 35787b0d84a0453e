// The page with the real Claude Code behind the server, which asks a fake API on loopback.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ask, atBothSizes, composer, conversation, isInState, openPage, realClaude, shows } from "./support.mjs";

const card = (page) => page.getByRole("region", { name: "Claude asks" }).getByRole("article");

async function openClaude(t, size) {
  return openPage(t, size, await realClaude(t));
}

atBothSizes("Claude answers, and its answer is there after a reload", async (t, size) => {
  const { page } = await openClaude(t, size);
  await ask(page, "say:**bold** and `code`");
  await conversation(page).locator("strong").getByText("bold").waitFor();
  await isInState(page, "Ready");
  await page.reload();
  await conversation(page).locator("strong").getByText("bold").waitFor();
  await page.getByText(/Claude Code 2\.\d/).first().waitFor({ state: "attached" });
});

atBothSizes("Claude writes a file when it may, and does not when it may not", async (t, size) => {
  const { server, page } = await openClaude(t, size);
  const file = (name) => join(server.root, "work", name);
  await ask(page, `write:${file("allowed.txt")}:the text`);
  await card(page).getByText("allowed.txt").first().waitFor();
  await card(page).getByRole("button", { name: "Allow once" }).click();
  await shows(page, /tool said/);
  assert.equal(readFileSync(file("allowed.txt"), "utf8"), "the text");
  await isInState(page, "Ready");
  await ask(page, `write:${file("denied.txt")}:the text`);
  await card(page).getByRole("button", { name: "Deny…" }).click();
  await card(page).getByRole("textbox", { name: "Reason for Claude" }).fill("never here");
  await page.keyboard.press("Enter");
  await shows(page, /never here/);
  assert.equal(existsSync(file("denied.txt")), false);
});

atBothSizes("Claude's question is answered with a choice", async (t, size) => {
  const { page } = await openClaude(t, size);
  await ask(page, "askq");
  await card(page).getByRole("radio", { name: /Blue/ }).check();
  await card(page).getByRole("button", { name: "Answer", exact: true }).click();
  await shows(page, /tool said.*Blue/);
});

atBothSizes("Claude is stopped", async (t, size) => {
  const { page } = await openClaude(t, size);
  await ask(page, "slow:500:50");
  await shows(page, "w3");
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await isInState(page, "Ready");
  await ask(page, "say:and on");
  await shows(page, "and on");
});

atBothSizes("files of the project are completed behind an @", async (t, size) => {
  const { server, page } = await openClaude(t, size);
  writeFileSync(join(server.root, "work", "wanted-file.txt"), "found it");
  mkdirSync(join(server.root, "work", "folder"));
  writeFileSync(join(server.root, "work", "folder", "in a folder.txt"), "found it");
  await ask(page, "say:ready");
  await isInState(page, "Ready");
  await composer(page).pressSequentially("look at @wanted");
  const choice = page.getByRole("listbox", { name: "Completions" }).getByRole("option", { name: /wanted-file/ });
  await choice.waitFor();
  await composer(page).press("Enter");
  assert.match(await composer(page).inputValue(), /@wanted-file\.txt /);
  // A directory goes on, and a name with a space is one name.
  await composer(page).fill("");
  const completions = page.getByRole("listbox", { name: "Completions" });
  await composer(page).pressSequentially("look at @fold");
  await completions.getByRole("option", { name: "folder/", exact: true }).click();
  assert.equal(await composer(page).inputValue(), "look at @folder/");
  await completions.getByRole("option", { name: /in a folder/ }).click();
  assert.equal(await composer(page).inputValue(), 'look at @"folder/in a folder.txt" ');
});

atBothSizes("what the API refuses is said in plain words", async (t, size) => {
  const { args, env } = await realClaude(t);
  // Otherwise it is tried ten times, for three minutes.
  const { page } = await openPage(t, size, { args, env: { ...env, CLAUDE_CODE_MAX_RETRIES: "0" } });
  await ask(page, "error:401:no such key");
  await page.getByRole("alert").first().waitFor();
  await shows(page, /key|log ?in/i);
});
