// The connection: seen, lost, and come back; and what is announced.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ask, atBothSizes, badAgent, composer, conversation, isInState, link, openList, openPage, openWindow, shows, startServer } from "./support.mjs";

const state = (page, text) => page.locator("#connection-text").getByText(text, { exact: true }).waitFor();

/** What a browser says of a connection that is refused: the test does that. */
const LOST = /WebSocket connection|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|Failed to load resource/;

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

atBothSizes("what was missed while the server was away appears once and in order", async (t, size) => {
  const port = await freePort();
  const { server, page, expected } = await openPage(t, size, { args: badAgent(), port });
  expected.push(LOST);
  await state(page, "Connected");
  await ask(page, "before");
  await shows(page, "you said: before");
  await server.stop();
  await page.locator("#connection-text").getByText(/Reconnecting|Server gone/).waitFor();
  // Written while nobody is there: sent when there is.
  await ask(page, "while away");
  await startServer(t, { root: server.root, port, args: badAgent() });
  await shows(page, "you said: while away");
  await state(page, "Connected");
  await ask(page, "after");
  await shows(page, "you said: after");
  const texts = await conversation(page).getByText(/^you said: /).allTextContents();
  assert.deepEqual(texts.map((text) => text.trim()), ["you said: before", "you said: while away", "you said: after"]);
});

atBothSizes("what two tabs could not send is sent once each, also when one is closed", async (t, size) => {
  const port = await freePort();
  const { server, page, context, expected } = await openPage(t, size, { args: badAgent(), port });
  expected.push(LOST);
  await ask(page, "before");
  await shows(page, "you said: before");
  const other = await context.newPage();
  await other.goto(page.url());
  await shows(other, "you said: before");
  await server.stop();
  for (const tab of [page, other]) await tab.locator("#connection-text").getByText(/Reconnecting|Server gone/).waitFor();
  await ask(other, "of a closed tab");
  await ask(page, "of an open tab");
  await other.close();
  await startServer(t, { root: server.root, port, args: badAgent() });
  await shows(page, "you said: of an open tab");
  const third = await context.newPage();
  await third.goto(page.url());
  await shows(third, "you said: of a closed tab");
  const texts = await conversation(third).getByText(/^you said: /).allTextContents();
  assert.deepEqual(texts.map((text) => text.trim()),
    ["before", "of an open tab", "of a closed tab"].map((text) => `you said: ${text}`));
  assert.deepEqual(await third.evaluate(() => Object.keys(localStorage).filter((name) => name.includes("letter"))), []);
});

atBothSizes("an answer goes on where the connection was lost", async (t, size) => {
  const { server, page, context, expected } = await openPage(t, size, { args: badAgent() });
  expected.push(LOST);
  const go = join(server.root, "go");
  await ask(page, `wait ${go}`);
  await isInState(page, "Working");
  await context.setOffline(true);
  await page.evaluate(() => dispatchEvent(new Event("offline")));
  writeFileSync(go, "");
  await context.setOffline(false);
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await isInState(page, "Ready");
  await state(page, "Connected");
  await ask(page, "history");
  await shows(page, /wait /);
});

atBothSizes("a killed server's numbers are not taken for others", async (t, size) => {
  const port = await freePort();
  const { server, page, expected } = await openPage(t, size, { args: badAgent(), port });
  expected.push(LOST);
  await ask(page, "before");
  await shows(page, "you said: before");
  await server.stop("SIGKILL");
  await startServer(t, { root: server.root, port, args: badAgent() });
  await state(page, "Connected");
  await ask(page, "after");
  await shows(page, "you said: after");
  const texts = await conversation(page).getByText(/^you said: /).allTextContents();
  assert.deepEqual(texts.map((text) => text.trim()), ["you said: before", "you said: after"]);
});

atBothSizes("the token leaves the address, is asked for where there is none, and again where it is wrong", async (t, size) => {
  const server = await startServer(t, { args: badAgent() });
  const { page, expected } = await openWindow(t, server, size);
  expected.push(/unauthorized/);
  await page.goto(server.url);
  const token = page.getByRole("textbox", { name: "Token" });
  await token.fill("wrong");
  await token.press("Enter");
  await page.getByText("not right any more").waitFor();
  await token.fill(server.token);
  await token.press("Enter");
  await state(page, "Connected");
  await page.reload();
  await state(page, "Connected");
  await page.goto("about:blank");
  await page.goto(link(server));
  await state(page, "Connected");
  assert.doesNotMatch(page.url(), /token/);
  // Another server's link, or a bad one, does not lock out whoever was in.
  await page.evaluate(() => (location.hash = "token=of-another-server"));
  await page.reload();
  await state(page, "Connected");
  assert.equal(await page.getByRole("dialog").count(), 0);
});

atBothSizes("a link that is followed while the token is asked for is the answer", async (t, size) => {
  const server = await startServer(t, { args: badAgent() });
  const { page } = await openWindow(t, server, size);
  await page.goto(server.url);
  await page.getByRole("textbox", { name: "Token" }).waitFor();
  await page.evaluate((token) => (location.hash = `token=${token}`), server.token);
  await state(page, "Connected");
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

atBothSizes("the shown session is still watched when another is at work and the connection was lost", async (t, size) => {
  const { server, page, expected } = await openPage(t, size, { args: badAgent() });
  expected.push(LOST);
  const go = join(server.root, "go");
  await ask(page, `wait ${go}`);
  await isInState(page, "Working");
  const working = page.url();
  await openList(page);
  await page.getByRole("button", { name: "New", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
  await page.waitForFunction((before) => location.href !== before, working);
  await ask(page, "hello");
  await shows(page, "you said: hello");
  await page.evaluate(() => dispatchEvent(new Event("offline")));
  await page.locator("#connection-text").getByText(/Reconnecting|Server gone/).waitFor();
  await page.evaluate(() => dispatchEvent(new Event("online")));
  await state(page, "Connected");
  const other = await openWindow(t, server, size);
  await other.page.goto(`${link(server)}&${new URL(page.url()).hash.slice(1)}`);
  await shows(other.page, "you said: hello");
  await ask(other.page, "from elsewhere");
  await shows(page, "you said: from elsewhere");
  writeFileSync(go, "");
  await page.goto(working);
  await shows(page, "waiting no more");
});

atBothSizes("a message that is too long for the server comes back, before what was written since", async (t, size) => {
  const { page, expected } = await openPage(t, size, { args: badAgent() });
  expected.push(LOST);
  await state(page, "Connected");
  const long = "long ".repeat(300_000);
  await composer(page).fill(long);
  await composer(page).press("Enter");
  await composer(page).fill("written since");
  await page.getByText("This message is too long for the server.").waitFor();
  assert.equal(await composer(page).inputValue(), `${long}\n\nwritten since`);
  await state(page, "Connected");
  await ask(page, "short");
  await shows(page, "you said: short");
});

atBothSizes("the demo agent is announced, with what to do", async (t, size) => {
  const { page } = await openPage(t, size);
  await page.getByText("This is the demo agent, not Claude.").waitFor();
  await page.getByRole("button", { name: "Close this message" }).click();
  await page.reload();
  await state(page, "Connected");
  assert.equal(await page.getByText("This is the demo agent").count(), 0);
  await ask(page, "hello");
  await shows(page, /This is the demo agent, not Claude/);
});

atBothSizes("a process that cannot start says why", async (t, size) => {
  const [agent] = badAgent();
  const { page } = await openPage(t, size, { args: [agent, "--agent-arg=exit-at-once"] });
  await ask(page, "hello");
  await page.getByText("no licence for bad agents").first().waitFor();
  await isInState(page, "Failed");
});

atBothSizes("a closed warning stays closed, for its session alone", async (t, size) => {
  const { page } = await openPage(t, size, { args: [...badAgent().slice(0, 1), "--agent-arg=crash-always"] });
  const banner = page.locator(".banner.bad");
  await ask(page, "hi");
  await banner.waitFor();
  const first = page.url();
  await page.getByRole("button", { name: "Close this message" }).click();
  await banner.waitFor({ state: "detached" });
  await openList(page);
  await page.getByRole("button", { name: "New", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Start" }).click();
  await page.waitForFunction((before) => location.href !== before, first);
  await ask(page, "hi");
  await banner.waitFor();
  await page.goBack();
  await page.waitForURL(first);
  await page.getByRole("log").getByText("hi", { exact: true }).waitFor();
  await banner.waitFor({ state: "detached" });
  await page.reload();
  await page.getByRole("log").getByText("hi", { exact: true }).waitFor();
  await isInState(page, "Failed");
  assert.equal(await banner.count(), 0);
});

atBothSizes("a page without storage works all the same", async (t, size) => {
  const server = await startServer(t, { args: badAgent() });
  const { page, context } = await openWindow(t, server, size);
  await context.addInitScript(() => {
    for (const name of ["localStorage", "sessionStorage"]) {
      Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
    }
  });
  await page.goto(link(server));
  await composer(page).waitFor();
  await ask(page, "hello");
  await shows(page, "you said: hello");
});
