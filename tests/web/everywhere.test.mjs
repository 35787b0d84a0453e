// From small phones up, dark and light, with a keyboard or a screen reader, fast, and behind a proxy's prefix.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { ask, atBothSizes, badAgent, composer, conversation, link, openList, openPage, openWindow, shows, startServer, test } from "./support.mjs";
import { turn } from "./turns.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A page that has something of everything. */
async function fillPage(server, page) {
  await ask(page, turn(server, [
    { thinking: "let me think" },
    { text: "# Heading\n\ntext with `code`\n\n```sh\nls\n```\n\n|a|b|\n|-|-|\n|1|2|\n" },
    { tool: { name: "Bash", input: { command: "ls" } }, result: "files" },
    { tool: { name: "Edit", input: { file_path: "/a", old_string: "x", new_string: "y" } }, result: "ok" },
    { text: "done with it" },
  ]));
  await shows(page, "done with it");
  const suggestion = { type: "addRules", rules: [{ toolName: "Bash" }], behavior: "allow", destination: "session" };
  await ask(page, `request ${JSON.stringify({ subtype: "can_use_tool", tool_name: "Bash", input: { command: "ls" }, tool_use_id: "toolu_9", permission_suggestions: [suggestion] })}`);
  await page.getByRole("button", { name: "Allow once" }).waitFor();
  await ask(page, "waits behind it");
  await page.getByRole("list", { name: "Waiting prompts" }).getByText("waits behind it").waitFor();
}

async function isAccessible(page, what) {
  // By the driver, not as a script of the page: that would be against its policy.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 150)} ${failureSummary}`).join("\n  ")}`);
  assert.deepEqual(told, [], what);
}

for (const colorScheme of ["light", "dark"]) {
  atBothSizes(`nothing stands in the way of a screen reader, ${colorScheme}`, async (t, size) => {
    const server = await startServer(t, { args: badAgent() });
    const { page } = await openWindow(t, server, size, { colorScheme, reducedMotion: "reduce" });
    await page.goto(link(server));
    await composer(page).waitFor();
    await isAccessible(page, "an empty page");
    await fillPage(server, page);
    await isAccessible(page, "a full page");
    await openList(page);
    await page.locator("#sessions > li").first().waitFor();
    await isAccessible(page, "the list");
    await page.locator("#sessions > li").first().getByRole("button").click();
    await page.getByRole("menu").waitFor();
    await isAccessible(page, "a menu");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "New", exact: true }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Start" }).waitFor();
    await isAccessible(page, "a dialog");
  });
}

for (const width of [320, 360, 768, 1280]) {
  test(`nothing sticks out at ${width} px`, async (t) => {
    const server = await startServer(t, { args: badAgent() });
    const { page } = await openWindow(t, server, "narrow", { viewport: { width, height: 640 } });
    await page.goto(link(server));
    await composer(page).waitFor();
    await fillPage(server, page);
    const sizes = () => page.evaluate(() => [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]);
    assert.deepEqual(await sizes(), [width, width, width]);
    // What one needs is within the window.
    for (const found of [composer(page), page.getByRole("button", { name: "Allow once" }), page.getByRole("button", { name: "Send" })]) {
      const box = await found.boundingBox();
      assert.ok(box.x >= 0 && box.x + box.width <= width && box.y >= 0 && box.y + box.height <= 640, JSON.stringify(box));
    }
  });
}

test("all can be done with the keyboard alone", async (t) => {
  const { page } = await openPage(t, "wide", { args: badAgent() });
  assert.equal(await page.evaluate(() => document.activeElement.id), "message");
  await page.keyboard.type("title By hand");
  await page.keyboard.press("Enter");
  await shows(page, "said");
  const tabTo = async (locator) => {
    for (let step = 0; step < 60; step++) {
      if (await locator.evaluate((element) => element === document.activeElement)) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`Tab does not lead to ${locator}`);
  };
  await tabTo(page.getByRole("button", { name: "What to do with By hand" }));
  await page.keyboard.press("Enter");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Enter");
  await page.keyboard.type("By keys");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "By keys" }).waitFor();
  await tabTo(page.getByRole("button", { name: "New", exact: true }));
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.id), "new-session");
});

atBothSizes("the page is there at once", async (t, size) => {
  const server = await startServer(t, { args: badAgent() });
  const { page } = await openWindow(t, server, size);
  // A first visit in this browser warms up the browser, a second window's cache is empty.
  await page.goto(link(server));
  await composer(page).waitFor();
  const fresh = await openWindow(t, server, size);
  await fresh.page.goto(link(server));
  await fresh.page.waitForFunction(() => document.querySelector("#connection").dataset.state === "connected");
  const times = await fresh.page.evaluate(() => ({
    paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
    ready: performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd,
    connected: performance.now(),
  }));
  // The goal is 200 ms, which a busy machine would break: measured and told, held to ten times that.
  t.diagnostic(JSON.stringify(times));
  assert.ok(times.paint < 2000 && times.ready < 2000, JSON.stringify(times));
});

atBothSizes("behind a proxy's prefix all addresses are right", async (t, size) => {
  const { prefixProxy } = await import("./prefix_proxy.mjs");
  const proxy = await prefixProxy(t, "/some/where/");
  const server = await startServer(t, { args: [...badAgent(), `--public-url=${proxy.url.replace("http:", "https:")}`, `--cors-origin=${proxy.origin}`] });
  proxy.to(server.port);
  const { page } = await openWindow(t, { ...server, url: proxy.origin }, size);
  await page.goto(`${proxy.url}#token=${server.token}`);
  await composer(page).waitFor();
  await ask(page, "through the proxy");
  await shows(page, "you said: through the proxy");
  await openList(page);
  await page.locator("#sessions > li").first().getByRole("button").click();
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name: "Export as Markdown" }).click()]);
  assert.match(Buffer.concat(await (await file.createReadStream()).toArray()).toString(), /through the proxy/);
  assert.deepEqual(proxy.outside, [], "asked beside the prefix");
  assert.equal(await conversation(page).count(), 1);
});
