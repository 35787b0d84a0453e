// What can be done with a session as a whole.

import { ask, askForText, menu } from "./dialogs.js";
import { h } from "./dom.js";
import { kept } from "./storage.js";
import { complain, toast } from "./toasts.js";
import { token } from "./token.js";
import { titleOf } from "./words.js";
import { rewind } from "./rewind.js";

const LOOPBACK = new Set(["127.0.0.1", "localhost", "[::1]"]);

/** @typedef {import("./wire.js").Summary} Summary */

/**
 * @param {import("./main.js").App} app
 * @param {Summary | null | undefined} session
 * @param {HTMLElement} button
 */
export function menuOf(app, session, button) {
    if (!session) return;
    const { sessionId } = session;
    const shared = session.mode === "shared";
    const shown = app.conversations.current;
    const items = [
        { label: "Rename…", run: () => rename(app, session) },
        shown?.id === sessionId && { label: "Rewind files…", run: () => rewind(app, shown) },
        { label: "Link for another device…", run: () => share(sessionId) },
        { label: "Export as Markdown", run: () => download(sessionId, "md") },
        { label: "Export as JSON lines", run: () => download(sessionId, "jsonl") },
        !shared && { label: "Fork", run: () => fork(app, session) },
        !shared && { label: "Close", run: () => close(app, session) },
        !shared && { label: "Delete…", danger: true, run: () => remove(app, session) },
    ];
    menu(button, `What to do with ${titleOf(session)}`, items.filter((item) => item !== false && item !== undefined));
}

/**
 * @param {import("./main.js").App} app
 * @param {Summary} session
 */
async function rename(app, { sessionId, title }) {
    const wanted = await askForText("Rename the session", "Title", title ?? "", "Rename");
    if (wanted === null) return;
    await app.connection.request("renameSession", { sessionId, title: wanted }).catch(complain);
    await app.sessions.refresh();
}

/**
 * @param {import("./main.js").App} app
 * @param {Summary} session
 */
async function fork(app, { sessionId }) {
    const made = await app.connection.request("forkSession", { sessionId }).catch(complain);
    if (made) app.open(made.session.sessionId);
}

/**
 * @param {import("./main.js").App} app
 * @param {Summary} session
 */
async function close(app, { sessionId, state }) {
    if (state === "busy" || state === "waiting") {
        const answer = await ask({
            title: "Close while Claude works?",
            body: [h("p", null, "What it is doing ends where it is. The session stays in the list.")],
            actions: [{ label: "Close", value: "close", primary: true, danger: true }],
        });
        if (answer === null) return;
    }
    const done = await app.connection.request("closeSession", { sessionId }).catch(complain);
    if (done) toast("Closed: its process has ended. The next message opens it again.");
    await app.sessions.refresh();
}

/**
 * @param {import("./main.js").App} app
 * @param {Summary} session
 */
async function remove(app, session) {
    const { sessionId, source } = session;
    const more = source === "terminal" ? " Claude's own transcript of it stays." : "";
    const answer = await ask({
        title: `Delete “${titleOf(session)}”?`,
        body: [h("p", null, `Its history and its files here are gone then, for everybody.${more}`)],
        actions: [{ label: "Delete", value: "delete", primary: true, danger: true }],
    });
    if (answer === null) return;
    app.deleting.add(sessionId);
    const gone = await app.connection.request("deleteSession", { sessionId }).catch((error) => {
        app.deleting.delete(sessionId);
        // Where it was the only one the connection began anew, with the news that it is gone.
        if (app.sessions.get(sessionId)) complain(error);
    });
    if (gone) app.gone(sessionId);
}

/** @param {string} sessionId */
async function share(sessionId) {
    const url = new URL(document.baseURI);
    url.hash = `session=${sessionId}`;
    const input = h("input", { type: "text", readonly: true, value: url.href, "aria-label": "Link" });
    const canCopy = isSecureContext && navigator.clipboard;
    const answer = await ask({
        title: "Link to this session",
        body: [input, h("p", { class: "dim small" }, "Another device asks for the token if it does not know it yet.",
            LOOPBACK.has(location.hostname) && " This address is good on this machine only.")],
        closes: "Close",
        actions: canCopy ? [{ label: "Copy", value: "copy", primary: true }] : [],
    });
    if (answer === "copy") await navigator.clipboard.writeText(url.href).then(() => toast("Copied."), complain);
}

/**
 * By script, since a link cannot carry the token.
 * @param {string} sessionId
 * @param {"md" | "jsonl"} format
 */
async function download(sessionId, format) {
    try {
        const response = await fetch(new URL(`api/sessions/${sessionId}/export.${format}`, document.baseURI), {
            headers: { Authorization: `Bearer ${token()}` },
        });
        if (!response.ok) throw new Error(`The export failed: ${response.status} ${response.statusText}`);
        const url = URL.createObjectURL(await response.blob());
        const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "")?.[1];
        h("a", { href: url, download: name ?? `${sessionId}.${format}` }).click();
        setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
        complain(error);
    }
}

/** What this browser keeps of a session that is gone. @param {string} sessionId */
export function forgetKept(sessionId) {
    kept.set(`draft ${sessionId}`, null);
}
