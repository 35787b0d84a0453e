// The token: from the link's fragment, which no browser sends to the server, to this browser's storage.

import { ask } from "./dialogs.js";
import { byId, h } from "./dom.js";
import { kept } from "./storage.js";

/** @returns {string | null} */
export function token() {
    return kept.get("token");
}

/** What the fragment says: `#token=…`, `#session=…`, or both. */
export function fragment() {
    return new URLSearchParams(location.hash.slice(1));
}

/** Takes the token out of the address. Returns whether there was one. */
export function takeToken() {
    const said = fragment();
    const given = said.get("token");
    if (given === null) return false;
    const before = token();
    if (before !== null && before !== given.trim()) kept.set("token before", before);
    kept.set("token", given.trim());
    said.delete("token");
    const rest = said.toString();
    history.replaceState(null, "", `${location.pathname}${location.search}${rest && `#${rest}`}`);
    return true;
}

/** The server does not know the link's token: back to the one from before. Returns whether there was one. */
export function fallBack() {
    const before = kept.get("token before");
    kept.set("token before", null);
    if (before !== null) kept.set("token", before);
    return before !== null;
}

/** The server knows the token. */
export function confirmed() {
    kept.set("token before", null);
}

/** Asks until something is typed: without the token there is nothing to be done here. */
export async function askForToken() {
    const wrong = token() !== null;
    kept.set("token", null);
    const input = h("input", { type: "password", autocomplete: "off", "aria-label": "Token", required: true });
    await ask({
        title: wrong ? "This token is not right any more" : "Access token",
        body: [
            h("p", null, "Open the link that the server has printed, or put in the token. On the server's machine, ",
                h("code", null, "claude-session-manager link"), " prints the link again."),
            input,
        ],
        actions: [{ label: "Go on", value: "go", primary: true }],
        mustAnswer: true,
        check: () => input.value.trim() !== "",
    });
    const typed = input.value.trim();
    // Whoever pastes the whole link means its token.
    kept.set("token", /token=([^&\s]+)/.exec(typed)?.[1] ?? typed);
    byId("message").focus();
}
