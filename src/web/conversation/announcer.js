// What a screen reader says of a conversation: each text once, when it is complete, and how a turn has ended. Neither
// deltas nor what a page of history brings are read out.

import { h } from "../dom.js";

/** @typedef {import("./fold.js").Item} Item */

/** More at once is not news but history. */
const NEWS_MAX = 12;

/** Longer texts are there to be read. */
const CHARS_MAX = 1200;

export class Announcer {
    element = h("div", { class: "apart", "aria-live": "polite", "aria-relevant": "additions" });
    /** @type {WeakSet<Item>} */
    #heard = new WeakSet();

    /** Another conversation is shown. @param {Item[]} items */
    restart(items) {
        this.element.replaceChildren();
        for (const item of items) this.#heard.add(item);
    }

    /**
     * @param {Set<Item>} items new or changed
     * @param {boolean} history whether they are old
     */
    hear(items, history) {
        const quiet = history || items.size > NEWS_MAX;
        for (const item of items) {
            const words = wordsOf(item);
            if (!words || this.#heard.has(item)) continue;
            this.#heard.add(item);
            if (!quiet) this.element.append(h("p", null, words));
        }
        while (this.element.childElementCount > NEWS_MAX) this.element.firstElementChild?.remove();
    }
}

/** @param {Item} item */
function wordsOf(item) {
    if (item.owner) return "";
    switch (item.kind) {
        case "text":
            if (!item.whole) return "";
            return `Claude: ${item.text.slice(0, CHARS_MAX).replaceAll(/[*`#|]+/g, "")}`
                + (item.text.length > CHARS_MAX ? " … and more" : "");
        case "notice":
            return item.text;
        case "result":
            if (item.status === "failed") return `Claude has failed. ${item.reason}`;
            return item.status === "done" ? "Claude is done" : "Claude was stopped";
        default:
            return "";
    }
}
