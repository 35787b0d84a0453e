// What the server gives a browser, seen without one: addresses, headers, sizes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { startServer } from "../clients/support.mjs";

/** What a first visit may load, compressed. */
const PAGE_BYTES_MAX = 150_000;

/** As it goes over the wire: `fetch` would unpack it and not tell how long it was. */
async function get(server, path, headers = {}) {
  const { request } = await import("node:http");
  const response = await new Promise((resolve, reject) => {
    request(new URL(path, server.url), { headers }, resolve).on("error", reject).end();
  });
  const chunks = await response.toArray();
  return { status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) };
}

const GZIP = { "accept-encoding": "gzip" };

async function pageOf(server) {
  const page = await get(server, "/", GZIP);
  const html = gunzipSync(page.body).toString();
  const links = [...html.matchAll(/\b(?:src|href)="([^"]+)"/g)].map((match) => match[1]).filter((link) => !link.startsWith("#"));
  return { page, html, links };
}

test("the page and all it names are there, to be kept for good, and small", async (t) => {
  const server = await startServer(t);
  const { page, links } = await pageOf(server);
  assert.equal(page.headers["cache-control"], "no-cache");
  assert.ok(links.length > 5, links.join("\n"));
  let bytes = page.body.length;
  for (const link of new Set(links)) {
    assert.doesNotMatch(link, /^(\/|[a-z]+:)/, "relative, for those behind a proxy's prefix");
    const file = await get(server, link, GZIP);
    assert.equal(file.status, 200, link);
    assert.match(file.headers["cache-control"], /immutable/, link);
    assert.equal(file.headers["x-content-type-options"], "nosniff", link);
    bytes += file.body.length;
    const plain = await get(server, link);
    assert.deepEqual(gunzipSync(file.body), plain.body, link);
    assert.equal(plain.headers["content-encoding"], undefined, link);
  }
  // Asked for when there is code to colour; counted all the same, with one of the larger languages.
  const vendor = links.find((link) => link.endsWith("/marked.js")).replace("marked.js", "");
  let late = 0;
  for (const name of ["highlight.js", "languages.js", "languages/typescript.js"]) {
    const file = await get(server, vendor + name, GZIP);
    assert.equal(file.status, 200, name);
    late += file.body.length;
  }
  bytes += late;
  t.diagnostic(`${bytes} bytes compressed, ${late} of them late`);
  assert.ok(bytes < PAGE_BYTES_MAX, `${bytes}`);
});

test("nothing unsafe is allowed, nothing is without its headers", async (t) => {
  const server = await startServer(t);
  const { page, html } = await pageOf(server);
  const policy = page.headers["content-security-policy"];
  assert.doesNotMatch(policy, /unsafe|https?:|\*/);
  for (const part of ["default-src 'none'", "script-src 'self'", "img-src 'self' blob: data:"]) {
    assert.ok(policy.split("; ").includes(part), `${part} in ${policy}`);
  }
  assert.equal(page.headers["x-content-type-options"], "nosniff");
  assert.equal(page.headers["referrer-policy"], "no-referrer");
  assert.doesNotMatch(html, /<style|\bstyle=|\bon[a-z]+=|<script(?![^>]*\bsrc=)/i);
});

test("it can be put on a home screen: each icon is there, in the size that is told", async (t) => {
  const server = await startServer(t);
  const { html } = await pageOf(server);
  const linked = (rel) => new RegExp(`rel="${rel}"[^>]* href="([^"]+)"`).exec(html)[1];
  const at = new URL(linked("manifest"), `${server.url}/`);
  const manifest = JSON.parse((await get(server, at.pathname)).body);
  const [start, scope] = [manifest.start_url, manifest.scope].map((url) => new URL(url, at).href);
  assert.deepEqual([start, scope], [`${server.url}/`, `${server.url}/`]);
  assert.deepEqual(new Set(manifest.icons.map(({ purpose }) => purpose)), new Set(["any", "maskable"]));
  const touch = { src: new URL(linked("apple-touch-icon"), `${server.url}/`).href, sizes: "180x180", type: "image/png" };
  for (const { src, sizes, type } of [...manifest.icons, touch]) {
    const icon = await get(server, new URL(src, at).pathname);
    assert.deepEqual([icon.status, icon.headers["content-type"]], [200, type], src);
    // A PNG's first chunk begins with its width and height.
    if (type === "image/png") assert.equal(`${icon.body.readUInt32BE(16)}x${icon.body.readUInt32BE(20)}`, sizes, src);
  }
});

test("a browser that has the page is told so", async (t) => {
  const server = await startServer(t);
  const { etag } = (await get(server, "/", GZIP)).headers;
  const again = await get(server, "/", { ...GZIP, "if-none-match": etag });
  assert.deepEqual([again.status, again.body.length, again.headers.etag], [304, 0, etag]);
  assert.equal((await get(server, "/", { "if-none-match": '"another"' })).status, 200);
});

test("the official client is where users of Socket.IO expect it", async (t) => {
  const server = await startServer(t);
  for (const name of ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"]) {
    const client = await get(server, `/socket.io/${name}`);
    assert.deepEqual([client.status, client.headers["content-type"]], [200, "text/javascript; charset=UTF-8"], name);
    assert.match(client.body.toString(), /Socket\.IO v4\.8\.4/, name);
  }
});

test("what is not there is not there", async (t) => {
  const server = await startServer(t);
  for (const path of ["/assets/", "/assets/0000000000000000/main.js", "/index.html", "/web/main.js", "/socket.io/no.js"]) {
    assert.equal((await get(server, path)).status, 404, path);
  }
});
