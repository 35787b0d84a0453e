// Pictures of the page, for the README and for whoever changes its looks: `screenshots.mjs FOLDER`, see scripts/screenshots.

import { mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { makeWorkspace, startServer } from "../clients/support.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const SIZES = { desk: { width: 1280, height: 800 }, phone: { width: 360, height: 740 } };

const folder = resolve(process.argv[2] ?? join(HERE, "screenshots"));
mkdirSync(folder, { recursive: true });

/** In place of a test: what is to be done at the end. */
const endings = [];
const t = { after: (ending) => endings.unshift(ending) };

try {
  const root = makeWorkspace(t);
  const work = join(root, "work", "port-scanner");
  mkdirSync(work);
  const server = await startServer(t, { root, args: [`--agent=${join(HERE, "storyteller.mjs")}`, `--cwd=${work}`] });
  const browser = await chromium.launch({
    executablePath: process.env.CSM_TEST_BROWSER ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
  });
  t.after(() => browser.close());
  const link = `${server.url}/#token=${server.token}`;
  const open = async (viewport, colorScheme) => {
    const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: 1, reducedMotion: "reduce" });
    const page = await context.newPage();
    await page.goto(link);
    await page.getByRole("textbox", { name: "Message" }).waitFor();
    return page;
  };
  const ask = async (page, prompt, shown) => {
    await page.getByRole("textbox", { name: "Message" }).fill(prompt);
    await page.keyboard.press("Enter");
    await page.getByText(shown).first().waitFor();
  };
  const first = await open(SIZES.desk, "light");
  await first.screenshot({ path: join(folder, "empty-desk-light.png") });
  await ask(first, "The parser's test fails on my machine. Can you find out why?", "Callers pass the error on");
  const { hash } = new URL(first.url());
  for (const [name, size] of Object.entries(SIZES)) {
    for (const colours of ["light", "dark"]) {
      const page = await open(size, colours);
      if (hash) await page.goto(`${server.url}/${hash}`);
      await page.getByRole("log").getByText("Callers pass the error on").waitFor();
      await page.locator("pre .hljs-keyword").first().waitFor();
      await page.screenshot({ path: join(folder, `answer-${name}-${colours}.png`) });
      if (name === "phone") {
        await page.getByRole("button", { name: "Sessions", exact: true }).click();
        await page.locator("#sessions > li").first().waitFor();
        await page.screenshot({ path: join(folder, `sessions-${name}-${colours}.png`), animations: "disabled" });
      }
    }
  }
  await ask(first, "Good. Run all the tests and the linter, please.", "Allow once");
  for (const [name, size] of Object.entries(SIZES)) {
    for (const colours of ["light", "dark"]) {
      const page = await open(size, colours);
      if (hash) await page.goto(`${server.url}/${hash}`);
      await page.getByRole("button", { name: "Allow once" }).waitFor();
      await page.screenshot({ path: join(folder, `asking-${name}-${colours}.png`) });
    }
  }
} finally {
  for (const ending of endings) await ending();
}
