// Short messages at the edge, which go by themselves.

import { sentence } from "./conversation/words.js";
import { byId, crossButton, h } from "./dom.js";

/** More than this at once nobody reads. */
const SHOWN_MAX = 3;

/**
 * @param {string} text
 * @param {"info" | "bad"} [kind]
 */
export function toast(text, kind = "info") {
    const toasts = byId("toasts");
    for (const known of toasts.children) if (known.firstChild?.textContent === text) known.remove();
    const dismiss = () => shown.remove();
    const shown = h("div", { class: `toast ${kind}` }, h("span", null, text), crossButton("Dismiss", dismiss));
    toasts.append(shown);
    while (toasts.children.length > SHOWN_MAX) toasts.firstElementChild?.remove();
    // Long ones are read for longer.
    setTimeout(dismiss, 4000 + 60 * text.length);
}

/**
 * Says what went wrong; nothing where the connection did, of which the page tells elsewhere.
 * @param {unknown} error
 */
export function complain(error) {
    const { code, message } = /** @type {any} */ (error ?? {});
    if (code === "disconnected") toast("Not connected: try again when the server is back", "bad");
    else if (code === "invalid_session") toast("This session is not there any more.", "bad");
    else toast(sentence(String(message ?? error)), "bad");
}
