// The list of sessions, and what a person does with them.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ask, atBothSizes, badAgent, composer, conversation, isInState, link, openList, openPage, openWindow, sessionList, shows } from "./support.mjs";

const named = (page, title) => sessionList(page).getByRole("listitem").filter({ hasText: title });

/** Opens a session's menu and chooses. */
async function choose(page, title, entry) {
  await openList(page);
  await named(page, title).getByRole("button").click();
  await page.getByRole("menuitem", { name: entry }).click();
}

async function newSession(page) {
  await openList(page);
  await page.getByRole("button", { name: "New", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
  // Not before it is shown: what is typed until then belongs to the one before.
  await page.getByRole("heading", { name: "New conversation" }).waitFor();
}

atBothSizes("sessions are listed, searched and switched, and drafts stay where they were", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "title The first");
  await shows(page, "said");
  await newSession(page);
  await ask(page, "title The second");
  await shows(page, "said");
  await composer(page).fill("a draft of the second");
  await openList(page);
  await named(page, "The second").waitFor();
  assert.deepEqual(await sessionList(page).locator(".name").allTextContents(), ["The second", "The first"]);
  await named(page, "The first").getByRole("link").click();
  await conversation(page).getByText("title The first").waitFor();
  assert.equal(await composer(page).inputValue(), "");
  assert.equal(await conversation(page).getByText("title The second").count(), 0);
  await openList(page);
  const search = page.getByRole("searchbox");
  await search.fill("second");
  await named(page, "The first").waitFor({ state: "detached" });
  await search.press("Escape");
  await named(page, "The first").waitFor();
  assert.equal(await search.inputValue(), "");
  await search.fill("second");
  await named(page, "The first").waitFor({ state: "detached" });
  await named(page, "The second").getByRole("link").click();
  await conversation(page).getByText("title The second").waitFor();
  assert.equal(await composer(page).inputValue(), "a draft of the second");
});

atBothSizes("a session is renamed, for everybody who looks", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "hello");
  await shows(page, "you said: hello");
  const other = await openWindow(t, server, size);
  await other.page.goto(`${link(server)}&session=${new URL(page.url()).hash.split("session=")[1] ?? ""}`);
  await openList(other.page);
  await named(other.page, "hello").getByRole("link").click();
  await shows(other.page, "you said: hello");
  await choose(page, "hello", "Rename…");
  await page.getByRole("textbox", { name: "Title" }).fill("A better name");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "A better name" }).waitFor();
  await other.page.getByRole("heading", { name: "A better name" }).waitFor();
});

atBothSizes("a session is forked and exported", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "the original");
  await shows(page, "you said: the original");
  const [markdown] = await Promise.all([page.waitForEvent("download"), choose(page, "the original", "Export as Markdown")]);
  const text = await (await markdown.createReadStream()).toArray();
  assert.match(Buffer.concat(text).toString(), /you said: the original/);
  assert.match(markdown.suggestedFilename(), /\.md$/);
  const before = page.url();
  await choose(page, "the original", "Fork");
  await page.waitForURL((url) => url.href !== before && url.hash.includes("session="));
  await shows(page, "you said: the original");
  await ask(page, "in the fork");
  await shows(page, "you said: in the fork");
  await openList(page);
  await page.waitForFunction(() => document.querySelectorAll("#sessions > li").length === 2);
});

atBothSizes("closing keeps a session, deleting asks first", async (t, size) => {
  const { page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "title Short lived");
  await shows(page, "said");
  await choose(page, "Short lived", "Close");
  await isInState(page, "Asleep");
  // Asking opens it again.
  await ask(page, "again");
  await shows(page, "you said: again");
  await choose(page, "Short lived", "Delete…");
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await choose(page, "Short lived", "Delete…");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await named(page, "Short lived").waitFor({ state: "detached" });
  await conversation(page).getByText("you said: again").waitFor({ state: "detached" });
  // One goes on in another.
  await ask(page, "after it");
  await shows(page, "you said: after it");
});

atBothSizes("who looks at a session that is deleted elsewhere is told so", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "title Short lived");
  await shows(page, "said");
  const other = await openWindow(t, server, size);
  await other.page.goto(`${link(server)}&${new URL(page.url()).hash.slice(1)}`);
  await shows(other.page, "said");
  await choose(page, "Short lived", "Delete…");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await other.page.getByText("“Short lived” was deleted elsewhere.").waitFor();
  await ask(other.page, "after it");
  await shows(other.page, "you said: after it");
  await named(page, "Short lived").waitFor({ state: "detached" });
  assert.equal(await page.getByText("was deleted elsewhere").count(), 0);
});

atBothSizes("a new session begins in a directory that is picked", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  mkdirSync(join(server.root, "work", "inner", "deepest"), { recursive: true });
  await openList(page);
  await page.getByRole("button", { name: "New", exact: true }).click();
  const dialog = page.getByRole("dialog");
  const directories = dialog.getByRole("list", { name: "Directories" });
  await directories.getByRole("button", { name: "inner" }).click();
  await directories.getByRole("button", { name: "deepest" }).click();
  await dialog.getByText(join(server.root, "work", "inner", "deepest")).waitFor();
  await directories.getByRole("button", { name: "Up to inner" }).click();
  await directories.getByRole("button", { name: "deepest" }).waitFor();
  await dialog.getByRole("combobox", { name: "Permission mode" }).selectOption("plan");
  await dialog.getByRole("button", { name: "Start" }).click();
  await dialog.waitFor({ state: "detached" });
  await ask(page, "cwd");
  await shows(page, join(server.root, "work", "inner"));
  await page.waitForFunction(() => document.querySelector("#permission-mode").value === "plan");
});

atBothSizes("a link opens its session on another device", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: badAgent() });
  await ask(page, "over there");
  await shows(page, "you said: over there");
  await choose(page, "over there", "Link for another device…");
  const address = await page.getByRole("textbox", { name: "Link" }).inputValue();
  assert.doesNotMatch(address, new RegExp(server.token));
  const other = await openWindow(t, server, size);
  other.expected.push(/unauthorized/);
  await other.page.goto(address);
  const token = other.page.getByRole("textbox", { name: "Token" });
  await token.fill(link(server));
  await token.press("Enter");
  await shows(other.page, "you said: over there");
  assert.doesNotMatch(other.page.url(), new RegExp(server.token));
});

atBothSizes("in shared mode there is the one session", async (t, size) => {
  const { server, page } = await openPage(t, size, { args: [...badAgent(), "--mode=shared"] });
  await ask(page, "for all");
  await shows(page, "you said: for all");
  const other = await openWindow(t, server, size);
  await other.page.goto(link(server));
  await shows(other.page, "you said: for all");
  await openList(other.page);
  assert.equal(await other.page.getByRole("button", { name: "New", exact: true }).isVisible(), false);
});
