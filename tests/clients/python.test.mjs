// The Python clients, in the environment that scripts/test makes for them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Proxy } from "./proxy.mjs";
import { badAgent, startServer } from "./support.mjs";

const HERE = join(dirname(fileURLToPath(import.meta.url)), "python");
const PYTHON = join(HERE, ".venv", "bin", "python");

for (const kind of ["sync", "asyncio"]) {
  for (const transport of ["polling", "websocket", "default"]) {
    test(`python-socketio, ${kind}, ${transport}`, async (t) => {
      assert.ok(existsSync(PYTHON), "there is no Python environment: run scripts/test");
      const server = await startServer(t, { args: badAgent() });
      const proxy = await Proxy.open(t, server.port);
      const env = { PATH: process.env.PATH, URL: proxy.url, TOKEN: server.token, PYTHONDONTWRITEBYTECODE: "1" };
      const options = { env, stdio: ["ignore", "pipe", "pipe"], timeout: 60_000 };
      const child = spawn(PYTHON, [join(HERE, "clients.py"), kind, transport], options);
      t.after(() => child.kill());
      let errors = "";
      child.stderr.on("data", (data) => (errors += data));
      createInterface(child.stdout).on("line", (line) => {
        assert.equal(line, "cut");
        // One that polls may have no connection at this moment.
        proxy.refusing = true;
        proxy.fault("cut");
        setTimeout(() => (proxy.refusing = false), 200);
      });
      const [code] = await once(child, "close");
      assert.equal(code, 0, errors);
    });
  }
}
