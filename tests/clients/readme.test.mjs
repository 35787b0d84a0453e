// The example of the README, run as it stands.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { startServer } from "./support.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const README = join(HERE, "..", "..", "README.md");

function example() {
  if (!existsSync(README)) return undefined;
  const blocks = readFileSync(README, "utf8").matchAll(/^```js\n(.*?)^```$/gms);
  return [...blocks].map((block) => block[1]).find((code) => code.includes('"socket.io-client"'));
}

test("the README's example works", { skip: existsSync(README) ? false : "there is no README.md" }, async (t) => {
  const code = example();
  assert.ok(code, "README.md has no js block that imports socket.io-client");
  const server = await startServer(t);
  // Modules are looked for from where the file lies; the name is ignored by git.
  const folder = mkdtempSync(join(HERE, "node_modules", ".readme-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "example.mjs");
  writeFileSync(file, code);
  const env = { PATH: process.env.PATH, TOKEN: server.token, URL: server.url };
  const child = spawn(process.execPath, [file], { env, stdio: ["ignore", "pipe", "pipe"], timeout: 30_000 });
  t.after(() => child.kill());
  let [printed, errors] = ["", ""];
  child.stdout.on("data", (data) => (printed += data));
  child.stderr.on("data", (data) => (errors += data));
  const [exitCode] = await once(child, "close");
  assert.deepEqual([exitCode, errors], [0, ""]);
  assert.match(printed, /This is the demo agent, not Claude/);
});
