// The icon as pictures, for those who take no SVG: phones that put the page on their home screen. Drawn from icon.svg,
// see scripts/screenshots.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), "../../src/web");

const rounded = readFileSync(join(FOLDER, "icon.svg"), "utf8");
/** Where the phone cuts its own shape out of it. */
const square = rounded.replace(' rx="8"', "");

const browser = await chromium.launch({
  executablePath: process.env.CSM_TEST_BROWSER ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
});
try {
  for (const [name, svg, size] of [
    ["icon-192.png", rounded, 192],
    ["icon-512.png", rounded, 512],
    ["icon-square-180.png", square, 180],
    ["icon-square-512.png", square, 512],
  ]) {
    const page = await browser.newPage({ viewport: { width: size, height: size } });
    await page.setContent(`<style>body { margin: 0 } svg { display: block; width: 100vw }</style>${svg}`);
    await page.screenshot({ path: join(FOLDER, name), omitBackground: true });
    await page.close();
  }
} finally {
  await browser.close();
}
