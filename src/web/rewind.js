// Puts the files back to where they were before a prompt; shows first what that would change.

import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { complain, toast } from "./toasts.js";

/** Prompts that are offered, the newest first. */
const OFFERED_MAX = 50;

/** Names that are shown of the files that would change. */
const SHOWN_MAX = 30;

/**
 * @param {import("./main.js").App} app
 * @param {import("./conversations.js").Conversation} conversation
 */
export async function rewind(app, conversation) {
    const sessionId = conversation.id;
    const prompts = [...conversation.rewindable].reverse().slice(0, OFFERED_MAX);
    if (prompts.length === 0) return toast("There is no prompt here to go back to.");
    const name = "rewind-to";
    const choices = prompts.map(([id, text], at) => h("label", { class: "choice" },
        h("input", { type: "radio", name, value: id, checked: at === 0 }), h("span", { class: "clip" }, text)));
    const legend = h("legend", { class: "dim" }, "As they were before Claude got");
    const list = h("fieldset", { class: "choices" }, legend, choices);
    const chosen = await ask({
        title: "Rewind files",
        body: [list],
        actions: [{ label: "See what changes", value: "try", primary: true }],
    });
    if (chosen === null) return;
    const userMessageId = /** @type {HTMLInputElement | null} */ (list.querySelector("input:checked"))?.value;
    /** @param {boolean} dryRun */
    const asked = (dryRun) =>
        app.connection.request("rewindFiles", { sessionId, userMessageId, dryRun }).catch(complain);
    const found = (await asked(true))?.rewind;
    if (!found) return;
    if (!found.canRewind) return toast(found.error ?? "Claude has no copy of the files from then.", "bad");
    /** @type {string[]} */
    const files = found.filesChanged ?? [];
    const count = files.length === 1 ? "1 file" : `${files.length} files`;
    const confirmed = await ask({
        title: files.length === 0 ? "Nothing would change" : `${count} would change`,
        body: [
            h("p", null, `+${found.insertions ?? 0} −${found.deletions ?? 0} lines. The conversation stays as it is.`),
            h("ul", { class: "mono" }, files.slice(0, SHOWN_MAX).map((file) => h("li", null, file))),
            files.length > SHOWN_MAX && h("p", null, `and ${files.length - SHOWN_MAX} more`),
        ],
        actions: files.length === 0 ? [] : [{ label: "Put back", value: "do", primary: true, danger: true }],
    });
    if (confirmed === null) return;
    const done = (await asked(false))?.rewind;
    if (done) toast(done.canRewind === false ? (done.error ?? "It did not work.") : "The files are as they were then.");
}
