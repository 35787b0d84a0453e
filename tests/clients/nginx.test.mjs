// Behind a real nginx, with the configuration that the README shows.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { badAgent, chunksOf, DEADLINE_MS, must, next, openClient, startServer, waitFor } from "./support.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const TEMPLATE = readFileSync(join(HERE, "nginx", "nginx.conf.template"), "utf8");

async function freePort() {
  const listener = net.createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address();
  listener.close();
  await once(listener, "close");
  return port;
}

/** nginx in the foreground, with a folder of its own. */
async function startNginx(t, port, serverPort) {
  const folder = mkdtempSync(join(tmpdir(), "csm-nginx-"));
  const config = TEMPLATE.replace("LISTEN_PORT", port).replace("127.0.0.1:3001", `127.0.0.1:${serverPort}`);
  writeFileSync(join(folder, "nginx.conf"), config);
  const env = { PATH: `${process.env.PATH}:/usr/sbin` };
  const args = ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", "stderr"];
  const child = spawn("nginx", args, { env, stdio: ["ignore", "ignore", "pipe"] });
  const exited = once(child, "exit");
  let errors = "";
  child.stderr.on("data", (data) => (errors += data));
  t.after(async () => {
    child.kill("SIGTERM");
    await exited;
    rmSync(folder, { recursive: true, force: true });
  });
  for (const deadline = Date.now() + DEADLINE_MS; ; ) {
    const answer = await fetch(`http://127.0.0.1:${port}/claude/health`).catch(() => undefined);
    if (answer?.status === 200) return;
    const gone = child.exitCode !== null || Date.now() > deadline;
    assert.ok(!gone, `nginx does not serve: ${answer?.status} ${errors}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("the configuration is the README's", () => {
  const shown = readFileSync(join(HERE, "..", "..", "README.md"), "utf8").match(/^```nginx\n(.*?)^```$/ms);
  const parts = TEMPLATE.split("# ----\n");
  assert.equal(shown?.[1], `${parts[1]}\n${parts[3]}`);
});

test("clients get through, with a path in front", async (t) => {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const server = await startServer(t, { args: [...badAgent(), `--public-url=${url}/claude`] });
  await startNginx(t, port, server.port);
  for (const transports of [["polling"], ["websocket"], undefined]) {
    let sessionId;
    const socket = openClient(t, { url }, {
      path: "/claude/socket.io/",
      transports,
      // As a browser's page would: the proxy's own origin.
      extraHeaders: { Origin: url },
      auth: (answer) => answer({ token: server.token, recover: true, sessionId }),
    });
    ({ sessionId } = await waitFor(socket, "sessionRegistered"));
    const { promptId } = await must(socket, "askClaudeCode", { sessionId, prompt: "slow 100 3" });
    await waitFor(socket, "claudeStreamChunk", (data) => data.promptId === promptId);
    const [gone, back] = [next(socket, "disconnect"), next(socket, "connect")];
    socket.io.engine.close();
    await gone;
    await back;
    assert.equal(socket.recovered, true, String(transports));
    const response = await waitFor(socket, "claudeResponse", (data) => data.promptId === promptId);
    assert.equal(chunksOf(socket, promptId).join(""), response.fullResponse, String(transports));
    assert.equal(response.status, "done");
    const used = socket.io.engine.transport.name;
    assert.equal(used, transports?.[0] ?? "websocket", "the default client has upgraded");
    socket.close();
  }
  const foreign = openClient(t, { url }, { path: "/claude/socket.io/", extraHeaders: { Origin: "http://evil.test" } });
  await next(foreign, "connect_error");
  foreign.close();
  const health = await fetch(`${url}/claude/health`);
  assert.equal((await health.json()).status, "ok");
});
