// The page in a real browser: windows of two sizes onto a server, and what no page of ours may do in them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { DEADLINE_MS, startServer, within } from "../clients/support.mjs";

export { badAgent, DEADLINE_MS, makeWorkspace, startServer } from "../clients/support.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));

/** A desk and a phone. */
export const SIZES = {
  wide: { viewport: { width: 1280, height: 800 } },
  narrow: { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true },
};

let launched;

/** One browser for a file of tests; each window is as good as a browser of its own. */
export function browser() {
  launched ??= chromium.launch({
    executablePath: process.env.CSM_TEST_BROWSER ?? "/usr/bin/chromium",
    // Without a sandbox, since tests may run as root; and it must not call home.
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"],
  });
  return launched;
}

after(async () => (await launched)?.close());

/** A test whose endings run backwards: windows close before the server behind them goes. */
export function test(name, run) {
  nodeTest(name, async (t) => {
    const endings = [];
    t.after(async () => {
      const failures = [];
      for (const ending of endings.reverse()) {
        try {
          await ending();
        } catch (failure) {
          failures.push(failure);
        }
      }
      if (failures.length > 0) throw failures[0];
    });
    await run({ after: (ending) => endings.push(ending), diagnostic: (text) => t.diagnostic(text) });
  });
}

/** The test at both sizes: `run(t, size)`. */
export function atBothSizes(name, run) {
  for (const size of ["wide", "narrow"]) test(`${name} (${size})`, (t) => run(t, size));
}

/** A window of its own, as another person's. At the test's end it must have had no error and asked no other host. */
export async function openWindow(t, server, size = "wide", options = {}) {
  const context = await (await browser()).newContext({ ...SIZES[size], ...options });
  context.setDefaultTimeout(DEADLINE_MS);
  const [errors, foreign] = [[], []];
  /** What a test does on purpose, and the browser reports. */
  const expected = [];
  context.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  context.on("weberror", (error) => errors.push(String(error.error())));
  context.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (!["data:", "blob:"].includes(protocol) && origin !== server.url) foreign.push(request.url());
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(errors.filter((error) => !expected.some((known) => known.test(error))), []);
    assert.deepEqual(foreign, []);
  });
  const page = await context.newPage();
  return { context, page, expected };
}

/** A server with the demo agent (or what `options` say), and a window in which its link was opened. */
export async function openPage(t, size, options = {}) {
  const server = await startServer(t, options);
  const { page, context, expected } = await openWindow(t, server, size);
  await page.goto(link(server));
  await composer(page).waitFor();
  return { server, page, context, expected };
}

/** The link that a person opens. */
export function link(server) {
  return `${server.url}/#token=${server.token}`;
}

export const composer = (page) => page.getByRole("textbox", { name: "Message" });
export const conversation = (page) => page.getByRole("log");
export const sessionList = (page) => page.getByRole("list", { name: "Sessions" });

/** Asks as a person does, and waits for nothing. */
export async function ask(page, prompt) {
  await composer(page).fill(prompt);
  await composer(page).press("Enter");
}

/** Waits until the conversation shows a text. */
export async function shows(page, text) {
  await conversation(page).getByText(text).first().waitFor();
}

/** The flags and the environment with which the server drives the real CLI against the fake API. */
export async function realClaude(t) {
  const examples = join(dirname(process.env.CSM_TEST_SERVER), "examples");
  const api = spawn(join(examples, "fake_api"), [], { env: {}, stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(api, "exit");
  t.after(async () => {
    api.stdin.end();
    await within(ended, "the fake API's end");
  });
  const env = {};
  const told = new Promise((resolve) => {
    createInterface(api.stdout).on("line", (line) => {
      if (line === "") return resolve();
      const at = line.indexOf("=");
      env[line.slice(0, at)] = line.slice(at + 1);
    });
  });
  await within(told, "the fake API");
  const packaged = join(HERE, "..", "claude/node_modules/@anthropic-ai/claude-code-linux-x64/claude");
  return { args: [`--agent=${process.env.CSM_TEST_CLAUDE ?? packaged}`], env };
}

/** Waits until the line below the composer says so of the session. */
export async function isInState(page, state) {
  await page.locator("#state-text").getByText(state).waitFor();
}

/** On a phone the list of sessions comes in from the side. */
export async function openList(page) {
  const opener = page.getByRole("button", { name: "Sessions", exact: true });
  if ((await opener.isVisible()) && (await opener.getAttribute("aria-expanded")) !== "true") await opener.click();
  await sessionList(page).waitFor({ state: "attached" });
}

/** Opens all that is folded in the conversation, and what comes out of it. */
export async function unfold(page) {
  const folded = conversation(page).locator("details:not([open]) > summary");
  while ((await folded.count()) > 0) await folded.first().click();
}
